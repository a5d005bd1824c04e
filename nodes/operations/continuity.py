"""What an inventory owes to the one before: values of disks that sleep, rates, and utilization."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from nodes.inventory.build import Inventory
from nodes.inventory.counters import rates, readings_of_plain
from nodes.inventory.plain import to_plain
from nodes.inventory.smart_history import carry_over
from nodes.models import Node, SnapshotSection

Facts = Mapping[str, Any]


def previous_facts(node: Node) -> dict[str, Facts]:
    """The stored facts of the node's newest snapshot, by section; empty where there is none."""
    return facts_of(node.snapshot_id) if node.snapshot_id is not None else {}


def facts_of(snapshot_id: int) -> dict[str, Facts]:
    """The stored facts of a snapshot, by section; those that could not be built are left out."""
    rows = SnapshotSection.objects.filter(snapshot=snapshot_id).exclude(facts=None)
    return {slug: facts for slug, facts in rows.values_list("slug", "facts") if facts is not None}


def carried(inventory: Inventory, before: Mapping[str, Facts], before_at: datetime | None) -> Inventory:
    """``inventory`` with the last known SMART values of disks that gave none now."""
    disks = inventory.results.get("disks")
    if disks is None or disks.plain is None or "disks" not in before or before_at is None:
        return inventory
    plain = carry_over(before["disks"], _rfc3339(before_at), disks.plain)
    return Inventory(inventory.observed_at, {**inventory.results, "disks": replace(disks, plain=plain)})


def with_rates(inventory: Inventory, before: Mapping[str, Facts], seconds: float) -> Inventory:
    """``inventory`` with ``rates`` in the network's facts: bytes, packets, errors a second by interface."""
    net = inventory.results.get("net")
    if net is None or net.plain is None:
        return inventory
    found = rates(
        readings_of_plain(before.get("net")),
        readings_of_plain(net.plain),
        seconds,
        same_boot=same_boot(inventory, before),
    )
    plain = {**net.plain, "rates": to_plain(found)}
    return Inventory(inventory.observed_at, {**inventory.results, "net": replace(net, plain=plain)})


def with_stored_rates(inventory: Inventory, stored: Mapping[str, Facts]) -> Inventory:
    """``inventory`` with the rates that its own snapshot has: a document alone tells none."""
    net, kept = inventory.results.get("net"), stored.get("net") or {}
    if net is None or net.plain is None or "rates" not in kept:
        return inventory
    plain = {**net.plain, "rates": kept["rates"]}
    return Inventory(inventory.observed_at, {**inventory.results, "net": replace(net, plain=plain)})


def same_boot(inventory: Inventory, before: Mapping[str, Facts]) -> bool:
    """Whether both are of one run of the kernel; False where a boot ID is unknown."""
    now, then = _system(_plain(inventory, "summary")), _system(before.get("summary"))
    return bool(now.get("boot_id")) and now.get("boot_id") == then.get("boot_id")


def cpu_used_percent(inventory: Inventory, before: Mapping[str, Facts]) -> float | None:
    """Utilization of all CPUs between two inventories of one boot, in percent; None where unknown."""
    if not same_boot(inventory, before):
        return None
    now = _system(_plain(inventory, "summary")).get("load") or {}
    then = _system(before.get("summary")).get("load") or {}
    try:
        busy = now["cpu_busy_s"] - then["cpu_busy_s"]
        idle = now["cpu_idle_s"] - then["cpu_idle_s"]
    except (KeyError, TypeError):
        return None
    total = busy + idle
    return 100.0 * busy / total if total > 0 and busy >= 0 and idle >= 0 else None


def _plain(inventory: Inventory, slug: str) -> Facts | None:
    result = inventory.results.get(slug)
    return result.plain if result is not None else None


def _system(summary: Facts | None) -> Facts:
    system = (summary or {}).get("system")
    return system if isinstance(system, Mapping) else {}


def _rfc3339(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
