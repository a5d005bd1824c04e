"""Bounds in seconds of a machine at rest, for one that is slower or has other things to do besides.

A wait begins with the bound as it stands. Where that is over, the machine is measured: how long the start of
its lab hosts took, and how long a fixed piece of work takes right now. While it is slower than the reference,
the wait goes on for as many times longer. A host that never answers fails a test as ever, but later on a slow
machine.
"""

import statistics
import time

WORK_S = 0.027
"""What :func:`_work` takes on a processor of the machine that the bounds are for, with nothing beside it."""
BOOT_S = 60.0
"""What two hosts that are started together take there until the first one is up."""
MOST = 10.0
"""A machine slower than this ends no run in a time that anybody waits for."""

_boots: list[float] = []


def _work() -> int:
    total = 0
    for number in range(750_000):
        total += number * number & 7
    return total


def note_boot(seconds: float) -> None:
    """Remember how long a host took until it answered."""
    _boots.append(seconds)


def slowness() -> float:
    """How many times longer than the reference this machine takes: 1 at rest, at most :data:`MOST`."""
    rounds = []
    for _round in range(3):
        started = time.monotonic()
        _work()
        rounds.append((time.monotonic() - started) / WORK_S)
    booted = max(_boots[:1], default=0.0) / BOOT_S
    return min(MOST, max(1.0, booted, statistics.median(rounds)))


class Deadline:
    """``seconds`` of a machine at rest from now on."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._asked = seconds
        self._begun = time.monotonic()

    @property
    def waited_s(self) -> float:
        return time.monotonic() - self._begun

    def over(self) -> bool:
        """Whether the time is up, on this machine as it is. ``seconds`` then says what it came to."""
        if self.waited_s <= self.seconds:
            return False
        self.seconds = max(self.seconds, self._asked * slowness())
        return self.waited_s > self.seconds
