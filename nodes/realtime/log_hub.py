"""Who views what: shares streams, counts them, and gives each viewer a place to read from."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import chain

import msgspec
from django.utils.translation import gettext as _

from nodes.errors import RateLimited
from nodes.hosts.journal_entries import Entry
from nodes.hosts.journal_filters import JournalFilters
from nodes.hosts.log_cursor import LogCursor
from nodes.realtime.log_attempts import LogAttempts
from nodes.realtime.log_ring import FellBehind, Place
from nodes.realtime.log_stream import Connect, LogStream, entries_message, state_message

CHANNELS_A_HOST = 5
"""Of the eight of its connection: the probe, the beat and libvirt need theirs."""
_AHEAD_S = 0.3
_WAIT_S = 1.0

Key = tuple[str, bytes]


@dataclass(frozen=True, slots=True)
class Message:
    """What to send; with ``last`` the socket ends."""

    text: str
    last: bool = False


def channels_of(filters: JournalFilters) -> int:
    """How many a stream takes: one for the journal, and one for the VMs' own logs."""
    return filters.reads_journal + filters.reads_vm_logs


def _key_of(host: str, filters: JournalFilters) -> Key:
    return host, msgspec.json.encode(filters.to_json())


@dataclass(frozen=True, slots=True)
class Joined:
    """A place in a shared stream, taken before the viewer is there; ``before`` is what comes before it."""

    hub: LogHub
    key: Key
    stream: LogStream
    place: Place
    before: LogCursor

    def leave(self) -> None:
        """Give it up again."""
        if self.stream.ring.leave(self.place) == 0:
            self.hub.withdraw(self.key, self.stream)
            self.stream.stop()


class LogHub:
    """The streams of this process; used in one event loop."""

    def __init__(self) -> None:
        self._shared: dict[Key, LogStream] = {}
        self._channels: Counter[str] = Counter()
        self._freed = asyncio.Condition()
        self._viewers: Counter[int] = Counter()
        self.attempts = LogAttempts()

    def admit(self, user_pk: int, limit: int) -> None:
        """Count a viewer of the user. Raises RateLimited where they have as many as they may."""
        if self._viewers[user_pk] >= limit:
            raise RateLimited(
                _("You have %d live logs open, which is the limit.") % limit,
                remedy=_("Close one of them."),
            )
        self._viewers[user_pk] += 1

    def dismiss(self, user_pk: int) -> None:
        self._viewers[user_pk] -= 1
        if self._viewers[user_pk] <= 0:
            del self._viewers[user_pk]

    @property
    def viewers(self) -> int:
        return self._viewers.total()

    def shared(self, key: Key) -> LogStream | None:
        return self._shared.get(key)

    def join(self, host: str, filters: JournalFilters) -> Joined | None:
        """A place in the stream that others view of this query, where the VMs' logs belong to it.

        Their lines have no cursors by which a viewer finds its place later; so it begins with what the stream
        holds, and what lies before that is asked of the host.
        """
        key = _key_of(host, filters)
        stream = self._shared.get(key) if filters.reads_vm_logs else None
        if stream is None:
            return None
        place, before = stream.ring.enter()
        joined = Joined(self, key, stream, place, LogCursor.decode(before))
        if filters.reads_journal and not joined.before.journal:
            joined.leave()
            return None
        return joined

    def has_room(self, host: str, channels: int) -> bool:
        return self._channels[host] + channels <= CHANNELS_A_HOST

    async def wait_for_room(self, host: str, channels: int) -> None:
        async with self._freed:
            await self._freed.wait_for(lambda: self.has_room(host, channels))

    def open(
        self,
        host: str,
        connect: Connect,
        start: LogCursor,
        *,
        since: datetime | None,
        key: Key | None,
        batch: int = 0,
    ) -> LogStream:
        """Start a process on the host, for all of ``key`` or, without one, for a single viewer."""
        channels = channels_of(start.filters)
        self._channels[host] += channels
        stream = LogStream(
            connect,
            start,
            asyncio.get_running_loop(),
            since=since,
            batch=batch,
            on_end=lambda: self._ended(host, channels, key, stream),
        )
        if key is not None:
            self._shared[key] = stream
        stream.start()
        return stream

    def _ended(self, host: str, channels: int, key: Key | None, stream: LogStream) -> None:
        self._channels[host] -= channels
        if self._channels[host] <= 0:
            del self._channels[host]
        self.withdraw(key, stream)
        self._tell = asyncio.ensure_future(self._tell_freed())

    async def _tell_freed(self) -> None:
        async with self._freed:
            self._freed.notify_all()

    def withdraw(self, key: Key | None, stream: LogStream) -> None:
        """Nobody joins this stream any more."""
        if key is not None and self._shared.get(key) is stream:
            del self._shared[key]


