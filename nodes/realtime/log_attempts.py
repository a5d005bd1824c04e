"""How soon a host whose live logs could not be opened is asked again, whoever asks.

A viewer whose socket was closed opens another one. Each costs a command on the host and work here: ten hosts
that fail at once would keep the server as busy as all the others together.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

PAUSES_S = (1.0, 2.0, 4.0, 8.0, 15.0)
FORGOTTEN_AFTER_S = 120.0
"""After the last failure; by then it is another story."""
_MOST_KEPT = 8192


@dataclass(slots=True)
class _Failing:
    failures: int
    until: float


class LogAttempts:
    """The hosts whose last attempt failed. Used in one event loop."""

    def __init__(self) -> None:
        self._failing: dict[str, _Failing] = {}

    def take_turn(self, host: str) -> float:
        """Take the turn to try the host: 0.0, and others wait while the caller tries it. Or the seconds after
        which to ask again, where somebody else has it."""
        known = self._failing.get(host)
        now = time.monotonic()
        if known is None or now - known.until > FORGOTTEN_AFTER_S:
            return 0.0
        if now < known.until:
            return known.until - now
        known.until = now + self._pause_s(known.failures)
        return 0.0

    def failed(self, host: str) -> None:
        if len(self._failing) >= _MOST_KEPT:
            self._forget()
        known = self._failing.setdefault(host, _Failing(0, 0.0))
        now = time.monotonic()
        if now - known.until > FORGOTTEN_AFTER_S:
            known.failures = 0
        known.failures += 1
        known.until = now + self._pause_s(known.failures)

    def succeeded(self, host: str) -> None:
        self._failing.pop(host, None)

    def _pause_s(self, failures: int) -> float:
        return PAUSES_S[min(failures, len(PAUSES_S)) - 1]

    def _forget(self) -> None:
        old = time.monotonic() - FORGOTTEN_AFTER_S
        self._failing = {host: known for host, known in self._failing.items() if known.until > old}
