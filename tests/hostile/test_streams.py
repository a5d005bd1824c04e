"""Hosts that print for ever, in every way: each reader ends by its deadline, and holds little meanwhile."""

from __future__ import annotations

import threading
import time
import tracemalloc
from pathlib import Path

import pytest

from nodes.errors import HostBudgetExceeded, HostTimeout, JournalUnavailable, NodeAdminError
from nodes.hosts import connection as hosts
from nodes.hosts import journal_entries
from nodes.hosts.journal import JournalFollow, read_page
from nodes.hosts.journal_filters import JournalFilters
from nodes.hosts.local import LocalShell
from nodes.hosts.qemu_follow import VmLogFollow
from nodes.hosts.stop_signal import Unwanted, stopped_by
from tests.hostile.streams import (
    A_BYTE_AT_A_TIME,
    COMPLAINTS,
    EMPTY_LINES,
    ENTRY,
    LYING_SIZE,
    NO_LINE_BREAK,
    EnemyHost,
)
from tests.patience import Deadline

MIB = 1 << 20


def refusing(host: EnemyHost, timeout_s: float, filters: JournalFilters | None = None) -> tuple[str, float]:
    """How a query of the host ends, as the bound that cut it or the error's code, and after how long."""
    with hosts.connect(host.target()) as connection:
        began = time.monotonic()
        try:
            page = read_page(
                connection, filters or JournalFilters(), limit=5000, newest_first=False, timeout_s=timeout_s
            )
        except NodeAdminError as error:
            return error.code, time.monotonic() - began
        return page.cut, time.monotonic() - began


@pytest.mark.parametrize(
    ("prints", "end"),
    [
        (EMPTY_LINES, "journal_unavailable"),
        (A_BYTE_AT_A_TIME, "time"),
        (NO_LINE_BREAK, "time"),
        (COMPLAINTS, "time"),
        (LYING_SIZE, "journal_unavailable"),
    ],
    ids=["empty lines", "a byte at a time", "no line break", "complaints", "a size that is a lie"],
)
def test_a_query_ends_by_its_deadline_whatever_the_host_prints(tmp_path: Path, prints: str, end: str) -> None:
    with EnemyHost(tmp_path, prints) as host:
        deadline = Deadline(6)
        found, _seconds = refusing(host, 0.7)
        assert found == end
        assert not deadline.over()
        assert host.rests_within(1)


def test_a_query_whose_entries_never_fit_ends_by_its_deadline(tmp_path: Path) -> None:
    """The host cannot search, so every entry is read here, and none is what was asked for."""
    entry = ENTRY.replace("\n", r"\n")
    prints = f"exec yes \"$(printf '{entry}')\""
    with EnemyHost(tmp_path, prints, has_grep=False) as host:
        deadline = Deadline(8)
        found, _seconds = refusing(host, 1, JournalFilters(keyword="something else"))
        assert found in ("time", "bytes")
        assert not deadline.over()


def test_a_followed_journal_without_a_line_break_is_ended_and_little_of_it_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_entries, "MAX_BARREN", 24 * MIB)
    with EnemyHost(tmp_path, NO_LINE_BREAK) as host, hosts.connect(host.target()) as connection:
        follow = JournalFollow(connection, JournalFilters())
        tracemalloc.start()
        try:
            with pytest.raises(HostBudgetExceeded, match="24 MiB"):
                while True:
                    assert follow.read(5) == []
            assert tracemalloc.get_traced_memory()[1] < 12 * MIB
        finally:
            tracemalloc.stop()
            follow.close()
        assert host.rests_within(1)


def test_a_followed_journal_of_empty_lines_is_ended(tmp_path: Path) -> None:
    with EnemyHost(tmp_path, EMPTY_LINES) as host, hosts.connect(host.target()) as connection:
        follow = JournalFollow(connection, JournalFilters())
        with pytest.raises(JournalUnavailable, match="empty lines"):
            while True:
                assert follow.read(5) == []
        follow.close()


def test_a_local_command_that_only_complains_is_given_up_in_time() -> None:
    with LocalShell().stream("yes complaint >&2") as stream:
        deadline = Deadline(5)
        with pytest.raises(HostTimeout):
            stream.read(timeout_s=0.5)
        assert not deadline.over()


def test_a_block_of_a_vm_log_that_is_said_to_be_huge_is_refused(tmp_path: Path) -> None:
    """The script on the host names each block's size, and is the host's to answer for."""
    with EnemyHost(tmp_path, EMPTY_LINES) as host:
        (host.bin / "sh").write_text(
            "#!/bin/dash\ncase \"$*\" in *'sleep 0.3'*) printf '\\0361 0 99999999999 a.log\\n'\n"
            'exec cat /dev/zero ;; esac\nexec /bin/dash "$@"\n'
        )
        (host.bin / "sh").chmod(0o755)
        with hosts.connect(host.target()) as connection:
            follow = VmLogFollow(connection, JournalFilters(), {}, 5)
            with pytest.raises(HostTimeout, match="not understood"):
                for _ in range(2000):
                    follow.read(5)
            follow.close()


@pytest.mark.parametrize("prints", ["exec sleep 60", EMPTY_LINES, A_BYTE_AT_A_TIME])
def test_what_nobody_waits_for_any_more_ends_within_a_second(tmp_path: Path, prints: str) -> None:
    gone = threading.Event()
    ended: list[str] = []

    def ask(connection: hosts.HostConnection) -> None:
        with stopped_by(gone):
            try:
                connection.shell.run("journalctl", timeout_s=60)
            except Unwanted:
                ended.append("unwanted")

    with EnemyHost(tmp_path, prints) as host, hosts.connect(host.target()) as connection:
        thread = threading.Thread(target=ask, args=(connection,))
        thread.start()
        while not host.running():
            time.sleep(0.02)
        gone.set()
        deadline = Deadline(1)
        thread.join(10)
        assert not thread.is_alive()
        assert not deadline.over()
        if prints != EMPTY_LINES:
            assert ended == ["unwanted"]
