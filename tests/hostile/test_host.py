"""A host that is an enemy: what it does ends in time, holds little, and hurts no other part."""

from __future__ import annotations

import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nodes.errors import NodeAdminError
from nodes.hosts.connection import connect
from nodes.hosts.host_key_scan import scan_host
from nodes.hosts.journal import read_page
from nodes.hosts.journal_filters import read_filters
from nodes.hosts.probe import collect
from nodes.inventory.build import build
from nodes.inventory.registry import SECTIONS
from tests.hostile.host import BEATS, JOURNALS, PROBES, EndlessGreeting, EnemyHost
from tests.network import ANYWHERE
from tests.patience import slowness

PROBE_S = 3.0
PROBE_BYTES = 32 << 20
"""At the worst moment: 8 MiB that are read, and the text that is made of them."""
JOURNAL_S = 2.0
JOURNAL_BYTES = 48 << 20


@pytest.fixture(scope="module")
def enemy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EnemyHost]:
    with EnemyHost(tmp_path_factory.mktemp("enemy")) as host:
        yield host


def measured(work: Callable[[], Any]) -> tuple[Any, float, int]:
    """What ``work`` gave, the seconds and the most bytes that it held."""
    tracemalloc.start()
    begin = time.monotonic()
    try:
        found = work()
        return found, time.monotonic() - begin, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def in_time(took_s: float, limit_s: float) -> bool:
    return took_s <= limit_s or took_s <= limit_s * slowness()


def left_over(before: set[threading.Thread]) -> set[str]:
    """The threads that are more than ``before``, after a moment for them to end."""
    end = time.monotonic() + 10
    while True:
        more = {thread.name for thread in set(threading.enumerate()) - before} - {"libvirt events"}
        if not more or time.monotonic() > end:
            return more
        time.sleep(0.05)


@pytest.mark.parametrize("kind", PROBES)
def test_a_probe_that_is_not_ours_ends_in_time_and_is_told(enemy: EnemyHost, kind: str) -> None:
    enemy.probe(kind)
    with connect(enemy.sshd.target()) as connection:
        connection.shell.run("true", timeout_s=20)
        threads = set(threading.enumerate())

        def read() -> Any:
            try:
                return build(collect(connection, SECTIONS, timeout_s=PROBE_S))
            except NodeAdminError as error:
                return error

        found, took_s, held = measured(read)
        assert in_time(took_s, PROBE_S + 15)
        assert held < PROBE_BYTES
        assert left_over(threads) == set()
        if isinstance(found, NodeAdminError):
            assert found.detail().isprintable() or "\n" in found.detail()
            assert "\x1b" not in found.detail()
        else:
            assert {"summary", "pci", "usb", "net", "disks"} <= {
                problem.section for problem in found.problems
            }
            assert all(problem.code != "parser_failed" for problem in found.problems)
        # The host is what it was for the next one who asks.
        assert connection.shell.run("echo well", timeout_s=20).stdout == b"well\n"


@pytest.mark.parametrize("kind", JOURNALS)
def test_a_journal_that_lies_ends_in_time_and_is_told(enemy: EnemyHost, kind: str) -> None:
    enemy.journal(kind)
    with connect(enemy.sshd.target()) as connection:
        threads = set(threading.enumerate())

        def read(cursor: str = "") -> Any:
            try:
                return read_page(
                    connection,
                    read_filters({}),
                    limit=100,
                    newest_first=False,
                    cursor=cursor,
                    timeout_s=JOURNAL_S,
                )
            except NodeAdminError as error:
                return error

        found, took_s, held = measured(read)
        assert in_time(took_s, JOURNAL_S + 5)
        assert held < JOURNAL_BYTES
        if not isinstance(found, NodeAdminError):
            assert len(found.entries) <= 100
            if found.entries:  # asked to go on, it gives the same again
                again = read(found.cursor)
                assert isinstance(again, NodeAdminError)
                assert again.code == "journal_unavailable"
        assert len(left_over(threads)) <= 2


@pytest.mark.parametrize("line", [b"welcome\r\n", b"x", b"\x1b[2J\n"], ids=["lines", "no line", "escapes"])
def test_a_greeting_without_end_is_given_up(line: bytes) -> None:
    with EndlessGreeting(line) as greeting:
        threads = set(threading.enumerate())
        begin = time.monotonic()
        with pytest.raises(NodeAdminError) as told:
            scan_host("127.0.0.1", greeting.port, timeout_s=3.0, rules=ANYWHERE)
        assert in_time(time.monotonic() - begin, 5.0)
        assert "\x1b" not in told.value.detail()
        assert greeting.sent < 64 << 20
        assert len(left_over(threads)) <= 1


def test_the_fixture_has_an_enemy_of_each_kind(tmp_path: Path) -> None:
    host = EnemyHost(tmp_path / "host")
    for kind in PROBES:
        host.probe(kind)
    for kind in JOURNALS:
        host.journal(kind)
    for kind in BEATS:
        host.beats(kind)
    assert (host.bin / "journalctl").stat().st_mode & 0o111
