"""A host's journal: searched within bounds, or followed without an end.

``journalctl`` runs on the host and is read as it writes: a reader that stops stops it, one that leaves ends
it. Reading begins at a cursor or at a time. A cursor's own entry is read again and compared, because
journalctl goes on silently beside it when the entry has been removed (sd_journal_seek_cursor(3)).
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import closing, nullcontext
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final, Literal

from nodes.errors import (
    CursorGone,
    HostTimeout,
    InsufficientRightsOnHost,
    InvalidCursor,
    InvalidInput,
    JournalUnavailable,
    NodeAdminError,
)
from nodes.hosts.connection import HostConnection
from nodes.hosts.deadlines import Clock
from nodes.hosts.host_budget import pieces
from nodes.hosts.journal_entries import Entry, ExportReader, FieldValue
from nodes.hosts.journal_filters import (
    JournalFilters,
    bounds,
    command,
    export_options,
    selection,
)
from nodes.hosts.journal_search import Search, search_of
from nodes.hosts.journal_tool import JournalTool, tool_of
from nodes.hosts.logs.missing_messages import MissingMessages
from nodes.hosts.shell import CommandResult, CommandStream
from nodes.hosts.stop_signal import Unwanted

QUERY_S = 15.0
MAX_LIMIT = 5000
DOUBT_S = 3.0
"""A follower prints the entry that it begins at at once; after so long without it, it is looked for."""
MAX_QUERY_BYTES = 32 << 20
MAX_ENTRY_BYTES = 16 << 20
CURSOR: Final = re.compile(r"(?:[a-z]=[0-9a-f]{1,32};){3,8}[a-z]=[0-9a-f]{1,32}")
"""A cursor as journald writes it; nothing else is handed to journalctl as one."""

Cut = Literal["", "limit", "bytes", "time"]


@dataclass(slots=True)
class JournalPage:
    """Entries in the order asked for. ``cut`` says by which bound they end, "" where there are no more.

    ``cursor`` is the entry after which to go on: the last one read, which the search may have left out.
    """

    entries: list[Entry] = field(default_factory=list)
    cursor: str = ""
    cut: Cut = ""
    searched_here: bool = False
    """The host's journalctl cannot search (no PCRE2): all entries were read and searched by us."""
    cursor_given: bool = False
    confirmed: bool = False
    """The entry of the cursor that was begun at is still there."""


def absolute(filters: JournalFilters, tool: JournalTool) -> JournalFilters:
    """``last`` as the time that it means on the host now: going on later has to begin at the same one."""
    if filters.last_s is None:
        return filters
    return replace(filters, last_s=None, since=tool.host_now() - timedelta(seconds=filters.last_s))


def read_page(
    connection: HostConnection,
    filters: JournalFilters,
    *,
    limit: int,
    newest_first: bool,
    cursor: str = "",
    timeout_s: float = QUERY_S,
    inclusive: bool = False,
) -> JournalPage:
    """At most ``limit`` entries, after that of ``cursor`` where one is given; ``inclusive``: with it.

    Bounded by ``timeout_s`` and by :data:`MAX_QUERY_BYTES` as well; what was found till then is given, and
    the page says that it was cut. Raises InvalidCursor, CursorGone (the entry has been removed), InvalidInput
    (an unknown boot, a pattern that does not compile), InsufficientRightsOnHost, JournalUnavailable,
    HostTimeout, HostUnreachable.
    """
    clock = Clock(timeout_s)
    tool = tool_of(connection, clock.left)
    check_cursor(cursor)
    options = [*export_options(), *selection(filters, with_grep=tool.has_grep)]
    missing = MissingMessages(connection, options, sudo=tool.sudo, newest_first=newest_first)
    search = _own_search(filters, tool)
    if newest_first:
        # Without its own search journalctl cannot count what we shall find.
        options += ["--reverse"] if search else ["--reverse", f"--lines={limit + 2}"]
    options += bounds(filters, cursor=cursor, since=filters.since)
    page = JournalPage(cursor=cursor, searched_here=search is not None, cursor_given=bool(cursor))
    floor = _floor(filters) if newest_first and cursor else ""
    with (
        closing(search) if search else nullcontext(),
        connection.shell.stream(command(options), sudo=tool.sudo) as stream,
    ):
        whole = (missing.completed(entries, clock.left) for entries in _batches(stream, clock, page))
        done = False
        for entries in _checked(whole, page, inclusive=inclusive):
            done = _fill(page, entries, search, limit=limit, floor=floor)
            if (page.entries or page.cursor) and not CURSOR.fullmatch(page.cursor):
                raise lying()
            if done:
                break
        if not done and not page.cut:
            refuse_by_status(stream, cursor=cursor)
            if cursor and not page.confirmed:
                raise gone()
    # Asked again from there, the same would be given for ever.
    if cursor and page.cut and page.entries and page.cursor == cursor and not inclusive:
        raise lying()
    return page


