"""script/server --scale: PostgreSQL, Redis, web, workers and monitors as one, and nothing left behind."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from nodeadmin.scale.databases import Postgres
from tests.patience import Deadline
from tests.script.serving import ROOT, log_in, server

SECOND_START_S = 60
"""On a machine at rest it takes some six seconds, of which three go to the web's first answer."""


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """Where PostgreSQL's own user may pass, which it may not in pytest's directories."""
    folder = Path(tempfile.mkdtemp(prefix="nodeadmin-server-"))
    folder.chmod(0o755)
    yield folder / "data"
    shutil.rmtree(folder)


def processes(data_dir: Path) -> dict[int, str]:
    """What runs on the data directory: process ids and command lines."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes() + b"\0" + (entry / "environ").read_bytes()
            if int(entry.name) != os.getpid() and os.fsencode(data_dir) in words:
                found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
    return found


def workers(data_dir: Path) -> set[int]:
    return {pid for pid, words in processes(data_dir).items() if words.rstrip().endswith("manage.py worker")}


def wait_until(true: Callable[[], bool], timeout_s: float, words: Callable[[], object]) -> None:
    deadline = Deadline(timeout_s)
    while not true():
        assert not deadline.over(), words()
        time.sleep(0.2)


def first_operation(data_dir: Path) -> tuple[str, str, int]:
    """Status, claimer and count of the operations of a fresh start: this machine is being added."""
    query = "SELECT status, claimed_by, count(*) OVER () FROM nodes_operation WHERE kind = 'add-node'"
    with psycopg.connect(Postgres.beside(data_dir).url) as connection:
        row = connection.execute(query).fetchone()
    assert row is not None
    return row[0], row[1], row[2]


def test_it_runs_operations_on_workers_survives_their_death_and_ends_whole(data_dir: Path) -> None:
    log = data_dir.with_name("log")
    with server(data_dir, log, "--scale") as served:
        shown = re.findall(r"password {2,}(\S+)", log.read_text())
        assert len(shown) == 1
        assert log_in(served.url, shown[0]) == [302, 200, 200]
        wait_until(lambda: len(workers(data_dir)) == 2, 30, log.read_text)
        wait_until(lambda: first_operation(data_dir)[0] in ("succeeded", "failed"), 60, log.read_text)
        status, claimed_by, count = first_operation(data_dir)
        assert (status, count) == ("succeeded", 1), log.read_text()
        claimer = int(claimed_by.rpartition(":")[2])
        assert claimer in workers(data_dir)

        os.kill(claimer, signal.SIGKILL)
        wait_until(lambda: len(workers(data_dir) - {claimer}) == 2, 30, log.read_text)
        again = subprocess.run(
            [ROOT / "script/server", "--scale", "--port", "1", "--data-dir", data_dir],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (again.returncode, "already" in again.stderr) == (1, True), again.stderr

        for folder in (data_dir, Postgres.beside(data_dir).directory):
            assert folder.stat().st_mode & 0o777 == 0o700

        served.process.send_signal(signal.SIGINT)
        assert served.process.wait(60) == 0, log.read_text()
    assert processes(data_dir) == {}
    assert "Traceback" not in log.read_text()

    # And again: the same accounts, quickly; and nothing outlives the one process, even when that is killed.
    with server(data_dir, log, "--scale") as served:
        assert served.seconds < SECOND_START_S
        assert log_in(served.url, shown[0]) == [302, 200, 200]
        wait_until(lambda: len(workers(data_dir)) == 2, 30, log.read_text)
        served.process.kill()
        wait_until(lambda: processes(data_dir) == {}, 30, lambda: processes(data_dir))
    assert "password  " not in log.read_text()
