"""The signal with which whoever asked a host for something says that nobody waits for it any more.

Set for a thread by :func:`stopped_by`; every wait for a command on a host then ends within :data:`SLICE_S`.
Not for what changes something on a host: that is asked to its end.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from nodes.errors import HostTimeout
from nodes.hosts.deadlines import Clock

SLICE_S = 0.25

_signal: ContextVar[threading.Event | None] = ContextVar("stop_signal", default=None)


class Unwanted(HostTimeout):
    """Whoever asked has gone."""


@contextmanager
def stopped_by(event: threading.Event) -> Iterator[None]:
    """What this thread waits for within ends with Unwanted soon after ``event`` is set."""
    token = _signal.set(event)
    try:
        yield
    finally:
        _signal.reset(token)


def check() -> None:
    """Raises Unwanted where nobody waits any more."""
    event = _signal.get()
    if event is not None and event.is_set():
        raise Unwanted("Nobody waits for the host's answer any more.")


def slice_of(left_s: float) -> float:
    """How long to wait at a time, of what is left of a deadline, before :func:`check` is to be asked."""
    return min(left_s, SLICE_S) if _signal.get() is not None else left_s


def wait(event: threading.Event, timeout_s: float) -> bool:
    """``event.wait``, ended by the signal. Raises Unwanted."""
    clock = Clock(timeout_s)
    while not event.wait(slice_of(clock.left)):
        check()
        if clock.passed:
            return False
    return True
