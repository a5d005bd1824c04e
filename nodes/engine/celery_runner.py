"""The runner of a Celery worker, and the news that wakes it.

A message names an operation. The worker that gets it claims the row and runs it, exactly as the embedded
runner does; where another one has it, or all threads are busy, it does nothing. What the broker lost (it was
down, flushed, restarted, its worker was killed) is found by a sweep, a thread in every worker: a scheduler of
its own would be one more process that can be down, and its messages would go through the very broker.
"""

from __future__ import annotations

import queue
import threading
import uuid
from collections.abc import Callable

import structlog
from celery import Celery, shared_task
from kombu.exceptions import OperationalError

from nodes.engine.runner import Runner
from nodes.engine.submit import on_submit

log = structlog.get_logger(__name__)

TASK = "nodes.run_operation"
MESSAGE_AGE_S = 60
"""Older news is thrown away: the sweep has long found what it told of."""
WAITING = 1000
"""News that waits for a slow broker; beyond it, it is left to the sweep."""

_runner: Runner | None = None


def worker_runner() -> Runner:
    """The runner that this process's tasks are for, made at the first call; the caller starts it."""
    global _runner
    if _runner is None:
        _runner = Runner()
    return _runner


@shared_task(name=TASK)  # type: ignore[untyped-decorator]
def run_operation(operation_id: str) -> None:
    """Run the operation here, if it is still to be run and there is a thread for it."""
    try:
        found = uuid.UUID(operation_id)
    except ValueError:
        log.warning("a message names no operation")
        return
    if _runner is not None:
        _runner.work_on(found)


class WakeUps:
    """Tells the workers of what this process submits, from a thread: no caller ever waits for the broker."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._waiting: queue.Queue[uuid.UUID | None] = queue.Queue(WAITING)
        self._forget: Callable[[], None] = lambda: None
        self._thread = threading.Thread(target=self._send_all, name="engine-wake-ups", daemon=True)

    def start(self) -> None:
        self._thread.start()
        self._forget = on_submit(self._put)

    def stop(self) -> None:
        """What is still unsent is left to the sweep."""
        self._forget()
        try:
            self._waiting.put_nowait(None)
        except queue.Full:
            return
        self._thread.join(1.0)

    def _put(self, operation_id: uuid.UUID) -> None:
        try:
            self._waiting.put_nowait(operation_id)
        except queue.Full:
            pass  # the sweep finds it

    def _send_all(self) -> None:
        while (operation_id := self._waiting.get()) is not None:
            try:
                self._app.send_task(TASK, [str(operation_id)], expires=MESSAGE_AGE_S, retry=False)
            except (OperationalError, OSError) as error:
                # No trace: it is said for each message while the broker is down.
                log.warning("the broker took no message; the sweep finds the operation", error=str(error))
