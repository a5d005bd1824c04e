"""What one host may cost this process: one budget a host, which everything that reads from it draws on.

A host is a program that somebody else may have written: it can print for ever, one byte at a time or as fast
as the line takes it. So whatever is read from it is paid for, by the thread that reads it, out of the host's
own budget: processor time, bytes and lines by the second; bytes held, sessions and threads by number. Who is
beyond the first three waits before reading on, and the host with it, as SSH's window and a pipe hold it back;
who is beyond the others is refused with HostBudgetExceeded.

Processor time is shared. A host that is busy alone may use a core; where several are at once, all of them get
a small part of one, by equal shares, and a smaller one while somebody waits for a page or an answer; also one
that is alone pauses then. So the server goes on answering, whatever those hosts send.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from nodes.errors import HostBudgetExceeded, HostTimeout
from nodes.hosts.deadlines import Clock

Resource = Literal["sessions", "threads", "held_bytes"]


@dataclass(frozen=True, slots=True)
class Limits:
    """What one host may have. Shares are of one processor core."""

    cpu_share_alone: float = 1.0
    """For a host that is busy alone: journalctl at its fastest is not held back by it."""
    cpu_share_of_several: float = 0.15
    """For all busy hosts together, where there are several."""
    cpu_share_beside_callers: float = 0.04
    """The same while somebody waits for an answer."""
    cpu_share_least: float = 0.002
    cpu_burst_s: float = 5.0
    cpu_burst_of_several_s: float = 0.25
    bytes_per_s: float = 64 << 20
    bytes_burst: float = 256 << 20
    lines_per_s: float = 2_000_000
    lines_burst: float = 16_000_000
    packets_per_s: float = 5_000
    """Of libvirt's protocol, over all connections to it. Its client works through each of them, beyond any
    other bound; a host has reason to send one for each question, and a keep-alive every five seconds."""
    packets_burst: float = 50_000
    sessions: int = 48
    """Commands and sockets at once, over all connections to the host."""
    threads: int = 64
    """That wait in a call of libvirt's, those included that nobody waits for any more."""
    held_bytes: int = 32 << 20
    """Output of commands that have not ended."""


DEFAULT = Limits()

PRECEDENCE_S = 0.2
"""For so long from its beginning a request has precedence: a page or a list is answered by then."""
LONGEST_PAUSE_S = 0.5
"""At a time: whoever pauses looks whether it is still wanted."""
_BUSY_SHARE = 0.03
_WINDOW_S = 1.0
_BUSY_FOR_S = 3.0
"""A host that was busy counts as such for so long: one that is held back would else stop counting."""
_MOST_DEBT_S = 1.0
"""Of processor time. A single costly step is not to keep the host out for minutes."""
_MOST_WAITING = 4.0
"""Times its processor time that work may be taken to have waited for the processor."""
_KEPT_S = 900.0
_MOST_KEPT = 8192


@dataclass(slots=True)
class Bucket:
    """Something by the second. ``level`` is what may be used at once; below 0 is used in advance."""

    level: float
    at: float

    def draw(self, amount: float, rate: float, burst: float, now: float) -> float:
        """Use ``amount``; gives for how many seconds to wait until nothing is used in advance."""
        self.level = min(burst, self.level + (now - self.at) * rate) - amount
        self.at = now
        return -self.level / rate if self.level < 0 else 0.0


@dataclass(slots=True)
class Totals:
    """Counted since the process began, for all hosts: what budgets have done."""

    paused_s: float = 0.0
    refused: dict[str, int] = field(default_factory=dict)


totals = Totals()


