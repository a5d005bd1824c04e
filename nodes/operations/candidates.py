"""Which nodes VMs could go to by what the database knows, and what is promised to others already."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from django.conf import settings
from django.db.models import BigIntegerField, F, Max, Q, Value
from django.db.models.functions import Coalesce

from nodes.models import TAKES_VMS, Connection, Event, Node, Operation, Scheduling, StepStatus, User
from nodes.models.node import NodeQuerySet
from nodes.operations.options import DELETE, DRAIN, REBOOT, RETURN, SHUTDOWN, Options
from nodes.operations.placing import OVERHEAD_BYTES
from nodes.operations.plans import Action, Plan, VmDecision
from nodes.permissions import MAINTAIN, nodes_for

LEAVING = (DRAIN, DELETE, REBOOT, SHUTDOWN)
"""Operations that take their node out of service: nothing is planned onto it while one is unfinished."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """``nodes`` are those that the user may use, the emptiest first, bounded; ``others``: whether there is
    any at all, the user's or not."""

    nodes: tuple[Node, ...]
    others: bool


@dataclass(frozen=True, slots=True)
class Promised:
    """What unfinished operations will still put on a node."""

    memory_bytes: int = 0
    vcpus: int = 0


def candidates(
    user: User | None, node: Node, keep: Mapping[str, str], before: Operation | None
) -> Candidates:
    """Enabled, online nodes that VMs are placed on and that are not about to leave; ``keep`` are node UUIDs
    by VM that are among them whatever else is, if they still may be."""
    eligible = _eligible(node, before)
    usable = eligible & nodes_for(user, MAINTAIN) if user is not None else eligible
    free = Coalesce(
        F("memory_total_bytes") - F("memory_used_bytes"), Value(0), output_field=BigIntegerField()
    )
    limit = settings.NODEADMIN_PLAN_TARGETS
    found = list(usable.order_by(free.desc(), "name")[:limit])
    wanted = set(keep.values()) - {str(row.uuid) for row in found}
    if wanted:
        found += usable.filter(uuid__in=wanted)
    return Candidates(tuple(found), bool(found) or eligible.exists())


def still_possible(plan: Plan, node: Node) -> bool:
    """Whether the nodes that ``plan`` counts on still take VMs, by what the database knows now.

    For the transaction that submits it: of two drains that were planned at once, each onto the other's node,
    one is then told so before it has begun.
    """
    if plan.kind == RETURN:
        return True
    eligible = _eligible(node, None)
    targets = {vm.target_uuid for vm in plan.of(Action.MIGRATE)}
    if targets and eligible.filter(uuid__in=targets).count() < len(targets):
        return False
    eligible_itself = node.node_type in TAKES_VMS
    needs_another = plan.kind == DRAIN and eligible_itself and Options.of(plan.kind, plan.options).may_migrate
    return not needs_another or bool(targets) or eligible.exists()


def _eligible(node: Node, before: Operation | None) -> NodeQuerySet:
    busy = Operation.objects.unfinished().filter(kind__in=LEAVING).exclude(node=None)
    if before is not None:
        busy = busy.filter(_earlier(before))
    return (
        Node.objects.filter(
            node_type__in=TAKES_VMS, scheduling=Scheduling.ENABLED, connection=Connection.ONLINE
        )
        .exclude(pk=node.pk)
        .exclude(pk__in=busy.values("node"))
    )


def _earlier(operation: Operation) -> Q:
    """Operations that were asked for before this one: of two that collide it is the later one that yields."""
    return Q(created_at__lt=operation.created_at) | Q(created_at=operation.created_at, pk__lt=operation.pk)


def promised(before: Operation | None) -> dict[str, Promised]:
    """By node UUID what the unfinished operations have yet to bring: all of them, or, for one that runs,
    those that were asked for before it."""
    rows = Operation.objects.unfinished().exclude(plan=None).prefetch_related("steps").defer("secret")
    if before is not None:
        rows = rows.filter(_earlier(before)).exclude(pk=before.pk)
    found: dict[str, Promised] = {}
    for operation in rows:
        for vm in _coming(operation):
            known = found.get(vm.target_uuid, Promised())
            found[vm.target_uuid] = Promised(
                known.memory_bytes + (vm.memory_bytes or 0) + OVERHEAD_BYTES, known.vcpus + (vm.vcpus or 0)
            )
    return found


def _coming(operation: Operation) -> Iterator[VmDecision]:
    arrived = {
        step.code
        for step in operation.steps.all()
        if step.status in (StepStatus.SUCCEEDED, StepStatus.SKIPPED)
    }
    for vm in Plan.from_dict(operation.plan or {}).of(Action.MIGRATE):
        if f"vm:{vm.vm_uuid}" not in arrived:
            yield vm


# -- what may come back ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Moved:
    """A VM that was moved off a node: its name, and the UUID of the node it went to."""

    vm_name: str
    to: str


def moved_away(node: Node, *, look_back: int = 20) -> dict[str, Moved]:
    """By VM UUID what the newest operation that moved any VM off ``node`` moved, failed ones too, and those
    before it in the same maintenance: a drain that failed half-way and the one that took up the rest.
    """
    ended = (
        Operation.objects.filter(node=node, kind__in=LEAVING)
        .exclude(plan=None)
        .order_by("-created_at", "-id")
        .prefetch_related("steps")
        .defer("secret")
    )
    found: dict[str, Moved] = {}
    begun: datetime | None = None
    for operation in ended[:look_back]:
        if begun is not None and operation.created_at < begun:
            break
        moved = _moved_by(operation)
        if moved and not found:
            begun = _in_service_before(operation)
        found = moved | found
    return found


def _in_service_before(operation: Operation) -> datetime | None:
    """When the node last left maintenance before the operation; None where nothing tells of it."""
    events = Event.objects.filter(
        node=operation.node_id, kind="node_enabled", created_at__lt=operation.created_at
    )
    found: datetime | None = events.aggregate(at=Max("created_at"))["at"]
    return found


def _moved_by(operation: Operation) -> dict[str, Moved]:
    done = {step.code for step in operation.steps.all() if step.status == StepStatus.SUCCEEDED}
    found = {
        vm.vm_uuid: Moved(vm.vm_name, vm.target_uuid)
        for vm in Plan.from_dict(operation.plan or {}).of(Action.MIGRATE)
        if f"vm:{vm.vm_uuid}" in done
    }
    told = (operation.result or {}).get("moved") or ()
    return found | {row["vm_uuid"]: Moved(row["vm_name"], row["to"]) for row in told}
