"""A query as it grows: the journal, and the VMs' own logs where they belong to it, as one flow of entries."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from datetime import datetime

from nodes.errors import HostTimeout, InsufficientRightsOnHost
from nodes.hosts.connection import HostConnection
from nodes.hosts.journal import JournalFollow
from nodes.hosts.journal_entries import Entry
from nodes.hosts.log_cursor import LogCursor
from nodes.hosts.log_query import query
from nodes.hosts.qemu_follow import VmLogFollow
from nodes.hosts.qemu_lines import Line

_GLANCE_S = 0.001
_SHARE_S = 0.05
_SPAN_ENTRIES = 1000


class LogSpan:
    """A span of time with an end, of the journal and of the VMs' own logs, as :class:`LogFollow` gives it."""

    gap = False

    def __init__(self, connection: HostConnection, start: LogCursor, *, batch: int = 0) -> None:
        self.position = replace(start, newest_first=False)
        self._connection = connection
        self._batch = batch or _SPAN_ENTRIES
        self._ended = False

    def read(self, timeout_s: float) -> list[Entry] | None:
        """The next entries; None at the end. Raises what :func:`nodes.hosts.log_query.query` raises."""
        if self._ended:
            return None
        before = self.position
        page = query(self._connection, before, limit=self._batch)
        self.position = page.cursor
        self._ended = not page.more
        if page.more and not page.entries and page.cursor == before:
            raise HostTimeout("The search through the journal did not come to an end in time.")
        return page.entries

    def close(self) -> None:
        """Nothing is kept open."""


class LogFollow:
    """Entries oldest first, from the place of ``start`` on; ``position`` is always that of the last one read.

    ``since`` is where to begin while there is no entry yet to begin after. Without ``follow``, or with
    ``until`` in the filters, it ends. With ``batch`` no more entries than that are given at once. Read from
    one thread. Errors are those of JournalFollow.
    """

    def __init__(
        self,
        connection: HostConnection,
        start: LogCursor,
        *,
        since: datetime | None = None,
        follow: bool = True,
        batch: int = 0,
        timeout_s: float = 15.0,
    ) -> None:
        filters = start.filters
        self.position = replace(start, newest_first=False)
        self._journal: JournalFollow | None = None
        self._files: VmLogFollow | None = None
        if filters.reads_journal:
            self._journal = JournalFollow(
                connection,
                filters,
                cursor=start.journal,
                since=since,
                follow=follow,
                timeout_s=timeout_s,
            )
        if filters.reads_vm_logs and follow:
            try:
                self._files = VmLogFollow(connection, filters, start.files, timeout_s)
            except InsufficientRightsOnHost:
                # The journal goes on without; who asked was told so by the query before.
                if self._journal is None:
                    raise
            except BaseException:
                self.close()
                raise
        self._busy = False
        self._batch = batch
        self._held: deque[tuple[Entry, LogCursor]] = deque()
        """Read and not yet given, each with the position behind it."""

    @property
    def gap(self) -> bool:
        return (self._journal is not None and self._journal.gap) or (
            self._files is not None and self._files.rotated
        )

    def read(self, timeout_s: float) -> list[Entry] | None:
        """The next entries, perhaps none; None at the end. Raises HostTimeout when nothing came in time."""
        if self._held:
            return self._release()
        before = self.position
        if self._journal is None and self._files is None:
            return None
        lines: list[Line] = []
        if self._files is not None:
            wait_s = timeout_s if self._journal is None else _GLANCE_S if self._busy else _SHARE_S
            lines = self._of_files(self._files, wait_s)
            if lines:
                self.position = replace(self.position, files=dict(self._files.places))
        found: list[Entry] | None = []
        if self._journal is not None:
            found = self._of_journal(self._journal, _SHARE_S if self._files is not None else timeout_s)
            self._busy = bool(found)
            if found and found[-1].cursor:
                self.position = replace(self.position, journal=found[-1].cursor)
            if found is None and not lines:
                return None
        if self._batch and len(lines) + len(found or ()) > self._batch:
            self._hold(before, lines, found or [])
            return self._release()
        return [line.entry for line in lines] + (found or []) if lines else found

    def _hold(self, position: LogCursor, lines: list[Line], entries: list[Entry]) -> None:
        for line in lines:
            last = line is lines[-1]
            files = self.position.files if last else {**position.files, line.name: (line.inode, line.end)}
            position = replace(position, files=files)
            self._held.append((line.entry, position))
        for entry in entries:
            position = replace(position, journal=entry.cursor or position.journal)
            self._held.append((entry, position))

    def _release(self) -> list[Entry]:
        taken = [self._held.popleft() for _place in range(min(self._batch, len(self._held)))]
        self.position = taken[-1][1]
        return [entry for entry, _position in taken]

    def _of_files(self, files: VmLogFollow, timeout_s: float) -> list[Line]:
        try:
            found = files.read(timeout_s)
        except HostTimeout:
            return []
        if found is None:
            # Not readable by this user, or its directory is not there: the journal goes on without.
            files.close()
            self._files = None
        return found or []

    def _of_journal(self, journal: JournalFollow, timeout_s: float) -> list[Entry] | None:
        try:
            return journal.read(timeout_s)
        except HostTimeout:
            if self._files is None:
                raise
            return []

    def close(self) -> None:
        if self._journal is not None:
            self._journal.close()
        if self._files is not None:
            self._files.close()
