"""What work costs, against a bound that a slow machine does not break."""

from __future__ import annotations

import time
from collections.abc import Callable

from tests.patience import slowness


def cpu_s(work: Callable[[], object]) -> float:
    """Seconds of processor time that ``work`` takes in this thread."""
    begin = time.thread_time()
    work()
    return time.thread_time() - begin


def is_within(work: Callable[[], object], limit_s: float) -> bool:
    """Whether ``work`` takes at most ``limit_s`` seconds of processor time on the machine of reference."""
    used = cpu_s(work)
    return used <= limit_s or used <= limit_s * slowness()