class Viewer:
    """One reader's way through a query: the shared stream where it can be, a process of its own where not.

    ``batch``: the most entries that a message may carry; 0 leaves it to the stream. ``joined``: where it is
    in a shared stream already.
    """

    def __init__(
        self,
        hub: LogHub,
        host: str,
        connect: Connect,
        start: LogCursor,
        since: datetime | None,
        batch: int = 0,
        joined: Joined | None = None,
    ) -> None:
        self._hub = hub
        self._host = host
        self._connect = connect
        filters = start.filters
        self._by_entry = not filters.reads_vm_logs
        shareable = filters.until is None and (self._by_entry or not (filters.since or batch))
        # What began at another time is the same stream from now on.
        self._filters = replace(filters, since=None) if shareable else filters
        self._start = LogCursor(self._filters, journal=start.journal, files=start.files)
        self._since = since or filters.since
        self._key: Key | None = None
        if shareable:
            self._key = _key_of(host, self._filters)
        self._empty = since is not None and not start.journal and filters.since is None
        """There was no entry when it came: so a stream that holds all since it began has all there is."""
        self._stream: LogStream | None = None
        self._own = False
        self._place: Place | None = None
        self._event = asyncio.Event()
        self._batch = batch
        self._left: Iterator[Message] = iter(())
        self._last: Entry | None = None
        self._ahead = False
        self._told_waiting = False
        if joined is not None:
            self._settle(joined.stream, joined.place)
            self._left = iter((Message(joined.stream.state),))

    @property
    def on_shared(self) -> bool:
        return self._stream is not None and not self._own

    async def next(self) -> Message:
        """What to send next; waits for it."""
        while True:
            left = next(self._left, None)
            if left is not None:
                return left
            if self._ahead:
                await asyncio.sleep(_AHEAD_S)
                self._try_shared()
                self._ahead = False
                continue
            if self._stream is None or self._place is None:
                await self._enter()
                continue
            self._event.clear()
            try:
                batch = self._stream.ring.take(self._place)
            except FellBehind:
                self._leave()
                continue
            if batch is None:
                await self._rest()
                continue
            if batch.entries:
                self._advance(batch.entries, batch.cursor)
                sent = self._messages(batch.entries, batch.text)
                if self._own and not self._try_shared():
                    self._ahead = self._is_ahead()
                self._left = chain(sent, self._left)
                continue
            return Message(batch.text, batch.last)

    def _messages(self, entries: Sequence[Entry], text: str = "") -> Iterator[Message]:
        """One message, ``text`` where that is it, or as many as the viewer's bound makes of it. Made one by
        one as they are taken, each with the cursor of its own last entry.
        """
        if self._key is None or not self._batch or len(entries) <= self._batch:
            yield Message(text or entries_message(entries, self._start.encode()))
            return
        for begin in range(0, len(entries), self._batch):
            part = entries[begin : begin + self._batch]
            cursor = LogCursor(self._filters, journal=part[-1].cursor)
            yield Message(entries_message(part, cursor.encode()))

    async def _rest(self) -> None:
        """Wait for more; one that reads alone looks meanwhile whether the others have come to its place."""
        if not self._own or self._key is None:
            await self._event.wait()
            return
        try:
            async with asyncio.timeout(_AHEAD_S):
                await self._event.wait()
        except TimeoutError:
            self._try_shared()

    def _advance(self, entries: Sequence[Entry], cursor: str) -> None:
        self._last = entries[-1]
        if self._by_entry and self._key is not None:
            self._start = LogCursor(self._filters, journal=entries[-1].cursor)
        else:
            self._start = LogCursor.decode(cursor)
        self._since, self._empty = None, False

    async def _enter(self) -> None:
        if self._try_shared():
            return
        channels = channels_of(self._filters)
        if not self._hub.has_room(self._host, channels):
            if not self._told_waiting:
                self._told_waiting = True
                words = str(_("Waiting for a free channel to the host."))
                self._left = iter((Message(state_message("waiting", "rate_limited", words)),))
                return
            try:
                async with asyncio.timeout(_WAIT_S):
                    await self._hub.wait_for_room(self._host, channels)
            except TimeoutError:
                return
        self._told_waiting = False
        key = self._key if self._key is not None and self._hub.shared(self._key) is None else None
        self._own = key is None
        # What is nobody else's comes in the viewer's batches; a stream's own are cut where they are sent.
        batch = self._batch if self._key is None else 0
        stream = self._hub.open(
            self._host, self._connect, self._start, since=self._since, key=key, batch=batch
        )
        self._settle(stream, stream.ring.enter()[0])

    def _try_shared(self) -> bool:
        """Go over to the shared stream, if it holds the entry that this viewer saw last."""
        stream = self._hub.shared(self._key) if self._key is not None else None
        if stream is None or self._stream is stream:
            return False
        found = self._found_in(stream)
        if found is None:
            return False
        place, rest = found
        self._leave()
        self._own = False
        self._settle(stream, place)
        state = Message(stream.state)
        if rest:
            self._advance(rest, "")
            self._left = chain(self._messages(rest), (state,))
        else:
            self._left = iter((state,))
        return True

    def _found_in(self, stream: LogStream) -> tuple[Place, Sequence[Entry]] | None:
        if not self._by_entry:
            place = stream.ring.enter_at(self._start.encode())
            return None if place is None else (place, ())
        cursor = self._start.journal
        return stream.ring.enter_after(cursor) if cursor or self._empty else None

    def _is_ahead(self) -> bool:
        """Whether the shared stream has yet to come to where this viewer is; it is then waited for a moment,
        or both would go on side by side for ever.
        """
        stream = self._hub.shared(self._key) if self._key is not None else None
        if stream is None or not self._by_entry or self._last is None or not self._last.time:
            return False
        return self._last.time >= stream.ring.newest_time

    def _settle(self, stream: LogStream, place: Place) -> None:
        self._stream, self._place = stream, place
        stream.join(self._event)

    def _leave(self) -> None:
        stream, place = self._stream, self._place
        self._stream = self._place = None
        if stream is None or place is None:
            return
        if stream.leave(self._event, place) == 0:
            self._hub.withdraw(self._key, stream)
            stream.stop()

    def close(self) -> None:
        self._leave()
