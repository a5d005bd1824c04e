"""The newest entries of one stream, bounded, with a place for each viewer.

The reader of the host pushes, viewers take. The ring drops its oldest batch only when some viewer has taken
it: so the quickest viewer sets the pace, one that falls behind the ring notices and goes its own way, and
with nobody taking anything the reader waits, and the host's process with it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from nodes.hosts.journal_entries import Entry

MAX_ENTRIES = 5000
MAX_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class Batch:
    """Some entries and the message that carries them; or a message alone, of a stream's state."""

    number: int
    text: str
    entries: Sequence[Entry] = ()
    cursor: str = ""
    last: bool = False
    """The stream ends with it."""


class FellBehind(Exception):
    """The viewer's next batch is no longer in the ring."""


class Place:
    """Where one viewer is: the number of the batch that it takes next."""

    __slots__ = ("next",)

    def __init__(self, following: int) -> None:
        self.next = following


class Ring:
    """Safe between the reader's thread and the loop's."""

    def __init__(
        self,
        start: str = "",
        max_entries: int = MAX_ENTRIES,
        max_bytes: int = MAX_BYTES,
        *,
        position: str = "",
    ) -> None:
        """``start`` is the cursor of the entry before the first one, "" where that is not known; ``position``
        the cursor of the whole query there.
        """
        self._start = start
        self._floor = position
        self._numbers: dict[str, int] = {}
        """The batches by their cursors."""
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._taken = threading.Condition(self._lock)
        self._batches: deque[Batch] = deque()
        self._index: dict[str, tuple[int, int]] = {}
        self._places: set[Place] = set()
        self._entries = 0
        self._bytes = 0
        self._number = 0
        self.newest_time = ""

    def __len__(self) -> int:
        return self._entries

    def push(
        self, text: str, entries: Sequence[Entry], cursor: str, *, last: bool = False, wait_s: float
    ) -> bool:
        """Append a batch. False, and nothing is done, where no viewer made room within ``wait_s``."""
        with self._lock:
            if not self._make_room(len(entries), len(text)) and not (
                self._taken.wait(wait_s) and self._make_room(len(entries), len(text))
            ):
                return False
            batch = Batch(self._number, text, entries, cursor, last)
            self._number += 1
            self._batches.append(batch)
            self._entries += len(entries)
            self._bytes += len(text)
            if cursor:
                self._numbers[cursor] = batch.number
            for position, entry in enumerate(entries):
                if entry.cursor:
                    self._index[entry.cursor] = (batch.number, position)
            if entries:
                self.newest_time = max(self.newest_time, entries[-1].time or "")
            return True

    def _make_room(self, entries: int, size: int) -> bool:
        while self._batches and (
            self._entries + entries > self._max_entries or self._bytes + size > self._max_bytes
        ):
            oldest = self._batches[0]
            if all(place.next <= oldest.number for place in self._places):
                return False
            self._batches.popleft()
            self._entries -= len(oldest.entries)
            self._bytes -= len(oldest.text)
            if oldest.cursor:
                self._numbers.pop(oldest.cursor, None)
                self._floor = oldest.cursor
            for entry in oldest.entries:
                self._index.pop(entry.cursor, None)
        return True

    def enter_after(self, cursor: str) -> tuple[Place, Sequence[Entry]] | None:
        """A viewer whose last entry is ``cursor``, and what is left of that entry's batch.

        None where the ring does not hold it.
        """
        with self._lock:
            found = self._index.get(cursor)
            if found is None:
                whole = not self._number or (bool(self._batches) and not self._batches[0].number)
                if cursor != self._start or not whole:
                    return None
                place = Place(0)
                self._places.add(place)
                return place, ()
            number, position = found
            batch = self._batches[number - self._batches[0].number]
            place = Place(number + 1)
            self._places.add(place)
            return place, batch.entries[position + 1 :]

    def enter_at(self, position: str) -> Place | None:
        """A viewer that goes on after the batch whose cursor is ``position``; None where it is not held."""
        with self._lock:
            number = self._numbers.get(position)
            if number is None and position != self._floor:
                return None
            oldest = self._batches[0].number if self._batches else self._number
            place = Place(oldest if number is None else number + 1)
            self._places.add(place)
            return place

    def enter(self) -> tuple[Place, str]:
        """A viewer that takes what the ring holds, and all that comes; and the cursor of what lies before."""
        with self._lock:
            place = Place(self._batches[0].number if self._batches else self._number)
            self._places.add(place)
            return place, self._floor

    def leave(self, place: Place) -> int:
        """Gives the number of viewers that remain."""
        with self._lock:
            self._places.discard(place)
            self._taken.notify_all()
            return len(self._places)

    def take(self, place: Place) -> Batch | None:
        """The viewer's next batch; None where it has not come yet. Raises FellBehind."""
        with self._lock:
            if place.next >= self._number:
                return None
            offset = place.next - self._batches[0].number if self._batches else -1
            if offset < 0:
                raise FellBehind
            batch = self._batches[offset]
            place.next += 1
            self._taken.notify_all()
            return batch
