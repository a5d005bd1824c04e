"""``/metrics``: the fleet and this server for Prometheus (text exposition format 0.0.4).

Everything is read from the database when it is asked for, so it does not matter which process is asked. The
caller shows the token of ``NODEADMIN_METRICS_TOKEN``, or an API token of somebody who may see every node.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from django.conf import settings
from django.db.models import Count, Min
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.crypto import constant_time_compare
from django.views.decorators.http import require_GET
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from nodeadmin.callers import known
from nodes.audit.exporter import export_states
from nodes.hosts.host_budget import totals
from nodes.models import AuditHead, MonitorProcess, Node, Operation, OperationStatus, Scheduling
from nodes.permissions import VIEW, has_for_all
from nodes.realtime.access import Caller
from nodes.realtime.feed import open_sockets
from nodes.realtime.logs import open_log_sockets

NODE_FIGURES = {
    "cpu_used_percent": ("nodeadmin_node_cpu_used_percent", "CPU in use, in percent of all threads."),
    "memory_used_bytes": ("nodeadmin_node_memory_used_bytes", "Memory in use."),
    "memory_total_bytes": ("nodeadmin_node_memory_bytes", "Memory in all."),
    "vm_running_count": ("nodeadmin_node_vms_running", "Running VMs."),
    "problem_count": (
        "nodeadmin_node_inventory_problems",
        "Sources the newest inventory could not read.",
    ),
}


@require_GET
def metrics(request: HttpRequest) -> HttpResponse:
    """401 without a token that counts; its body says nothing."""
    word, _, token = request.headers.get("Authorization", "").partition(" ")
    if word.lower() != "bearer" or not _may_read(token.strip(), request):
        response = HttpResponse(status=401, content_type="text/plain")
        response["WWW-Authenticate"] = 'Bearer realm="nodeadmin"'
        return response
    known(request)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(FleetCollector())
    return HttpResponse(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


def _may_read(token: str, request: HttpRequest) -> bool:
    own = settings.NODEADMIN_METRICS_TOKEN
    if own and constant_time_compare(token, own):
        return True
    address = request.META.get("REMOTE_ADDR") or None
    user = Caller(token=token, address=address).user() if token else None
    return user is not None and has_for_all(user, VIEW)


class FleetCollector(Collector):
    """All families, in a fixed number of queries."""

    def collect(self) -> Iterator[Metric]:
        yield from _nodes()
        yield from _operations()
        yield from _monitors()
        yield from _budgets()
        yield from _audit_log()
        sockets = GaugeMetricFamily(
            "nodeadmin_open_sockets", "Sockets that are open in this process.", labels=["kind"]
        )
        sockets.add_metric(["fleet"], open_sockets())
        sockets.add_metric(["logs"], open_log_sockets())
        yield sockets


def _nodes() -> Iterator[Metric]:
    by_state = GaugeMetricFamily(
        "nodeadmin_nodes", "Nodes by state.", labels=["status", "connection", "reason"]
    )
    up = GaugeMetricFamily("nodeadmin_node_online", "1 where the node is online.", labels=["node", "reason"])
    apart = GaugeMetricFamily(
        "nodeadmin_node_maintenance", "1 where the node is in maintenance, else 0.", labels=["node"]
    )
    age = GaugeMetricFamily(
        "nodeadmin_node_beat_age_seconds", "Time since the last heartbeat.", labels=["node"]
    )
    stale = GaugeMetricFamily(
        "nodeadmin_node_inventory_age_seconds", "Time since the newest inventory.", labels=["node"]
    )
    beats = CounterMetricFamily("nodeadmin_node_beats", "Heartbeats stored.", labels=["node"])
    flood = GaugeMetricFamily(
        "nodeadmin_node_flood", "1 while the host sends too much of something.", labels=["node", "kind"]
    )
    figures = {
        column: GaugeMetricFamily(name, words, labels=["node"])
        for column, (name, words) in NODE_FIGURES.items()
    }
    counts: dict[tuple[str, str, str], int] = {}
    now = timezone.now()
    columns = (
        "name", "scheduling", "connection", "connection_reason", "flood", "observed_at", *NODE_FIGURES,
        "heartbeat__seen_at", "heartbeat__beats",
    )  # fmt: skip
    for row in Node.objects.order_by("name").values(*columns):
        draft = Node(
            scheduling=row["scheduling"],
            connection=row["connection"],
            connection_reason=row["connection_reason"],
        )
        name, reason = row["name"], draft.status_reason
        state = (draft.status.value, draft.connection, reason)
        counts[state] = counts.get(state, 0) + 1
        up.add_metric([name, reason], float(draft.connection == "online"))
        apart.add_metric([name], float(draft.scheduling == Scheduling.MAINTENANCE))
        _add_age(age, name, row["heartbeat__seen_at"], now)
        _add_age(stale, name, row["observed_at"], now)
        if row["flood"]:
            flood.add_metric([name, row["flood"]], 1.0)
        if row["heartbeat__beats"] is not None:
            beats.add_metric([name], row["heartbeat__beats"])
        for column, family in figures.items():
            if row[column] is not None:
                family.add_metric([name], row[column])
    for labels, count in sorted(counts.items()):
        by_state.add_metric(list(labels), count)
    yield from (by_state, up, apart, age, stale, beats, flood, *figures.values())


def _budgets() -> Iterator[Metric]:
    paused = CounterMetricFamily(
        "nodeadmin_host_budget_pauses_seconds", "Time for which hosts that sent much were not read."
    )
    paused.add_metric([], totals.paused_s)
    refused = CounterMetricFamily(
        "nodeadmin_host_budget_refusals", "Requests refused by a host's budget.", labels=["resource"]
    )
    for resource, count in sorted(totals.refused.items()):
        refused.add_metric([resource], count)
    yield from (paused, refused)


def _add_age(family: GaugeMetricFamily, name: str, moment: datetime | None, now: datetime) -> None:
    if moment is not None:
        family.add_metric([name], max(0.0, (now - moment).total_seconds()))


def _operations() -> Iterator[Metric]:
    unfinished = GaugeMetricFamily(
        "nodeadmin_operations_unfinished", "Operations queued or running.", labels=["kind", "status"]
    )
    ended = GaugeMetricFamily(
        "nodeadmin_operations_kept", "Operations in the record, by how they ended.", labels=["kind", "status"]
    )
    for row in Operation.objects.order_by().values("kind", "status").annotate(count=Count("pk")):
        finished = row["status"] not in (OperationStatus.QUEUED, OperationStatus.RUNNING)
        (ended if finished else unfinished).add_metric([row["kind"], row["status"]], row["count"])
    yield unfinished
    yield ended
    queue = GaugeMetricFamily("nodeadmin_queue_wait_seconds", "How long the oldest queued operation waits.")
    queued = Operation.objects.filter(status=OperationStatus.QUEUED)
    oldest = queued.order_by().aggregate(oldest=Min("created_at"))["oldest"]
    queue.add_metric([], (timezone.now() - oldest).total_seconds() if oldest is not None else 0.0)
    yield queue


def _audit_log() -> Iterator[Metric]:
    """Three queries."""
    head = AuditHead.objects.first()
    problems = GaugeMetricFamily(
        "nodeadmin_audit_problems", "Problems that the last verification of the audit log found."
    )
    age = GaugeMetricFamily(
        "nodeadmin_audit_verification_age_seconds", "Time since the audit log was verified."
    )
    if head is not None and head.verified_at is not None:
        problems.add_metric([], head.problem_count)
        age.add_metric([], (timezone.now() - head.verified_at).total_seconds())
    lag = GaugeMetricFamily(
        "nodeadmin_audit_export_lag", "Entries that wait to be exported.", labels=["destination"]
    )
    failing = GaugeMetricFamily(
        "nodeadmin_audit_export_failing", "1 while an export fails, else 0.", labels=["destination"]
    )
    for state in export_states():
        lag.add_metric([state.cursor.destination], state.lag)
        failing.add_metric([state.cursor.destination], float(bool(state.cursor.error)))
    yield from (problems, age, lag, failing)


def _monitors() -> Iterator[Metric]:
    nodes = GaugeMetricFamily("nodeadmin_monitor_nodes", "Nodes that a monitor watches.", labels=["monitor"])
    delay = GaugeMetricFamily(
        "nodeadmin_monitor_loop_delay_seconds", "By how much a monitor's loop is late.", labels=["monitor"]
    )
    cut_off = GaugeMetricFamily(
        "nodeadmin_monitor_cut_off", "1 while a monitor may be cut off.", labels=["monitor"]
    )
    for process in MonitorProcess.objects.alive().annotate(count=Count("heartbeats")).order_by("name"):
        nodes.add_metric([process.name], process.count)
        cut_off.add_metric([process.name], float(process.cut_off_since is not None))
        if process.loop_delay_s is not None:
            delay.add_metric([process.name], process.loop_delay_s)
    yield from (nodes, delay, cut_off)
