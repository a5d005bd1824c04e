"""An operation's steps as they are shown, and what proves that a host has restarted or is off."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from django.utils.translation import gettext as _

from nodes.models import InventoryChange, Operation, OperationStep, StepStatus
from nodes.web import figures
from nodes.web.views.history import Line, line_of, section_titles

RESTARTS = ("reboot-node", "power-on-node")
MOST_CHANGES = 200


@dataclass(frozen=True, slots=True)
class ShownStep:
    """A step with what it measured: bytes and bytes a second; ``remaining_s`` is our estimate.

    ``vm`` and ``target`` are "" where the title says them already; ``source`` is the node that a VM leaves.
    """

    step: OperationStep
    vm: str
    source: str
    target: str
    remaining_bytes: int | None = None
    speed_bytes_s: float | None = None
    remaining_s: float | None = None


@dataclass(frozen=True, slots=True)
class Proof:
    """Why we say that the host has restarted, or that it is off. Unknown is None; seconds."""

    boot_id_before: str | None
    boot_id_after: str | None
    down_s: float | None
    evidence: tuple[str, ...]


def shown_steps(operation: Operation, steps: Iterable[OperationStep]) -> list[ShownStep]:
    sources = _sources(operation)
    return [_shown(step, sources) for step in steps]


def _sources(operation: Operation) -> Mapping[str, str]:
    """The name of the node that each VM of the plan leaves, by the VM's UUID."""
    rows = (operation.plan or {}).get("decisions") or ()
    return {str(row.get("vm_uuid")): row.get("source") or operation.node_name for row in rows}


def _shown(step: OperationStep, sources: Mapping[str, str]) -> ShownStep:
    shown = ShownStep(
        step,
        vm="" if step.vm_name in step.title else step.vm_name,
        source=sources.get(str(step.vm_uuid), "") if step.target else "",
        target="" if step.target in step.title else step.target,
    )
    if step.status != StepStatus.RUNNING or not isinstance(step.data, dict):
        return shown
    left, speed = _number(step.data, "remaining_bytes"), _number(step.data, "speed_bytes_s")
    return replace(
        shown,
        remaining_bytes=int(left) if left is not None else None,
        speed_bytes_s=speed,
        remaining_s=left / speed if left is not None and speed else None,
    )


def _number(data: Mapping[str, Any], name: str) -> float | None:
    value = data.get(name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def proof_of(steps: Iterable[OperationStep]) -> Proof | None:
    """The proof out of what the steps ``back`` and ``off`` have kept; None where there is none (yet)."""
    for step in steps:
        data = step.data if isinstance(step.data, dict) else {}
        if data.get("boot_id") and "boot_id_before" in data:
            before = str(data["boot_id_before"] or "") or None
            return Proof(before, str(data["boot_id"]), _number(data, "down_s"), ())
        if data.get("off") is True:
            return Proof(None, None, None, tuple(_evidence(data)))
    return None


def _evidence(data: Mapping[str, Any]) -> Iterator[str]:
    accepted = figures.parse_moment(data.get("accepted_at"))
    if accepted is not None:
        yield _("The host took the command: %s") % figures.moment_text(accepted)
    silent_s = _number(data, "silent_s")
    if silent_s is not None:
        yield _("Its connection ended, and nothing answered for %s") % figures.duration_text(silent_s)
    if data.get("bmc"):
        yield _("Its BMC says: %s") % data["bmc"]


def changes_of(operation: Operation, steps: Iterable[OperationStep]) -> list[Line] | None:
    """What changed in the inventory while the host restarted; None for kinds that restart nothing, and where
    no inventory was taken that could tell."""
    node, begun = operation.node, operation.started_at
    if operation.kind not in RESTARTS or node is None or begun is None or not operation.is_finished:
        return None
    rows = InventoryChange.objects.filter(
        node=node, observed_at__gte=begun, observed_at__lte=operation.finished_at
    )
    titles = section_titles()
    found = [line_of(node, row, titles) for row in rows[:MOST_CHANGES]]
    taken = any(step.code == "inventory" and step.status == StepStatus.SUCCEEDED for step in steps)
    return found if found or taken else None
