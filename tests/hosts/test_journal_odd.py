"""What hosts do now and then: a message beyond all bounds, a reboot between pages, a clock that is set, a
journalctl without its library; each is met or said."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import timedelta

import pytest

from nodes.errors import CursorGone, HostTimeout, JournalUnavailable
from nodes.hosts import journal, journal_tool
from nodes.hosts.connection import HostConnection, connect
from nodes.hosts.journal import JournalFollow, read_entry
from nodes.hosts.journal_filters import read_filters
from nodes.hosts.journal_tool import tool_of
from nodes.hosts.log_command import shown_command
from nodes.hosts.log_cursor import LogCursor
from nodes.hosts.log_query import LogPage, query
from nodes.hosts.log_sources import list_sources
from tests.journals import AVAILABLE, JournalHost, entry

pytestmark = pytest.mark.skipif(not AVAILABLE or os.geteuid() != 0, reason="needs root and journal-remote")
FIRST, SECOND, THIRD = "a1" * 16, "b2" * 16, "c3" * 16
SCOPE = "machine-qemu\\x2d3\\x2dweb.scope"
COREDUMP = {"MESSAGE_ID": "fc2e22bc6ee647b6b90729ab34a250b1", "_UID": "0"}


@pytest.fixture
def host(tmp_path) -> Iterator[JournalHost]:
    with JournalHost(tmp_path) as made:
        yield made


@pytest.fixture
def connection(host: JournalHost) -> Iterator[HostConnection]:
    with connect(host.target()) as opened:
        yield opened


def replace_tool(host: JournalHost, case: str) -> None:
    """A journalctl that does something else in the ``case`` of sh, given its arguments in one word."""
    (host.bin / "journalctl").write_text(
        f'#!/bin/sh\ncase "$*" in {case} esac\nexec /usr/bin/journalctl --directory={host.journal} "$@"\n'
    )


def ask(connection: HostConnection, *, newest: bool = True, limit: int = 100, **filters: object) -> LogPage:
    return query(connection, LogCursor(read_filters(filters), newest), limit=limit)


def messages(page: LogPage) -> list[str | None]:
    return [row.message for row in page.entries]


def test_a_message_larger_than_a_page_may_be_is_passed_and_its_beginning_shown(host, connection, monkeypatch):
    monkeypatch.setattr(journal, "MAX_QUERY_BYTES", 1 << 20)
    host.write([entry(1, "before"), entry(2, "x" * (3 << 20)), entry(3, "after")])
    for newest in (True, False):
        page = ask(connection, newest=newest, limit=1)
        found = page.entries
        for _page in range(10):
            if not page.more:
                break
            page = query(connection, page.cursor, limit=5)
            found += page.entries
        texts = [(row.message or "")[:6] for row in found]
        assert texts == (["after", "xxxxxx", "before"] if newest else ["before", "xxxxxx", "after"])
        assert [row.cut for row in found] == [False, True, False]


def test_pages_of_an_earlier_boot_go_on_after_the_host_has_started_again(host, connection):
    host.write(entry(number, f"first {number}", boot=FIRST) for number in range(5))
    host.write([entry(10, "second", boot=SECOND)])
    page = ask(connection, boot="-1", limit=3)
    assert messages(page) == ["first 4", "first 3", "first 2"]
    host.write([entry(20, "third", boot=THIRD)])
    assert messages(query(connection, page.cursor, limit=9)) == ["first 1", "first 0"]


def test_a_journalctl_that_lacks_its_library_is_searched_for(host, connection):
    said = 'echo "PCRE2 support is not installed." >&2; exit 1;;'
    replace_tool(host, f"*--grep*) {said}")
    host.write([entry(1, "one needle"), entry(2, "two")])
    page = ask(connection, keyword="NEEDLE")
    assert messages(page) == ["one needle"]
    assert page.searched_here


def test_a_clock_that_was_set_meanwhile_is_asked_again(host, connection, monkeypatch):
    monkeypatch.setattr(journal_tool, "CLOCK_GOOD_S", 0.0)
    date = host.bin / "date"
    date.write_text("#!/bin/sh\necho $(($(/bin/date +%s) + 86400))\n")
    date.chmod(0o755)
    ahead = tool_of(connection, 10).host_now()
    date.unlink()
    assert ahead - tool_of(connection, 10).host_now() > timedelta(hours=23)


def test_a_unit_has_its_core_dumps_and_a_slice_what_runs_in_it(host, connection):
    of_libvirtd = {**COREDUMP, "COREDUMP_UNIT": "libvirtd.service"}
    of_qemu = {**COREDUMP, "COREDUMP_COMM": "qemu-system-x86"}
    host.write(
        [
            entry(1, "in the slice", SCOPE, _SYSTEMD_SLICE="machine.slice"),
            entry(2, "libvirtd dumped core", "systemd-coredump@1.service", **of_libvirtd),
            entry(3, "qemu dumped core", "systemd-coredump@2.service", **of_qemu),
            entry(4, "somebody says so", "x.service", **{**of_libvirtd, "_UID": "1000"}),
        ]
    )
    assert messages(ask(connection, services=["machine.slice"])) == ["in the slice"]
    assert messages(ask(connection, services=["libvirtd.service"])) == ["libvirtd dumped core"]
    assert messages(ask(connection, services=["qemu"], newest=False)) == ["in the slice", "qemu dumped core"]


def test_a_place_that_is_gone_is_told_though_nothing_has_come_since(host, connection, monkeypatch):
    monkeypatch.setattr(journal, "DOUBT_S", 0.5)
    host.write([entry(1, "rare", "rare.service")], "old")
    host.write([entry(2, "other")], "new")
    (row,) = ask(connection, services=["rare"]).entries
    for present in (True, False):
        if not present:
            (host.journal / "old.journal").unlink()
        follow = JournalFollow(connection, read_filters({"services": ["rare"]}), cursor=row.cursor)
        try:
            deadline = time.monotonic() + (2 if present else 20)
            while not follow.gap and time.monotonic() < deadline:
                try:
                    assert not follow.read(0.2)
                except HostTimeout:
                    continue
            assert follow.gap is not present
        finally:
            follow.close()


def test_a_journal_that_cannot_be_read_is_neither_empty_nor_shortened(host, connection):
    host.write([entry(1, "x")])
    cursor = ask(connection).entries[0].cursor
    replace_tool(host, '*) echo "Failed to open: Input/output error" >&2; exit 1;;')
    with pytest.raises(JournalUnavailable, match="Input/output error"):
        list_sources(connection)
    with pytest.raises(JournalUnavailable, match="Input/output error"):
        read_entry(connection, cursor)
    replace_tool(host, "")
    with pytest.raises(CursorGone):
        read_entry(connection, cursor.replace(";i=", ";i=f"))


def test_the_command_that_is_shown_for_a_search_that_is_followed_finds_what_was_there(host, connection):
    host.write(entry(number, "needle" if number == 3 else "hay") for number in range(300))
    typed = shown_command(read_filters({"keyword": "needle"}), limit=100, follow=True)
    printed = connection.shell.run(f"timeout 3 {typed} --output=cat", timeout_s=20).stdout
    assert printed == b"needle\n"
