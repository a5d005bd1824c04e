"""Plans of operations, made now: what the kinds of operations, the calls and the first step all ask."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from django.conf import settings
from django.utils import timezone
from django.utils.translation import gettext as _

from nodes.errors import InvalidInput, PlanChanged
from nodes.models import Node, Operation, User
from nodes.operations.deciding import decide
from nodes.operations.options import OVERRIDES, RETURN, Options, Wish
from nodes.operations.plan.estimates import ASSUMED_MIB_S, Pace
from nodes.operations.plan.named_targets import with_targets_as_uuids
from nodes.operations.plan.power_reading import COMMANDS, PowerAsking
from nodes.operations.plans import Action, Plan, drift
from nodes.operations.world_reading import read_return, read_world


def plan_for(
    kind: str,
    user: User | None,
    node: Node,
    options: Mapping[str, Any],
    before: Operation | None = None,
    *,
    prefer: Mapping[str, str] | None = None,
) -> Plan:
    """What an operation of ``kind`` would do now. Asks the hosts, for 15 seconds at most; changes nothing.

    ``before`` is the operation that a plan is made anew for: it yields to those that were asked for before
    it alone, and its targets are kept where they are still possible. ``prefer`` are such targets by VM.
    What cannot be read becomes a blocker of the plan.
    """
    keep = dict(prefer or (targets_of(before) if before is not None else {}))
    options = with_targets_as_uuids(user, node, options, strict=False)
    if kind == RETURN:
        world = read_return(user, node, before=before)
    else:
        checked = Options.of(kind, options)
        asking = PowerAsking(node, kind, checked) if kind in COMMANDS else None
        world = read_world(user, node, options=checked, prefer=keep, before=before)
        if asking is not None and world.fault is None:
            world = replace(world, power=asking.answer())
    plan = decide(world, kind, options, prefer=keep, pace=_pace())
    return replace(plan, made_at=timezone.now().isoformat())


def _pace() -> Pace:
    return Pace(
        out=settings.NODEADMIN_MIGRATIONS_OUT,
        into=settings.NODEADMIN_MIGRATIONS_IN,
        mib_s=settings.NODEADMIN_MIGRATION_BANDWIDTH_MIB_S or ASSUMED_MIB_S,
    )


def plan_changed(confirmed: Plan, found: Plan, **extra: Any) -> PlanChanged:
    """The error that names what differs."""
    changes = list(drift(confirmed, found).changed)
    told = "; ".join(changes[:10])
    return PlanChanged(
        _("What would be done has changed since it was confirmed: %s.") % told
        if told
        else _("What would be done has changed since it was confirmed."),
        remedy=_("Look at the new plan and confirm it."),
        extra={"plan": found.to_dict(), "changes": changes, **extra},
    )


def targets_of(operation: Operation) -> dict[str, str]:
    """The targets of the operation's confirmed plan, as node UUIDs by VM UUID."""
    plan = Plan.from_dict(operation.plan) if operation.plan else None
    return {vm.vm_uuid: vm.target_uuid for vm in plan.of(Action.MIGRATE)} if plan is not None else {}


def refuse_unknown_overrides(plan: Plan) -> None:
    """Raise InvalidInput where ``vm_overrides`` name what is no VM of the node, or wish what cannot be."""
    allowed = OVERRIDES.get(plan.kind, ())
    names = {name for vm in plan.decisions for name in (vm.vm_uuid, vm.vm_name)}
    for name, given in (plan.options.get("vm_overrides") or {}).items():
        wish = Wish.of(given)
        if wish.action not in allowed:
            text = _("“%(wish)s” is not possible here; it can be: %(allowed)s.")
            words = {"wish": wish.action, "allowed": ", ".join(allowed)}
            raise InvalidInput(text % words, field=f"vm_overrides.{name}")
        if wish.target and wish.action != "migrate":
            raise InvalidInput(
                _("A target goes only with “migrate”."),
                remedy=_("Leave the target out."),
                field=f"vm_overrides.{name}.target",
            )
        if plan.vms_known and name not in names:
            raise InvalidInput(
                _("The node has no VM “%s”.") % name,
                remedy=_("Name VMs by their name or UUID."),
                field=f"vm_overrides.{name}",
            )
