"""Token buckets in memory: so many at once, and then so many in a time, for each of many keys."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass

_PERIODS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass(frozen=True, slots=True)
class Rate:
    """``per_s`` in the long run, and ``burst`` of them at once."""

    per_s: float
    burst: float


def read_rate(text: str) -> Rate:
    """``60/min`` as env.rate() lets it through: 60 at once, and one a second after that."""
    number, _slash, period = text.partition("/")
    count = float(number)
    return Rate(count / _PERIODS[period[0]], count)


class Buckets:
    """A bucket for each key, at most ``most`` of them; the one that was used longest ago is given up first.

    Safe to use from several threads at once. Whoever has enough keys to push out others' buckets only fills
    those anew: nobody is refused by it.
    """

    def __init__(self, rate: Rate, *, most: int = 20_000) -> None:
        self._rate = rate
        self._most = most
        self._levels: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()
        self._guard = threading.Lock()

    def __len__(self) -> int:
        return len(self._levels)

    def take(self, key: Hashable, cost: float = 1.0) -> float:
        """Take from the key's bucket: 0.0, or the seconds until there is enough; nothing is taken then."""
        with self._guard:
            level, now = self._level(key)
            if level >= cost:
                self._keep(key, level - cost, now)
                return 0.0
            self._keep(key, level, now)
            return (cost - level) / self._rate.per_s

    def give_back(self, key: Hashable, cost: float = 1.0) -> None:
        """Undo a :meth:`take`: it turned out not to count."""
        with self._guard:
            level, now = self._level(key)
            self._keep(key, min(self._rate.burst, level + cost), now)

    def wait_s(self, key: Hashable, cost: float = 1.0) -> float:
        """What :meth:`take` would answer, without taking."""
        with self._guard:
            level, _now = self._level(key)
            return 0.0 if level >= cost else (cost - level) / self._rate.per_s

    def clear(self) -> None:
        with self._guard:
            self._levels.clear()

    def _level(self, key: Hashable) -> tuple[float, float]:
        now = time.monotonic()
        level, since = self._levels.get(key, (self._rate.burst, now))
        return min(self._rate.burst, level + (now - since) * self._rate.per_s), now

    def _keep(self, key: Hashable, level: float, now: float) -> None:
        self._levels[key] = (level, now)
        self._levels.move_to_end(key)
        if len(self._levels) > self._most:
            self._levels.popitem(last=False)
