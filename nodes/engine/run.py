"""One run of one operation under one claim: from the claim to succeeded, failed or cancelled."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import structlog
from django.db.models import F, Max
from django.utils import timezone
from django.utils.translation import gettext as _

from nodes import credential_use
from nodes.engine.claim import Claim, runner_name
from nodes.engine.steps import RunningStep, write_line
from nodes.engine.submit import announce, refresh_by_itself
from nodes.errors import InvalidInput, NodeAdminError, PermissionDenied
from nodes.events import Actor, acting, record
from nodes.models import (
    ApiToken,
    Node,
    Operation,
    OperationStatus,
    OperationStep,
    StepStatus,
    TokenLimits,
    User,
)
from nodes.models.event import Severity
from nodes.models.operation import LogLevel
from nodes.operations.base import (
    DATABASE_AWAY,
    ClaimLost,
    JsonObject,
    OperationCancelled,
    OperationKind,
    StepPlan,
    removed,
)
from nodes.operations.registry import kind_of
from nodes.operations.run.unfinished import settle_unfinished
from nodes.permissions import require

log = structlog.get_logger(__name__)

MOST_CLAIMS = 20
"""An operation that the database has broken off this often has something wrong of its own."""


class OperationRun:
    """What an operation's ``execute`` gets (see base.Run)."""

    def __init__(self, operation: Operation, held: Claim) -> None:
        self.operation = operation
        self.actor = Actor(
            operation.requester,
            operation.source_ip,
            operation.via,
            operation.token_name,
            operation=operation,
        )
        self.resumed = operation.started_at is not None
        self._claim = held
        self.lost = threading.Event()

    def fenced(self) -> AbstractContextManager[None]:
        return self._claim.fenced()

    def renew(self) -> None:
        if self.lost.is_set():
            raise ClaimLost()
        self._claim.renew()

    def require_rights(self) -> None:
        kind = kind_of(self.operation.kind)
        if kind is not None:
            _require_rights(self, kind)

    def check_request(self) -> None:
        operation, user = self.operation, self.operation.requester
        kind = kind_of(operation.kind)
        if kind is not None and user is not None:
            kind.check(user, operation.node, operation.node_name, operation.params)

    def check_cancelled(self) -> None:
        if self.lost.is_set():
            raise ClaimLost()
        asked = self._claim.rows().values_list("cancel_requested_at", flat=True).first()
        if asked is None and not self._claim.rows().exists():
            raise ClaimLost()
        if asked is not None:
            raise OperationCancelled

    def log(self, message: str, level: str = LogLevel.INFO, *, step_code: str = "") -> None:
        with self.fenced():
            write_line(self.operation, message, level, step_code)

    def status_of(self, code: str) -> str:
        found = self.operation.steps.filter(code=code).values_list("status", flat=True).first()
        return found or ""

    def data_of(self, code: str) -> JsonObject:
        return self.operation.steps.filter(code=code).values_list("data", flat=True).first() or {}

    @contextmanager
    def step(self, code: str, *, even_cancelled: bool = False) -> Iterator[RunningStep]:
        if not even_cancelled:
            self.check_cancelled()
        # Read anew by each thread that runs a step: the row is nobody else's while the step runs.
        row = OperationStep.objects.get(operation=self.operation.pk, code=code)
        handle = RunningStep(self.operation, self.fenced, row)
        handle.begin()
        try:
            yield handle
        except OperationCancelled:
            handle.end(StepStatus.CANCELLED)
            raise
        except (ClaimLost, *DATABASE_AWAY):
            raise
        except NodeAdminError as error:
            handle.fail(error.detail(), error.code)
            raise
        except Exception:
            handle.fail(_("An unexpected error; the log has the details."), "internal_error")
            raise
        handle.end(handle.outcome)

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
    asked = credential_use.Request(lambda: run.actor, lambda: operation.kind, operation)
    with (
        structlog.contextvars.bound_contextvars(
            operation_id=str(operation.pk), request_id=operation.request_id or None
        ),
        acting(run.actor),
        credential_use.asked_by(asked),
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
    kind = kind_of(operation.kind)
    with run.fenced():
        run._claim.rows().filter(started_at=None).update(started_at=timezone.now())
        words = _("Resumed by %s.") if run.resumed else _("Started by %s.")
        write_line(operation, words % runner_name(), LogLevel.WARNING if run.resumed else LogLevel.INFO)
    try:
        if kind is None:
            raise InvalidInput(_("This version knows no operation “%s”.") % operation.kind)
        _check_rights(run, kind)
        log.info("operation runs", kind=operation.kind, node=operation.node_name)
        result = kind.execute(run)
    except ClaimLost:
        raise
    except DATABASE_AWAY as error:
        if run._claim.token < MOST_CLAIMS:
            raise
        _finish_unexpected(run, kind, error)
    except OperationCancelled as cancelled:
        words = str(cancelled) or _("Cancelled.")
        _finish(run, kind, OperationStatus.CANCELLED, message=words, result=cancelled.result)
    except NodeAdminError as error:
        _finish(run, kind, OperationStatus.FAILED, message=error.message, error=problem(error))
    except Exception as error:  # noqa: BLE001 - it ends in the row and in the log
        _finish_unexpected(run, kind, error)
    else:
        _finish(run, kind, OperationStatus.SUCCEEDED, result=result)


def _finish_unexpected(run: OperationRun, kind: OperationKind | None, error: Exception) -> None:
    reference = secrets.token_hex(4)
    log.error("operation failed unexpectedly", reference=reference, exc_info=error)
    detail = _("An unexpected error. Its reference in the server's log is %s.") % reference
    fault = {"code": "internal_error", "detail": detail, "retryable": False, "reference": reference}
    _finish(run, kind, OperationStatus.FAILED, message=detail, error=fault)


def _check_rights(run: OperationRun, kind: OperationKind) -> None:
    """Rights may have been withdrawn since the operation was asked for."""
    try:
        _require_rights(run, kind)
    except PermissionDenied:
        if not (run.resumed and kind.denied(run)):
            raise
        run.log(_("The permission for this was revoked; what was begun is completed."), LogLevel.WARNING)


def _require_rights(run: OperationRun, kind: OperationKind) -> None:
    """Raise PermissionDenied where who asked for the operation, or the token it was asked for with, no longer
    has the right to it. Both are read anew: an operation may have waited, and may run, for long.

    A token that has expired since was one while it was used, and what it asked for is done; one that was
    revoked counts as stolen.
    """
    operation = run.operation
    if operation.requested_by_id is None:
        if operation.requested_by_name:
            raise PermissionDenied(_("The user who asked for this no longer exists."))
        return
    user = User.objects.filter(pk=operation.requested_by_id).first()
    if user is None:
        raise PermissionDenied(_("The user who asked for this no longer exists."))
    if operation.token_limits is not None:
        _require_token(operation)
        user.limit_to(TokenLimits.from_row(operation.token_limits))
    if operation.node is None:
        if kind.removes_node and run.resumed:
            return  # its own work: the right on a node went with the node
        if kind.needs_node:
            raise removed()
    require(user, kind.permission, operation.node)


def _require_token(operation: Operation) -> None:
    token = operation.token_id
    if token is None or not ApiToken.objects.filter(pk=token, revoked_at=None).exists():
        raise PermissionDenied(
            _("The API token “%s”, with which this was asked for, has been revoked.") % operation.token_name,
            remedy=_("Make the call again with another token."),
        )


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
    owed: tuple[Node, ...] = ()
    with run.fenced():
        if status != OperationStatus.SUCCEEDED:
            owed = settle_unfinished(operation)
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
        level = LogLevel.ERROR if status == OperationStatus.FAILED else LogLevel.INFO
        write_line(operation, message or str(_("Done.")), level)
        if kind is not None and kind.audited:
            _record_end(run, kind, status, message)
    announce(operation)
    for node in owed:
        refresh_by_itself(node)
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
