"""The runner inside the server process: a pool of threads, a sweep, and a thread that renews leases.

It starts and stops with the server. One process only: it holds a lock on the data directory, which also
proves that every claim found at the start belongs to a process that is gone.
"""

from __future__ import annotations

import fcntl
import os
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import structlog
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, close_old_connections
from django.utils import timezone

from nodes.engine.claim import Claim, claim, expire_all, release, renew
from nodes.engine.purge import purge
from nodes.engine.run import OperationRun, run_operation
from nodes.engine.submit import on_submit
from nodes.models import Operation

log = structlog.get_logger(__name__)

STOP_WAIT_S = 5.0
PURGE_EVERY = timedelta(days=1)


class EmbeddedRunner:
    """Runs operations in this process. ``start`` raises ImproperlyConfigured where another one does."""

    def __init__(self, data_dir: Path, threads: int | None = None) -> None:
        self._threads = threads or settings.NODEADMIN_ENGINE_THREADS
        self._lock_path = data_dir / "engine.lock"
        self._lock_file: int | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._runs: dict[uuid.UUID, tuple[Claim, OperationRun]] = {}
        self._guard = threading.Lock()
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._loops: list[threading.Thread] = []
        self._forget_waker: Callable[[], None] = lambda: None
        self._purged_at = timezone.now() - PURGE_EVERY

    def start(self) -> None:
        """Take the lock, resume what a dead process left, and begin to sweep."""
        self._take_lock()
        expired = expire_all()
        if expired:
            log.warning("operations of an ended process are resumed", count=expired)
        self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="operation")
        self._forget_waker = on_submit(self._wake.set)
        for name, loop in (("engine-sweep", self._sweep_loop), ("engine-lease", self._lease_loop)):
            thread = threading.Thread(target=loop, name=name, daemon=True)
            thread.start()
            self._loops.append(thread)

    def stop(self) -> None:
        """Stop claiming, give running operations a moment to end, and hand back those that have not."""
        self._stopping.set()
        self._wake.set()
        self._forget_waker()
        for thread in self._loops:
            thread.join(STOP_WAIT_S)
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
        deadline = threading.Event()
        for _tick in range(int(STOP_WAIT_S / 0.1)):
            with self._guard:
                if not self._runs:
                    break
            deadline.wait(0.1)
        with self._guard:
            left = list(self._runs.values())
        for held, run in left:
            run.lost.set()
            release(held)
        if self._lock_file is not None:
            os.close(self._lock_file)
            self._lock_file = None

    def _take_lock(self) -> None:
        self._lock_path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise ImproperlyConfigured(
                f"Another server runs on {self._lock_path.parent}: with the embedded engine there is one "
                "process only. Stop it, or give this one another data directory."
            ) from None
        self._lock_file = descriptor

    def _sweep_loop(self) -> None:
        while not self._stopping.is_set():
            self._wake.wait(settings.NODEADMIN_SWEEP_S)
            self._wake.clear()
            try:
                self._sweep()
                self._purge_daily()
            except DatabaseError:
                log.exception("the sweep for operations failed; it goes on")
            finally:
                close_old_connections()

    def _sweep(self) -> None:
        with self._guard:
            own = list(self._runs)
        free = self._threads - len(own)
        if free <= 0 or self._stopping.is_set():
            return
        # Not those that run here: after a pause of the whole process their leases are over, but renewed at
        # once, and nobody else is there to take them.
        others = Operation.objects.claimable().exclude(pk__in=own)
        waiting = others.order_by("created_at").values_list("pk", flat=True)
        for operation_id in list(waiting[:free]):
            held = claim(operation_id)
            if held is not None:
                self._begin(held)

    def _begin(self, held: Claim) -> None:
        operation = Operation.objects.select_related("node", "requested_by").get(pk=held.operation_id)
        run = OperationRun(operation, held)
        with self._guard:
            self._runs[held.operation_id] = (held, run)
        if self._pool is not None:
            self._pool.submit(self._work, held, run)

    def _work(self, held: Claim, run: OperationRun) -> None:
        try:
            run_operation(run)
        finally:
            with self._guard:
                self._runs.pop(held.operation_id, None)
            close_old_connections()
            self._wake.set()

    def _lease_loop(self) -> None:
        while not self._stopping.wait(settings.NODEADMIN_LEASE_S / 3):
            with self._guard:
                held = dict(self._runs)
            try:
                for lost in renew([claim_ for claim_, _run in held.values()]):
                    held[lost.operation_id][1].lost.set()
            except DatabaseError:
                log.exception("leases could not be renewed; the next round tries again")
            finally:
                close_old_connections()

    def _purge_daily(self) -> None:
        if timezone.now() - self._purged_at >= PURGE_EVERY:
            self._purged_at = timezone.now()
            log.info("purged", **purge())
