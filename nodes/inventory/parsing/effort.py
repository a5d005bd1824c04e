"""How much processor time the reading of one host's text may take, counted while it is read.

What a host prints is bounded in bytes, and still somebody finds a text that takes long. Reading stops at a
number of seconds of this thread's own processor time, so that a machine that is busy with other things reads
as much as one at rest. It is looked at between sections and within loops over what a host wrote.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")
EVERY = 256
"""Turns of a loop between two looks at the clock."""


class TooMuchWork(Exception):
    """The text takes more processor time to read than it may."""


class _Bounds(threading.local):
    ends_at = math.inf


_bounds = _Bounds()


@contextmanager
def limited(cpu_s: float) -> Iterator[None]:
    """Within it, and within a longer bound around it, :func:`step` raises after ``cpu_s`` seconds."""
    before = _bounds.ends_at
    _bounds.ends_at = min(before, time.thread_time() + cpu_s)
    try:
        yield
    finally:
        _bounds.ends_at = before


def step() -> None:
    """Raises TooMuchWork where the time is used up. Costs less than a microsecond."""
    if time.thread_time() > _bounds.ends_at:
        raise TooMuchWork


def stepped(values: Iterable[T]) -> Iterator[T]:
    """``values``, with a :func:`step` now and then."""
    for turn, value in enumerate(values):
        if not turn % EVERY:
            step()
        yield value