class HostBudgets:
    """The budgets of this process by host. A budget outlives the connection: reconnecting refills none."""

    def __init__(self, limits: Limits = DEFAULT) -> None:
        self.limits = limits
        self._guard = threading.Lock()
        self._budgets: dict[str, HostBudget] = {}
        self._busy: dict[str, float] = {}
        """Until when a host counts as busy, on the monotonic clock."""
        self._preceded_until = 0.0

    def of(self, key: str, name: str = "") -> HostBudget:
        """The budget of the host ``key``; ``name`` is what messages call it."""
        with self._guard:
            found = self._budgets.get(key)
            if found is None:
                if len(self._budgets) >= _MOST_KEPT:
                    self._forget()
                found = self._budgets[key] = HostBudget(self, key, name or key)
            found.used_at = time.monotonic()
            return found

    def precede(self) -> None:
        """Somebody is about to be answered: for a moment, busy hosts are read with what is left beside."""
        self._preceded_until = time.monotonic() + PRECEDENCE_S

    @property
    def is_free(self) -> bool:
        """Whether nobody waits for an answer that has nothing to do with a host."""
        return time.monotonic() >= self._preceded_until

    def note_busy(self, key: str, now: float) -> int:
        """Count the host as busy for a while; gives how many are."""
        busy = self._busy
        busy[key] = now + _BUSY_FOR_S
        for other in [one for one, until in busy.items() if until < now]:
            busy.pop(other, None)
        return len(busy)

    def busy(self, now: float) -> int:
        return sum(until >= now for until in tuple(self._busy.values()))

    def _forget(self) -> None:
        old = time.monotonic() - _KEPT_S
        for key in [key for key, one in self._budgets.items() if one.used_at < old and one.is_idle]:
            del self._budgets[key]


class HostBudget:
    """One host's budget. Safe to use from several threads at once."""

    def __init__(self, owner: HostBudgets, key: str, name: str) -> None:
        now = time.monotonic()
        limits = owner.limits
        self.key, self.name = key, name
        self.used_at = now
        self.paused_s = 0.0
        self._owner = owner
        self._cpu = Bucket(limits.cpu_burst_s, now)
        self._bytes = Bucket(limits.bytes_burst, now)
        self._lines = Bucket(limits.lines_burst, now)
        self._packets = Bucket(limits.packets_burst, now)
        self._window_at, self._window_s = now, 0.0
        self._changed = threading.Condition()
        self._taken: dict[Resource, int] = {"sessions": 0, "threads": 0, "held_bytes": 0}

    @property
    def is_idle(self) -> bool:
        return not any(self._taken.values())

    def taken(self, resource: Resource) -> int:
        """How much of it is in use now."""
        return self._taken[resource]

    # -- by the second ----------------------------------------------------------------------------

    def spend(
        self, cpu_s: float, size: int = 0, lines: int = 0, wall_s: float = 0.0, packets: int = 0
    ) -> float:
        """Note what was used; gives for how many seconds to read nothing.

        ``wall_s`` is how long the work took by the clock on the wall. Where several hosts are busy it counts
        instead, as far as it may be waiting for the processor: the fuller this process is, the more room is
        left to whoever else works in it.
        """
        now, limits = time.monotonic(), self._owner.limits
        with self._changed:
            self.used_at = now
            self._window_s += cpu_s
            lasted = now - self._window_at
            is_busy = self._window_s > _BUSY_SHARE * max(lasted, _WINDOW_S)
            if lasted > _WINDOW_S:
                self._window_at, self._window_s = now, 0.0
            busy = 0
            if is_busy or self._cpu.level < 0:
                busy = self._owner.note_busy(self.key, now)
            share, burst = limits.cpu_share_alone, limits.cpu_burst_s
            is_free = self._owner.is_free
            if busy > 1:
                together = limits.cpu_share_of_several if is_free else limits.cpu_share_beside_callers
                share = max(limits.cpu_share_least, together / busy)
                burst = limits.cpu_burst_of_several_s
                cpu_s = max(cpu_s, min(wall_s, _MOST_WAITING * cpu_s))
            pause = self._cpu.draw(cpu_s, share, burst, now)
            if busy and not is_free:
                pause = max(pause, min(cpu_s / limits.cpu_share_of_several, PRECEDENCE_S))
            self._cpu.level = max(self._cpu.level, -_MOST_DEBT_S)
            return max(
                pause,
                self._bytes.draw(size, limits.bytes_per_s, limits.bytes_burst, now),
                self._lines.draw(lines, limits.lines_per_s, limits.lines_burst, now),
                self._packets.draw(packets, limits.packets_per_s, limits.packets_burst, now),
            )

    def note_pause(self, seconds: float) -> None:
        self.paused_s += seconds
        totals.paused_s += seconds

    # -- by number --------------------------------------------------------------------------------

    def take(self, resource: Resource, amount: int = 1, timeout_s: float = 0.0) -> None:
        """Take so much of it, once there is. Raises HostBudgetExceeded where there is not in time."""
        limit: int = getattr(self._owner.limits, resource)
        with self._changed:
            if not self._changed.wait_for(lambda: self._taken[resource] + amount <= limit, timeout_s):
                note_refusal(resource)
                raise exceeded(self.name, _WORDS[resource] % _shown(resource, limit))
            self._taken[resource] += amount

    def give_back(self, resource: Resource, amount: int = 1) -> None:
        with self._changed:
            self._taken[resource] -= amount
            self._changed.notify_all()


