"""The processes of script/server --scale: their order, their death, their end; shells stand in for them."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from nodeadmin.scale import supervisor as supervising
from nodeadmin.scale.databases import Postgres, Redis
from nodeadmin.scale.supervisor import Process, Service, SetupFailed, Supervisor

SCRIPT = """
trap 'echo "{name} ends" >>{log}; exit 0' TERM
echo "{name} starts" >>{log}
echo $$ >{pid}
while :; do sleep 0.05; done
"""


@pytest.fixture
def service(tmp_path: Path) -> Callable[..., Service]:
    def make(name: str, script: str = SCRIPT, **fields: object) -> Service:
        pid = tmp_path / f"{name}.pid"
        text = script.format(name=name, log=tmp_path / "log", pid=pid)
        return Service(name, ("/bin/sh", "-c", text), is_ready=pid.exists, **fields)  # type: ignore[arg-type]

    return make


def lines(tmp_path: Path) -> list[str]:
    return (tmp_path / "log").read_text().splitlines()


def test_groups_start_in_order_and_end_the_other_way_round(service, tmp_path):
    with Supervisor(print) as supervisor:
        supervisor.start(service("database"))
        supervisor.start(service("web"))
        assert lines(tmp_path) == ["database starts", "web starts"]
    assert lines(tmp_path)[2:] == ["web ends", "database ends"]


def test_what_dies_is_started_again_and_said(service, tmp_path, monkeypatch):
    monkeypatch.setattr(supervising, "TICK_S", 0.05)
    said: list[str] = []
    with Supervisor(said.append) as supervisor:
        supervisor.start(service("worker"))
        first = int((tmp_path / "worker.pid").read_text())
        os.kill(first, signal.SIGKILL)
        runner = threading.Thread(target=supervisor.run)
        runner.start()
        deadline = time.monotonic() + 10
        while lines(tmp_path).count("worker starts") < 2:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        supervisor._stopping.set()
        runner.join()
    assert said == ["worker ended with -9; it starts again in 1 s."]


def test_what_dies_at_once_waits_longer_each_time(service):
    pauses: list[str] = []
    process = Process(service("worker", "exit 3"))
    process.start()
    for _round in range(4):
        deadline = time.monotonic() + 10
        while process.has_ended() is None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.start_again(pauses.append)
        process._not_before = 0.0
        process.start()
    process.end(5.0)
    assert [words.split(" in ")[1] for words in pauses] == ["1 s.", "3 s.", "7 s.", "15 s."]


def test_what_ends_as_it_starts_is_named_with_its_log(service, tmp_path):
    log = tmp_path / "its.log"
    with (
        pytest.raises(SetupFailed, match=rf"web ended with 3 as it started. Its log is {log}"),
        Supervisor(print) as supervisor,
    ):
        supervisor.start(service("web", "echo why; exit 3", log=log))
    assert log.read_text() == "why\n"


def test_what_does_not_listen_is_killed(service, tmp_path):
    process = Process(service("deaf", "trap '' TERM; echo $$ >{pid}; while :; do sleep 0.05; done"))
    process.start()
    process.wait_ready(threading.Event())
    process.end(0.3)
    assert process.has_ended() == -signal.SIGKILL


def test_a_path_too_long_for_a_socket_is_refused_before_anything_is_made(tmp_path):
    far = tmp_path / ("d" * 100)
    for made in (Postgres(far / "postgresql", "nobody"), Redis(far / "redis")):
        with pytest.raises(SetupFailed, match="too long"):
            made.prepare()
    assert not far.exists()


def test_a_cluster_of_a_version_that_is_gone_is_named(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "PG_VERSION").write_text("8\n")
    with pytest.raises(SetupFailed, match="postgresql-8"):
        Postgres(tmp_path, "nobody").prepare()
