"""A journal read over SSH: real journal files, real journalctl, nothing between but our own code."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nodes.errors import CursorGone, HostTimeout, InvalidCursor, InvalidInput
from nodes.hosts import qemu_logs
from nodes.hosts.connection import HostConnection, connect
from nodes.hosts.journal import JournalFollow, read_entry, read_page
from nodes.hosts.journal_filters import read_filters
from nodes.hosts.log_command import shown_command
from nodes.hosts.log_cursor import LogCursor
from nodes.hosts.log_follow import LogFollow
from nodes.hosts.log_query import LogPage, query
from tests.journals import AVAILABLE, BOOT, JournalHost, entry

pytestmark = pytest.mark.skipif(not AVAILABLE or os.geteuid() != 0, reason="needs root and journal-remote")
OLD_BOOT = "ab" * 16


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JournalHost]:
    made = JournalHost(tmp_path_factory.mktemp("host"))
    made.write(entry(number, f"old {number}", boot=OLD_BOOT) for number in range(10))
    made.write(
        [
            *(entry(100 + n, f"line {n}", "ssh.service", PRIORITY=str(n % 8)) for n in range(40)),
            entry(200, b"not \xff text", "odd.service"),
            entry(201, "two\nlines", "odd.service"),
            entry(202, "z" * 9000, "odd.service"),
            entry(203, "Start of [web-1] (failed)", "libvirtd.service"),
            entry(204, "vm web-10 started", "libvirtd.service"),
            entry(205, "web-1 is named here too", "cron.service"),
        ]
    )
    with made:
        yield made


@pytest.fixture
def connection(host: JournalHost) -> Iterator[HostConnection]:
    with connect(host.target()) as opened:
        yield opened


def ask(connection: HostConnection, *, newest: bool = True, limit: int = 100, **filters: object) -> LogPage:
    return query(connection, LogCursor(read_filters(filters), newest), limit=limit)


def messages(page: LogPage) -> list[str | None]:
    return [row.message for row in page.entries]


def test_fields_of_any_kind_come_whole_and_marked(connection):
    binary, lines, long = ask(connection, newest=False, services=["odd"]).entries
    assert (binary.message, binary.binary) == ("not \\xff text", True)
    assert (lines.message, lines.binary) == ("two\nlines", False)
    assert long.message == "z" * 9000
    fields = {field.name: field.value for field in read_entry(connection, long.cursor)}
    assert fields["MESSAGE"] == "z" * 9000


def test_levels_boots_keywords_and_vms_narrow_the_answer(connection):
    assert {row.level for row in ask(connection, services=["ssh"], level="2..3").entries} == {2, 3}
    assert len(ask(connection, boot=OLD_BOOT).entries) == 10
    assert len(ask(connection, boot="-1").entries) == 10
    assert messages(ask(connection, keyword="OF [WEB-1] (")) == ["Start of [web-1] (failed)"]
    assert messages(ask(connection, keyword=r"\[web-\d\]", regex=True)) == ["Start of [web-1] (failed)"]
    assert messages(ask(connection, vm="web-1", services=["libvirtd"])) == ["Start of [web-1] (failed)"]
    assert messages(ask(connection, vm="web-1", keyword="failed", services=["libvirtd"])) != []
    assert messages(ask(connection, vm="web-1", keyword="started", services=["libvirtd"])) == []


def test_no_match_is_an_empty_answer_and_a_bad_cursor_an_error(connection):
    assert ask(connection, keyword="nowhere to be found").entries == []
    assert ask(connection, services=["none-such"], level="0").entries == []
    with pytest.raises(InvalidCursor):
        read_page(connection, read_filters({}), limit=1, newest_first=True, cursor="--file=/etc/shadow")
    with pytest.raises(InvalidInput) as refused:
        ask(connection, boot="cd" * 16)
    assert refused.value.field == "boot"


def test_a_cursor_whose_entry_has_been_removed_is_said_both_ways(connection):
    (row,) = ask(connection, limit=1).entries
    changed = row.cursor.replace(";i=", ";i=f")
    for newest in (True, False):
        with pytest.raises(CursorGone):
            read_page(connection, read_filters({}), limit=5, newest_first=newest, cursor=changed)


def test_pages_meet_without_gap_or_repeat_in_both_directions(connection):
    for newest in (True, False):
        page = ask(connection, newest=newest, limit=7)
        found = messages(page)
        while page.more:
            page = query(connection, page.cursor, limit=7)
            found += messages(page)
        whole = messages(ask(connection, newest=newest, limit=5000))
        assert found == whole
        assert len(whole) == 56


def test_a_time_bound_holds_on_every_page(connection):
    since = "2023-11-14T22:13:20.130000Z"
    page = ask(connection, services=["ssh"], since=since, limit=3)
    found = messages(page)
    while page.more:
        page = query(connection, page.cursor, limit=3)
        found += messages(page)
    assert found == [f"line {number}" for number in range(39, 29, -1)]


def test_hostile_values_arrive_as_one_argument_of_the_hosts_process(connection, host):
    keyword = "--file=/etc/shadow '\"; touch /tmp/x & $(id)\n--"
    follow = JournalFollow(connection, read_filters({"keyword": keyword, "services": ["identifier:--merge"]}))
    try:
        deadline = time.monotonic() + 5
        while not host.running() and time.monotonic() < deadline:
            time.sleep(0.02)
        (line,) = host.running()
        for process in Path("/proc").glob("[0-9]*/cmdline"):
            arguments = process.read_bytes().split(b"\0")
            if f"--directory={host.journal}".encode() in arguments and b"journalctl" in arguments[0]:
                break
        assert b"SYSLOG_IDENTIFIER=--merge" in arguments
        assert not any(part in (b"--merge", b"--file=/etc/shadow", b"--") for part in arguments)
        (pattern,) = (part for part in arguments if part.startswith(b"--grep="))
        assert pattern.endswith(b"\\x0a--"), line
    finally:
        follow.close()
    assert host.rests()


def test_a_silent_follower_ends_with_its_reader(connection, host):
    follow = JournalFollow(connection, read_filters({"keyword": "never said"}))
    with pytest.raises(HostTimeout):
        follow.read(0.5)
    assert len(host.running()) == 1
    follow.close()
    assert host.rests()


def test_a_follower_ends_when_our_process_is_killed(host, tmp_path):
    (tmp_path / "key").write_text(host.sshd.user_key.read_text())
    script = f"""
