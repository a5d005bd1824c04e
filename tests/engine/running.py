"""Runs queued operations in the test's own thread: the real claim, the real run; or in a thread beside it."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

from django.db import connection

from nodes.engine.claim import claim
from nodes.engine.run import OperationRun, run_operation
from nodes.models import Operation


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
        run_operation(OperationRun(Operation.objects.get(pk=waiting.pk), held))
        ended.append(Operation.objects.get(pk=waiting.pk))
    return ended


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
