"""A step while it runs: its row, and the lines it leaves in the operation's log."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

from django.utils import timezone
from django.utils.translation import gettext as _

from nodes.engine.submit import announce
from nodes.models import Operation, OperationLogEntry, OperationStep, StepStatus
from nodes.models.operation import LogLevel
from nodes.operations.base import JsonObject

REPORT_STEP_S = 0.25
"""A step's progress is written at most this often; in between it is only remembered."""


def write_line(operation: Operation, message: str, level: str = LogLevel.INFO, step_code: str = "") -> None:
    """One line in the operation's log, within the caller's fenced transaction."""
    OperationLogEntry.objects.create(
        operation_id=operation.pk, level=level, step_code=step_code, message=message
    )


class RunningStep:
    """A step while its block runs (see base.StepHandle). Each belongs to one thread.

    The lines of the log are written with the row, in one transaction: what is rolled back was not done.
    """

    def __init__(
        self, operation: Operation, fenced: Callable[[], AbstractContextManager[None]], row: OperationStep
    ) -> None:
        self._operation = operation
        self._fenced = fenced
        self._row = row
        self._written_at = 0.0
        self.done_before = row.status == StepStatus.SUCCEEDED
        self.begun_before = row.started_at is not None
        self.outcome = StepStatus.SUCCEEDED

    @property
    def data(self) -> Mapping[str, Any]:
        kept: Mapping[str, Any] = self._row.data
        return kept

    def report(
        self, message: str = "", *, progress: float | None = None, data: JsonObject | None = None
    ) -> None:
        row = self._row
        fresh = bool(message) and message != row.message
        if message:
            row.message = message
        if progress is not None:
            row.progress = max(row.progress or 0.0, min(1.0, progress))
        if data is not None:
            row.data = {**row.data, **data}
        if fresh or message or time.monotonic() - self._written_at >= REPORT_STEP_S:
            self._write(message if fresh else "")

    def warn(self, message: str) -> None:
        self._row.message = message
        self._write(message, LogLevel.WARNING)

    def skip(self, message: str) -> None:
        self.outcome = StepStatus.SKIPPED
        self._row.message = message

    def postpone(self) -> None:
        self.outcome = StepStatus.PENDING

    def begin(self) -> None:
        self._row.status = StepStatus.RUNNING
        self._row.started_at = timezone.now()
        self._row.finished_at = None
        self._write(_("Begun again.") if self.begun_before else _("Begun."))

    def end(self, status: StepStatus) -> None:
        self._row.status = status
        self._row.finished_at = timezone.now() if status != StepStatus.PENDING else None
        if status == StepStatus.SUCCEEDED:
            self._row.progress = 1.0
            self._write(_("Done."))
        elif status == StepStatus.SKIPPED:
            self._write(_("Skipped: %s") % self._row.message)
        elif status == StepStatus.PENDING:
            self._write()
        else:
            self._write(_("Cancelled."), LogLevel.WARNING)

    def fail(self, message: str, code: str) -> None:
        """End it as failed; the error's code stays in its data, for who lists what failed and why."""
        self._row.status = StepStatus.FAILED
        self._row.finished_at = timezone.now()
        self._row.message = message
        self._row.data = {**self._row.data, "error": code}
        self._write(message, LogLevel.ERROR)

    def _write(self, line: str = "", level: str = LogLevel.INFO) -> None:
        with self._fenced():
            self._row.save()
            if line:
                write_line(self._operation, line, level, self._row.code)
        self._written_at = time.monotonic()
        announce(self._operation)
