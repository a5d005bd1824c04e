"""The search on our side: what the host's own would find, and an end to what would never end."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nodes.errors import InvalidInput
from nodes.hosts import expression_worker, journal_search, journal_tool, qemu_logs
from nodes.hosts.connection import HostConnection, connect
from nodes.hosts.journal_filters import read_filters
from nodes.hosts.journal_search import ExpressionSearch, search_of
from nodes.hosts.log_cursor import LogCursor
from nodes.hosts.log_follow import LogFollow
from nodes.hosts.log_query import LogPage, query
from tests.journals import AVAILABLE, JournalHost, entry

ENDLESS = r"(a+)+$"
MESSAGES = [
    "Started session 12 of user root.", "started SESSION", "error: a+b", "tab\there", "two\nlines",
    "Grüße, KVM", "GRÜSSE", "web-1 failed", "web-10 failed", "x" * 5000 + "Y", "100% of [disk] {full}",
    "-- dashes --", "",
]  # fmt: skip
EXPRESSIONS = [
    "started", "Started", "session [0-9]+", r"\bfailed$", "^two$", "lines", r"(?s)two.lines", r"\d{2,}",
    r"\h", "[[:upper:]]{3}", "grüße", "GRÜ", r"web-\d(?!\d)", "x+Y", r"\Q[disk]\E", "^$", "--", "(?i)STARTED",
    "a++", "web|kvm",
]  # fmt: skip


def found(expression: str, messages: list[str]) -> list[str]:
    filters = read_filters({"keyword": expression, "regex": True})
    search = search_of(filters)
    assert search is not None
    try:
        fits = search.matching(messages)
        return [message for message, fit in zip(messages, fits, strict=True) if fit]
    finally:
        search.close()


def test_a_capital_letter_makes_an_expression_mind_the_case():
    assert found("started", MESSAGES) == ["Started session 12 of user root.", "started SESSION"]
    assert found("Started", MESSAGES) == ["Started session 12 of user root."]
    assert found("(?i)STARTED", MESSAGES) == found("started", MESSAGES)


def test_what_does_not_compile_is_refused_with_the_reason():
    with pytest.raises(InvalidInput, match="missing closing parenthesis") as refused:
        ExpressionSearch("(", case_sensitive=False)
    assert refused.value.field == "keyword"


def test_without_pcre2_here_either_it_is_said(monkeypatch, tmp_path):
    worker = tmp_path / "worker.py"
    source = Path(expression_worker.__file__).read_text()
    worker.write_text(source.replace(expression_worker.LIBRARY, "libnone.so.0"))
    monkeypatch.setattr(journal_search, "_WORKER", str(worker))
    with pytest.raises(InvalidInput, match="PCRE2") as refused:
        ExpressionSearch("a", case_sensitive=False)
    assert refused.value.field == "regex"


@pytest.mark.parametrize("subject", ["a" * 40 + "!", "a" * 60_000 + "!"])
def test_an_expression_without_an_end_is_given_up_and_its_process_is_gone(subject):
    search = ExpressionSearch(ENDLESS, case_sensitive=False)
    begun = time.monotonic()
    try:
        with pytest.raises(InvalidInput, match="too long") as refused:
            search.matching([subject] * 50)
        assert refused.value.field == "keyword"
        assert time.monotonic() - begun < 15
    finally:
        search.close()
    assert search._process.poll() is not None


def test_the_process_ends_by_itself_when_its_reader_dies_in_the_middle_of_a_match():
    search = ExpressionSearch(r"(?:(?:a|a)*b?)*c", case_sensitive=False)
    request = b"".join(len(text).to_bytes(4, "little") + text for text in [b"a" * 60_000] * 50)
    search._stdin.write(len(request).to_bytes(4, "little") + request)
    search._stdin.close()
    search._stdout.close()
    search._process.wait(30)


# -- against the host's own -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JournalHost]:
    if not AVAILABLE or os.geteuid() != 0:
        pytest.skip("needs root and systemd-journal-remote")
    made = JournalHost(tmp_path_factory.mktemp("host"))
    lines = [entry(number, text, "libvirtd.service") for number, text in enumerate(MESSAGES)]
    del lines[-1]["MESSAGE"]
    made.write([*lines, entry(99, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!", "endless.service")])
    with made:
        yield made


@pytest.fixture
def connection(host: JournalHost) -> Iterator[HostConnection]:
    with connect(host.target()) as opened:
        yield opened


@pytest.fixture
def without_grep(connection, monkeypatch) -> None:
    tool = journal_tool.JournalTool(sudo=False, has_grep=False, clock_ahead_s=0.0)
    monkeypatch.setitem(journal_tool._known, connection, tool)


def ask(connection: HostConnection, *, newest: bool = True, **filters: object) -> LogPage:
    return query(connection, LogCursor(read_filters({"regex": True, **filters}), newest))


@pytest.mark.parametrize("vm", ["", "web-1"])
def test_it_finds_what_the_hosts_own_search_finds(connection, monkeypatch, vm):
    tool = journal_tool.tool_of(connection, 10)
    assert tool.has_grep
    here = journal_tool.JournalTool(tool.sudo, False, tool.clock_ahead_s)
    words = ["failed", "Started", "[web-1", "ÜSSE"]
    wanted: list[dict[str, object]] = [{"keyword": text, "services": ["libvirtd"]} for text in EXPRESSIONS]
    wanted += [{"keyword": text, "regex": False, "services": ["libvirtd"]} for text in words]
    some = 0
    for filters in wanted:
        theirs = ask(connection, vm=vm, **filters)
        with monkeypatch.context() as patch:
            patch.setitem(journal_tool._known, connection, here)
            ours = ask(connection, vm=vm, **filters)
        assert [row.message for row in ours.entries] == [row.message for row in theirs.entries], filters
        assert (ours.searched_here, theirs.searched_here) == (True, False)
        some += len(ours.entries)
    assert some > 0


@pytest.mark.usefixtures("without_grep")
def test_pages_by_an_expression_meet_in_both_directions(connection):
    for newest in (True, False):
        pages = [
            query(connection, LogCursor(read_filters({"keyword": "[a-z]", "regex": True}), newest), limit=2)
        ]
        while pages[-1].more:
            pages.append(query(connection, pages[-1].cursor, limit=2))
        rows = [row.message for page in pages for row in page.entries]
        assert rows == [row.message for row in ask(connection, newest=newest, keyword="[a-z]").entries]
        assert len(rows) > 4


@pytest.mark.usefixtures("without_grep")
def test_a_catastrophe_is_refused_in_pages_and_in_streams(connection, host):
    with pytest.raises(InvalidInput, match="too long"):
        ask(connection, keyword=ENDLESS, services=["endless"])
    follow = LogFollow(connection, LogCursor(read_filters({"keyword": ENDLESS, "regex": True})))
    try:
        with pytest.raises(InvalidInput, match="too long"):
            while True:
                follow.read(5)
    finally:
        follow.close()
    assert host.rests()


@pytest.mark.usefixtures("without_grep")
def test_a_stream_and_the_vms_files_are_searched_by_expressions_too(connection, tmp_path, monkeypatch):
    monkeypatch.setattr(qemu_logs, "DIRECTORY", str(tmp_path))
    (tmp_path / "web-1.log").write_text("2023-11-14 22:13:20.000+0000: shutting down, reason=failed\nother\n")
    filters = {"keyword": "reason=fail|1 FAIL|^Started", "regex": True, "services": ["libvirtd", "vm-log"]}
    both = ["shutting down, reason=failed", "Started session 12 of user root."]
    assert [row.message for row in ask(connection, newest=False, **filters).entries] == sorted(both)
    follow = LogFollow(connection, LogCursor(read_filters(filters)), since=None)
    rows: list[str | None] = []
    deadline = time.monotonic() + 8
    try:
        while len(rows) < 2 and time.monotonic() < deadline:
            rows += [row.message for row in follow.read(0.5) or []]
    finally:
        follow.close()
    assert sorted(rows, key=str) == sorted(both)
