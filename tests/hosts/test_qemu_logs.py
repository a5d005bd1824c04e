"""The VMs' own logs over SSH: many of them, rotated in either way, and lines that carry no time."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nodes.hosts import qemu_logs
from nodes.hosts.connection import HostConnection, connect
from nodes.hosts.journal_filters import read_filters
from nodes.hosts.log_cursor import LogCursor
from nodes.hosts.log_follow import LogFollow
from nodes.hosts.log_query import LogPage, query
from tests.journals import AVAILABLE, JournalHost, entry

pytestmark = pytest.mark.skipif(not AVAILABLE or os.geteuid() != 0, reason="needs root and journal-remote")


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JournalHost]:
    made = JournalHost(tmp_path_factory.mktemp("host"))
    made.write([entry(1, "of no VM")])
    with made:
        yield made


@pytest.fixture
def connection(host: JournalHost) -> Iterator[HostConnection]:
    with connect(host.target()) as opened:
        yield opened


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(qemu_logs, "DIRECTORY", str(tmp_path))
    return Path(tmp_path)


def stamped(minute: int, *words: str) -> str:
    return "".join(f"2023-11-14 22:{minute:02d}:00.000+0000: {text}\n" for text in words)


def append(file: Path, text: str) -> None:
    with file.open("a") as opened:
        opened.write(text)


def rename(log: Path) -> None:
    """As virtlogd rotates."""
    for number in (1, 0):
        older = log.with_name(f"{log.name}.{number}")
        if older.exists():
            older.rename(log.with_name(f"{log.name}.{number + 1}"))
    log.rename(log.with_name(f"{log.name}.0"))


def copy_and_truncate(log: Path) -> None:
    """As logrotate does with ``copytruncate``."""
    shutil.copy(log, log.with_name(f"{log.name}.1"))
    os.truncate(log, 0)


def ask(connection: HostConnection, *, newest: bool = False, limit: int = 100, **filters: object) -> LogPage:
    start = LogCursor(read_filters({"services": ["vm-log"], **filters}), newest)
    return query(connection, start, limit=limit)


def messages(page: LogPage) -> list[str | None]:
    return [row.message for row in page.entries]


def taken(follow: LogFollow, last: str, within_s: float = 20) -> list[str | None]:
    """What comes up to the line ``last``."""
    found: list[str | None] = []
    deadline = time.monotonic() + within_s
    while last not in found and time.monotonic() < deadline:
        found += [row.message for row in follow.read(0.5) or []]
    return found


@pytest.mark.parametrize("rotate", [rename, copy_and_truncate])
def test_pages_go_on_through_a_rotation_in_both_directions(connection, folder, rotate):
    log = folder / "web.log"
    log.write_text(stamped(1, "1", "2", "3", "4"))
    older, newer = ask(connection, limit=2), ask(connection, newest=True, limit=2)
    assert (messages(older), messages(newer)) == (["1", "2"], ["4", "3"])
    append(log, stamped(2, "5"))
    rotate(log)
    append(log, stamped(3, "6"))
    assert messages(query(connection, older.cursor, limit=9)) == ["3", "4", "5", "6"]
    page = query(connection, newer.cursor, limit=9)
    assert messages(page) == ["2", "1"]
    assert not page.problems


@pytest.mark.parametrize("rotate", [rename, copy_and_truncate])
def test_a_stream_goes_on_through_a_rotation_while_nobody_followed(connection, folder, rotate):
    log = folder / "web.log"
    log.write_text(stamped(1, "1", "2"))
    place = ask(connection).cursor
    append(log, stamped(2, "3"))
    rotate(log)
    append(log, stamped(3, "4"))
    follow = LogFollow(connection, LogCursor.decode(place.encode()))
    try:
        assert taken(follow, "4") == ["3", "4"]
        assert not follow.gap
        rotate(log)
        append(log, "5\n")  # a file that had grown as long as before could not be told from it
        assert taken(follow, "5") == ["5"]
    finally:
        follow.close()


def test_logs_that_were_rotated_more_than_once_are_read_too(connection, folder):
    log = folder / "web.log"
    for number in range(3):
        append(log, stamped(number, str(number)))
        rename(log)
    log.write_text(stamped(9, "9"))
    assert messages(ask(connection)) == ["0", "1", "2", "9"]


def test_older_logs_that_were_compressed_are_said_where_reading_comes_to_an_end(connection, folder):
    (folder / "web.log").write_text(stamped(1, "1"))
    (folder / "web.log.2.gz").write_bytes(b"\x1f\x8b")
    page = ask(connection)
    assert (messages(page), [problem.code for problem in page.problems]) == (["1"], ["compressed"])
    (folder / "web.log.2.gz").unlink()
    assert not ask(connection).problems


def test_what_is_no_longer_there_is_said(connection, folder):
    log = folder / "web.log"
    log.write_text(stamped(1, "1", "2", "3"))
    page = ask(connection, limit=2)
    log.write_text(stamped(2, "4"))
    after = query(connection, page.cursor)
    assert messages(after) == ["4"]
    assert [problem.code for problem in after.problems] == ["rotated"]


def test_of_many_logs_a_stream_gives_what_is_written_from_now_on(connection, folder):
    for number in range(qemu_logs.MAX_FILES + 40):
        (folder / f"vm-{number}.log").write_text(stamped(1, f"old of {number}"))
        os.utime(folder / f"vm-{number}.log", (1_700_000_000 + number,) * 2)
    page = ask(connection, newest=True, limit=500)
    assert len(page.entries) == qemu_logs.MAX_FILES
    assert [problem.code for problem in page.problems] == ["left_out"]
    cursor = LogCursor.decode(LogCursor(page.cursor.filters, files=page.ends).encode())
    follow = LogFollow(connection, cursor)
    try:
        assert not follow.read(1.5)
        append(folder / "vm-0.log", stamped(2, "new of 0"))
        (folder / "fresh.log").write_text(stamped(3, "of a new VM"))
        found = taken(follow, "new of 0") + taken(follow, "of a new VM", 2)
        assert sorted(found, key=str) == ["new of 0", "of a new VM"]
        place = follow.position
    finally:
        follow.close()
    append(folder / "vm-1.log", stamped(4, "new of 1"))
    follow = LogFollow(connection, LogCursor.decode(place.encode()))
    try:
        assert taken(follow, "new of 1") == ["new of 1"]
    finally:
        follow.close()


def test_more_places_than_a_cursor_has_room_for_repeat_nothing(connection, folder, monkeypatch):
    monkeypatch.setattr(qemu_logs, "MAX_PLACES_BYTES", 500)
    for number in range(40):
        (folder / f"vm-{number}.log").write_text(stamped(1, f"old of {number}"))
    page = ask(connection, newest=True, limit=500)
    cursor = LogCursor.decode(LogCursor(page.cursor.filters, files=page.ends).encode())
    assert 0 < len(cursor.files) < 40
    follow = LogFollow(connection, cursor)
    try:
        append(folder / "vm-0.log", stamped(2, "new of 0"))
        assert set(taken(follow, "new of 0")) <= {"new of 0"}
    finally:
        follow.close()


def test_a_log_that_was_not_written_to_since_is_not_read(connection, folder):
    for name in ("still", "used"):
        (folder / f"{name}.log").write_text(stamped(30, f"{name} 1"))
    os.utime(folder / "still.log", (1_600_000_000,) * 2)
    since = {"since": "2023-11-14T22:20:00Z"}
    assert messages(ask(connection, **since)) == messages(ask(connection, newest=True, **since)) == ["used 1"]
    follow = LogFollow(connection, LogCursor(read_filters({"services": ["vm-log"], **since})))
    try:
        assert taken(follow, "used 1") == ["used 1"]
        append(folder / "still.log", stamped(31, "still 2"))
        assert taken(follow, "still 2") == ["still 2"]
    finally:
        follow.close()


def test_lines_without_a_time_are_of_the_time_above_them_on_every_page(connection, folder, monkeypatch):
    monkeypatch.setattr(qemu_logs, "_ONE_BLOCK", 300)
    arguments = "".join(f"-device number={number} \\\n" for number in range(60))
    (folder / "web.log").write_text(stamped(1, "start") + arguments + stamped(20, "end"))
    assert messages(ask(connection, newest=True, since="2023-11-14T22:10:00Z")) == ["end"]
    for newest in (True, False):
        page = ask(connection, newest=newest)
        times = [row.time for row in page.entries]
        while page.more:
            page = query(connection, page.cursor)
            times += [row.time for row in page.entries]
        assert len(times) == 62
        assert None not in times
        assert times == sorted(times, key=str, reverse=newest)
