"""The dashboard: what is wrong, where, and what the fleet has left, in a fixed number of queries."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db.models import Count, F, FloatField, Q, QuerySet, Sum, Window
from django.db.models.functions import Cast
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET

from nodes.models import (
    Connection,
    Device,
    Event,
    Node,
    NodeType,
    Operation,
    OperationStatus,
    Scheduling,
    Status,
    User,
)
from nodes.models.event import Category
from nodes.models.monitor import MonitorProcess
from nodes.models.node import NodeQuerySet
from nodes.permissions import events_for, nodes_for, operations_for
from nodes.selection import order_nodes
from nodes.web.pictures import strip
from nodes.web.views.access import user_of
from nodes.web.views.operations import title_of

STRIP_LIMIT = 2000
"""Cells in the strip; a larger fleet shows those that need a look first."""
STRIP_FIELDS = (
    *("name", "scheduling", "scheduling_reason", "connection", "connection_reason", "flood"),
    *("cpu_used_percent", "memory_used_bytes", "memory_total_bytes"),
)
SHOWN, EVENTS = 12, 12
MOST_LINES = 32
"""Of each kind of trouble, read for the list of what needs a look; the rest is counted."""
LONG_MAINTENANCE = timedelta(days=7)
FAILURES_WITHIN = timedelta(days=1)
SUMS = (
    *("threads", "threads_measured", "threads_used"),
    *("memory_bytes", "memory_used_bytes", "vms", "vms_running"),
)
"""What is added up over nodes."""


@dataclass(slots=True)
class Capacity:
    """What some nodes have and use. Sums are over the nodes of which it is known; None where none is.

    What is in use, and of what, is known of the nodes that are online: the last figures of a host that has
    been off for days are nobody's use, and what it had free is not free.
    """

    nodes: int = 0
    threads: int | None = None
    threads_measured: int | None = None
    """Those of the nodes whose CPU use is known."""
    threads_used: float | None = None
    memory_bytes: int | None = None
    memory_used_bytes: int | None = None
    vms: int | None = None
    vms_running: int | None = None
    statuses: Counter[str] = field(default_factory=Counter)

    def add(self, row: Mapping[str, Any]) -> None:
        self.nodes += row["count"]
        draft = Node(scheduling=row["scheduling"], connection=row["connection"])
        self.statuses[draft.status.value] += row["count"]
        for name in SUMS:
            if row[name] is not None:
                setattr(self, name, (getattr(self, name) or 0) + row[name])

    @property
    def cpu_percent(self) -> float | None:
        if not self.threads_measured or self.threads_used is None:
            return None
        return 100.0 * self.threads_used / self.threads_measured

    @property
    def threads_busy(self) -> int | None:
        return round(self.threads_used) if self.threads_used is not None else None

    @property
    def threads_free(self) -> int | None:
        if self.threads_measured is None or self.threads_busy is None:
            return None
        return max(0, self.threads_measured - self.threads_busy)

    @property
    def memory_free_bytes(self) -> int | None:
        if self.memory_bytes is None or self.memory_used_bytes is None:
            return None
        return max(0, self.memory_bytes - self.memory_used_bytes)

    @property
    def memory_percent(self) -> float | None:
        if not self.memory_bytes or self.memory_used_bytes is None:
            return None
        return 100.0 * self.memory_used_bytes / self.memory_bytes


@dataclass(frozen=True, slots=True)
class Attention:
    """A line of what needs a look: what it is about, where that is shown, and since when."""

    tone: str
    name: str
    url: str
    words: str
    since: Any = None


@require_GET
def dashboard(request: HttpRequest) -> HttpResponse:
    user = user_of(request)
    nodes = nodes_for(user)
    fleet, types = capacities(nodes)
    drawn = order_nodes(nodes, "status").only(*STRIP_FIELDS)[:STRIP_LIMIT]
    lines, in_all = attention(user, nodes)
    context = {
        "fleet": fleet,
        "types": [(name, NodeType(name).label, capacity) for name, capacity in types],
        "statuses": status_parts(fleet),
        "strip": strip.draw(list(drawn)),
        "strip_left_out": max(0, fleet.nodes - STRIP_LIMIT),
        "attention": lines[:SHOWN],
        "attention_rest": lines[SHOWN:],
        "attention_more": in_all - min(in_all, SHOWN),
        "attention_unlisted": in_all - len(lines),
        "events": newest_events(user),
        "cut_off_since": cut_off_since(),
    }
    template = "dashboard/dashboard.html"
    return render(request, f"{template}#body" if request.htmx else template, context)  # type: ignore[attr-defined]


def newest_events(user: User) -> list[Event]:
    """The newest of people and of hosts, half of them each: neither pushes the other out."""
    rows = events_for(user)
    found = [event for category in Category for event in rows.filter(category=category)[: EVENTS // 2]]
    return sorted(found, key=lambda event: (event.created_at, event.pk), reverse=True)


def cut_off_since() -> datetime | None:
    """Since when a living monitor has heard most of its nodes no more, all at once; None where none has."""
    alive = MonitorProcess.objects.alive().filter(cut_off_since__isnull=False)
    return alive.order_by("cut_off_since").values_list("cut_off_since", flat=True).first()


def capacities(nodes: NodeQuerySet) -> tuple[Capacity, list[tuple[str, Capacity]]]:
    """The whole fleet's capacity, and that of each type of node: one query, a row a type and status."""
    online = Q(connection=Connection.ONLINE)
    known = online & Q(cpu_used_percent__isnull=False)
    memory_known = online & Q(memory_used_bytes__isnull=False)
    rows = nodes.order_by().values("node_type", "scheduling", "connection")
    rows = rows.annotate(
        count=Count("pk"),
        threads=Sum("cpu_threads", filter=online),
        threads_measured=Sum("cpu_threads", filter=known),
        threads_used=Sum(Cast(F("cpu_threads"), FloatField()) * F("cpu_used_percent") / 100.0, filter=known),
        memory_bytes=Sum("memory_total_bytes", filter=memory_known),
        memory_used_bytes=Sum("memory_used_bytes", filter=memory_known),
        vms=Sum("vm_count"),
        vms_running=Sum("vm_running_count", filter=online),
    )
    fleet, types = Capacity(), defaultdict[str, Capacity](Capacity)
    for row in rows:
        fleet.add(row)
        types[row["node_type"]].add(row)
    return fleet, sorted(types.items(), key=lambda item: -item[1].nodes)


