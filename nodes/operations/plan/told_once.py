"""What holds for several VMs of a plan, told once with the VMs that it concerns.

Decisions keep their own reasons, which are what is confirmed; this is the same for reading.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nodes.operations.plans import VmDecision


@dataclass(frozen=True, slots=True)
class CommonReason:
    """One blocker and the VMs that it blocks, in the order of the plan."""

    code: str
    message: str
    remedy: str
    vms: tuple[str, ...]
    vm_uuids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CommonNote:
    """One note and the VMs that it is about."""

    message: str
    vms: tuple[str, ...]
    vm_uuids: tuple[str, ...]


@dataclass(slots=True)
class _Concerned:
    """VMs by UUID, each once: two VMs may have one name, and one VM the same reason twice."""

    names: dict[str, str] = field(default_factory=dict)

    def add(self, vm: VmDecision) -> None:
        self.names[vm.vm_uuid] = vm.vm_name


def common_reasons(decisions: Iterable[VmDecision]) -> tuple[CommonReason, ...]:
    """Every blocker once; those of the most VMs first, else in the order of the plan."""
    found: dict[tuple[str, str, str], _Concerned] = {}
    for vm in decisions:
        for reason in vm.blockers:
            key = (reason.code, reason.message, reason.remedy)
            found.setdefault(key, _Concerned()).add(vm)
    rows = [CommonReason(*key, tuple(vms.names.values()), tuple(vms.names)) for key, vms in found.items()]
    return tuple(sorted(rows, key=lambda row: -len(row.vm_uuids)))


def common_notes(decisions: Iterable[VmDecision]) -> tuple[CommonNote, ...]:
    """Every note once; those about the most VMs first, else in the order of the plan."""
    found: dict[str, _Concerned] = {}
    for vm in decisions:
        for words in vm.notes:
            found.setdefault(words, _Concerned()).add(vm)
    rows = [CommonNote(words, tuple(vms.names.values()), tuple(vms.names)) for words, vms in found.items()]
    return tuple(sorted(rows, key=lambda row: -len(row.vm_uuids)))