def _fill(page: JournalPage, entries: list[Entry], search: Search | None, *, limit: int, floor: str) -> bool:
    """Take what fits; whether the page is complete."""
    fits = search.matching([entry.message for entry in entries]) if search else None
    for number, entry in enumerate(entries):
        if floor and (entry.time or "") < floor:
            page.cut = ""
            return True
        if len(page.entries) >= limit:
            page.cut = "limit"
            return True
        page.cursor = entry.cursor
        if fits is None or fits[number]:
            page.entries.append(entry)
    return False


def _batches(stream: CommandStream, clock: Clock, page: JournalPage) -> Iterator[list[Entry]]:
    """What journalctl prints until it ends or a bound is met, which ``page.cut`` then says."""
    reader, size, count = ExportReader(), 0, 0
    while True:
        if clock.passed:
            # Also where there is something at every look: empty lines, or a byte a second.
            page.cut = "time"
            return
        try:
            chunk = stream.read(timeout_s=clock.left)
        except Unwanted:
            raise
        except HostTimeout:
            page.cut = "time"
            return
        if not chunk:
            return
        size += len(chunk)
        entries = reader.feed(chunk)
        if entries:
            count += len(entries)
            yield entries
        # An entry may be larger than the bound; only its beginning is held. Its page ends behind it, or the
        # same place would be come to again and again.
        if size >= MAX_QUERY_BYTES and count > bool(page.cursor_given):
            page.cut = "bytes"
            return


def _checked(batches: Iterator[list[Entry]], page: JournalPage, *, inclusive: bool) -> Iterator[list[Entry]]:
    """The entries after that of the page's cursor. Raises CursorGone where the first one is another."""
    if page.cursor:
        first = next(batches, None)
        if first is None:
            return
        if first[0].cursor != page.cursor:
            raise gone()
        page.confirmed = True
        yield first if inclusive else first[1:]
    page.confirmed = True
    yield from batches


def check_cursor(cursor: str, field: str = "cursor") -> None:
    """Raises InvalidCursor, which names the ``field``, for what journald never wrote."""
    if cursor and not CURSOR.fullmatch(cursor):
        raise InvalidCursor("The cursor is not one of a journal.", field=field)


def gone() -> CursorGone:
    return CursorGone(
        "The entry at which to go on has been removed from the host's journal.",
        remedy="Ask again by time. Entries between may be gone.",
        field="cursor",
    )


def lying() -> JournalUnavailable:
    return JournalUnavailable(
        "The host's journal gave cursors that are none, or that do not move on.",
        remedy="Look at it on the host: journalctl --verify",
    )


def _floor(filters: JournalFilters) -> str:
    return filters.since.strftime("%Y-%m-%dT%H:%M:%S.%fZ") if filters.since else ""


def _own_search(filters: JournalFilters, tool: JournalTool) -> Search | None:
    """The search on our side, where the host has none."""
    return None if tool.has_grep else search_of(filters)


def refuse_by_status(stream: CommandStream | CommandResult, *, cursor: str) -> None:
    """Tell exit status 1 for "no match" from 1 for an error, by what journalctl says on standard error."""
    status = stream.exit_status
    said = stream.stderr.decode("utf-8", errors="replace")
    if status in (0, None) and "insufficient permissions" not in said:
        return
    if cursor and "seek to cursor" in said:
        raise InvalidCursor("The host's journalctl does not understand the cursor.", field="cursor")
    error = _refusal(said)
    if error is not None:
        raise error
    if status == 1 and not said.strip():
        return
    words = "".join(char if char.isprintable() else " " for char in said.strip()[-300:])
    raise JournalUnavailable(f"journalctl ended with status {status}. {words}".strip())


def _refusal(said: str) -> NodeAdminError | None:
    if "boot" in said.lower() and ("No such boot" in said or "No journal boot entry" in said):
        return InvalidInput("There is no such boot in the host's journal.", field="boot")
    if "pattern" in said.lower() and ("compile" in said or "Bad pattern" in said):
        return InvalidInput("The expression does not compile.", field="keyword")
    if "insufficient permissions" in said or "sudo:" in said:
        return InsufficientRightsOnHost(
            "The user may not read the system's journal.",
            remedy="On the host, as root: usermod -aG systemd-journal USER",
        )
    if "not found" in said:
        return JournalUnavailable("There is no journalctl on the host.")
    if "No journal files were found" in said:
        return JournalUnavailable("The host keeps no journal.")
    return None


