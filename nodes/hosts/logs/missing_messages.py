"""Entries that journalctl printed without their MESSAGE, read again before anybody sees them.

journalctl that reads the end of a journal while it is written now and then prints an entry without its
MESSAGE, all other fields in place (seen with systemd 252, about 1 of 300,000 entries of ``--follow``). The
entry in the file is whole: another journalctl, a moment later, prints it so. An entry may also have no
MESSAGE at all (systemd.journal-fields(7) requires none); the second reading tells the two apart.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import msgspec

from nodes.errors import HostError, HostUnreachable
from nodes.hosts.connection import HostConnection
from nodes.hosts.deadlines import Clock
from nodes.hosts.host_budget import pieces
from nodes.hosts.journal_entries import Entry, ExportReader
from nodes.hosts.journal_filters import command
from nodes.hosts.stop_signal import Unwanted

REREAD_S = 5.0
"""For one batch. A reader that waits longer for a field would hold back all entries behind it."""
MAX_BYTES = 32 << 20
_PAUSE_FACTOR = 10
"""Where a second reading fails, the next is not tried until this many times as long has passed: otherwise a
host that opens no further session would hold up every batch for :data:`REREAD_S`."""


class MissingMessages:
    """Completes batches of entries out of one reading of a journal.

    ``options`` are those of journalctl that the reading was begun with: its form and its selection, without
    the place to begin at. With ``newest_first`` the batches are in that order.
    """

    def __init__(
        self, connection: HostConnection, options: Sequence[str], *, sudo: bool, newest_first: bool = False
    ) -> None:
        self._connection = connection
        self._options = tuple(options)
        self._sudo = sudo
        self._newest_first = newest_first
        self._not_before = 0.0
        """On the monotonic clock."""

    def completed(self, entries: list[Entry], timeout_s: float = REREAD_S) -> list[Entry]:
        """``entries`` in their order, those without a MESSAGE as a second reading by their cursors has them.

        One command a batch, and none where all have their MESSAGE. An entry whose MESSAGE is missing in both
        readings has none. One that could not be read again keeps None and is marked ``message_unread``.
        Raises HostUnreachable where the connection was lost: the batch is then read again by whoever
        reconnects.
        """
        lacking = [place for place, entry in enumerate(entries) if entry.message is None and entry.cursor]
        if not lacking:
            return entries
        first, last = lacking[0], lacking[-1]
        newest = entries[first if self._newest_first else last].cursor
        again = self._read_again(newest, last - first + 1, min(timeout_s, REREAD_S))
        found = list(entries)
        for place in lacking:
            entry = entries[place]
            found[place] = again.get(entry.cursor) or msgspec.structs.replace(entry, message_unread=True)
        return found

    def _read_again(self, newest: str, count: int, timeout_s: float) -> Mapping[str, Entry]:
        """By cursor, the ``count`` entries that end with ``newest``; fewer, or none, where that fails."""
        began, clock = time.monotonic(), Clock(max(timeout_s, 0.1))
        if began < self._not_before:
            return {}
        options = [*self._options, "--reverse", f"--lines={count}", f"--cursor={newest}"]
        try:
            result = self._connection.shell.run(
                command(options), timeout_s=clock.left, max_bytes=MAX_BYTES, sudo=self._sudo
            )
            return self._entries(result.stdout, clock)
        except Unwanted:
            raise
        except HostError as error:
            if self._connection.alive:
                now = time.monotonic()
                self._not_before = now + _PAUSE_FACTOR * (now - began)
                return {}  # it may open no further session; what was read already can be shown all the same
            raise HostUnreachable(
                f"The connection to {self._connection.address} was lost.", extra={"reason": "lost"}
            ) from error

    def _entries(self, printed: bytes, clock: Clock) -> Mapping[str, Entry]:
        reader = ExportReader()
        found: dict[str, Entry] = {}
        for piece in pieces(printed, self._connection.budget, clock):
            found |= {entry.cursor: entry for entry in reader.feed(piece)}
        return found
