"""No filter becomes an option, a command or a file name: by what the host's own process list shows.

The programs that nodeadmin runs on the host are recorders here. Each notes its entry of /proc, the
arguments as the kernel has them, whatever shells and sudo rules lay between.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from nodes.errors import InvalidInput, NodeAdminError
from nodes.hosts import qemu_logs
from nodes.hosts.connection import HostConnection, connect
from nodes.hosts.journal_filters import JournalFilters, bounds, command, read_filters, selection
from nodes.hosts.journal_tool import tool_of
from nodes.hosts.log_cursor import LogCursor
from nodes.hosts.log_follow import LogFollow
from nodes.hosts.log_query import query
from tests.hosts.test_journal_filters import ALLOWED, HOSTILE
from tests.journals import AVAILABLE, JournalHost

pytestmark = pytest.mark.skipif(not AVAILABLE or os.geteuid() != 0, reason="needs root and journal-remote")
RECORDED = ("stat", "tail", "sort", "head", "touch", "id", "reboot", "cat")
RECORDER = """#!/bin/sh
/bin/cat /proc/$$/cmdline > {calls}/$$
{then}
"""


@dataclass
class Host:
    """A host that notes what runs on it."""

    connection: HostConnection
    calls: Path
    vm_logs: Path

    def seen(self) -> list[tuple[str, list[str]]]:
        """Each process since the last time: its program's name, and its arguments."""
        deadline = time.monotonic() + 10
        while self._running() and time.monotonic() < deadline:
            time.sleep(0.02)
        found = []
        for file in self.calls.iterdir():
            # A shell, the script, and what it was given; nothing where it was ended before it noted anything.
            parts = file.read_bytes().decode(errors="surrogateescape").split("\0")[1:-1]
            if parts:
                found.append((parts[0].rpartition("/")[2], parts[1:]))
            file.unlink()
        return found

    def _running(self) -> bool:
        """Whether something still runs on the host: all of it has a path of the folder in its arguments."""
        for process in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                if str(self.calls.parent).encode() in process.read_bytes().partition(b"sshd")[0]:
                    return True
        return False


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    folder = tmp_path_factory.mktemp("host")
    made, calls, vm_logs = JournalHost(folder), folder / "calls", folder / "vm logs"
    calls.mkdir()
    vm_logs.mkdir()
    (vm_logs / "web-1.log").write_text("2026-01-02 03:04:05.678+0000: starting up\n")
    (vm_logs / "x$(id).log").write_text("2026-01-02 03:04:05.678+0000: starting up\n")
    tools = {name: f'exec {shutil.which(name) or "/bin/true"} "$@"' for name in RECORDED}
    tools["journalctl"] = 'case "$1" in --version) exec /usr/bin/journalctl "$@";; esac; exit 0'
    for name, then in tools.items():
        (made.bin / name).write_text(RECORDER.format(calls=calls, then=then))
        (made.bin / name).chmod(0o755)
    with made, pytest.MonkeyPatch.context() as patch:
        patch.setattr(qemu_logs, "DIRECTORY", str(vm_logs))
        with connect(made.target()) as connection:
            assert tool_of(connection, 20).has_grep
            yield Host(connection, calls, vm_logs)


def mostly(*valid: str) -> st.SearchStrategy[str]:
    """For a filter of a closed form: were half of them hostile, nearly every query would be refused."""
    return st.integers(0, 9).flatmap(lambda number: HOSTILE if not number else st.sampled_from(valid))


SERVICE = st.one_of(
    HOSTILE.map("identifier:{}".format), mostly("qemu", "vm-log", "cron", "kernel", "a@b.mount")
)
OPEN = {
    "services": st.lists(SERVICE, max_size=3) | st.sampled_from([["vm-log"], ["qemu"]]),
    "level": mostly("err", "warning..err", "7"),
    "keyword": HOSTILE | st.text(max_size=20),
    "regex": st.booleans(),
    "boot": mostly("-1", "0"),
    "vm": HOSTILE | st.just("web-1") | st.text(max_size=20),
    "cursor": HOSTILE,
}
SPAN = {"since": mostly("2026-01-02T03:04:05Z"), "until": mostly("2026-01-03T03:04:05Z")}
QUERIES = st.one_of(
    st.fixed_dictionaries({}, optional=OPEN | SPAN),
    st.fixed_dictionaries({}, optional=OPEN | {"last": mostly("2h", "90s")}),
)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(QUERIES, st.booleans())
@example({"services": ["identifier:--file=/etc/shadow", "vm-log"], "vm": "$(touch x)", "keyword": "--"}, True)
@example({"vm": "'; touch x; '", "keyword": "\n--file=/etc/shadow\n", "services": ["qemu"]}, False)
@example({"vm": "-c", "keyword": "--follow", "boot": "-1"}, True)
@example({"vm": "x$(id)", "services": ["vm-log"]}, True)
def test_what_runs_on_the_host_has_each_value_in_one_argument_of_its_own(host, values, newest):
    try:
        filters = read_filters(values)
    except InvalidInput as error:
        assert error.field in values
        return
    host.seen()
    start = LogCursor(filters, newest)
    try:
        query(host.connection, start, limit=5, timeout_s=20)
    except InvalidInput:  # an expression that does not compile
        judge(host, filters)
        return
    programs = judge(host, filters)
    assert ("journalctl" in programs) == filters.reads_journal
    assert ("stat" in programs) == filters.reads_vm_logs


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(QUERIES)
@example({"vm": "'; touch x; '", "keyword": "$(touch x)", "services": ["qemu", "vm-log"]})
def test_the_same_holds_for_what_is_followed(host, values):
    try:
        filters = read_filters(values)
    except InvalidInput:
        return
    host.seen()
    try:
        follow = LogFollow(host.connection, LogCursor(filters))
    except InvalidInput:
        return
    try:
        follow.read(0.3)
    except NodeAdminError as error:
        assert error.code == "timeout", error
    finally:
        follow.close()
    judge(host, filters)


def judge(host: Host, filters: JournalFilters) -> set[str]:
    """Look at all that has run; gives the programs' names."""
    programs = set()
    wanted = selection(filters, with_grep=True)
    if filters.last_s is None:
        wanted += bounds(filters, cursor="", since=filters.since)
    wanted = shlex.split(command(wanted))[2:]  # an expression's spaces are written otherwise
    endings = (".log", ".log.[0-9]", ".log.[0-9].gz")
    files = {f"{host.vm_logs}/{filters.vm}{ending}" for ending in endings} if filters.vm else None
    for program, arguments in host.seen():
        programs.add(program)
        if program == "journalctl":
            known = [part for part in arguments if part in wanted]
            assert sorted(known) == sorted(wanted), (arguments, wanted)
            rest = [part for part in arguments if part not in wanted]
            assert all(ALLOWED.fullmatch(part) or own_option(part) for part in rest), rest
        elif program == "stat":
            assert arguments[0] == "-c"
            named = set(arguments[arguments.index("--") + 1 :])
            assert files is None or named <= files, (named, files)
        elif program == "tail":
            (path,) = arguments[arguments.index("--") + 1 :]
            assert Path(path).parent == host.vm_logs
            assert files is None or path in files
        else:
            assert program in ("sort", "head"), (program, arguments)
    return programs


def own_option(part: str) -> bool:
    return part in ("--reverse", "--lines=7", "--follow", "--no-tail")
