"""Events that hosts cause, within limits: without them a host could push out people's.

Beyond a limit there is one event more, which says what there is too much of; then the node is in a state of
flood (``Node.flood``), and the rest is counted. While it lasts the count is told once an hour, and at its
end, after :data:`QUIET`. What people do is never limited.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.db.models import F, QuerySet
from django.utils import timezone
from django.utils.functional import Promise

from nodes.events import SYSTEM, NodeChanged, publish, record
from nodes.models import Event, FloodKind, HostFlood, Node, Operation
from nodes.models.event import Severity
from nodes.operations.node_state.flood_words import begun, ended, lasting

EVENTS_AN_HOUR = 20
"""Of one kind from one node."""
EVENTS_A_DAY = 400
"""Of all kinds from one node: the last resort."""
QUIET = timedelta(minutes=10)
TOLD_EVERY = timedelta(hours=1)

_OF_CONNECTION = ("node_online", "node_offline")


def record_of_host(
    kind: str,
    message: str | Promise,
    *,
    node: Node,
    severity: str = Severity.INFO,
    operation: Operation | None = None,
    data: Mapping[str, Any] | None = None,
) -> bool:
    """:func:`nodes.events.record` for what a host causes: its own, also where somebody's operation has found
    it out. False where it was only counted."""
    if not _has_room(node, kind):
        flood = FloodKind.CONNECTION if kind in _OF_CONNECTION else FloodKind.EVENTS
        note(node, flood, 1)
        return False
    record(kind, message, node=node, actor=SYSTEM, severity=severity, operation=operation, data=data)
    return True


def _has_room(node: Node, kind: str) -> bool:
    now = timezone.now()
    of_host = Event.objects.filter(node=node.pk, user=None, via="system").order_by()
    lately = of_host.filter(created_at__gt=now - timedelta(days=1)).values_list("kind", "created_at")
    rows = list(lately.order_by("-created_at")[:EVENTS_A_DAY])
    hour = now - timedelta(hours=1)
    return len(rows) < EVENTS_A_DAY and sum(k == kind and at > hour for k, at in rows) < EVENTS_AN_HOUR


def note(node: Node, kind: FloodKind, count: int, seconds: float | None = None) -> None:
    """The node has sent ``count`` of them beyond the limit, within ``seconds`` where that is known."""
    now = timezone.now()
    with transaction.atomic():
        since = now - timedelta(seconds=seconds or 0)
        row, begins = HostFlood.objects.get_or_create(
            node=node,
            kind=kind,
            defaults={"since": since, "last_at": now, "told_at": now, "count": count},
        )
        if begins:
            _begin(node, row)
            return
        HostFlood.objects.filter(pk=row.pk).update(count=F("count") + count, last_at=now)
        due = HostFlood.objects.filter(pk=row.pk, told_at__lt=now - TOLD_EVERY)
        if due.update(told_at=now):
            row.refresh_from_db()
            _tell(node, "host_flood", lasting(node, row), row)


def end_quiet(floods: QuerySet[HostFlood] | None = None) -> int:
    """End the floods of which nothing has come for :data:`QUIET`; how many those were."""
    now = timezone.now()
    rows = HostFlood.objects.all() if floods is None else floods
    gone = 0
    for row in rows.filter(last_at__lt=now - QUIET).select_related("node"):
        with transaction.atomic():
            # Conditional: more may have come, or another process may have ended it.
            if not HostFlood.objects.filter(pk=row.pk, last_at__lt=now - QUIET).delete()[0]:
                continue
            gone += 1
            _tell(row.node, "host_flood_ended", ended(row.node, row), row)
            _mark(row.node)
    return gone


def _begin(node: Node, row: HostFlood) -> None:
    _tell(node, "host_flood", begun(node, row), row)
    _mark(node)


def _tell(node: Node, kind: str, message: str, row: HostFlood) -> None:
    severity = Severity.INFO if kind == "host_flood_ended" else Severity.WARNING
    record(kind, message, node=node, actor=SYSTEM, severity=severity, data=_data(row))


def _mark(node: Node) -> None:
    """Copy to the node's row what lists show of its floods: the kind that began last."""
    left = HostFlood.objects.filter(node=node.pk).order_by("-since").values_list("kind", flat=True)
    Node.objects.filter(pk=node.pk).update(flood=left.first() or "")
    publish(NodeChanged(str(node.uuid), node.name))


def _data(row: HostFlood) -> dict[str, Any]:
    return {"flood": row.kind, "count": row.count, "since": row.since.isoformat(timespec="seconds")}