class Meter:
    """What reading one stream costs. All that its thread does between two readings counts as the host's."""

    def __init__(self, budget: HostBudget) -> None:
        self.budget = budget
        self._thread = 0
        self._at = self._came_at = 0.0
        self._size = self._lines = self._packets = 0

    def count(self, chunk: bytes, packets: int = 0) -> None:
        """This came from the host; ``packets`` of libvirt's protocol begin in it."""
        self._size += len(chunk)
        self._lines += chunk.count(b"\n")
        self._packets += packets
        self._came_at = time.monotonic()

    def settle(self) -> float:
        """Pay for what came and for the work since the last reading; gives the seconds to read nothing."""
        thread, now = threading.get_ident(), time.thread_time()
        spent = now - self._at if thread == self._thread else 0.0
        self._thread, self._at = thread, now
        size, lines, packets = self._size, self._lines, self._packets
        self._size = self._lines = self._packets = 0
        wall = time.monotonic() - self._came_at if size else 0.0
        return self.budget.spend(spent, size, lines, wall, packets)

    def rest(self, timeout_s: float | None, closing: threading.Event) -> float:
        """Pay, and wait where the host is over its budget, no longer than ``timeout_s`` or until ``closing``.

        Gives for how many seconds there was to wait. The host counts as busy for as long; where less was to
        wait after all, as nobody waits for an answer any more, it ends sooner.
        """
        pause = self.settle()
        if not pause:
            return 0.0
        left = pause if timeout_s is None else min(pause, timeout_s)
        began = time.monotonic()
        while (more := left - (time.monotonic() - began)) > 0 and not closing.is_set():
            closing.wait(min(more, LONGEST_PAUSE_S))
            left = min(left, time.monotonic() - began + self.budget.spend(0.0))
        waited = time.monotonic() - began
        self.budget.note_pause(waited)
        return waited


STEP = 64 << 10
"""Bytes that are worked through at a time."""


def pieces(data: bytes, budget: HostBudget, clock: Clock) -> Iterator[bytes]:
    """What a host has sent, in pieces, each paid for before the next: however much it is to work through.

    Raises HostTimeout at the deadline.
    """
    meter, never = Meter(budget), threading.Event()
    for start in range(0, len(data), STEP):
        meter.rest(clock.left, never)
        if clock.passed:
            raise HostTimeout(f"What {budget.name} sent could not be read within {clock.timeout_s:g} s.")
        yield data[start : start + STEP]


def note_refusal(resource: Resource) -> None:
    totals.refused[resource] = totals.refused.get(resource, 0) + 1


def exceeded(name: str, what: str) -> HostBudgetExceeded:
    """``what`` names what there is too much of, and how much may be."""
    return HostBudgetExceeded(
        f"{name} takes more than one host may: {what}.",
        remedy="Wait for what runs on it to end. Where it lasts, look at what the host prints.",
    )


_WORDS: dict[Resource, str] = {
    "sessions": "%s commands and connections run on it at once",
    "threads": "%s calls of libvirt wait for its answer",
    "held_bytes": "%s MiB of its output are held",
}


def _shown(resource: Resource, limit: int) -> int:
    return limit >> 20 if resource == "held_bytes" else limit


budgets = HostBudgets()
"""Those of this process."""