def status_parts(fleet: Capacity) -> list[tuple[str, str, str, int, float]]:
    """Value, label, tone, count and share of each status, for the bar in parts."""
    tones = {Status.ONLINE: "good", Status.MAINTENANCE: "warn", Status.OFFLINE: "bad"}
    return [
        (
            status.value,
            str(status.label),
            tone,
            fleet.statuses[status.value],
            100.0 * fleet.statuses[status.value] / fleet.nodes if fleet.nodes else 0.0,
        )
        for status, tone in tones.items()
    ]


def attention(user: User, nodes: NodeQuerySet) -> tuple[Sequence[Attention], int]:
    """The first lines of what needs a look, worst first, and how many there are in all: three queries."""
    now = timezone.now()
    stale = now - timedelta(seconds=settings.NODEADMIN_STALE_AFTER_S)
    troubled = nodes.filter(
        Q(scheduling=Scheduling.ENABLED) & ~Q(connection=Connection.ONLINE)
        | Q(observed_at=None)
        | Q(observed_at__lt=stale)
        | Q(scheduling=Scheduling.MAINTENANCE, scheduling_since__lt=now - LONG_MAINTENANCE)
        | Q(problem_count__gt=0)
    )
    found = order_nodes(troubled, "status").defer("notes", "host_key")
    failed = operations_for(user).filter(status=OperationStatus.FAILED, finished_at__gt=now - FAILURES_WITHIN)
    failed = failed.defer("secret", "plan").order_by("-finished_at")
    kinds: tuple[tuple[QuerySet[Any], Callable[[Any], Attention]], ...] = (
        (found, lambda node: _node_line(node, now)),
        (_disks_of(nodes), _disk_line),
        (failed, _operation_line),
    )
    lines, in_all = list[Attention](), 0
    for rows, line_of in kinds:
        read = list(rows.annotate(in_all=Window(Count("pk")))[:MOST_LINES])
        lines += [line_of(row) for row in read]
        in_all += read[0].in_all if read else 0
    lines.sort(key=lambda line: ("bad", "unknown", "warn").index(line.tone))
    return lines, in_all


def _node_line(node: Node, now: Any) -> Attention:
    url = reverse("node-detail", args=[node.name])
    since = node.scheduling_since
    if node.status == Status.OFFLINE:
        if node.connection == Connection.UNKNOWN:
            return Attention("unknown", node.name, url, _("No contact yet"), node.connection_since)
        words = node.get_connection_reason_display() or _("Offline")
        return Attention("bad", node.name, url, words, node.connection_since)
    if node.scheduling == Scheduling.MAINTENANCE and since is not None and now - since > LONG_MAINTENANCE:
        return Attention("warn", node.name, url, _("Long in maintenance"), since)
    if node.is_stale:
        return Attention("warn", node.name, url, _("The inventory is old"), node.observed_at)
    words = _("Parts of the inventory could not be read")
    return Attention("warn", node.name, url, words, node.observed_at)


def _disks_of(nodes: NodeQuerySet) -> QuerySet[Device]:
    """Disks that fail or wear out, the failing first."""
    disks = Device.objects.filter(
        node__in=nodes.order_by(), section="disks", health__in=("failed", "warning")
    )
    disks = disks.select_related("node").only("node__name", "key", "model", "serial", "health")
    return disks.order_by("health", "node__name", "key")


def _disk_line(disk: Device) -> Attention:
    url = reverse("node-section", args=[disk.node.name, "disks"])
    name = f"{disk.model} {disk.serial}".strip() or disk.key
    if disk.health == "failed":
        return Attention("bad", disk.node.name, url, _("failing disk %s") % name)
    return Attention("warn", disk.node.name, url, _("disk %s needs a look") % name)


def _operation_line(operation: Operation) -> Attention:
    url = reverse("operation-detail", args=[operation.pk])
    return Attention("bad", title_of(operation), url, _("failed"), operation.finished_at)