from pathlib import Path
from nodes.hosts.connection import connect
from nodes.hosts.journal import JournalFollow
from nodes.hosts.journal_filters import read_filters
from nodes.hosts.network_rules import NetworkRules
from nodes.hosts.target import HostKey, HostTarget, SshKeyCredential
target = HostTarget("", "ssh", "127.0.0.1", {host.sshd.port}, "root",
    SshKeyCredential(Path({str(tmp_path / "key")!r}).read_text()),
    HostKey.parse({host.sshd.host_key().to_text()!r}), rules=NetworkRules())
follow = JournalFollow(connect(target), read_filters({{"keyword": "never said"}}))
print("ready", flush=True)
while True:
    follow.read()
"""
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    deadline = time.monotonic() + 5
    while not host.running() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert host.running()
    process.kill()
    process.wait(5)
    process.stdout.close()
    assert host.rests()


# -- the VMs' own logs ------------------------------------------------------------------------------


@pytest.fixture
def vm_logs(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(qemu_logs, "DIRECTORY", str(tmp_path / "qemu logs"))
    folder = tmp_path / "qemu logs"
    folder.mkdir()
    return folder


def stamp(second: int) -> str:
    return f"2023-11-14 22:13:{second:02d}.000+0000: "


def test_a_vms_own_log_is_read_along_with_what_the_journal_says_of_it(connection, vm_logs):
    (vm_logs / "web-1.log").write_text(
        f"{stamp(19)}starting up libvirt version: 9.0.0\n-name guest=web-1\n"
        "2023-11-14T22:13:21.500000Z qemu-system-x86_64: cannot set up guest memory\n"
        f"{stamp(22)}shutting down, reason=failed\n"
    )
    (vm_logs / "other.log").write_text(f"{stamp(20)}not asked for\n")
    page = ask(connection, vm="web-1", newest=False)
    assert messages(page) == [
        "starting up libvirt version: 9.0.0",
        "-name guest=web-1",
        "Start of [web-1] (failed)",
        "qemu-system-x86_64: cannot set up guest memory",
        "shutting down, reason=failed",
    ]
    assert [row.source for row in page.entries] == ["vm-log", "vm-log", "journal", "vm-log", "vm-log"]
    found = messages(ask(connection, vm="web-1", keyword="guest memory"))
    assert found == ["qemu-system-x86_64: cannot set up guest memory"]


def test_pages_of_vm_logs_meet_in_both_directions(connection, vm_logs, monkeypatch):
    monkeypatch.setattr(qemu_logs, "_BLOCK", 400)
    for name in ("a", "b"):
        lines = (f"{stamp(n // 2)}{name} {n}\n" for n in range(60))
        (vm_logs / f"{name}.log").write_text("".join(lines))
    for newest in (True, False):
        page = ask(connection, services=["vm-log"], newest=newest, limit=7)
        found = messages(page)
        for _page in range(100):
            if not page.more:
                break
            page = query(connection, page.cursor, limit=7)
            found += messages(page)
        assert sorted(found) == sorted(f"{name} {n}" for name in "ab" for n in range(60))
        own = [text for text in found if text and text.startswith("a")]
        assert own == [f"a {n}" for n in (range(59, -1, -1) if newest else range(60))]


def test_a_followed_vm_log_goes_on_through_rotation_and_from_its_place(connection, vm_logs):
    log = vm_logs / "web-1.log"
    log.write_text(f"{stamp(1)}one\n")
    follow = LogFollow(connection, LogCursor(read_filters({"services": ["vm-log"], "vm": "web-1"})))

    def take(count: int) -> list[str | None]:
        found: list[str | None] = []
        deadline = time.monotonic() + 8
        while len(found) < count and time.monotonic() < deadline:
            found += [row.message for row in follow.read(0.5) or []]
        return found

    assert take(1) == ["one"]
    with log.open("a") as file:
        file.write(f"{stamp(2)}two\n")
    log.rename(vm_logs / "web-1.log.0")
    log.write_text(f"{stamp(3)}three\n")
    assert sorted(take(2), key=str) == ["three", "two"]
    place = follow.position
    follow.close()
    with log.open("a") as file:
        file.write(f"{stamp(4)}four\n")
    follow = LogFollow(connection, LogCursor.decode(place.encode()))
    try:
        assert take(1) == ["four"]
    finally:
        follow.close()


def test_boots_are_told_apart(connection):
    assert {row.boot_id for row in ask(connection, limit=5000).entries} == {BOOT, OLD_BOOT}


@pytest.mark.parametrize(
    "filters",
    [
        {},
        {"services": ["ssh"], "level": "2..3"},
        {"services": ["ssh"], "since": "2023-11-14T22:13:20.110Z", "until": "2023-11-14T22:13:20.120Z"},
        {"keyword": "OF [web-1]"},
        {"keyword": "^Start|LINE 1", "regex": True},
        {"vm": "web-1", "keyword": "failed"},
        {"boot": "-1"},
    ],
)
def test_the_command_that_is_shown_gives_the_same_on_the_host(connection, host, vm_logs, filters):
    (vm_logs / "web-1.log").write_text("nothing of it\nreason=failed\n")
    (vm_logs / "web-2.log").write_text("failed as well\n")
    typed = shown_command(read_filters(filters)).replace("journalctl", "journalctl --quiet --output=cat", 1)
    printed = connection.shell.run(typed, timeout_s=10).stdout
    found = [text for text in messages(ask(connection, newest=False, **filters)) if text]
    said = [line for line in printed.decode(errors="replace").split("\n") if line]
    assert found
    # A message of two lines is two lines there, and bytes that are no text come as they are.
    assert len(said) == sum(text.count("\n") + 1 for text in found)
    assert {text for text in found if text.isascii() and text.isprintable() and "\\x" not in text} <= set(
        said
    )
    assert connection.shell.run(shown_command(read_filters({})), timeout_s=10).stdout


def test_the_command_names_the_vms_own_logs_where_they_are_read(vm_logs):
    def shown(follow: bool = False, **filters: object) -> str:
        return shown_command(read_filters(filters), limit=100, follow=follow)

    path = f"'{vm_logs}'/web-1.log.[0-9] '{vm_logs}'/web-1.log"
    assert shown(services=["vm-log"], vm="web-1") == f"tail --quiet --lines=+1 -- {path}"
    both = shown(services=["qemu"], vm="web-1", keyword="it's", follow=True)
    assert both.startswith("journalctl --follow --no-tail ")
    files = f"tail --quiet --lines=+1 --follow=name -- {path}"
    assert shown(follow=True) == "journalctl --follow --lines=100"
    assert both.endswith(f" & {files} | grep --fixed-strings --ignore-case -- 'it'\"'\"'s'")
