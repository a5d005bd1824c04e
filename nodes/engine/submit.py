"""Asking for work: one row, written in the caller's transaction, and a nudge to the runner after commit."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from functools import partial

import structlog
from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from nodes import second_factor
from nodes.errors import InvalidInput, NodeAdminError, NodeBusy
from nodes.events import SYSTEM, Actor, OperationChanged, publish, record
from nodes.models import IdempotencyKey, Node, Operation, OperationStatus, OperationStep, StepStatus, User
from nodes.models.sealed import SecretFor
from nodes.operations.base import JsonObject, OperationKind, PlannedKind, removed
from nodes.operations.plans import Plan
from nodes.operations.refresh_node import RefreshNode
from nodes.operations.registry import kind_of
from nodes.permissions import require, require_starting

log = structlog.get_logger(__name__)

POLL_S = 0.1
ATTEMPTS = 3
"""An operation that is in the way at the insert may have ended when one looks for it; then try anew."""

Waker = Callable[[uuid.UUID], None]
_wakers: list[Waker] = []


def on_submit(waker: Waker) -> Callable[[], None]:
    """Have ``waker`` called with its id after each commit that queued an operation; returns how to stop.

    Called in the thread that committed: a waker hands on and returns at once.
    """
    _wakers.append(waker)
    return lambda: _wakers.remove(waker)


def submit(
    name: str,
    *,
    actor: Actor,
    node: Node | None = None,
    node_name: str = "",
    params: JsonObject | None = None,
    plan: Plan | None = None,
    secret: SecretFor | None = None,
    request_id: str = "",
    idempotency: IdempotencyKey | None = None,
) -> Operation:
    """Queue an operation of kind ``name``, with the ``plan`` that was confirmed where the kind has one.

    The permission is the caller's to check; the kind's own rules are asked here. Raises NodeBusy while
    another exclusive operation on the same subject is unfinished; a refresh that is asked for while one is
    unfinished gives that one. With an API token for reading only nothing is queued: PermissionDenied.
    """
    require_starting(actor.user)
    kind = known_kind(name)
    if actor.user is not None:
        kind.check(actor.user, node, node.name if node is not None else node_name, params or {})
    limits = actor.user.token_limits if actor.user is not None else None
    draft = Operation(
        kind=name,
        node=node,
        node_name=node.name if node is not None else node_name,
        subject=kind.subject(node, node_name),
        exclusive=kind.exclusive,
        automatic=actor.user is None,
        params=dict(params or {}),
        plan=plan.to_row() if plan is not None else None,
        secret=secret,
        requested_by=actor.user,
        requested_by_name=actor.name,
        source_ip=actor.source_ip,
        via=actor.via,
        token_name=actor.token_name,
        token_id=limits.token if limits is not None else None,
        token_limits=limits.to_row() if limits is not None else None,
        request_id=request_id,
    )
    for _attempt in range(ATTEMPTS):
        try:
            with transaction.atomic():
                _write(draft, kind, actor, idempotency)
        except IntegrityError as error:
            found = _in_the_way(draft, kind, error)
            if found is None:
                continue
            if idempotency is not None:
                IdempotencyKey.objects.filter(pk=idempotency.pk).update(operation=found)
            if not draft.automatic:
                _put_before_automatic(found)
            return found
        announce(draft)
        transaction.on_commit(partial(wake, draft.pk), robust=True)
        return draft
    raise node_busy()


def _write(operation: Operation, kind: OperationKind, actor: Actor, key: IdempotencyKey | None) -> None:
    operation.save(force_insert=True)
    _write_steps(operation, kind, operation.node, operation.params)
    if key is not None:
        IdempotencyKey.objects.filter(pk=key.pk).update(operation=operation)
    if kind.audited:
        message = _("Requested: %(title)s") % {"title": kind.title(operation)}
        _tell(operation, "requested", message, actor)


def _tell(operation: Operation, what: str, message: str, actor: Actor) -> None:
    record(
        f"{operation.kind.replace('-', '_')}_{what}",
        message,
        node=operation.node,
        node_name=operation.node_name,
        actor=actor,
        operation=operation,
    )


def _in_the_way(draft: Operation, kind: OperationKind, error: IntegrityError) -> Operation | None:
    """The unfinished refresh that answers for this one too; None where what was in the way has just ended.

    Raises NodeBusy, UnknownNode where the node is gone, and ``error`` where it is of something else.
    """
    if draft.node is not None and not Node.objects.filter(pk=draft.node.pk).exists():
        raise removed() from None
    if "one_exclusive_operation" not in str(error) and "subject" not in str(error):
        raise error
    found = Operation.objects.unfinished().filter(subject=draft.subject, exclusive=True).first()
    if found is not None and not isinstance(kind, RefreshNode):
        raise node_busy() from None
    return found


def _put_before_automatic(operation: Operation) -> None:
    """Now that a person waits for it as well, it no longer waits in the queue of what nobody waits for."""
    waiting = Operation.objects.filter(pk=operation.pk, automatic=True, status=OperationStatus.QUEUED)
    if waiting.update(automatic=False):
        operation.automatic = False
        transaction.on_commit(partial(wake, operation.pk), robust=True)


def node_busy() -> NodeBusy:
    """The error of a call that another exclusive operation on the same subject stands in the way of."""
    return NodeBusy(
        _("Another operation is changing this node."),
        remedy=_("Wait for it to end, or cancel it, and try again."),
    )


def _write_steps(operation: Operation, kind: OperationKind, node: Node | None, params: JsonObject) -> None:
    if isinstance(kind, PlannedKind) and operation.plan is not None:
        plans = kind.steps_of(Plan.from_dict(operation.plan), params)
    else:
        plans = kind.steps(node, params)
    OperationStep.objects.bulk_create(
        OperationStep(
            operation=operation,
            position=position,
            code=plan.code,
            title=plan.title,
            vm_uuid=plan.vm_uuid,
            vm_name=plan.vm_name,
            target=plan.target,
        )
        for position, plan in enumerate(plans)
    )


def wake(operation_id: uuid.UUID) -> None:
    """Tell whoever runs operations that there is work. The sweep finds it otherwise."""
    for waker in tuple(_wakers):
        waker(operation_id)


def announce(operation: Operation) -> None:
    """Publish that the operation has moved on."""
    node_uuid = str(operation.node.uuid) if operation.node is not None else None
    publish(OperationChanged(str(operation.pk), node_uuid, operation.status))


def wait_for(operation: Operation, seconds: float) -> Operation:
    """The operation as it is when it ends, or after ``seconds``, whichever comes first."""
    deadline = time.monotonic() + seconds
    while True:
        operation = Operation.objects.select_related("node").defer("secret").get(pk=operation.pk)
        if operation.is_finished or time.monotonic() >= deadline:
            return operation
        time.sleep(min(POLL_S, max(0.0, deadline - time.monotonic())))


def cancel(operation: Operation, *, actor: Actor) -> Operation:
    """Ask for the operation's end. A queued one ends here and now; a running one at its next safe point.

    Raises InvalidInput where it has ended already.
    """
    now = timezone.now()
    with transaction.atomic():
        queued = Operation.objects.filter(pk=operation.pk, status=OperationStatus.QUEUED)
        ended = queued.update(
            status=OperationStatus.CANCELLED,
            message=_("Cancelled."),
            finished_at=now,
            cancel_requested_at=now,
            secret=None,
        )
        if ended:
            operation.steps.filter(status=StepStatus.PENDING).update(status=StepStatus.CANCELLED)
        else:
            running = Operation.objects.filter(pk=operation.pk, status=OperationStatus.RUNNING)
            if not running.update(cancel_requested_at=now):
                raise InvalidInput(_("The operation has ended already."), field="operation")
        operation.refresh_from_db()
        kind = kind_of(operation.kind)
        if kind is not None and kind.audited:
            words = _("Cancelled: %s") if ended else _("Asked to cancel: %s")
            _tell(
                operation, "cancelled" if ended else "cancel_requested", words % kind.title(operation), actor
            )
    announce(operation)
    return operation


def refresh_by_itself(node: Node) -> None:
    """Ask for a refresh of the node that no user asked for: it puts back what is owed to the host's VMs.
    Where that is refused, the monitor's next one does."""
    try:
        submit(RefreshNode.kind, actor=SYSTEM, node=node)
    except NodeAdminError as error:
        log.info("a refresh was not submitted", node=node.name, reason=error.code)


