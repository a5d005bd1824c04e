"""An operation's steps as they are shown, and what proves that a host has restarted or is off."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from nodes.models import InventoryChange, Operation, OperationStep, StepStatus
from nodes.web.views.history import Line, line_of, section_titles

RESTARTS = ("reboot-node", "power-on-node")
MOST_CHANGES = 200


@dataclass(frozen=True, slots=True)
class ShownStep:
    """A step with what it measured: bytes and bytes a second; ``remaining_s`` is our estimate.

    ``vm``, ``source`` and ``target`` are "" where the title says them already.
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
    """Why we say that the host has restarted, or that it is off. Unknown is None."""

    boot_id_before: str | None
    boot_id_after: str | None
    down_s: float | None
    evidence: tuple[str, ...]


def shown_steps(steps: Iterable[OperationStep]) -> list[ShownStep]:
    return [_shown(step) for step in steps]


def _shown(step: OperationStep) -> ShownStep:
    data = step.data if isinstance(step.data, dict) else {}
    source = data.get("source")
    vm = "" if step.vm_name in step.title else step.vm_name
    target = "" if step.target in step.title else step.target
    shown = ShownStep(step, vm, source if isinstance(source, str) and step.target else "", target)
    if step.status != StepStatus.RUNNING:
        return shown
    left, speed = _number(data, "remaining_bytes"), _number(data, "speed_bytes_s")
    return ShownStep(
        step,
        vm,
        shown.source,
        target,
        remaining_bytes=int(left) if left is not None else None,
        speed_bytes_s=speed,
        remaining_s=left / speed if left is not None and speed else None,
    )


def _number(data: Mapping[str, Any], name: str) -> float | None:
    value = data.get(name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def proof_of(operation: Operation, steps: Iterable[OperationStep]) -> Proof | None:
    """The proof out of the operation's result or of its steps; None where there is none (yet)."""
    known: dict[str, Any] = {}
    for data in (*(step.data for step in steps), operation.result):
        if isinstance(data, dict):
            known |= {name: value for name, value in data.items() if value is not None}
    evidence = known.get("evidence")
    proof = Proof(
        _text(known, "boot_id_before"),
        _text(known, "boot_id_after"),
        _number(known, "down_s"),
        tuple(map(str, evidence)) if isinstance(evidence, list | tuple) else (),
    )
    return proof if proof.boot_id_after or proof.evidence else None


def _text(data: Mapping[str, Any], name: str) -> str | None:
    value = data.get(name)
    return value if isinstance(value, str) and value else None


def changes_of(operation: Operation) -> list[Line] | None:
    """What changed in the inventory while the host restarted; None for kinds that restart nothing."""
    node, begun = operation.node, operation.started_at
    if operation.kind not in RESTARTS or node is None or begun is None or not operation.is_finished:
        return None
    rows = InventoryChange.objects.filter(
        node=node, observed_at__gte=begun, observed_at__lte=operation.finished_at
    )
    titles = section_titles()
    return [line_of(node, row, titles) for row in rows[:MOST_CHANGES]]
