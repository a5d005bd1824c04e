"""Threads that wait for hosts, shared between them so that some hosts never take all.

A host has at most a share of the threads at a time. Work that takes long counts as slow while it lasts, and
its host for a while after: all slow work together takes half of the threads. Where more hosts than that turn
out to be slow at once, there are some threads more, for hosts that were quick the last time.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")

SLOW_S = 3.0
"""Work that takes longer keeps others waiting."""
SLOW_FOR_S = 300.0
"""For so long a host that was slow is taken to be so again, unless it has answered quickly meanwhile."""

_MOST_KNOWN = 8192

_Work = tuple["Future[Any]", Callable[[], Any]]


class SharedPool:
    """A pool of threads for work that each belongs to a host, named by a key. Safe to use from any thread."""

    def __init__(self, threads: int, name: str, *, share: int | None = None, slow_s: float = SLOW_S) -> None:
        """``share``: how much of one host's work runs at a time, by default an eighth of the threads."""
        self.threads = threads
        self.share = max(1, threads // 8) if share is None else share
        self._slow_s = slow_s
        self._for_slow = max(1, threads // 2)
        # Some of them wait for what has turned out to be slow; the places of the others are free again.
        self._most = threads + self._for_slow
        self._pool = ThreadPoolExecutor(self._most, thread_name_prefix=name)
        self._guard = threading.Lock()
        self._waiting: OrderedDict[str, deque[_Work]] = OrderedDict()
        self._running: dict[int, tuple[str, float]] = {}
        """Of each work that runs its host, and when it began."""
        self._slow: dict[str, float] = {}
        self._quick: set[str] = set()
        self._number = 0
        self._timer: threading.Timer | None = None
        self._closed = False

    def submit(self, key: str, work: Callable[[], T]) -> Future[T]:
        """Have ``work`` done for the host ``key``. Raises RuntimeError once the pool is closed."""
        future: Future[T] = Future()
        with self._guard:
            if self._closed:
                raise RuntimeError("the pool is closed")
            self._waiting.setdefault(key, deque()).append((future, work))
            self._begin()
        return future

    def running(self, key: str | None = None) -> int:
        """How much runs now, of one host or of all."""
        with self._guard:
            return sum(key in (None, host) for host, _began in self._running.values())

    def close(self) -> None:
        """Begin nothing more; what runs goes on to its end."""
        with self._guard:
            self._closed = True
            waiting, self._waiting = self._waiting, OrderedDict()
            if self._timer is not None:
                self._timer.cancel()
        for queue in waiting.values():
            for future, _work in queue:
                future.cancel()
        self._pool.shutdown(wait=False, cancel_futures=True)

    # -- with the lock held ---------------------------------------------------------------------------

    def _begin(self) -> None:
        for key in tuple(self._waiting):
            queue = self._waiting[key]
            while queue and self._may_begin(key):
                future, work = queue.popleft()
                if future.set_running_or_notify_cancel():
                    self._number += 1
                    self._running[self._number] = key, time.monotonic()
                    self._pool.submit(self._do, self._number, key, future, work)
            if not queue:
                del self._waiting[key]
            else:
                # Who has had its share comes after those that wait for their first.
                self._waiting.move_to_end(key)
        if self._waiting and self._timer is None and not self._closed:
            # Nothing tells that work has become slow but the time.
            self._timer = threading.Timer(self._slow_s, self._look_again)
            self._timer.daemon = True
            self._timer.start()

    def _may_begin(self, key: str) -> bool:
        now = time.monotonic()
        own = slow = 0
        for host, began in self._running.values():
            own += host == key
            slow += now - began > self._slow_s or self._is_slow(host, now)
        quick = len(self._running) - slow
        if own >= self.share or len(self._running) >= self._most:
            return False
        if len(self._running) >= self.threads and key not in self._quick:
            return False
        if self._is_slow(key, now) and slow >= self._for_slow:
            return False
        return quick + min(slow, self._for_slow) < self.threads

    def _is_slow(self, key: str, now: float) -> bool:
        return self._slow.get(key, 0.0) > now

    # -- the threads ----------------------------------------------------------------------------------

    def _look_again(self) -> None:
        with self._guard:
            self._timer = None
            if not self._closed:
                self._begin()

    def _do(self, number: int, key: str, future: Future[Any], work: Callable[[], Any]) -> None:
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001 - raised again by whoever takes the result
            self._end(number, key)
            future.set_exception(error)
        else:
            self._end(number, key)
            future.set_result(result)

    def _end(self, number: int, key: str) -> None:
        with self._guard:
            now = time.monotonic()
            _host, began = self._running.pop(number)
            if now - began > self._slow_s:
                self._slow[key] = now + SLOW_FOR_S
                self._quick.discard(key)
            else:
                self._slow.pop(key, None)
                self._quick.add(key)
            if len(self._slow) > _MOST_KNOWN:
                self._slow = {one: until for one, until in self._slow.items() if until > now}
            if len(self._quick) > _MOST_KNOWN:
                self._quick.clear()
            if not self._closed:
                self._begin()