class JournalFollow:
    """The journal from a place on, as it grows. ``read`` from one thread; ``close`` from any.

    Begins after the entry of ``cursor``, or with the first one of ``since``. ``gap`` is True from when it
    turns out that the cursor's entry is no longer there: what follows it is then given whole, and something
    before it may be missing. With ``until`` in the filters, or ``follow`` False, it ends.
    """

    def __init__(
        self,
        connection: HostConnection,
        filters: JournalFilters,
        *,
        cursor: str = "",
        since: datetime | None = None,
        follow: bool = True,
        timeout_s: float = QUERY_S,
    ) -> None:
        check_cursor(cursor)
        tool = tool_of(connection, timeout_s)
        options = [*export_options(), *selection(filters, with_grep=tool.has_grep)]
        self._missing = MissingMessages(connection, options, sudo=tool.sudo)
        if follow and filters.until is None:
            options += ["--follow", "--no-tail"]
        options += bounds(filters, cursor=cursor, since=since or filters.since)
        self._connection = connection
        self._cursor = cursor
        self._expected = cursor
        self._doubt_at = time.monotonic() + DOUBT_S
        self._reader = ExportReader()
        self.gap = False
        self._search = _own_search(filters, tool)
        try:
            self._stream = connection.shell.stream(command(options), sudo=tool.sudo)
        except BaseException:
            self._end_search()
            raise

    def read(self, timeout_s: float | None = None) -> list[Entry] | None:
        """The next entries, perhaps none yet; None at the end.

        Raises HostTimeout when nothing comes in time (it may be asked again), HostUnreachable, and what
        :func:`read_page` raises where journalctl refuses to begin.
        """
        try:
            chunk = self._stream.read(timeout_s=timeout_s)
        except HostTimeout:
            if self._is_gone():
                return []
            raise
        if not chunk:
            refuse_by_status(self._stream, cursor=self._cursor)
            return None
        entries = self._missing.completed(self._reader.feed(chunk))
        if entries and not CURSOR.fullmatch(entries[-1].cursor):
            raise lying()
        if self._expected and entries:
            if entries[0].cursor == self._expected:
                entries = entries[1:]
            else:
                self.gap = True
            self._expected = ""
        if self._search is not None:
            fits = self._search.matching([entry.message for entry in entries])
            entries = [entry for entry, fit in zip(entries, fits, strict=True) if fit]
        return entries

    def _is_gone(self) -> bool:
        """Whether it turns out only now that the cursor's entry is no longer there: journalctl says nothing
        where no other entry has come since.
        """
        if not self._expected or self.gap or time.monotonic() < self._doubt_at:
            return False
        self._doubt_at = time.monotonic() + 10 * DOUBT_S
        try:
            read_entry(self._connection, self._expected, DOUBT_S)
        except CursorGone:
            self.gap = True
        except NodeAdminError:  # the stream itself will show what is wrong
            pass
        return self.gap

    def _end_search(self) -> None:
        if self._search is not None:
            self._search.close()

    def close(self) -> None:
        self._end_search()
        self._stream.close()


def read_entry(connection: HostConnection, cursor: str, timeout_s: float = QUERY_S) -> list[FieldValue]:
    """All fields of one entry. Raises CursorGone, and what :func:`read_page` raises."""
    clock = Clock(timeout_s)
    if not cursor:
        raise InvalidCursor("Name the entry by its cursor.", field="entry")
    check_cursor(cursor, "entry")
    found = _fields_of(connection, cursor, clock)
    if any(value.name == "MESSAGE" for value in found):
        return found
    # journalctl may have missed it at the end of a journal (see missing_messages); a second one tells.
    return _fields_of(connection, cursor, clock)


def _fields_of(connection: HostConnection, cursor: str, clock: Clock) -> list[FieldValue]:
    tool = tool_of(connection, clock.left)
    options = ["--quiet", "--no-pager", "--output=export", "--reverse", "--lines=1", f"--cursor={cursor}"]
    result = connection.shell.run(
        command(options), timeout_s=clock.left, max_bytes=MAX_ENTRY_BYTES, sudo=tool.sudo
    )
    if result.truncated:
        raise JournalUnavailable(f"The entry is larger than {MAX_ENTRY_BYTES >> 20} MiB.")
    refuse_by_status(result, cursor=cursor)
    reader, found = ExportReader(), []
    for piece in pieces(result.stdout, connection.budget, clock):
        found = reader.feed_fields(piece)
        if found:
            break
    if not found or FieldValue("__CURSOR", cursor, size_bytes=len(cursor)) not in found[0]:
        raise gone()
    return found[0]
