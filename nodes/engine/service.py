"""Calls that take nodes in and out of service: planned, confirmed, and then submitted.

What endangers VMs is called twice. The first call changes nothing: it answers with the plan and a token (as
ConfirmationRequired). The second brings the token; the plan is made again, and only if its decisions are
those that were confirmed is the operation queued, in the transaction that uses the token up. No transaction
is open while hosts are asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from django.db import transaction
from django.db.models import Q
from django.utils.translation import gettext as _

from nodes import second_factor
from nodes.engine import confirm
from nodes.engine.one_by_one import one_after_another
from nodes.engine.submit import (
    asking_user,
    known_kind,
    node_busy,
    refresh_by_itself,
    refuse_unretriable,
    submit,
)
from nodes.engine.waits import waiting
from nodes.errors import (
    BootIdUnreadable,
    ConfirmationRequired,
    LastEligibleNode,
    NodeHasRunningVms,
    PlanBlocked,
    PowerCommandMissing,
    ShutdownAlreadyScheduled,
    ShutdownInhibited,
    VmStateUnknown,
)
from nodes.events import Actor, NodeChanged, publish, record
from nodes.models import HeldAutostart, IdempotencyKey, Node, Operation
from nodes.operations.base import PlannedKind, removed
from nodes.operations.candidates import still_possible
from nodes.operations.options import DELETE, DRAIN, REBOOT, RETURN, SHUTDOWN, complete
from nodes.operations.plan.named_targets import with_targets_as_uuids
from nodes.operations.planning import plan_changed, plan_for, refuse_unknown_overrides
from nodes.operations.plans import Action, Plan
from nodes.operations.registry import kind_of
from nodes.operations.scheduling import cordon, uncordon
from nodes.permissions import MAINTAIN, require

OptionsInput = Mapping[str, Any]


def enable_node(
    actor: Actor,
    node: Node,
    options: OptionsInput,
    confirm_token: str = "",
    *,
    request_id: str = "",
    idempotency: IdempotencyKey | None = None,
) -> Operation | Node:
    """Give the node back to scheduling: at once, or with ``return_vms`` by an operation that also brings back
    what the last drain moved away. Autostart that was held on its host is put back: by that operation, or by
    a refresh that is asked for here, as soon as libvirt on the host answers.

    Raises as :func:`_planned`, and NodeBusy.
    """
    require(asking_user(actor), MAINTAIN, node)
    if options.get("return_vms"):
        return _planned(RETURN, actor, node, options, confirm_token, request_id, idempotency)
    with transaction.atomic():
        _lock(node)
        _refuse_busy(node)
        uncordon(node, actor=actor)
    if HeldAutostart.objects.filter(node=node).exists():
        refresh_by_itself(node)
    return node


def disable_node(
    actor: Actor,
    node: Node,
    options: OptionsInput,
    confirm_token: str = "",
    *,
    request_id: str = "",
    idempotency: IdempotencyKey | None = None,
) -> Operation | Node:
    """Put the node into maintenance: at once, and with ``drain`` by an operation that also empties it.

    Raises as :func:`_planned`, and NodeBusy.
    """
    require(asking_user(actor), MAINTAIN, node)
    if options.get("drain"):
        return _planned(DRAIN, actor, node, options, confirm_token, request_id, idempotency)
    with transaction.atomic():
        _lock(node)
        _refuse_busy(node)
        reason = options.get("reason") or ""
        if not cordon(node, reason=reason, actor=actor) and reason:
            _explain(node, reason, actor)
    return node


def delete_node(
    actor: Actor,
    node: Node,
    options: OptionsInput,
    confirm_token: str = "",
    *,
    request_id: str = "",
    idempotency: IdempotencyKey | None = None,
) -> Operation:
    """Forget the node; its host is left as it is. Raises as :func:`_planned`."""
    return _planned(DELETE, actor, node, options, confirm_token, request_id, idempotency)


def reboot_node(
    actor: Actor,
    node: Node,
    options: OptionsInput,
    confirm_token: str = "",
    *,
    request_id: str = "",
    idempotency: IdempotencyKey | None = None,
) -> Operation:
    """Reboot the node's host. Raises as :func:`_planned`."""
    return _planned(REBOOT, actor, node, options, confirm_token, request_id, idempotency)


def shutdown_node(
    actor: Actor,
    node: Node,
    options: OptionsInput,
    confirm_token: str = "",
    *,
    request_id: str = "",
    idempotency: IdempotencyKey | None = None,
) -> Operation:
    """Power the node's host off. Raises as :func:`_planned`."""
    return _planned(SHUTDOWN, actor, node, options, confirm_token, request_id, idempotency)


def retry_planned(
    actor: Actor,
    operation: Operation,
    confirm_token: str = "",
    *,
    request_id: str = "",
    idempotency: IdempotencyKey | None = None,
) -> Operation:
    """The same work again, by a plan of what is found now. Raises as :func:`_planned`; InvalidInput for one
    that neither failed nor was cancelled, UnknownNode where its node has been removed."""
    refuse_unretriable(operation)
    if operation.node is None:
        raise removed()
    return _planned(
        operation.kind,
        actor,
        operation.node,
        operation.params,
        confirm_token,
        request_id,
        idempotency,
        retried=operation,
    )


def needs_confirmation(operation: Operation) -> bool:
    """Whether the operation's kind is one that is planned and confirmed."""
    return isinstance(kind_of(operation.kind), PlannedKind)


# -- plan, confirm, submit -------------------------------------------------------------------------


