"""Which nodes VMs could go to by what the database knows, and what is promised to others already."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Max, Q
from django.db.models.functions import Coalesce
from django.utils.translation import gettext as _

from nodes.models import TAKES_VMS, Connection, Event, Node, Operation, Scheduling, StepStatus, User
from nodes.models.node import NodeQuerySet
from nodes.operations.options import DELETE, DRAIN, REBOOT, RETURN, SHUTDOWN, Options
from nodes.operations.placing import OVERHEAD_BYTES
from nodes.operations.plans import Action, Plan, Reason, VmDecision
from nodes.permissions import MAINTAIN, nodes_for

MISSED_BEATS = 3
"""Heartbeats that a candidate may be behind the one heard of last and still count as heard of."""
MOST_EXCLUDED = 64
LEAVING = (DRAIN, DELETE, REBOOT, SHUTDOWN)
"""Operations that take their node out of service: nothing is planned onto it while one is unfinished."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """``nodes`` are those that the user may use, in the order in which they are asked: those that are wanted
    by name or were shown before, then those with room for the smallest VM, those heard of last, the emptiest.

    ``first`` is how many of them are asked in any case. ``others``: whether there is any at all, the user's
    or not. ``unchosen`` would be among them, had the user not limited the targets. ``excluded`` are nodes
    that the user may use and that take no VMs now, with the reason: those asked for by name, and a bounded
    number of others, so that people see why they are not offered.
    """

    nodes: tuple[Node, ...]
    others: bool
    first: int = 0
    excluded: tuple[tuple[Node, Reason], ...] = ()
    unchosen: tuple[Node, ...] = ()


@dataclass(frozen=True, slots=True)
class Promised:
    """What unfinished operations will still put on a node."""

    memory_bytes: int = 0
    vcpus: int = 0


def candidates(
    user: User | None,
    node: Node,
    keep: Mapping[str, str],
    before: Operation | None,
    *,
    only: Collection[str] = (),
    named: Collection[str] = (),
    need_bytes: int = 0,
) -> Candidates:
    """Enabled, online nodes that VMs are placed on and that are not about to leave; ``keep`` are node UUIDs
    by VM UUID that are asked whatever else is, if they still may be, and so are those ``named`` for VMs.

    ``only``: the UUIDs of nodes that VMs without a target of their own are limited to, empty for no limit.
    ``need_bytes`` is what the smallest VM takes: nodes without so much by their newest inventory come last.
    """
    eligible = _eligible(node, before)
    usable = eligible & nodes_for(user, MAINTAIN) if user is not None else eligible
    heard = usable.annotate(heard_at=Coalesce("heartbeat__seen_at", "last_seen_at")).only(*_COLUMNS)
    wanted = {*keep.values(), *named}
    rows = _in_order(list(heard), wanted, need_bytes)
    found = [row for row in rows if not only or str(row.uuid) in {*only, *named}]
    chosen = {row.pk for row in found}
    first = sum(str(row.uuid) in wanted for row in found)
    return Candidates(
        tuple(found),
        bool(rows) or eligible.exists(),
        first,
        _excluded(user, node, rows, eligible, {*only, *named}),
        tuple(row for row in rows if row.pk not in chosen),
    )


_COLUMNS = (
    "uuid", "name", "uri", "migration_address", "migration_address_forced", "snapshot",
    "memory_total_bytes", "memory_used_bytes",
)  # fmt: skip


def free_by_inventory(node: Node) -> int | None:
    """Free memory in bytes by the newest inventory or heartbeat; None where unknown."""
    if node.memory_total_bytes is None or node.memory_used_bytes is None:
        return None
    return max(0, node.memory_total_bytes - node.memory_used_bytes)


def _in_order(rows: list[Node], wanted: Collection[str], need_bytes: int) -> list[Node]:
    times: dict[int, datetime] = {row.pk: moment for row in rows if (moment := _heard_at(row)) is not None}
    # Against the newest of them: where no monitor runs, all are equally long ago.
    recent = max(times.values(), default=None)
    missed = timedelta(seconds=MISSED_BEATS * settings.NODEADMIN_BEAT_S)

    def rank(row: Node) -> tuple[bool, bool, bool, int, str]:
        free, heard = free_by_inventory(row), times.get(row.pk)
        silent = recent is not None and (heard is None or recent - heard > missed)
        lacks_room = free is not None and free < need_bytes
        return str(row.uuid) not in wanted, lacks_room, silent, -(free or 0), row.name

    return sorted(rows, key=rank)


def _heard_at(row: Node) -> datetime | None:
    found: datetime | None = getattr(row, "heard_at", None)
    return found


def _excluded(
    user: User | None, node: Node, found: Collection[Node], eligible: NodeQuerySet, asked_for: Collection[str]
) -> tuple[tuple[Node, Reason], ...]:
    """Nodes that could be thought of and are no candidates: those asked for by name, and some of the rest."""
    usable = nodes_for(user, MAINTAIN) if user is not None else Node.objects.all()
    rest = usable.exclude(pk=node.pk).only(*_COLUMNS, "node_type", "scheduling", "connection")
    others = rest.filter(node_type__in=TAKES_VMS).exclude(pk__in=eligible.values("pk")).order_by("name")
    candidates_found = {row.pk for row in found}
    named = rest.filter(uuid__in=asked_for).exclude(pk__in=candidates_found) if asked_for else ()
    rows = {row.pk: row for row in (*named, *others[:MOST_EXCLUDED])}
    return tuple((row, _why_excluded(row)) for row in rows.values())


def _why_excluded(row: Node) -> Reason:
    if row.node_type not in TAKES_VMS:
        return Reason("target_type", _("is a storage node, which takes no VMs"), _("Choose another target."))
    if row.scheduling != Scheduling.ENABLED:
        return Reason("target_in_maintenance", _("is in maintenance"), _("Enable the node first."))
    if row.connection != Connection.ONLINE:
        return Reason("target_offline", _("is not online"), _("See that the host answers."))
    return Reason(
        "target_leaving",
        _("is about to leave: an operation that takes it out of service is unfinished"),
        _("Wait for the operation to end, or choose another target."),
    )


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
