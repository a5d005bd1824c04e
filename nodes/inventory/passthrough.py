"""Whether a device can be given to a VM, in words that both PCI and USB devices use.

A verdict is never bare: each comes with its reasons, and each reason that stands in the way with a remedy.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from nodes.inventory.holders import Holders
from nodes.inventory.hostuse import HostUse


class Verdict(StrEnum):
    READY = "ready"
    """It can be given as it is."""
    POSSIBLE = "possible"
    """It can be given, and the reasons say what that takes or costs."""
    BLOCKED = "blocked"
    """It cannot be given, or not without harm to the host or to a VM, until the remedies are carried out."""


class Effect(StrEnum):
    BLOCKS = "blocks"
    COSTS = "costs"
    NOTE = "note"
    """Good to know; changes nothing in the verdict."""


@dataclass(frozen=True, slots=True)
class Reason:
    """One reason. ``code`` is stable; ``subjects`` are the addresses, names or VMs that it speaks of.

    ``remedy`` is None where nothing helps or nothing is amiss.
    """

    code: str
    effect: Effect
    message: str
    remedy: str | None = None
    subjects: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Passthrough:
    """The verdict and what led to it, the weightiest reasons first."""

    verdict: Verdict
    reasons: tuple[Reason, ...] = ()


def conclude(reasons: Iterable[Reason]) -> Passthrough:
    """One blocking reason blocks; one with a cost makes it possible; without either it is ready."""
    order = list(Effect)
    ordered = tuple(sorted(dict.fromkeys(reasons), key=lambda reason: order.index(reason.effect)))
    worst = ordered[0].effect if ordered else Effect.NOTE
    verdicts = {Effect.BLOCKS: Verdict.BLOCKED, Effect.COSTS: Verdict.POSSIBLE, Effect.NOTE: Verdict.READY}
    return Passthrough(verdicts[worst], ordered)


def listed(names: Iterable[str], most: int = 6) -> str:
    """``a, b and 3 more``."""
    shown = list(names)
    if len(shown) > most:
        return f"{', '.join(shown[:most])} and {len(shown) - most} more"
    return ", ".join(shown)


def holder_reasons(holders: Holders | None) -> Iterator[Reason]:
    """A running VM has the device; a stopped one wants it when it starts; None: nobody knows."""
    if holders is None:
        message = "Whether a VM holds it is not known: libvirt did not describe all VMs."
        yield Reason("holders_unknown", Effect.COSTS, message, "See why libvirt does not answer.")
        return
    running = tuple(dict.fromkeys(holder.vm_name for holder in holders if holder.running))
    stopped = tuple(dict.fromkeys(holder.vm_name for holder in holders if not holder.running))
    if running:
        message = f"The running VM {listed(running)} holds it."
        remedy = "Stop that VM or detach the device from it."
        yield Reason("held_by_vm", Effect.BLOCKS, message, remedy, running)
    if stopped:
        message = f"The VM {listed(stopped)}, which is not running, has it in its configuration."
        remedy = "Remove it there, or never run both VMs at once."
        yield Reason("assigned_to_stopped_vm", Effect.COSTS, message, remedy, stopped)


@dataclass(frozen=True, slots=True)
class _Kind:
    effect: Effect
    message: str
    remedy: str | None


_VOLUME_REMEDY = "Take it out of use on the host first."
_KINDS: Mapping[str, _Kind] = {
    "mount": _Kind(
        Effect.BLOCKS,
        "The host has {device} mounted at {names}{through}.",
        "Unmount it and take it out of /etc/fstab.",
    ),
    "swap": _Kind(Effect.BLOCKS, "The host swaps to {device}{through}.", "Run swapoff and edit /etc/fstab."),
    "lvm": _Kind(
        Effect.BLOCKS,
        "{device} carries the active LVM volume {names}{through}.",
        "Deactivate the volume group.",
    ),
    "raid": _Kind(
        Effect.BLOCKS, "{device} is a member of the running array {names}{through}.", _VOLUME_REMEDY
    ),
    "encrypted": _Kind(
        Effect.BLOCKS, "{device} carries the open encrypted volume {names}{through}.", "Close the volume."
    ),
    "multipath": _Kind(
        Effect.BLOCKS, "{device} is a path of the multipath device {names}{through}.", _VOLUME_REMEDY
    ),
    "bcache": _Kind(Effect.BLOCKS, "{device} belongs to the cache {names}{through}.", _VOLUME_REMEDY),
    "stratis": _Kind(Effect.BLOCKS, "{device} belongs to a Stratis pool{through}.", _VOLUME_REMEDY),
    "volume": _Kind(Effect.BLOCKS, "{device} carries the active volume {names}{through}.", _VOLUME_REMEDY),
    "zfs": _Kind(
        Effect.BLOCKS, "{device} belongs to the imported ZFS pool {names}{through}.", "Export the pool."
    ),
    "storage_pool": _Kind(
        Effect.BLOCKS, "The storage pool {names} uses {device}.", "Stop the pool and its autostart."
    ),
    "vm_disk": _Kind(
        Effect.BLOCKS, "{device} is a disk of the running VM {names}.", "Stop that VM or detach the disk."
    ),
    "stopped_vm_disk": _Kind(
        Effect.COSTS, "{device} is a disk of the VM {names}, which is not running.", "Remove it from that VM."
    ),
    "carries_data": _Kind(
        Effect.COSTS,
        "{device} carries data ({names}) that the host does not use now.",
        "Make sure nobody needs it.",
    ),
    "default_route": _Kind(
        Effect.BLOCKS,
        "The host's default route goes over {device}{others}: without it the host may be out of reach.",
        "Move the route to another interface first.",
    ),
    "address": _Kind(
        Effect.BLOCKS,
        "{device} carries addresses of the host{others}.",
        "Move the addresses elsewhere first.",
    ),
    "bridge_port": _Kind(
        Effect.BLOCKS, "{device} is a port of the bridge {names}.", "Take it out of the bridge first."
    ),
    "bond_slave": _Kind(
        Effect.BLOCKS, "{device} is a slave of the bond {names}.", "Take it out of the bond first."
    ),
    "vswitch_port": _Kind(
        Effect.BLOCKS, "{device} is a port of an Open vSwitch bridge.", "Take it out with ovs-vsctl del-port."
    ),
    "member": _Kind(Effect.BLOCKS, "{device} is a member of {names}.", "Take it out of there first."),
    "interface_up": _Kind(
        Effect.COSTS,
        "{device} is switched on, without an address.",
        "Switch it off: ip link set {device} down.",
    ),
    "vm_interface": _Kind(
        Effect.BLOCKS, "{device} is the interface of the running VM {names}.", "Stop that VM or detach it."
    ),
    "stopped_vm_interface": _Kind(
        Effect.COSTS, "{device} is the interface of the VM {names}, which is not running.", "Remove it there."
    ),
    "display": _Kind(
        Effect.COSTS,
        "The host shows its console or desktop on {device}.",
        "The monitor goes dark for the host.",
    ),
    "input": _Kind(
        Effect.COSTS,
        "It is an input device of the host's console ({names}).",
        "The console is without it then.",
    ),
}


def unknown_use_reason() -> Reason:
    """For a device that the host may use without our knowing."""
    message = "What the host does with it could not be read."
    return Reason("use_unknown", Effect.COSTS, message, "Look at its disks and interfaces on the host first.")


def use_reasons(uses: Iterable[HostUse]) -> Iterator[Reason]:
    """What the host does with a device, as reasons. Devices used in the same way are named in one."""
    alike: dict[tuple[str, tuple[str, ...], tuple[str, ...], bool], list[str]] = {}
    for use in uses:
        alike.setdefault((use.kind, use.names, use.through, use.system), []).append(use.device)
    for (kind, names, through, system), devices in alike.items():
        known = _KINDS.get(kind)
        if known is None:
            continue
        words = {
            "device": listed(devices),
            "names": listed(names) or "unnamed",
            "others": f" ({listed(names)})" if names and names != tuple(devices) else "",
            "through": f" through {' and '.join(through)}" if through else "",
        }
        remedy = known.remedy.format(**words) if known.remedy else None
        if system and kind in ("mount", "swap"):
            remedy = "The host runs from it: leave it to the host."
        yield Reason(kind, known.effect, known.message.format(**words), remedy, (*devices, *names))
