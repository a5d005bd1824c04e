"""One run of one operation under one claim: from the claim to succeeded, failed or cancelled."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import structlog
from django.db.models import F, Max
from django.utils import timezone
from django.utils.translation import gettext as _

from nodes.engine.claim import Claim
from nodes.engine.submit import announce
from nodes.errors import InvalidInput, NodeAdminError, PermissionDenied
from nodes.events import Actor, record
from nodes.models import Operation, OperationStatus, OperationStep, StepStatus
from nodes.models.event import Severity
from nodes.operations.base import (
    ClaimLost,
    JsonObject,
    OperationCancelled,
    OperationKind,
    StepPlan,
    removed,
)
from nodes.operations.registry import kind_of
from nodes.permissions import require

log = structlog.get_logger(__name__)

REPORT_STEP_S = 0.25
"""A step's progress is written at most this often; in between it is only remembered."""


class RunningStep:
    """A step while its block runs (see base.StepHandle)."""

    def __init__(self, run: OperationRun, row: OperationStep) -> None:
        self._run = run
        self._row = row
        self._written_at = 0.0
        self.done_before = row.status == StepStatus.SUCCEEDED
        self.skipped = False

    def report(
        self, message: str = "", *, progress: float | None = None, data: JsonObject | None = None
    ) -> None:
        row = self._row
        if message:
            row.message = message
        if progress is not None:
            row.progress = max(row.progress or 0.0, min(1.0, progress))
        if data is not None:
            row.data = {**row.data, **data}
        if time.monotonic() - self._written_at >= REPORT_STEP_S or message:
            self.write()

    def skip(self, message: str) -> None:
        self.skipped = True
        self._row.message = message

    def begin(self) -> None:
        self._row.status = StepStatus.RUNNING
        self._row.started_at = timezone.now()
        self._row.finished_at = None
        self.write()

    def end(self, status: StepStatus, message: str = "") -> None:
        self._row.status = status
        self._row.finished_at = timezone.now()
        if message:
            self._row.message = message
        if status == StepStatus.SUCCEEDED:
            self._row.progress = 1.0
        self.write()

    def write(self) -> None:
        with self._run.fenced():
            self._row.save()
        self._written_at = time.monotonic()
        announce(self._run.operation)


class OperationRun:
    """What an operation's ``execute`` gets (see base.Run)."""

    def __init__(self, operation: Operation, held: Claim) -> None:
        self.operation = operation
        self.actor = Actor(operation.requested_by, operation.source_ip)
        self._claim = held
        self.lost = threading.Event()

    def fenced(self) -> AbstractContextManager[None]:
        return self._claim.fenced()

    def check_cancelled(self) -> None:
        if self.lost.is_set():
            raise ClaimLost()
        asked = self._claim.rows().values_list("cancel_requested_at", flat=True).first()
        if asked is None and not self._claim.rows().exists():
            raise ClaimLost()
        if asked is not None:
            raise OperationCancelled

    @contextmanager
    def step(self, code: str) -> Iterator[RunningStep]:
        self.check_cancelled()
        row = self.operation.steps.get(code=code)
        handle = RunningStep(self, row)
        handle.begin()
        try:
            yield handle
        except OperationCancelled:
            handle.end(StepStatus.CANCELLED)
            raise
        except ClaimLost:
            raise
        except NodeAdminError as error:
            handle.end(StepStatus.FAILED, error.detail())
            raise
        except Exception:
            handle.end(StepStatus.FAILED, _("An unexpected error; the log has the details."))
            raise
        handle.end(StepStatus.SKIPPED if handle.skipped else StepStatus.SUCCEEDED)

    def add_steps(self, steps: Sequence[StepPlan]) -> None:
        with self.fenced():
            known = set(self.operation.steps.values_list("code", flat=True))
            last = self.operation.steps.aggregate(last=Max("position"))["last"]
            first = 0 if last is None else last + 1
            fresh = [plan for plan in steps if plan.code not in known]
            OperationStep.objects.bulk_create(
                OperationStep(
                    operation=self.operation,
                    position=first + offset,
                    code=plan.code,
                    title=plan.title,
                    vm_uuid=plan.vm_uuid,
                    vm_name=plan.vm_name,
                    target=plan.target,
                )
                for offset, plan in enumerate(fresh)
            )


