"""A query as it grows: the journal, and the VMs' own logs where they belong to it, as one flow of entries."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from nodes.errors import HostTimeout
from nodes.hosts.connection import HostConnection
from nodes.hosts.journal import JournalFollow
from nodes.hosts.journal_entries import Entry
from nodes.hosts.log_cursor import LogCursor
from nodes.hosts.qemu_logs import VmLogFollow

_GLANCE_S = 0.001
_SHARE_S = 0.05


class LogFollow:
    """Entries oldest first, from the place of ``start`` on; ``position`` is always that of the last one read.

    ``since`` is where to begin while there is no entry yet to begin after. Without ``follow``, or with
    ``until`` in the filters, it ends. Read from one thread. Errors are those of JournalFollow.
    """

    def __init__(
        self,
        connection: HostConnection,
        start: LogCursor,
        *,
        since: datetime | None = None,
        follow: bool = True,
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
                self._files = VmLogFollow(connection, filters, start.files)
            except BaseException:
                self.close()
                raise
        self._busy = False

    @property
    def gap(self) -> bool:
        return self._journal is not None and self._journal.gap

    def read(self, timeout_s: float) -> list[Entry] | None:
        """The next entries, perhaps none; None at the end. Raises HostTimeout when nothing came in time."""
        if self._journal is None and self._files is None:
            return None
        entries: list[Entry] = []
        if self._files is not None:
            wait_s = timeout_s if self._journal is None else _GLANCE_S if self._busy else _SHARE_S
            entries = self._of_files(self._files, wait_s)
            if entries:
                self.position = replace(self.position, files=dict(self._files.places))
        if self._journal is None:
            return entries
        found = self._of_journal(self._journal, _SHARE_S if self._files is not None else timeout_s)
        self._busy = bool(found)
        if found is None:
            return entries or None
        if found and found[-1].cursor:
            self.position = replace(self.position, journal=found[-1].cursor)
        return entries + found if entries else found

    def _of_files(self, files: VmLogFollow, timeout_s: float) -> list[Entry]:
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