def known_kind(name: str) -> OperationKind:
    """The kind of that name. Raises InvalidInput where there is none."""
    kind = kind_of(name)
    if kind is None:
        raise InvalidInput(_("There is no operation “%(kind)s”.") % {"kind": name})
    return kind


def asking_user(actor: Actor) -> User:
    """Who asks. Raises InvalidInput for the system itself, which has no rights to check."""
    if actor.user is None:
        raise InvalidInput(_("This needs a user who asks for it."))
    return actor.user


def refuse_unretriable(operation: Operation) -> None:
    """Raise InvalidInput for an operation that neither failed nor was cancelled."""
    if operation.status not in (OperationStatus.FAILED, OperationStatus.CANCELLED):
        raise InvalidInput(
            _("Only an operation that failed or was cancelled can be retried."), field="operation"
        )


def about_retry(operation: Operation) -> str:
    """What a fresh second factor for the retry of this operation counts for."""
    return second_factor.of_call("retry-operation", operation.pk)


def _factor_of(operation: Operation) -> str:
    """The purpose for which a retry asks for a second factor, as the call itself has; "" for none."""
    if operation.kind == "power-on-node":
        return second_factor.POWER
    enters = operation.kind == "update-node" or (
        operation.kind == "add-node" and "credential_kind" in operation.params
    )
    return second_factor.CREDENTIALS if enters else ""


def retry(
    operation: Operation, *, actor: Actor, request_id: str = "", idempotency: IdempotencyKey | None = None
) -> Operation:
    """Queue the same work again, as a new operation, if who asks now may have it done, and nothing speaks
    against it now.

    Raises PermissionDenied, what the kind's rules raise, InvalidInput for one that neither failed nor was
    cancelled, or that needs a secret that is gone, and UnknownNode where its node has been removed.
    """
    refuse_unretriable(operation)
    kind = kind_of(operation.kind)
    if operation.node is None and kind is not None and kind.needs_node:
        raise removed()
    if kind is not None and not kind.retriable:
        raise InvalidInput(
            _("This is not retried; asked for again, it goes on with what is left."),
            remedy=_("Call %s again.") % kind.kind,
            field="operation",
        )
    if isinstance(kind, PlannedKind):
        raise InvalidInput(_("This needs a new plan and a new confirmation."), field="operation")
    if operation.params.get("has_secret"):
        raise InvalidInput(
            _("The credential of this operation was not kept."),
            remedy=_("Make the call again with the credential."),
            field="operation",
        )
    if actor.user is not None:
        require(actor.user, known_kind(operation.kind).permission, operation.node)
    purpose, about = _factor_of(operation), about_retry(operation)
    if purpose:
        second_factor.expect_fresh(actor, purpose, about=about)
    with transaction.atomic():
        if purpose:
            second_factor.require_fresh(actor, purpose, about=about)
        return submit(
            operation.kind,
            actor=actor,
            node=operation.node,
            node_name=operation.node_name,
            params=operation.params,
            request_id=request_id,
            idempotency=idempotency,
        )
