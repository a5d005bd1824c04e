"""Which nodes a list shows, and in which order: the same for API and pages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.db.models import Case, CharField, F, FloatField, IntegerField, Q, QuerySet, Value, When
from django.db.models.functions import Cast

from nodes.models import Device
from nodes.models.lookups import LabelText  # its module also registers the lookup "subsequence"
from nodes.models.node import Connection, NodeQuerySet, Scheduling, Status

_COLUMNS = {
    "name": "name",
    "type": "node_type",
    "cpu_used_percent": "cpu_used_percent",
    "memory_total_bytes": "memory_total_bytes",
    "cpu_threads": "cpu_threads",
    "vm_running_count": "vm_running_count",
    "pool_count": "pool_count",
    "last_seen_at": "last_seen_at",
    "observed_at": "observed_at",
}


def select_nodes(nodes: NodeQuerySet, filters: Mapping[str, Any]) -> NodeQuerySet:
    """The nodes that fit ``status``, ``connection``, ``type``, ``jump_host``, ``name`` (fuzzy) and
    ``labels``."""
    if filters.get("status"):
        nodes = nodes.with_status(filters["status"])
    if filters.get("connection"):
        nodes = nodes.filter(connection=filters["connection"])
    if filters.get("type"):
        nodes = nodes.filter(node_type=filters["type"])
    if filters.get("jump_host"):
        nodes = nodes.filter(jump_host__name=filters["jump_host"])
    if filters.get("name"):
        nodes = nodes.filter(name__subsequence=filters["name"])
    for position, (key, value) in enumerate((filters.get("labels") or {}).items()):
        alias = f"_label_{position}"
        nodes = nodes.alias(**{alias: LabelText("labels", key)}).filter(**{alias: value})
    return nodes


def select_devices(devices: QuerySet[Device], filters: Mapping[str, Any]) -> QuerySet[Device]:
    """The devices that fit ``text`` (all its words), ``kind``, ``vendor``, ``model``, ``driver``,
    ``numa_cell``, ``free`` and ``health``."""
    for word in str(filters.get("text") or "").lower().split()[:10]:
        devices = devices.filter(text__contains=word)
    for name, id_name in (("vendor", "vendor_id"), ("model", "device_id")):
        if wanted := filters.get(name):
            devices = devices.filter(Q(**{f"{name}__icontains": wanted}) | Q(**{id_name: wanted.lower()}))
    for name in ("kind", "driver", "numa_cell", "free", "health"):
        if filters.get(name) not in (None, ""):
            devices = devices.filter(**{name: filters[name]})
    return devices


def order_nodes(nodes: NodeQuerySet, order_by: str = "", name: str = "") -> NodeQuerySet:
    """Ordered by a field (``-`` in front turns it round; unknown values come last), then by name.

    Without a field, nodes found by name come best match first: the name itself, its beginning, a part of it,
    letters with gaps.
    """
    field, descending = order_by.lstrip("-"), order_by.startswith("-")
    if not field:
        return nodes.order_by(_rank(name.lower()), "name") if name else nodes.order_by("name")
    if field == "status":
        key: Any = _status_rank()
    elif field == "memory_used_percent":
        key = Cast(F("memory_used_bytes"), FloatField()) / Cast(F("memory_total_bytes"), FloatField())
    elif field == "uptime_s":
        key, descending = F("booted_at"), not descending
    else:
        key = F(_COLUMNS[field])
    if field == "name":
        return nodes.order_by("-name" if descending else "name")
    ordered = key.desc(nulls_last=True) if descending else key.asc(nulls_last=True)
    return nodes.order_by(ordered, "name")


def _rank(name: str) -> Case:
    return Case(
        When(name=name, then=Value(0)),
        When(name__startswith=name, then=Value(1)),
        When(name__contains=name, then=Value(2)),
        default=Value(3),
        output_field=IntegerField(),
    )


def _status_rank() -> Case:
    """Offline first, then maintenance, then online: what needs a look comes first."""
    return Case(
        When(scheduling=Scheduling.MAINTENANCE, then=Value(Status.MAINTENANCE.value)),
        When(connection=Connection.ONLINE, then=Value("z" + Status.ONLINE.value)),
        default=Value("a" + Status.OFFLINE.value),
        output_field=CharField(),
    )