def run_operation(run: OperationRun) -> None:
    """Run it to its end. Never raises: what goes wrong ends in the row and in the log."""
    operation = run.operation
    with structlog.contextvars.bound_contextvars(
        operation_id=str(operation.pk), request_id=operation.request_id or None
    ):
        try:
            _run_to_end(run)
        except ClaimLost:
            log.warning("operation taken over by another runner")
        except Exception:
            # The database itself may be what fails. The lease ends, and the operation is resumed.
            log.exception("operation could not be ended")


def _run_to_end(run: OperationRun) -> None:
    operation = run.operation
    first = run._claim.rows().filter(started_at=None)
    first.update(started_at=timezone.now())
    kind = kind_of(operation.kind)
    try:
        if kind is None:
            raise InvalidInput(_("This version knows no operation “%s”.") % operation.kind)
        _check_rights(run, kind)
        log.info("operation runs", kind=operation.kind, node=operation.node_name)
        result = kind.execute(run)
    except ClaimLost:
        raise
    except OperationCancelled:
        _finish(run, kind, OperationStatus.CANCELLED, message=_("Cancelled."))
    except NodeAdminError as error:
        _finish(run, kind, OperationStatus.FAILED, message=error.message, error=problem(error))
    except Exception:
        reference = secrets.token_hex(4)
        log.exception("operation failed unexpectedly", reference=reference)
        detail = _("An unexpected error. Its reference in the server's log is %s.") % reference
        fault = {"code": "internal_error", "detail": detail, "retryable": False, "reference": reference}
        _finish(run, kind, OperationStatus.FAILED, message=detail, error=fault)
    else:
        _finish(run, kind, OperationStatus.SUCCEEDED, result=result)


def _check_rights(run: OperationRun, kind: OperationKind) -> None:
    """Rights may have been withdrawn since the operation was asked for."""
    user = run.operation.requested_by
    if user is None:
        if run.operation.requested_by_name:
            raise PermissionDenied(_("The user who asked for this no longer exists."))
        return
    if kind.needs_node and run.operation.node is None:
        raise removed()
    require(user, kind.permission, run.operation.node)


def problem(error: NodeAdminError) -> dict[str, Any]:
    """An error as the operation's ``error`` member; the same words as in a problem document."""
    data: dict[str, Any] = {
        "code": error.code,
        "title": str(error.title),
        "detail": str(error.message),
        "remedy": str(error.remedy),
        "retryable": error.retryable,
    }
    if error.field:
        data["field"] = error.field
    return {**data, **error.extra}


def _finish(
    run: OperationRun,
    kind: OperationKind | None,
    status: OperationStatus,
    *,
    message: str = "",
    error: JsonObject | None = None,
    result: JsonObject | None = None,
) -> None:
    operation = run.operation
    with run.fenced():
        operation.steps.filter(status__in=(StepStatus.PENDING, StepStatus.RUNNING)).update(
            status=StepStatus.CANCELLED
        )
        run._claim.rows().update(
            status=status,
            message=message,
            error=error,
            result=result,
            finished_at=timezone.now(),
            lease_expires_at=None,
            secret=None,
            claim_token=F("claim_token") + 1,
        )
        operation.refresh_from_db()
        if kind is not None and kind.audited:
            _record_end(run, kind, status, message)
    announce(operation)
    log.info("operation ended", kind=operation.kind, node=operation.node_name, status=status.value)


def _record_end(run: OperationRun, kind: OperationKind, status: OperationStatus, message: str) -> None:
    operation = run.operation
    words = {
        OperationStatus.SUCCEEDED: _("Done: %s"),
        OperationStatus.FAILED: _("Failed: %s"),
        OperationStatus.CANCELLED: _("Cancelled: %s"),
    }
    text = words[status] % kind.title(operation)
    record(
        f"{operation.kind.replace('-', '_')}_{status.value}",
        f"{text} {message}".strip(),
        node=operation.node,
        node_name=operation.node_name,
        actor=run.actor,
        operation=operation,
        severity=Severity.ERROR if status == OperationStatus.FAILED else Severity.INFO,
    )
