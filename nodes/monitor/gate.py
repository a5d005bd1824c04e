"""What a host may cause by what it says, and how often: the first few go through, the rest are counted."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

TOLD_EVERY_S = 10.0
"""How often what was counted is handed on."""


@dataclass(slots=True)
class Gate:
    """Lets ``limit`` through in ``window_s`` seconds. Times are of one monotonic clock."""

    limit: int
    window_s: float
    passed: deque[float] = field(default_factory=deque)
    held_back: int = 0
    """Counted since they were told last."""
    since: float = 0.0

    def admit(self, now: float) -> bool:
        """Whether one more may pass; otherwise it is counted."""
        while self.passed and now - self.passed[0] > self.window_s:
            self.passed.popleft()
        if len(self.passed) < self.limit:
            self.passed.append(now)
            return True
        self.count(1, now)
        return False

    def count(self, surplus: int, now: float) -> None:
        """Hold back so many."""
        if not self.held_back:
            self.since = now
        self.held_back += surplus

    def due(self, now: float) -> bool:
        """Whether there is something to tell that has been counted for long enough."""
        return self.held_back > 0 and now - self.since >= TOLD_EVERY_S

    def take(self, now: float) -> tuple[int, float]:
        """How many were held back, and in how many seconds; they count as told."""
        count, self.held_back = self.held_back, 0
        return count, now - self.since
