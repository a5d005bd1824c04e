"""Runs queued operations in the test's own thread: the real claim, the real run; or in a thread beside it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from unittest import mock

from django.db import connection

from nodes.engine.claim import claim
from nodes.engine.run import OperationRun, run_operation
from nodes.models import Operation
from nodes.operations.run import wanted


def run_queued(limit: int = 20) -> list[Operation]:
    """Run what can be claimed, oldest first; gives the operations as they ended."""
    ended = []
    for _round in range(limit):
        waiting = Operation.objects.claimable().order_by("created_at").first()
        if waiting is None:
            break
        held = claim(waiting.pk)
        if held is None:
            continue  # another thread of the test was faster
        with _seen_by_its_watch():
            run_operation(OperationRun(Operation.objects.get(pk=waiting.pk), held))
        ended.append(Operation.objects.get(pk=waiting.pk))
    return ended


@contextmanager
def _seen_by_its_watch() -> Iterator[None]:
    """A test in a transaction shows its operation to no other connection, over which a cancel is looked for.

    The operation would end there as one that was taken away, where its host answers after the first look.
    """
    if not connection.in_atomic_block:
        yield
        return
    with mock.patch.object(wanted, "LOOK_S", threading.TIMEOUT_MAX):
        yield


def in_background() -> Future[list[Operation]]:
    """The same in a thread, for a test that does something meanwhile."""

    def work() -> list[Operation]:
        try:
            return run_queued()
        finally:
            connection.close()

    pool = ThreadPoolExecutor(1)
    future = pool.submit(work)
    pool.shutdown(wait=False)
    return future
