"""The targets of a plan as people choose from them: for all VMs, and for a single one."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from nodes.operations.plans import Plan, PlanTarget, Unfit
from nodes.web.figures import bytes_text

MOVE_TO = "migrate:"
"""What the value of a choice begins with that names the VM's own target; its UUID follows."""
MOST_OPTIONS = 4000
"""Targets offered in all the selects of a plan together; each offers at least :data:`LEAST_OPTIONS`."""
LEAST_OPTIONS = 8
MOST_NAMES = 5


@dataclass(frozen=True, slots=True)
class TargetRow:
    """A node in the list for all VMs. ``why_not``: it takes none; ``unfit``: which it does not take, and why.
    ``chosen``: VMs are limited to it and the others chosen."""

    uuid: str
    name: str
    room: str
    why_not: tuple[str, ...]
    unfit: tuple[str, ...]
    chosen: bool

    @property
    def offered(self) -> bool:
        """Whether it can be chosen; one that was can be given up."""
        return self.chosen or not self.why_not


@dataclass(frozen=True, slots=True)
class TargetOption:
    """A node in the select of one VM."""

    value: str
    label: str
    offered: bool


def target_rows(plan: Plan, chosen: Collection[str]) -> tuple[TargetRow, ...]:
    """The nodes for all VMs, those that take VMs first; ``chosen`` by UUID."""
    names = {vm.vm_uuid: vm.vm_name for vm in plan.decisions}
    return tuple(
        TargetRow(
            uuid=target.uuid,
            name=target.name,
            room=room_of(target),
            why_not=tuple(reason.message for reason in target.obstacles),
            unfit=tuple(_unfit(row, names) for row in target.unfit),
            chosen=target.uuid in chosen,
        )
        for target in plan.targets
    )


def target_options(plan: Plan, vm_uuid: str, choice: str) -> tuple[TargetOption, ...]:
    """The nodes for the VM, those that take it first; of a very large plan those with most room alone."""
    rows = [(target, target.why_not(vm_uuid)) for target in plan.targets]
    rows.sort(key=lambda row: (bool(row[1]), -(row[0].memory_free_bytes or 0), row[0].name))
    most = max(LEAST_OPTIONS, MOST_OPTIONS // max(1, len(plan.decisions)))
    kept = rows[:most] + [row for row in rows[most:] if choice == MOVE_TO + row[0].uuid]
    return tuple(
        TargetOption(
            value=MOVE_TO + target.uuid,
            label=f"{target.name} · {why_not[0] if why_not else room_of(target)}",
            offered=not why_not or choice == MOVE_TO + target.uuid,
        )
        for target, why_not in kept
    )


def room_of(target: PlanTarget) -> str:
    """What the node has left, in words; "" where nothing is known."""
    if target.memory_free_bytes is None:
        return ""
    memory = bytes_text(target.memory_free_bytes)
    if not target.asked:
        return _("%(memory)s free by its inventory") % {"memory": memory}
    if target.vcpus_free is None:
        return _("%(memory)s free") % {"memory": memory}
    return ngettext(
        "%(memory)s and %(count)d vCPU free", "%(memory)s and %(count)d vCPUs free", target.vcpus_free
    ) % {"memory": memory, "count": target.vcpus_free}


def _unfit(row: Unfit, names: dict[str, str]) -> str:
    vms = sorted(names[uuid] for uuid in row.vm_uuids if uuid in names)
    listed = ", ".join(vms[:MOST_NAMES]) + (" …" if len(vms) > MOST_NAMES else "")
    return _("Not for %(vms)s: %(why)s") % {"vms": listed, "why": row.message}
