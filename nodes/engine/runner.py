"""What every runner does: threads for operations, a sweep that finds them, and a thread that renews leases.

A runner is told of work and also looks for it, so no message has to arrive. It takes no more operations than
it has threads; what it leaves is found by its next sweep, or by another runner's. Each queue has threads of
its own (see :mod:`nodes.engine.queues`).
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import structlog
from django.conf import settings
from django.db import close_old_connections, connection
from django.db.models import Q

from nodes.audit.sealer import seal_waiting
from nodes.engine.claim import Claim, claim, release, renew
from nodes.engine.purge import purge
from nodes.engine.queues import FAILING, REFRESHES, Queue, Slot, Slots, queue_of, rows_in
from nodes.engine.run import OperationRun, run_operation
from nodes.models import Chore, Operation

log = structlog.get_logger(__name__)

STOP_WAIT_S = 5.0
PURGE_EVERY = timedelta(days=1)
SEAL_EVERY_S = 5.0


class Runner:
    """Runs operations in this process."""

    def __init__(self) -> None:
        self._slots = Slots()
        self._pool: ThreadPoolExecutor | None = None
        self._runs: dict[uuid.UUID, tuple[Claim, OperationRun]] = {}
        self._guard = threading.Lock()
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._ended = threading.Event()
        self._loops: list[threading.Thread] = []
        self._purge_asked = -PURGE_EVERY.total_seconds()
        self._sealed_at = -SEAL_EVERY_S

    def start(self) -> None:
        """Begin to sweep, at once for the first time, and to renew the leases of what runs."""
        self._wake.set()
        self._pool = ThreadPoolExecutor(self._slots.total, thread_name_prefix="operation")
        for name, loop in (("engine-sweep", self._sweep_loop), ("engine-lease", self._lease_loop)):
            thread = threading.Thread(target=loop, name=name, daemon=True)
            thread.start()
            self._loops.append(thread)

    def stop(self) -> None:
        """Stop claiming, give running operations a moment to end, and hand back those that have not.

        They are told first, and given another moment to break off what they do on a host: whoever takes them
        over is not to find two at it.
        """
        self._stopping.set()
        self._wake.set()
        self._wait_for_runs()
        with self._guard:
            left = list(self._runs.values())
        for _held, run in left:
            run.lost.set()
        self._wait_for_runs()
        # Until here leases are renewed; a round after the release would take it back.
        self._ended.set()
        for thread in self._loops:
            thread.join(STOP_WAIT_S)
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
        with self._guard:
            stuck = {held for held, _run in self._runs.values()}
        for held, _run in left:
            # One that hangs in a call may still have something on its way to a host.
            release(held, at_once=held not in stuck)

    def _wait_for_runs(self) -> None:
        deadline = time.monotonic() + STOP_WAIT_S
        while self._runs and time.monotonic() < deadline:
            time.sleep(0.1)

    def work_on(self, operation_id: uuid.UUID) -> bool:
        """Run the operation in the caller's thread; False where another has it or all threads are busy."""
        rows = Operation.objects.filter(pk=operation_id)
        found = rows.values_list("kind", "automatic").first()
        if found is None or self._stopping.is_set():
            return False
        kind, automatic = found
        queue = queue_of(kind, automatic)
        slot = Slot(queue, failing=queue in REFRESHES and rows.filter(FAILING).exists())
        begun = self._begin(operation_id, slot) if self._reserve(slot) else None
        if begun is None:
            return False
        self._work(*begun, slot)
        return True

    def _reserve(self, slot: Slot) -> bool:
        """Take a thread for an operation of that sort; False where all are busy."""
        with self._guard:
            return self._slots.take(slot)

    def _give_back(self, slot: Slot) -> None:
        with self._guard:
            self._slots.give_back(slot)

    def _begin(self, operation_id: uuid.UUID, slot: Slot) -> tuple[Claim, OperationRun] | None:
        """Claim it for the thread that was taken; where that comes to nothing, the thread is free again."""
        begun = None
        try:
            held = claim(operation_id)
            if held is not None:
                begun = held, self._enter(held)
        finally:
            if begun is None:
                self._give_back(slot)
        return begun

    def _sweep_loop(self) -> None:
        while not self._stopping.is_set():
            self._wake.wait(settings.NODEADMIN_SWEEP_S)
            self._wake.clear()
            _in_any_case(self._sweep, "the sweep for operations failed; it goes on")
            _in_any_case(self._seal_entries, "entries of the audit log could not be numbered")
            _in_any_case(self._purge_daily, "the daily purge failed; the next one tries again")

    def _sweep(self) -> None:
        for queue in Queue:
            if queue in REFRESHES and self._slots.has_share(queue):
                # Failing hosts first, up to their share: so they neither wait for ever nor take all threads.
                self._sweep_for(Slot(queue, failing=True), FAILING)
                self._sweep_for(Slot(queue), ~FAILING)
            else:
                # A single thread goes by age: failing hosts first, it would never come to the others.
                self._sweep_for(Slot(queue), Q())

    def _sweep_for(self, slot: Slot, which: Q) -> None:
        with self._guard:
            own = list(self._runs)
            free = self._slots.free(slot)
        pool = self._pool
        if free <= 0 or self._stopping.is_set() or pool is None:
            return
        # Not those that run here: after a pause of the whole process their leases are over, but renewed at
        # once, and nobody else is there to take them.
        others = Operation.objects.claimable().exclude(pk__in=own).filter(which)
        waiting = rows_in(slot.queue, others).order_by("created_at").values_list("pk", flat=True)
        for operation_id in list(waiting[:free]):
            if not self._reserve(slot):
                return
            begun = self._begin(operation_id, slot)
            if begun is not None:
                try:
                    pool.submit(self._work, *begun, slot)
                except RuntimeError:  # it is being stopped
                    self._leave(begun[0], slot)
                    raise

    def _enter(self, held: Claim) -> OperationRun:
        operation = Operation.objects.select_related("node", "requested_by").get(pk=held.operation_id)
        run = OperationRun(operation, held)
        with self._guard:
            self._runs[held.operation_id] = (held, run)
        return run

    def _work(self, held: Claim, run: OperationRun, slot: Slot) -> None:
        try:
            run_operation(run)
        finally:
            self._leave(held, slot)
            # Of so many threads most rest most of the time, and each would keep a connection to the database.
            connection.close()
            self._wake.set()

    def _leave(self, held: Claim, slot: Slot) -> None:
        with self._guard:
            # Where the claim was lost, this process may have claimed it anew meanwhile.
            if self._runs.get(held.operation_id, (None,))[0] == held:
                del self._runs[held.operation_id]
        self._give_back(slot)

    def _lease_loop(self) -> None:
        while not self._ended.wait(settings.NODEADMIN_LEASE_S / 3):
            _in_any_case(self._renew, "leases could not be renewed; the next round tries again")

    def _renew(self) -> None:
        with self._guard:
            held = dict(self._runs)
        for lost in renew([claim_ for claim_, _run in held.values()]):
            held[lost.operation_id][1].lost.set()

    def _seal_entries(self) -> None:
        """Entries whose process ended between their commit and their number."""
        if time.monotonic() - self._sealed_at >= SEAL_EVERY_S:
            self._sealed_at = time.monotonic()
            seal_waiting()

    def _purge_daily(self) -> None:
        """Asked once an hour; of all processes that ask, one a day is told to."""
        if time.monotonic() - self._purge_asked < PURGE_EVERY.total_seconds() / 24:
            return
        self._purge_asked = time.monotonic()
        if Chore.objects.take("purge", PURGE_EVERY):
            log.info("purged", **purge())


def _in_any_case(work: Callable[[], None], words: str) -> None:
    """One round of a loop. Whatever goes wrong is logged: a loop that ended by it would leave operations
    unclaimed, or their leases to run out, for as long as the process lives."""
    try:
        work()
        close_old_connections()
    except Exception:
        log.exception(words)
        connection.close()