def _planned(
    kind: str,
    actor: Actor,
    node: Node,
    options: OptionsInput,
    token: str,
    request_id: str,
    idempotency: IdempotencyKey | None,
    *,
    retried: Operation | None = None,
) -> Operation:
    """Plan, and with a token that fits the plan, submit.

    A fresh second factor is for the token that it came with. Raises PermissionDenied, InvalidInput, NodeBusy,
    SecondFactorRequired; ConfirmationRequired without a token, with the plan and
    one; PlanBlocked or its subclasses with the plan; ConfirmationInvalid; PlanChanged with the new plan and
    a new token.
    """
    user = asking_user(actor)
    require(user, known_kind(kind).permission, node)
    options = with_targets_as_uuids(user, node, complete(kind, options), strict=retried is None)
    call = f"retry {retried.pk}" if retried is not None else kind
    confirmation = confirm.read(token, user, call, node, options) if token else None
    _refuse_busy(node)
    about = second_factor.of_confirmation(token)
    purpose = purpose_of(kind, confirmation.shown) if confirmation is not None else ""
    if purpose:
        # Before the hosts are asked: that takes seconds, and a code is good for some.
        second_factor.expect_fresh(actor, purpose, about=about)
    with waiting(actor):
        plan = plan_for(kind, user, node, options, prefer=confirmation.targets if confirmation else None)
    if retried is None:
        refuse_unknown_overrides(plan)
    if plan.is_blocked:
        raise _blocked(plan)
    if confirmation is None:
        raise _required(plan, *confirm.issue(user, call, node, options, plan))
    if confirmation.digest == plan.digest():
        with transaction.atomic():
            if kind == DRAIN:
                one_after_another("drains")
            _lock(node, plan)
            if still_possible(plan, node):
                confirm.redeem(confirmation)
                if purpose:
                    second_factor.require_fresh(actor, purpose, about=about)
                operation = submit(
                    kind,
                    actor=actor,
                    node=node,
                    params=options,
                    # What others could have taken is of the moment; the decisions are what is kept.
                    plan=replace(plan, targets=()),
                    request_id=request_id,
                    idempotency=idempotency,
                )
                if kind == DRAIN:
                    cordon(node, reason=options.get("reason", ""), actor=actor, operation=operation)
                return operation
        # Another call was faster, and took a node out of service that this plan counts on.
        with waiting(actor):
            plan = plan_for(kind, user, node, options, prefer=confirmation.targets)
        if plan.is_blocked:
            raise _blocked(plan)
    new_token, expires_at = confirm.issue(user, call, node, options, plan)
    raise plan_changed(confirmation.shown, plan, confirm_token=new_token, expires_at=expires_at.isoformat())


def purpose_of(kind: str, plan: Plan) -> str:
    """What the call needs a fresh second factor for, "" for nothing: a drain does where it stops VMs."""
    if kind in (REBOOT, SHUTDOWN):
        return second_factor.POWER
    if kind == DELETE:
        return second_factor.REMOVAL
    return second_factor.POWER if kind == DRAIN and plan.of(Action.STOP) else ""


def _lock(node: Node, plan: Plan | None = None) -> None:
    """Let nobody else decide about the node, and those to which ``plan`` moves VMs, until the transaction
    ends; UnknownNode where it is gone."""
    targets = {vm.target_uuid for vm in plan.of(Action.MIGRATE)} if plan is not None else set()
    rows = Node.objects.filter(Q(pk=node.pk) | Q(uuid__in=targets)).order_by("pk")
    if node.pk not in rows.select_for_update().values_list("pk", flat=True):
        raise removed()


def _explain(node: Node, reason: str, actor: Actor) -> None:
    """Give a node that is in maintenance already the reason that somebody states now."""
    if node.scheduling_reason == reason:
        return
    node.scheduling_reason = reason
    node.save(update_fields=["scheduling_reason", "updated_at"])
    text = _("%(node)s stays in maintenance: %(reason)s") % {"node": node.name, "reason": reason}
    record("node_disabled", text, node=node, actor=actor, data={"reason": reason})
    publish(NodeChanged(str(node.uuid), node.name))


def _refuse_busy(node: Node) -> None:
    """Raise NodeBusy while an exclusive operation works on the node, before any host is asked.

    The database's constraint holds at the submission all the same.
    """
    if Operation.objects.unfinished().filter(subject=f"node:{node.uuid}", exclusive=True).exists():
        raise node_busy()


def _required(plan: Plan, token: str, expires_at: Any) -> ConfirmationRequired:
    return ConfirmationRequired(
        _("Nothing has been changed. The plan says what would be done."),
        remedy=_("Look at the plan, and make the same call with its confirm_token within five minutes."),
        extra={"plan": plan.to_dict(), "confirm_token": token, "expires_at": expires_at.isoformat()},
    )


def _blocked(plan: Plan) -> PlanBlocked:
    """The error whose code says what is in the way: the node's own blockers first."""
    codes = {reason.code for reason in plan.blockers}
    otherwise = PlanBlocked if plan.vms_known else VmStateUnknown
    named: tuple[type[PlanBlocked], ...] = (
        NodeHasRunningVms,
        LastEligibleNode,
        VmStateUnknown,
        BootIdUnreadable,
        PowerCommandMissing,
        ShutdownAlreadyScheduled,
        ShutdownInhibited,
    )
    kind = next((kind for kind in named if kind.code in codes), otherwise)
    reasons = plan.blockers or [reason for vm in plan.decisions for reason in vm.blockers]
    stuck = [vm.vm_name for vm in plan.decisions if vm.blockers]
    message = reasons[0].message
    if not plan.blockers and stuck:
        message = f"{stuck[0]}: {message}"
        if len(stuck) > 1:
            message = _("%(first)s And %(count)d more VMs.") % {"first": message, "count": len(stuck) - 1}
    return kind(message, remedy=reasons[0].remedy, extra={"plan": plan.to_dict()})
