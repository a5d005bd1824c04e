"""Entries that journalctl prints without their MESSAGE: read again, and null only where there is none."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nodes.hosts.connection import HostConnection, connect
from nodes.hosts.journal import JournalFollow, read_entry
from nodes.hosts.journal_entries import Entry
from nodes.hosts.journal_filters import read_filters
from nodes.hosts.log_cursor import LogCursor
from nodes.hosts.log_query import query
from nodes.hosts.logs import missing_messages
from tests.journals import AVAILABLE, JournalHost, entry, export

pytestmark = pytest.mark.skipif(not AVAILABLE or os.geteuid() != 0, reason="needs root and journal-remote")
LINES = [f"line {number}" for number in range(60)]


@pytest.fixture
def host(tmp_path: Path) -> Iterator[JournalHost]:
    made = JournalHost(tmp_path)
    made.write(entry(number, f"line {number}") for number in range(30))
    with made:
        yield made


@pytest.fixture
def connection(host: JournalHost) -> Iterator[HostConnection]:
    with connect(host.target()) as opened:
        yield opened


def followed(host: JournalHost, connection: HostConnection, **filters: object) -> list[Entry]:
    """The entries of a follower under whose eyes lines 30 to 59 are written."""
    follow = JournalFollow(connection, read_filters(filters))
    found: list[Entry] = []
    try:
        while len(found) < 30:
            found += follow.read(10) or []
        writer = host.writer()
        assert writer.stdin is not None
        for number in range(30, 60):
            writer.stdin.write(export(entry(number, f"line {number}")))
        writer.stdin.close()
        writer.wait(10)
        while len(found) < 60:
            found += follow.read(10) or []
    finally:
        follow.close()
    return found


def test_a_message_that_the_follower_lost_is_read_again_in_its_place(host, connection):
    host.lose_message("line 4[0-9]")
    found = followed(host, connection)
    assert [row.message for row in found] == LINES
    assert len({row.cursor for row in found}) == 60


@pytest.mark.parametrize("filters", [{}, {"services": ["cron"]}, {"keyword": "line 2"}], ids=str)
@pytest.mark.parametrize("newest", [True, False], ids=["newest", "oldest"])
def test_a_message_that_a_query_lost_is_read_again_in_its_place(host, connection, newest, filters):
    start = LogCursor(read_filters(filters), newest)
    whole = query(connection, start, limit=20).entries
    assert len(whole) > 10
    host.lose_message("line 2[0-46-8]*")
    again = query(connection, start, limit=20)
    assert again.entries == whole
    assert 2 <= len(host.calls.read_text().splitlines()) <= 4, "one command reads all of a batch again"


def test_an_entry_that_has_no_message_is_shown_with_none(host, connection):
    silent = {name: value for name, value in entry(30, "").items() if name != "MESSAGE"}
    host.write([silent])
    host.lose_message("line 29")
    newest, before, *_rest = query(connection, LogCursor(read_filters({}), True), limit=5).entries
    assert (newest.message, newest.message_unread) == (None, False)
    assert (before.message, before.message_unread) == ("line 29", False)
    assert "MESSAGE" not in {field.name for field in read_entry(connection, newest.cursor)}


def test_a_message_that_cannot_be_read_again_is_unknown_and_says_so(host, connection):
    host.lose_message("line 29", rereads=False)
    newest, before, *_rest = query(connection, LogCursor(read_filters({}), True), limit=5).entries
    assert (newest.message, newest.message_unread) == (None, True)
    assert newest.cursor
    assert (before.message, before.message_unread) == ("line 28", False)


def test_a_second_reading_that_hangs_holds_a_stream_up_once_and_not_at_every_entry(
    host, connection, monkeypatch
):
    monkeypatch.setattr(missing_messages, "REREAD_S", 1.0)
    host.lose_message("line .*", hangs=True)
    follow = JournalFollow(connection, read_filters({}))
    found: list[Entry] = []
    for number in range(30, 35):
        while len(found) < number:
            found += follow.read(10) or []
        host.write([entry(number, f"line {number}")])
    follow.close()
    assert all(row.message is None and row.message_unread for row in found)
    assert len(host.calls.read_text().splitlines()) == 2, "the stream itself, and one second reading"


def test_all_fields_of_an_entry_have_its_message_though_the_first_reading_lost_it(host, connection):
    newest = query(connection, LogCursor(read_filters({}), True), limit=1).entries[0]
    host.lose_message("line 29")
    assert {field.name: field.value for field in read_entry(connection, newest.cursor)}[
        "MESSAGE"
    ] == "line 29"


def test_a_connection_that_is_lost_meanwhile_shows_no_entry_by_halves(host):
    host.lose_message("line 5")
    with connect(host.target()) as connection:
        follow = JournalFollow(connection, read_filters({}))
        stolen = threading.Event()

        def cut(*_arguments: object, **_options: object) -> None:
            stolen.set()
            host.sshd.drop_connections()
            time.sleep(0.2)

        # The connection goes between the first reading and the second.
        original = follow._missing._read_again
        follow._missing._read_again = lambda *values: (cut(), original(*values))[1]  # type: ignore[method-assign]
        with pytest.raises(Exception, match="lost") as failure:
            while follow.read(10) is not None:
                pass
        assert getattr(failure.value, "code", "") == "host_unreachable"
        assert stolen.is_set()
        follow.close()
