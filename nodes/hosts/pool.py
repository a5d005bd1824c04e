"""One live connection a host, shared by all who work with it."""

from __future__ import annotations

import copy
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nodes.errors import HostError, HostTimeout, HostUnreachable
from nodes.hosts import stop_signal
from nodes.hosts.deadlines import DEFAULT, Clock, Deadlines
from nodes.hosts.jump import jump_hosts
from nodes.hosts.target import HostTarget

if TYPE_CHECKING:
    from nodes.hosts.connection import HostConnection

MAX_CONNECTIONS = 1024
IDLE_S = 300.0
LIBVIRT_IDLE_S = 60.0


@dataclass(slots=True)
class _Place:
    """Where one host's connection lives. Its lock is held while connecting, and no other host's is."""

    key: str
    lock: threading.Lock = field(default_factory=threading.Lock)
    connection: HostConnection | None = None
    failed_at: float = 0.0
    failure: HostError | None = None
    retired: bool = False
    """Taken out of the pool: whoever still waits at its lock has to ask for a new place."""


class ConnectionPool:
    """Connections by target: its address, user, host key and credential together.

    A changed credential or host key is another target, so no connection outlives what it was allowed by:
    the old one is closed as soon as the node is entered by the new one. A dead host keeps only its own
    callers waiting.
    """

    def __init__(
        self,
        deadlines: Deadlines = DEFAULT,
        *,
        max_connections: int = MAX_CONNECTIONS,
        idle_s: float = IDLE_S,
    ) -> None:
        self._deadlines = deadlines
        self._max = max_connections
        self._idle_s = idle_s
        self._guard = threading.Lock()
        self._places: OrderedDict[str, _Place] = OrderedDict()
        self._stop = threading.Event()
        self._sweeper: threading.Thread | None = None
        self._pid = os.getpid()

    def get(self, target: HostTarget) -> HostConnection:
        """A live connection to ``target``: the one there is, or a new one. It belongs to the pool.

        Raises what :func:`nodes.hosts.connection.connect` raises. Those who wait while another caller
        connects share its outcome: ten waiters for a dead host wait for one deadline, not for ten.
        """
        asked_at = time.monotonic()
        deadlines = self._deadlines
        clock = Clock(deadlines.connect_s + deadlines.handshake_s + deadlines.auth_s)
        while True:
            place = self._place(target)
            if not place.lock.acquire(timeout=stop_signal.slice_of(clock.left)):
                stop_signal.check()
                if not clock.passed:
                    continue
                raise HostTimeout(f"Connecting to {target.address} did not end within {clock.timeout_s:g} s.")
            try:
                if place.retired:
                    continue
                return self._enter(place, target, asked_at)
            finally:
                place.lock.release()

    def _enter(self, place: _Place, target: HostTarget, asked_at: float) -> HostConnection:
        found = place.connection
        if found is not None and found.alive:
            found.touch()
            return found
        if place.failure is not None and place.failed_at >= asked_at:
            # A copy: an exception collects the traceback of everybody who raises it.
            raise copy.copy(place.failure)
        return self._connect(place, target)

    def drop(self, target: HostTarget) -> None:
        """Close the connection to ``target``, if there is one; the next caller gets a new one."""
        self._retire([target.digest()])

    def drop_node(self, key: str) -> None:
        """Close every connection of the node of this key: it is gone, or is entered in another way now."""
        with self._guard:
            digests = self._of_node(key)
        self._retire(digests)

    def _retire(self, digests: Iterable[str]) -> int:
        with self._guard:
            places = [self._places.pop(digest) for digest in digests if digest in self._places]
            for place in places:
                place.retired = True
        connections = [place.connection for place in places if place.connection is not None]
        for connection in connections:
            connection.close()
        return len(connections)

    def close(self) -> None:
        """Close all connections. The pool may be used again afterwards."""
        with self._guard:
            self._stop.set()
            self._stop = threading.Event()
            self._sweeper = None
            digests = list(self._places)
        self._retire(digests)

    def close_idle(self) -> int:
        """Close what nobody has used for long or what is broken; how many those were."""
        jump_hosts().close_idle()
        now = time.monotonic()
        with self._guard:
            stale = {digest for digest, place in self._places.items() if self._is_stale(place, now)}
            others = [place.connection for digest, place in self._places.items() if digest not in stale]
        for connection in others:
            if connection is not None:
                connection.rest(min(LIBVIRT_IDLE_S, self._idle_s))
        return self._retire(stale)

    def _is_stale(self, place: _Place, now: float) -> bool:
        found = place.connection
        if place.lock.locked():
            return False
        if found is None:
            return now - place.failed_at >= self._idle_s
        return not found.alive or (not found.busy and now - found.last_used >= self._idle_s)

    def __len__(self) -> int:
        with self._guard:
            return sum(place.connection is not None for place in self._places.values())

    def _place(self, target: HostTarget) -> _Place:
        digest = target.digest()
        with self._guard:
            if self._pid != os.getpid():
                # After a fork the sockets are the parent's too: closing them would end its connections.
                self._places, self._sweeper, self._pid = OrderedDict(), None, os.getpid()
            gone = [] if digest in self._places or not target.key else self._of_node(target.key)
            place = self._places.setdefault(digest, _Place(target.key))
            self._places.move_to_end(digest)
            surplus = self._surplus(digest) if len(self._places) > self._max else None
            if self._sweeper is None:
                self._sweeper = threading.Thread(
                    target=self._sweep, args=(self._stop,), name="host: idle connections", daemon=True
                )
                self._sweeper.start()
        if surplus is not None:
            gone.append(surplus)
        self._retire(gone)
        return place

    def _of_node(self, key: str) -> list[str]:
        return [digest for digest, place in self._places.items() if place.key == key]

    def _surplus(self, wanted: str) -> str | None:
        """The least recently used place that nobody works with; None where all are in use."""
        for digest, place in self._places.items():
            in_use = place.lock.locked() or (place.connection is not None and place.connection.busy)
            if not in_use and digest != wanted:
                return digest
        return None

    def _connect(self, place: _Place, target: HostTarget) -> HostConnection:
        from nodes.hosts.connection import connect

        broken, place.connection = place.connection, None
        if broken is not None:
            broken.close()
        try:
            connection = connect(target, self._deadlines)
        except HostError as error:
            place.failure, place.failed_at = error, time.monotonic()
            raise
        place.failure, place.connection = None, connection
        if place.retired:
            connection.close()
            raise HostUnreachable(
                f"The connection to {target.address} was closed while it was made.", extra={"reason": "lost"}
            )
        return connection

    def _sweep(self, stop: threading.Event) -> None:
        while not stop.wait(min(self._idle_s / 2, 30)):
            self.close_idle()
