"""Where VMs go: the biggest first, each to the target that has the most left after it.

Free memory is compared in coarse steps and a target that was shown before is kept wherever it is still
possible: figures that waver by some megabytes do not make another plan.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from django.utils.translation import gettext as _

from nodes.operations.plans import Reason
from nodes.operations.world import PlannedVm, Reasons, Target

MIB = 1 << 20
STEP_BYTES = 256 * MIB
OVERHEAD_BYTES = 64 * MIB
"""What QEMU takes beside the guest's memory."""


@dataclass(slots=True)
class _Room:
    """What is left on one target while VMs are placed on it."""

    target: Target
    memory_bytes: int
    vcpus: int | None
    supplies: dict[str, int]
    placed: int = 0

    def fits(self, vm: PlannedVm) -> bool:
        return (
            need_of(vm) <= self.memory_bytes
            and (self.vcpus is None or (vm.vcpus or 0) <= self.vcpus)
            and not self.lacks(vm)
        )

    def lacks(self, vm: PlannedVm) -> bool:
        """Whether too little is left of what the VM shares with others, such as huge pages."""
        return any(amount > self.supplies.get(name, amount) for name, amount in vm.demands.items())

    def take(self, vm: PlannedVm) -> None:
        self.memory_bytes -= need_of(vm)
        self.vcpus = None if self.vcpus is None else self.vcpus - (vm.vcpus or 0)
        for name, amount in vm.demands.items():
            if name in self.supplies:
                self.supplies[name] -= amount
        self.placed += 1


def place(
    vms: Sequence[PlannedVm], targets: Sequence[Target], *, others: bool, prefer: Mapping[str, str]
) -> dict[str, Target | Reason]:
    """A target for each VM, or why there is none, by the VM's UUID.

    ``prefer`` are target UUIDs by VM UUID; ``others`` tells "none that you may use" from "none at all".
    """
    rooms = [
        _Room(target, target.memory_free_bytes, target.vcpus_free, dict(target.supplies))
        for target in targets
        if not target.obstacles and target.memory_free_bytes is not None
    ]
    kept = [vm for vm in vms if vm.uuid in prefer]
    rest = [vm for vm in vms if vm.uuid not in prefer]
    placed: dict[str, Target | Reason] = {}
    # Those that were shown a target first: a newcomer does not push them away from it.
    for vm in (*_biggest_first(kept), *_biggest_first(rest)):
        room = _choose(vm, rooms, prefer.get(vm.uuid))
        if room is None:
            placed[vm.uuid] = _why_nowhere(vm, targets, rooms, others)
        else:
            room.take(vm)
            placed[vm.uuid] = room.target
    return placed


def need_of(vm: PlannedVm) -> int:
    """Memory that the VM takes of what its target's kernel hands out, in bytes, QEMU's own included."""
    return max(0, (vm.memory_bytes or 0) - vm.huge_page_bytes) + OVERHEAD_BYTES


def _biggest_first(vms: Iterable[PlannedVm]) -> list[PlannedVm]:
    return sorted(vms, key=lambda vm: (-(vm.memory_bytes or 0), -(vm.vcpus or 0), vm.uuid))


def _choose(vm: PlannedVm, rooms: Sequence[_Room], preferred: str | None) -> _Room | None:
    need = need_of(vm)
    if vm.memory_bytes is None:
        return None
    fitting = [room for room in rooms if not room.target.unfit.get(vm.uuid) and room.fits(vm)]
    for room in fitting:
        if room.target.uuid == preferred:
            return room
    order = {id(room): _rank(room, need) for room in fitting}
    return min(fitting, key=lambda room: order[id(room)], default=None)


def _rank(room: _Room, need: int) -> tuple[int, int, str, str]:
    left = (room.memory_bytes - need) // STEP_BYTES
    return (-left, room.placed, room.target.name, room.target.uuid)


def _why_nowhere(vm: PlannedVm, targets: Sequence[Target], rooms: Sequence[_Room], others: bool) -> Reason:
    if vm.memory_bytes is None:
        text = _("How much memory it takes could not be read.")
        return Reason("vm_state_unknown", text, _("Look at it on the host."))
    if not targets:
        return _none_allowed() if others else _none_at_all()
    room_of = {room.target.uuid: room for room in rooms}
    reasons: dict[str, Reasons] = {}
    for target in targets:
        room = room_of.get(target.uuid)
        found = target.obstacles or target.unfit.get(vm.uuid, ())
        if not found and room is None:
            found = (Reason("no_room", _("its free memory could not be read")),)
        elif not found and room is not None:
            found = (_no_room(vm, room),)
        reasons[target.name] = found
    codes = {reason.code for found in reasons.values() for reason in found[:1]}
    code = codes.pop() if len(codes) == 1 else "no_target"
    told = "; ".join(f"{name}: {found[0].message}" for name, found in list(reasons.items())[:5])
    remedies = [reason.remedy for found in reasons.values() for reason in found if reason.remedy]
    return Reason(
        "no_target" if code == "no_room" else code,
        _("No node can take it. %s") % told,
        remedies[0] if remedies else _("Free room on another node, or stop the VM."),
    )


def _no_room(vm: PlannedVm, room: _Room) -> Reason:
    if need_of(vm) > room.memory_bytes:
        text = _("needs %(need)d MiB of memory, %(left)d MiB are left") % {
            "need": -(-need_of(vm) // MIB),
            "left": max(0, room.memory_bytes // MIB),
        }
    elif room.lacks(vm):
        text = _("has too little left of the huge pages or NUMA memory that it needs, beside the other VMs")
    else:
        text = _("needs %(need)d vCPUs, %(left)d are left") % {
            "need": vm.vcpus or 0,
            "left": max(0, room.vcpus or 0),
        }
    return Reason("no_room", text)


def _none_at_all() -> Reason:
    return Reason(
        "no_target",
        _("No other compute or hybrid node is enabled and online."),
        _("Enable or add another compute or hybrid node, or stop the VM."),
    )


def _none_allowed() -> Reason:
    return Reason(
        "no_target_permission",
        _("There are other nodes, but none that you may maintain."),
        _("Ask an administrator for the permission “maintain_node” on one of them."),
    )
