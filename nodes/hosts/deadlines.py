"""Deadlines: every wait for a host has one, and all of them are ours.

paramiko waits 15 s for a silent peer and an hour for a channel, libvirt for ever; neither knows that a
thousand other hosts are fine. So each wait here is cut by a clock of our own.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from nodes.errors import HostTimeout

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long each step of reaching a host may take, in seconds."""

    connect_s: float = 10.0
    """Name resolution and TCP, over all of a host's addresses together."""
    handshake_s: float = 10.0
    """The greeting and the key exchange."""
    auth_s: float = 15.0
    """Authentication; a server may delay its refusal by some seconds."""
    channel_s: float = 10.0
    """One more channel, the wait for a free one included."""
    libvirt_s: float = 15.0
    """Opening libvirt; the first answer of a daemon that its socket has just started takes seconds."""
    keepalive_s: int = 15
    """An idle connection shows a sign of life this often."""


DEFAULT = Deadlines()


class Clock:
    """What is left of one deadline."""

    __slots__ = ("_end", "timeout_s")

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self._end = time.monotonic() + timeout_s

    @property
    def left(self) -> float:
        """Seconds left, never below 0."""
        return max(0.0, self._end - time.monotonic())

    @property
    def elapsed(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self._end + self.timeout_s

    @property
    def passed(self) -> bool:
        return time.monotonic() >= self._end


def run_within(
    work: Callable[[], T], timeout_s: float, what: str, *, on_end: Callable[[], None] = lambda: None
) -> T:
    """Run ``work`` in a thread of its own and give what it returns or raises. ``on_end`` is called when the
    thread ends, whenever that is.

    Raises HostTimeout naming ``what`` when it takes longer. The thread is then left to itself: a call that
    hangs inside a C library cannot be stopped, only abandoned, and as a daemon thread it does not keep the
    process from ending.
    """
    outcome: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()

    def target() -> None:
        try:
            outcome.put((work(), None))
        except BaseException as error:  # noqa: BLE001 - handed to the caller, who raises it
            outcome.put((None, error))
        finally:
            on_end()

    try:
        threading.Thread(target=target, name=f"host: {what}", daemon=True).start()
    except RuntimeError:  # this process may start no more of them
        on_end()
        raise
    try:
        result, error = outcome.get(timeout=timeout_s)
    except queue.Empty:
        raise HostTimeout(f"{what} did not end within {timeout_s:g} s.") from None
    if error is not None:
        raise error
    return result  # type: ignore[return-value]  # None only where T allows it
