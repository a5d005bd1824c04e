"""Figures that a node's row copies out of its newest inventory, so that a list of thousands is one query."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from nodes.inventory.build import Inventory
from nodes.inventory.pools import PoolsFacts
from nodes.inventory.summary import SummaryFacts
from nodes.inventory.vms import VmsFacts
from nodes.models import Node
from nodes.operations.columns import fitting

FIGURE_COLUMNS = (
    "cpu_model", "host_model", "os_name", "kernel_release", "virtualization_type", "libvirt_version",
    "hypervisor_version", "boot_id", "booted_at", "cpu_threads", "cpu_used_percent", "memory_total_bytes",
    "memory_used_bytes", "vm_count", "vm_running_count", "pool_count", "problem_count",
)  # fmt: skip
"""The columns that an inventory sets."""


def copy_figures(node: Node, inventory: Inventory, observed_at: datetime) -> None:
    """Set the columns of ``node`` (unsaved) from ``inventory``; what is unknown becomes NULL or ""."""
    facts = {slug: result.facts for slug, result in inventory.results.items()}
    summary = facts.get("summary")
    if isinstance(summary, SummaryFacts):
        _copy_summary(node, summary, observed_at)
    vms = facts.get("vms")
    node.vm_count = vms.total if isinstance(vms, VmsFacts) else None
    node.vm_running_count = vms.active if isinstance(vms, VmsFacts) else None
    pools = facts.get("pools")
    node.pool_count = pools.total if isinstance(pools, PoolsFacts) else None
    node.problem_count = len(inventory.problems)


def _copy_summary(node: Node, facts: SummaryFacts, observed_at: datetime) -> None:
    machine, system, libvirt = facts.machine, facts.system, facts.libvirt
    model = " ".join(part for part in (machine.vendor, machine.product) if part)
    texts = {
        "cpu_model": facts.cpu.model,
        "host_model": model,
        "os_name": system.operating_system.name,
        "kernel_release": system.kernel.release,
        "virtualization_type": libvirt.virtualization,
        "libvirt_version": libvirt.version,
        "hypervisor_version": libvirt.hypervisor_version,
        "boot_id": system.boot_id,
    }
    for column, text in texts.items():
        setattr(node, column, fitting(node, column, text))
    node.cpu_threads = fitting(node, "cpu_threads", facts.cpu.threads)
    node.memory_total_bytes = fitting(node, "memory_total_bytes", facts.memory.total_bytes)
    node.memory_used_bytes = fitting(node, "memory_used_bytes", facts.memory.used_bytes)
    # By our clock, from the uptime: the host's own clock may be wrong.
    uptime_s = system.uptime_s
    node.booted_at = _booted_at(observed_at, uptime_s) if uptime_s is not None else None


def _booted_at(observed_at: datetime, uptime_s: float) -> datetime | None:
    try:
        return observed_at - timedelta(seconds=uptime_s)
    except OverflowError:
        return None


def parse_time(text: str) -> datetime:
    """An RFC 3339 time of a document, in UTC; now where it cannot be read."""
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        return datetime.now(UTC)
