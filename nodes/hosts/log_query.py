"""One answer out of the journal and the VMs' own logs, in order of time, that can be gone on with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from nodes.errors import HostError, HostUnreachable
from nodes.hosts.connection import HostConnection
from nodes.hosts.deadlines import Clock
from nodes.hosts.journal import MAX_LIMIT, QUERY_S, JournalPage, absolute, read_page
from nodes.hosts.journal_entries import Entry
from nodes.hosts.journal_filters import JournalFilters
from nodes.hosts.journal_tool import tool_of
from nodes.hosts.log_cursor import LogCursor
from nodes.hosts.qemu_lines import Line
from nodes.hosts.qemu_logs import MAX_FILES, FileLines, read_lines

DEFAULT_LIMIT: Final = 200


@dataclass(frozen=True, slots=True)
class LogProblem:
    """What the answer lacks, and why."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class LogPage:
    """Entries, and the cursor after which the next ones come.

    ``more``: there are, or may be, further entries. ``cut`` is "limit", "bytes" or "time" where a bound ended
    the search, which for "time" may be before anything was found. ``searched_here``: see JournalPage.
    """

    entries: list[Entry]
    cursor: LogCursor
    more: bool
    cut: str
    searched_here: bool
    problems: tuple[LogProblem, ...]
    ends: Mapping[str, tuple[int, int]]
    """Where the VMs' logs began to be unread: their ends, for a first page of the newest."""


def query(
    connection: HostConnection,
    start: LogCursor,
    *,
    limit: int = DEFAULT_LIMIT,
    timeout_s: float = QUERY_S,
    inclusive: bool = False,
) -> LogPage:
    """The next ``limit`` entries (5000 at most) of the query of ``start``, from its place on.

    ``inclusive``: the journal's entry at that place is one of them.

    Raises what :func:`nodes.hosts.journal.read_page` raises; where only the VMs' logs beside the journal
    cannot be read, that is a problem of the answer.
    """
    clock = Clock(timeout_s)
    limit = max(1, min(limit, MAX_LIMIT))
    filters = start.filters
    if filters.last_s is not None:
        filters = absolute(filters, tool_of(connection, clock.left))
    start = replace(start, filters=filters)
    problems: list[LogProblem] = []
    files = FileLines()
    if filters.reads_vm_logs:
        files = _files(connection, start, clock, problems)
    page = JournalPage(cursor=start.journal)
    if filters.reads_journal:
        page = read_page(
            connection,
            filters,
            limit=limit,
            newest_first=start.newest_first,
            cursor=start.journal,
            timeout_s=clock.left,
            inclusive=inclusive,
        )
        start = replace(start, filters=_with_boot(filters, page))
    return _merged(start, page, files, limit, problems)


def _with_boot(filters: JournalFilters, page: JournalPage) -> JournalFilters:
    """The boot by its ID: a number counts back from now, and the next page may come after a reboot."""
    boot = next((entry.boot_id for entry in page.entries if entry.boot_id), None)
    return replace(filters, boot=boot) if filters.boot and boot else filters


def _files(
    connection: HostConnection, start: LogCursor, clock: Clock, problems: list[LogProblem]
) -> FileLines:
    filters = start.filters
    try:
        files = read_lines(
            connection,
            filters,
            newest_first=start.newest_first,
            places=start.files,
            timeout_s=clock.left,
        )
    except HostUnreachable:
        raise
    except HostError as error:
        if not filters.reads_journal:
            raise
        problems.append(LogProblem(error.code, error.detail()))
        return FileLines()
    if files.rotated:
        problems.append(LogProblem("rotated", "A VM's log is no longer there: lines of it may be missing."))
    if files.compressed and files.complete:
        words = "Older logs of VMs on the host are compressed (.gz); these are not read."
        problems.append(LogProblem("compressed", words))
    if files.left_out:
        problems.append(
            LogProblem(
                "left_out",
                f"Of the VMs' logs the {MAX_FILES} that changed last are read; name a VM to read its own.",
            )
        )
    return files


def _merged(
    start: LogCursor, page: JournalPage, files: FileLines, limit: int, problems: list[LogProblem]
) -> LogPage:
    newest = start.newest_first
    # Beyond the end of what one source gave, the other may not run ahead: later pages would be out of order.
    borders = []
    if page.cut and page.entries:
        borders.append(page.entries[-1].time or "")
    if not files.complete and files.lines:
        borders.append(files.lines[-1].key)
    taken: list[Entry | Line] = []
    journal, lines = list(reversed(page.entries)), list(reversed(files.lines))
    while len(taken) < limit and (journal or lines):
        source: list[Entry] | list[Line] = journal if _journal_first(journal, lines, newest) else lines
        time = _time(source[-1])
        if any((time < border if newest else time > border) for border in borders):
            break
        taken.append(source.pop())
    last = next((item.cursor for item in reversed(taken) if isinstance(item, Entry)), start.journal)
    if not journal and page.cursor:
        last = page.cursor  # beyond what was found: all up to there has been searched
    left = {line.name for line in lines}
    places = dict(start.files) | {
        name: files.ends[name] if name in left else reached for name, reached in files.reached.items()
    }
    for item in taken:
        if isinstance(item, Line) and item.name in left:
            places[item.name] = (item.inode, item.start if newest else item.end)
    more = bool(journal or lines or page.cut or not files.complete)
    return LogPage(
        entries=[item if isinstance(item, Entry) else item.entry for item in taken],
        cursor=replace(start, journal=last, files=places),
        more=more,
        cut=page.cut or ("limit" if more else ""),
        searched_here=page.searched_here,
        problems=tuple(problems),
        ends=files.ends,
    )


def _journal_first(journal: Sequence[Entry], lines: Sequence[Line], newest: bool) -> bool:
    if not journal or not lines:
        return bool(journal)
    ours, theirs = _time(journal[-1]), _time(lines[-1])
    return ours >= theirs if newest else ours <= theirs


def _time(item: Entry | Line) -> str:
    return item.key if isinstance(item, Line) else item.time or ""
