"""A few threads that do an operation's VM steps side by side."""

from __future__ import annotations

import contextvars
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from django.db import connection

from nodes.errors import NodeAdminError
from nodes.operations.base import ClaimLost


@dataclass(frozen=True, slots=True)
class Job:
    """One VM's step: ``work`` does it, and raises a NodeAdminError where it cannot be done."""

    code: str
    work: Callable[[], None]


class _Crew:
    def __init__(self, jobs: Sequence[Job], go_on: bool) -> None:
        self._waiting = deque(jobs)
        self._go_on = go_on
        self._guard = threading.Lock()
        self._stopped = threading.Event()
        self.failed: dict[str, NodeAdminError] = {}
        self.fatal: list[BaseException] = []

    def work(self) -> None:
        try:
            while (job := self._next()) is not None:
                self._do(job)
        finally:
            # A thread's database connection is its own, and nobody else would close it.
            connection.close()

    def _next(self) -> Job | None:
        with self._guard:
            return self._waiting.popleft() if self._waiting and not self._stopped.is_set() else None

    def _do(self, job: Job) -> None:
        try:
            job.work()
        except ClaimLost as error:
            self._end(error)
        except NodeAdminError as error:
            with self._guard:
                self.failed[job.code] = error
            if not self._go_on:
                self._stopped.set()
        except BaseException as error:  # noqa: BLE001 - raised again in the operation's own thread
            self._end(error)

    def _end(self, error: BaseException) -> None:
        with self._guard:
            self.fatal.append(error)
        self._stopped.set()


def do_jobs(jobs: Sequence[Job], *, at_once: int, go_on: bool) -> dict[str, NodeAdminError]:
    """Do the jobs, ``at_once`` at a time, in their order; gives the failures by code.

    After a failure those under way end; the rest is done only if ``go_on``. A cancel, a lost claim and what
    nobody expected stop everything that has not begun, and are raised once what had begun has ended.
    """
    crew = _Crew(jobs, go_on)
    threads = [
        threading.Thread(
            target=contextvars.copy_context().run, args=(crew.work,), name=f"vm step {number}", daemon=True
        )
        for number in range(min(at_once, len(jobs)))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if crew.fatal:
        # A lost claim outweighs a cancel: then nothing more may be written.
        raise next((error for error in crew.fatal if isinstance(error, ClaimLost)), crew.fatal[0])
    return crew.failed
