"""The output of a command while it is held: bounded for the command, for its host, and for all hosts.

A small output always has room. What is larger shares one room with all other large ones, so that ten hosts
that each send as much as one may do not take ten times the memory. Where it is full, whoever holds more than
an equal part of it is refused, and the others wait.
"""

from __future__ import annotations

import io
import threading

from nodes.errors import HostBudgetExceeded
from nodes.hosts import stop_signal
from nodes.hosts.deadlines import Clock
from nodes.hosts.host_budget import HostBudget, note_refusal
from nodes.hosts.shell import Watch

FREE_BYTES = 1 << 20
"""Of one command's output: twice what the probe of a large host prints."""
ROOM_BYTES = 12 << 20
"""For what all outputs of this process hold beyond it."""


class Room:
    """Bytes that are shared by all who hold some. Safe to use from several threads at once."""

    def __init__(self, size: int = ROOM_BYTES) -> None:
        self.size = size
        self.taken = 0
        self._holders = 0
        self._changed = threading.Condition()

    def take(self, amount: int, own: int, timeout_s: float) -> bool:
        """Take ``amount`` beside the ``own`` that the caller has; False where there is no room in time.

        Raises Unwanted.
        """
        clock = Clock(timeout_s)
        with self._changed:
            while self.taken + amount > self.size:
                part = self.size / (self._holders + (own == 0))
                if own + amount > part or clock.passed:
                    return False
                self._changed.wait(stop_signal.slice_of(clock.left))
                stop_signal.check()
            self.taken += amount
            self._holders += own == 0
            return True

    def give_back(self, amount: int) -> None:
        """All that the caller has."""
        with self._changed:
            self.taken -= amount
            self._holders -= amount > 0
            self._changed.notify_all()


room = Room()
"""That of this process."""


class HeldOutput:
    """What one command has printed, until :meth:`release`; at most ``max_bytes`` of it are kept."""

    def __init__(
        self, budget: HostBudget, max_bytes: int, watch: Watch | None = None, shared: Room | None = None
    ) -> None:
        self.budget = budget
        self._max_bytes = max_bytes
        self._watch = watch
        self._room = shared or room
        # Its value is given without a copy.
        self._kept = io.BytesIO()
        self._size = self._in_room = 0

    def add(self, chunk: bytes, timeout_s: float) -> bool:
        """Keep what came; False where the output is longer than it may be, or the rest is not wanted.

        Waits for room, no longer than ``timeout_s``. Raises HostBudgetExceeded where there is none, Unwanted.
        """
        kept = chunk[: self._max_bytes - self._size]
        self._take(len(kept), timeout_s)
        self._kept.write(kept)
        return len(kept) == len(chunk) and (self._watch is None or self._watch(chunk))

    def value(self) -> bytes:
        return self._kept.getvalue()

    def release(self) -> None:
        """Hold it no more; what :meth:`value` gave is the caller's."""
        self._kept = io.BytesIO()
        self.budget.give_back("held_bytes", self._size)
        self._room.give_back(self._in_room)
        self._size = self._in_room = 0

    def _take(self, amount: int, timeout_s: float) -> None:
        self.budget.take("held_bytes", amount)
        self._size += amount
        beyond = max(0, self._size - FREE_BYTES) - self._in_room
        if not beyond:
            return
        if not self._room.take(beyond, self._in_room, timeout_s):
            note_refusal("held_bytes")
            raise HostBudgetExceeded(
                f"{self.budget.name} sent more than there is room for: the outputs of all hosts together may "
                f"take {self._room.size >> 20} MiB beyond {FREE_BYTES >> 20} MiB each.",
                remedy="Try again later. Where it lasts, look at what the hosts print.",
            )
        self._in_room += beyond
