"""One process on a host, read by one thread into a ring, for all who view the same."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import msgspec
import structlog

from nodes.errors import HostTimeout, NodeAdminError
from nodes.hosts.connection import HostConnection
from nodes.hosts.journal_entries import Entry
from nodes.hosts.log_cursor import LogCursor
from nodes.hosts.log_follow import LogFollow, LogSpan
from nodes.hosts.stop_signal import Unwanted, stopped_by
from nodes.inventory.parsing.visible import visible_answer
from nodes.realtime.log_ring import Place, Ring

log = structlog.get_logger(__name__)

BATCH_ENTRIES = 1000
BATCH_CHARS = 256 << 10
"""Messages of an entry count against this much of a frame."""
BATCH_S = 0.1
_IDLE_S = 1.0
_PAUSES_S = (0.5, 1, 2, 4, 8, 15)
_QUIET_S = 14.0
"""After so long without a line the host is asked whether it is there: without power, or behind a broken
switch, it says nothing and closes nothing. The next second of waiting added, a viewer knows within 25 s.
"""
_ANSWER_S = 10.0

Connect = Callable[[], HostConnection]


def entries_message(entries: Sequence[Entry], cursor: str) -> str:
    """A message of entries; ``cursor`` goes on after the last one."""
    return encoded({"type": "entries", "entries": entries, "cursor": cursor})


def encoded(message: Any) -> str:
    """A message as it is sent. What hosts wrote into it and cannot be seen is written as ``\\uNNNN``."""
    return visible_answer(msgspec.json.encode(message)).decode()


def state_message(state: str, code: str = "", message: str = "") -> str:
    """A message of the stream's state, with the reason where something is wrong."""
    body: dict[str, Any] = {"type": "state", "state": state}
    if code:
        body |= {"code": code, "message": message}
    return encoded(body)


class LogStream:
    """Reads until ``stop``. When the host is lost it says so, and goes on after its last entry.

    ``batch``: at most so many entries a message, :data:`BATCH_ENTRIES` or somewhat more where it is 0.
    """

    def __init__(
        self,
        connect: Connect,
        start: LogCursor,
        loop: asyncio.AbstractEventLoop,
        *,
        since: datetime | None = None,
        batch: int = 0,
        on_end: Callable[[], None] = lambda: None,
    ) -> None:
        self.ring = Ring(start.journal, position=start.encode())
        self.state = state_message("live")
        self._connect = connect
        self._position = start
        self._since = since
        self._batch = batch
        self._loop = loop
        self._on_end = on_end
        self._waiting: set[asyncio.Event] = set()
        self._waking = False
        self._stop = threading.Event()
        self._follow: LogFollow | None = None
        self._follows = start.filters.until is None
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End it, and the host's process; returns at once."""
        self._stop.set()

    # -- the loop's side ----------------------------------------------------------------------------

    def join(self, event: asyncio.Event) -> None:
        """``event`` is set whenever there is something to take."""
        self._waiting.add(event)

    def leave(self, event: asyncio.Event, place: Place) -> int:
        self._waiting.discard(event)
        return self.ring.leave(place)

    def _wake(self) -> None:
        self._waking = False
        for event in self._waiting:
            event.set()

    # -- the thread's side --------------------------------------------------------------------------

    def _run(self) -> None:
        with stopped_by(self._stop):
            self._run_until_stopped()

    def _run_until_stopped(self) -> None:
        failures = 0
        try:
            while not self._stop.is_set():
                begun = time.monotonic()
                try:
                    if self._read_all():
                        self._say("ended", last=True)
                        return
                    error: NodeAdminError = HostTimeout("journalctl ended on the host.")
                except NodeAdminError as failure:
                    error = failure
                if not error.retryable:
                    self._say("error", error, last=True)
                    return
                failures = 0 if time.monotonic() - begun > 30 else failures + 1
                self._say("reconnecting", error)
                self._stop.wait(_PAUSES_S[min(failures, len(_PAUSES_S) - 1)])
        except Exception:
            log.exception("a journal's reader failed")
            self._say("error", HostTimeout("The stream failed."), last=True)
        finally:
            self._tell(self._on_end)

    def _read_all(self) -> bool:
        """Read until told to stop (True), or to the end (True where an end was to come)."""
        connection = self._connect()
        follow: LogFollow | LogSpan
        if self._follows or not self._position.filters.reads_vm_logs:
            follow = LogFollow(
                connection, self._position, since=self._since, follow=self._follows, batch=self._batch
            )
        else:
            follow = LogSpan(connection, self._position, batch=self._batch)
        try:
            self._say("live")
            return self._batches(connection, follow)
        finally:
            follow.close()

    def _batches(self, connection: HostConnection, follow: LogFollow | LogSpan) -> bool:
        pending: list[Entry] = []
        reached = follow.position
        size, flush_at, gap_told, heard_at = 0, 0.0, False, time.monotonic()
        while not self._stop.is_set():
            now = time.monotonic()
            try:
                entries = follow.read(max(0.001, flush_at - now) if pending else _IDLE_S)
            except Unwanted:
                return True
            except HostTimeout:
                entries = []
            if entries == [] and now - heard_at > _QUIET_S:
                connection.shell.run("true", timeout_s=_ANSWER_S)
                heard_at = time.monotonic()
            if entries:
                heard_at = now
                if self._batch and len(pending) + len(entries) > self._batch:
                    self._push(pending, reached)
                    pending, size = [], 0
                reached = follow.position
                pending += entries
                size += sum([len(entry.message or "") for entry in entries])
            if follow.gap and not gap_told:
                gap_told = True
                self._say("gap")
            ended = entries is None
            full = len(pending) >= (self._batch or BATCH_ENTRIES) or size >= BATCH_CHARS
            if pending and (ended or full or time.monotonic() >= flush_at):
                # The first entries after a rest go at once; those that follow closely wait for each other.
                flush_at = time.monotonic() + BATCH_S
                self._push(pending, reached)
                pending, size = [], 0
            if ended:
                return not self._follows
        return True

    def _push(self, entries: list[Entry], position: LogCursor) -> None:
        if not entries:
            return
        cursor = position.encode()
        text = entries_message(entries, cursor)
        if self._put(text, entries, cursor):
            # Only now: what was read and not given to anybody is read again after a new connection.
            self._position, self._since = position, None

    def _say(self, state: str, error: NodeAdminError | None = None, *, last: bool = False) -> None:
        text = state_message(state, error.code if error else "", error.detail() if error else "")
        if state != "gap":
            if text == self.state and not last:
                return
            self.state = text
        self._put(text, (), "", last=last)

    def _put(self, text: str, entries: Sequence[Entry], cursor: str, *, last: bool = False) -> bool:
        while not self._stop.is_set():
            if self.ring.push(text, entries, cursor, last=last, wait_s=_IDLE_S):
                if not self._waking:
                    self._waking = True
                    self._tell(self._wake)
                return True
        return False

    def _tell(self, callback: Callable[[], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(callback)
        except RuntimeError:  # the loop has ended, and all viewers with it
            self._stop.set()
