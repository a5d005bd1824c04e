"""The list of nodes, and the search box of the frame."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.db.models import Count
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET

from nodes.models import Connection, Node, NodeType, Status
from nodes.permissions import nodes_for
from nodes.selection import order_nodes, select_nodes
from nodes.web.listing import Column, export_rows, list_rows, wanted_order
from nodes.web.views.access import user_of
from nodes.web.views.bulk import MOST_NODES

SEARCH_HITS = 8


@dataclass(frozen=True, slots=True)
class Chip:
    """A filter that is on or off; ``value`` None takes it away."""

    label: str
    count: int | None
    on: bool
    value: str | None
    tone: str = ""


def columns() -> tuple[Column, ...]:
    return (
        Column(_("Status"), "status"),
        Column(_("Name"), "name"),
        Column(_("Type"), "type"),
        Column(_("CPU"), "cpu_used_percent", descending=True),
        Column(_("Memory"), "memory_used_percent", descending=True),
        Column(_("VMs"), "vm_running_count", css="right", descending=True),
        Column(_("Pools"), "pool_count", css="right", descending=True),
        Column(_("Uptime"), "uptime_s", css="right", descending=True),
        Column(_("Last seen"), "last_seen_at", css="right", descending=True),
        Column(_("Labels")),
    )


@require_GET
def node_list(request: HttpRequest) -> HttpResponse:
    """The nodes that fit the URL's filters; to htmx only the list itself."""
    everything = nodes_for(user_of(request))
    filters = read_filters(request)
    shown = columns()
    nodes = order_nodes(select_nodes(everything, filters), wanted_order(request, shown), filters["name"])
    exported = export_rows(request, "nodes", nodes, record)
    if exported is not None:
        return exported
    census = list(
        everything.order_by().values("node_type", "scheduling", "connection").annotate(count=Count("pk"))
    )
    context = {
        "listing": list_rows(request, nodes.defer("notes", "host_key"), shown),
        "filters": filters,
        "statuses": status_chips(census, filters["status"]),
        "types": type_chips(census, filters["type"]),
        "total": sum(row["count"] for row in census),
        "filtered": any(filters.values()),
        "bulk_most": MOST_NODES,
    }
    template = "nodes/node_list.html#list" if request.htmx else "nodes/node_list.html"  # type: ignore[attr-defined]
    return render(request, template, context)


def read_filters(request: HttpRequest) -> dict[str, Any]:
    """Filters of the URL. A label is ``?label=key=value``, several of them together must all fit."""
    status = request.GET.get("status", "")
    connection = request.GET.get("connection", "")
    node_type = request.GET.get("type", "")
    labels = dict(text.split("=", 1) for text in request.GET.getlist("label") if "=" in text)
    return {
        "status": status if status in Status.values else "",
        "connection": connection if connection in Connection.values else "",
        "type": node_type if node_type in NodeType.values else "",
        "name": request.GET.get("name", "").strip()[:63],
        "labels": labels,
    }


def status_chips(census: Sequence[Mapping[str, Any]], chosen: str) -> tuple[Chip, ...]:
    counts: Counter[str] = Counter()
    for row in census:
        node = Node(scheduling=row["scheduling"], connection=row["connection"])
        counts[node.status] += row["count"]
    tones = {Status.ONLINE: "good", Status.OFFLINE: "bad", Status.MAINTENANCE: "warn"}
    return tuple(
        Chip(
            str(status.label),
            counts[status],
            chosen == status,
            None if chosen == status else status,
            tones[status],
        )
        for status in (Status.ONLINE, Status.MAINTENANCE, Status.OFFLINE)
    )


def type_chips(census: Sequence[Mapping[str, Any]], chosen: str) -> tuple[Chip, ...]:
    counts: Counter[str] = Counter()
    for row in census:
        counts[row["node_type"]] += row["count"]
    if len(counts) < 2 and not chosen:
        return ()
    return tuple(
        Chip(str(NodeType(name).label), count, chosen == name, None if chosen == name else name)
        for name, count in counts.most_common()
    )


def record(node: Node) -> Mapping[str, Any]:
    """A node as one row of an export: figures exact, units in the names, unknown empty."""
    uptime = node.uptime
    return {
        "name": node.name,
        "uuid": str(node.uuid),
        "uri": node.uri,
        "type": node.node_type,
        "status": str(node.status.value),
        "scheduling": node.scheduling,
        "connection": node.connection,
        "reason": node.status_reason or None,
        "cpu_model": node.cpu_model or None,
        "cpu_threads": node.cpu_threads,
        "cpu_used_percent": node.cpu_used_percent,
        "memory_total_bytes": node.memory_total_bytes,
        "memory_used_bytes": node.memory_used_bytes,
        "vm_count": node.vm_count,
        "vm_running_count": node.vm_running_count,
        "pool_count": node.pool_count,
        "uptime_s": int(uptime.total_seconds()) if uptime is not None else None,
        "last_seen_at": node.last_seen_at.isoformat() if node.last_seen_at else None,
        "observed_at": node.observed_at.isoformat() if node.observed_at else None,
        "host_model": node.host_model or None,
        "os": node.os_name or None,
        "kernel": node.kernel_release or None,
        "libvirt_version": node.libvirt_version or None,
        "labels": node.labels,
    }


@require_GET
def search(request: HttpRequest) -> HttpResponse:
    """Nodes for the search box; nothing typed, nothing shown."""
    text = request.GET.get("q", "").strip()[:63]
    hits: list[Node] = []
    if text:
        nodes = select_nodes(nodes_for(user_of(request)), {"name": text})
        hits = list(order_nodes(nodes, name=text)[:SEARCH_HITS])
    return render(request, "components/search_results.html", {"hits": hits, "text": text})
