"""Asking for work: one row, written in the caller's transaction, and a nudge to the runner after commit."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from nodes.errors import InvalidInput, NodeBusy
from nodes.events import Actor, OperationChanged, publish, record
from nodes.models import IdempotencyKey, Node, Operation, OperationStatus, OperationStep
from nodes.models.operation import UNFINISHED
from nodes.operations.base import JsonObject, OperationKind
from nodes.operations.refresh_node import RefreshNode
from nodes.operations.registry import kind_of

POLL_S = 0.1
_wakers: list[Callable[[], None]] = []


def on_submit(waker: Callable[[], None]) -> Callable[[], None]:
    """Have ``waker`` called after each commit that queued an operation; returns how to stop."""
    _wakers.append(waker)
    return lambda: _wakers.remove(waker)


def submit(
    name: str,
    *,
    actor: Actor,
    node: Node | None = None,
    node_name: str = "",
    params: JsonObject | None = None,
    secret: Mapping[str, Any] | None = None,
    request_id: str = "",
    idempotency: IdempotencyKey | None = None,
) -> Operation:
    """Queue an operation of kind ``name``.

    Permissions are the caller's to check. Raises NodeBusy while another exclusive operation on the same
    subject is unfinished; a refresh that is asked for while one is unfinished gives that one.
    """
    kind = kind_of(name)
    if kind is None:
        raise InvalidInput(_("There is no operation “%(kind)s”.") % {"kind": name})
    subject = kind.subject(node, node_name)
    try:
        with transaction.atomic():
            operation = Operation.objects.create(
                kind=name,
                node=node,
                node_name=node.name if node is not None else node_name,
                subject=subject,
                exclusive=kind.exclusive,
                params=dict(params or {}),
                secret=dict(secret) if secret else None,
                requested_by=actor.user,
                requested_by_name=actor.name,
                source_ip=actor.source_ip,
                request_id=request_id,
            )
            _write_steps(operation, kind, node, params or {})
            if idempotency is not None:
                IdempotencyKey.objects.filter(pk=idempotency.pk).update(operation=operation)
            if kind.audited:
                message = _("Requested: %(title)s") % {"title": kind.title(operation)}
                record(
                    f"{name.replace('-', '_')}_requested",
                    message,
                    node=node,
                    node_name=node_name,
                    actor=actor,
                    operation=operation,
                )
    except IntegrityError as error:
        return _already_there(kind, subject, error)
    announce(operation)
    transaction.on_commit(wake)
    return operation


def _already_there(kind: OperationKind, subject: str, error: IntegrityError) -> Operation:
    busy = Operation.objects.unfinished().filter(subject=subject, exclusive=True).first()
    if busy is not None and isinstance(kind, RefreshNode):
        return busy
    if busy is None and "one_exclusive_operation" not in str(error) and "subject" not in str(error):
        raise error
    raise NodeBusy(
        _("Another operation is changing this node."),
        remedy=_("Wait for it to end, or cancel it, and try again."),
    ) from None


def _write_steps(operation: Operation, kind: OperationKind, node: Node | None, params: JsonObject) -> None:
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
        for position, plan in enumerate(kind.steps(node, params))
    )


def wake() -> None:
    """Tell this process's runner, where it has one, that there is work. The sweep finds it otherwise."""
    for waker in tuple(_wakers):
        waker()


def announce(operation: Operation) -> None:
    """Publish that the operation has moved on."""
    node_uuid = str(operation.node.uuid) if operation.node is not None else None
    publish(OperationChanged(str(operation.pk), node_uuid, operation.status))


def wait_for(operation: Operation, seconds: float) -> Operation:
    """The operation as it is when it ends, or after ``seconds``, whichever comes first."""
    deadline = time.monotonic() + seconds
    while True:
        operation = Operation.objects.select_related("node").get(pk=operation.pk)
        if operation.is_finished or time.monotonic() >= deadline:
            return operation
        time.sleep(min(POLL_S, max(0.0, deadline - time.monotonic())))


def cancel(operation: Operation) -> Operation:
    """Ask for the operation's end. A queued one ends here and now; a running one at its next safe point.

    Raises InvalidInput where it has ended already.
    """
    now = timezone.now()
    queued = Operation.objects.filter(pk=operation.pk, status=OperationStatus.QUEUED)
    ended = queued.update(
        status=OperationStatus.CANCELLED, finished_at=now, cancel_requested_at=now, secret=None
    )
    if not ended:
        running = Operation.objects.filter(pk=operation.pk, status=OperationStatus.RUNNING)
        if not running.update(cancel_requested_at=now):
            raise InvalidInput(_("The operation has ended already."), field="operation")
    operation.refresh_from_db()
    announce(operation)
    return operation


def retry(
    operation: Operation, *, actor: Actor, request_id: str = "", idempotency: IdempotencyKey | None = None
) -> Operation:
    """Queue the same work again, as a new operation.

    Raises InvalidInput for one that has not failed or was cancelled, or that needs a secret that is gone.
    """
    if operation.status not in (OperationStatus.FAILED, OperationStatus.CANCELLED):
        raise InvalidInput(
            _("Only an operation that failed or was cancelled can be retried."), field="operation"
        )
    if operation.params.get("has_secret"):
        raise InvalidInput(
            _("The credential of this operation was not kept."),
            remedy=_("Make the call again with the credential."),
            field="operation",
        )
    return submit(
        operation.kind,
        actor=actor,
        node=operation.node,
        node_name=operation.node_name,
        params=operation.params,
        request_id=request_id,
        idempotency=idempotency,
    )


__all__ = ["UNFINISHED", "announce", "cancel", "on_submit", "retry", "submit", "wait_for", "wake"]
