"""Where VMs go: the biggest first, each to the target that has the most left after it.

Free memory is compared in coarse steps and a target that was shown before is kept wherever it is still
possible: figures that waver by some megabytes do not make another plan.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from django.utils.translation import gettext as _

from nodes.operations.plans import PlanTarget, Reason, Unfit
from nodes.operations.world import PlannedVm, Reasons, Target

MIB = 1 << 20
STEP_BYTES = 256 * MIB
OVERHEAD_BYTES = 64 * MIB
"""What QEMU takes beside the guest's memory."""
MOST_SHOWN = 256
"""Targets that a plan lists at most, for people to choose from."""


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


@dataclass(frozen=True, slots=True)
class Choice:
    """What people chose of the targets, by UUID or name: ``only`` these (empty: any), and the one ``named``
    for a VM by its UUID, which counts for more. ``prefer`` are target UUIDs that were shown before."""

    only: frozenset[str] = frozenset()
    named: Mapping[str, str] = field(default_factory=dict)
    prefer: Mapping[str, str] = field(default_factory=dict)

    def allows(self, vm: PlannedVm, target: Target) -> bool:
        """Whether the VM may go there as far as people are concerned."""
        named = self.named.get(vm.uuid)
        if named:
            return named in (target.uuid, target.name)
        return not self.only or target.uuid in self.only or target.name in self.only


def place(
    vms: Sequence[PlannedVm], targets: Sequence[Target], *, others: bool, choice: Choice
) -> dict[str, Target | Reason]:
    """A target for each VM, or why there is none, by the VM's UUID.

    ``others`` tells "none that you may use" from "none at all".
    """
    rooms = [
        _Room(target, target.memory_free_bytes, target.vcpus_free, dict(target.supplies))
        for target in targets
        if target.asked and not target.obstacles and target.memory_free_bytes is not None
    ]
    placed: dict[str, Target | Reason] = {}
    for vm in _in_turn(vms, choice):
        allowed = [room for room in rooms if choice.allows(vm, room.target)]
        room = _choose(vm, allowed, choice.prefer.get(vm.uuid))
        if room is None:
            placed[vm.uuid] = _why_nowhere(vm, targets, rooms, others, choice)
        else:
            room.take(vm)
            placed[vm.uuid] = room.target
    return placed


def _in_turn(vms: Sequence[PlannedVm], choice: Choice) -> Iterator[PlannedVm]:
    """Those whose target was named, then those that were shown one, which a newcomer does not push away."""
    named = [vm for vm in vms if vm.uuid in choice.named]
    kept = [vm for vm in vms if vm.uuid in choice.prefer and vm.uuid not in choice.named]
    rest = [vm for vm in vms if vm.uuid not in choice.prefer and vm.uuid not in choice.named]
    for part in (named, kept, rest):
        yield from _biggest_first(part)


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


def _why_nowhere(
    vm: PlannedVm, targets: Sequence[Target], rooms: Sequence[_Room], others: bool, choice: Choice
) -> Reason:
    if vm.memory_bytes is None:
        text = _("How much memory it takes could not be read.")
        return Reason("vm_state_unknown", text, _("Look at it on the host."))
    allowed = [target for target in targets if choice.allows(vm, target)]
    chosen = bool(choice.only) or vm.uuid in choice.named
    if not allowed and chosen:
        return _none_of_the_chosen()
    # Of those that nobody chose, the ones in maintenance and the like are no reason of the VM's.
    told = allowed if chosen else [row for row in allowed if row.asked or not row.obstacles]
    if not told:
        return _none_allowed() if others else _none_at_all()
    return _all_refuse(vm, told, {room.target.uuid: room for room in rooms}, named=vm.uuid in choice.named)


def _all_refuse(
    vm: PlannedVm, targets: Sequence[Target], room_of: Mapping[str, _Room], *, named: bool
) -> Reason:
    reasons: dict[str, Reasons] = {}
    for target in targets:
        room = room_of.get(target.uuid)
        found = target.obstacles or target.unfit.get(vm.uuid, ())
        if not found and room is not None:
            found = (_no_room(vm, room),)
        elif not found:
            text = _("its free memory could not be read") if target.asked else _("was not asked in time")
            found = (Reason("no_room", text),)
        reasons[target.name] = found
    codes = {reason.code for found in reasons.values() for reason in found[:1]}
    code = codes.pop() if len(codes) == 1 else "no_target"
    told = "; ".join(f"{name}: {found[0].message}" for name, found in list(reasons.items())[:5])
    remedies = [reason.remedy for found in reasons.values() for reason in found if reason.remedy]
    text = _("The chosen target is not suitable. %s") if named else _("No suitable target. %s")
    otherwise = _("Choose another target, or stop the VM.") if named else _free_room()
    return Reason("no_target" if code == "no_room" else code, text % told, next(iter(remedies), otherwise))


def _free_room() -> str:
    return _("Free room on another node, or stop the VM.")


def shown_targets(targets: Sequence[Target]) -> tuple[PlanTarget, ...]:
    """The targets for people to choose from: those that take VMs first, by name; a reason once, with its
    VMs."""
    found = [
        PlanTarget(
            uuid=target.uuid,
            name=target.name,
            memory_free_bytes=target.memory_free_bytes,
            vcpus_free=target.vcpus_free,
            asked=target.asked,
            obstacles=tuple(target.obstacles),
            unfit=_by_reason(target.unfit),
        )
        for target in targets
    ]
    return tuple(sorted(found, key=lambda row: (bool(row.obstacles), row.name)))[:MOST_SHOWN]


def _by_reason(unfit: Mapping[str, Reasons]) -> tuple[Unfit, ...]:
    vms: dict[Reason, list[str]] = {}
    for uuid, reasons in sorted(unfit.items()):
        for reason in reasons:
            vms.setdefault(reason, []).append(uuid)
    return tuple(
        Unfit(reason.code, reason.message, reason.remedy, tuple(uuids)) for reason, uuids in vms.items()
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


def _none_of_the_chosen() -> Reason:
    return Reason(
        "unknown_node",
        _("The chosen target is unknown, or you may not use it."),
        _("Choose another target."),
    )
