"""The fleet as sockets show it: one line a node, one an operation under way; one query each."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from nodes.models import Node, Operation, Scheduling
from nodes.monitor.points import unpack

RATES = (
    "swap_used_bytes", "load_1", "net_rx_bytes_per_s", "net_tx_bytes_per_s", "disk_read_bytes_per_s",
    "disk_written_bytes_per_s", "cpu_pressure_percent", "memory_pressure_percent", "io_pressure_percent",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class NodeLine:
    """A node's status and newest figures. Unknown is None."""

    uuid: str
    name: str
    status: str
    scheduling: str
    connection: str
    reason: str
    seen_at: str | None
    cpu_used_percent: float | None
    memory_used_bytes: int | None
    memory_total_bytes: int | None
    vms_running: int | None
    vms_total: int | None
    figures: dict[str, float | None]


@dataclass(frozen=True, slots=True)
class OperationLine:
    """An operation that is queued or running."""

    id: str
    kind: str
    node: str
    status: str


def plain(line: NodeLine | OperationLine) -> dict[str, Any]:
    return asdict(line)


def read_nodes() -> dict[int, NodeLine]:
    """Every node by its primary key."""
    rows = Node.objects.order_by().values_list(
        "pk", "uuid", "name", "scheduling", "connection", "connection_reason", "last_seen_at",
        "cpu_used_percent", "memory_used_bytes", "memory_total_bytes", "vm_running_count", "vm_count",
        "heartbeat__seen_at", "heartbeat__cpu_used_percent", "heartbeat__memory_used_bytes",
        "heartbeat__vms_running", "heartbeat__vms_total", "heartbeat__point",
    )  # fmt: skip
    return {row[0]: _line(*row) for row in rows}


def _line(
    _pk: int, uuid: Any, name: str, scheduling: str, connection: str, reason: str, copied_at: datetime | None,
    cpu: float | None, used: int | None, total: int | None, running: int | None, vms: int | None,
    seen_at: datetime | None, new_cpu: float | None, new_used: int | None, new_running: int | None,
    new_vms: int | None, point: bytes | memoryview | None,
) -> NodeLine:  # fmt: skip
    moments = [moment for moment in (seen_at, copied_at) if moment is not None]
    draft = Node(scheduling=scheduling, connection=connection, connection_reason=reason)
    return NodeLine(
        uuid=str(uuid),
        name=name,
        status=draft.status.value,
        scheduling=Scheduling(scheduling).value,
        connection=connection,
        reason=draft.status_reason,
        seen_at=max(moments).isoformat(timespec="seconds") if moments else None,
        cpu_used_percent=_first(new_cpu, cpu),
        memory_used_bytes=_first(new_used, used),
        memory_total_bytes=total,
        vms_running=_first(new_running, running),
        vms_total=_first(new_vms, vms),
        figures=_figures(point),
    )


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def _figures(data: bytes | memoryview | None) -> dict[str, float | None]:
    points = unpack(bytes(data)) if data else ()
    if not points:
        return {}
    values = {name: getattr(points[-1], name) for name in RATES}
    return {name: None if math.isnan(value) else round(value, 2) for name, value in values.items()}


def read_operations() -> dict[str, tuple[int | None, OperationLine]]:
    """Every unfinished operation by its id, with its node's primary key."""
    rows = (
        Operation.objects.unfinished().order_by().values_list("id", "kind", "node_name", "status", "node_id")
    )
    return {str(row[0]): (row[4], OperationLine(str(row[0]), row[1], row[2], row[3])) for row in rows}
