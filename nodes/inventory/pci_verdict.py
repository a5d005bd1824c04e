"""Which PCI devices can be given to a VM: the kernel's VFIO rules, and good sense about what the host needs.

The rules (Documentation/driver-api/vfio.rst):

- Without an IOMMU nothing can be given: QEMU refuses vfio's unsafe mode without one.
- A group goes to one process as a whole: each other device in it must be unused, that is, bound to a VFIO
  driver or to none (``pci-stub`` counts as none).
- PCI-to-PCI bridges in the group do not count, though they have a driver: until Linux 5.18
  vfio_dev_driver_allowed() in drivers/vfio/vfio.c passed over all whose header is no normal one; since 5.19
  pcieport declares driver_managed_dma (drivers/pci/pcie/portdrv_pci.c), which other drivers of bridges lack.
- A bridge itself cannot be given: vfio_pci_core_register_device() takes normal headers alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from nodes.inventory.holders import Holders
from nodes.inventory.iommu import Iommu
from nodes.inventory.passthrough import (
    Effect,
    Reason,
    conclude,
    holder_reasons,
    listed,
    unknown_use_reason,
    use_reasons,
)
from nodes.inventory.pci_facts import PciDevice

_TRANSPARENT_CLASSES = ("0604", "0609", "0607")
"""PCI-to-PCI, semi-transparent and CardBus bridges: their headers are no normal ones."""
_PLATFORM_CLASSES = ("05", "08", "11")
"""Memory controllers, system peripherals, signal processing: without a driver of its own seldom a device that
anybody wants. (Accelerators that call themselves system peripherals have a driver.)"""
_BRIDGE_DRIVERS = frozenset({None, "pcieport", "pci-stub"})
_NO_HOST_DRIVER = frozenset({None, "vfio-pci", "pci-stub"})


@dataclass(frozen=True, slots=True)
class View:
    """What is known beside the devices themselves.

    ``usb_holders``: VMs that hold what is behind a USB controller, by its address. ``unlisted``: devices
    whose links were not read, so that their driver and group are unknown. ``uses_known``: whether what the
    host uses was read.
    """

    iommu: Iommu
    usb_holders: Mapping[str, Holders] = field(default_factory=dict)
    unlisted: frozenset[str] = frozenset()
    uses_known: bool = True


def judge(devices: Sequence[PciDevice], view: View) -> tuple[PciDevice, ...]:
    """The devices with their verdicts."""
    by_address = {device.address: device for device in devices}
    groups: dict[int, list[PciDevice]] = {}
    for device in devices:
        if device.iommu_group is not None:
            groups.setdefault(device.iommu_group, []).append(device)
    resets_known = any(device.reset_methods for device in devices)
    own = {
        device.address: tuple(_own_reasons(device, by_address, view.usb_holders.get(device.address, ())))
        for device in devices
    }
    judged: list[PciDevice] = []
    for device in devices:
        reasons = list(_iommu_reasons(device, view))
        if not device.is_bridge:
            reasons += [*own[device.address], *_driver_reasons(device, view, resets_known)]
            if view.iommu.enabled is not False and device.iommu_group is not None:
                reasons += _group_reasons(device, groups[device.iommu_group], own)
        judged.append(replace(device, passthrough=conclude(reasons)))
    return tuple(judged)


def unbound(driver: str | None) -> bool:
    """Whether no driver of the host has the device: none at all, or one of VFIO's (a vendor's too)."""
    return driver in _NO_HOST_DRIVER or (driver or "").replace("-", "_").endswith("vfio_pci")


def _iommu_reasons(device: PciDevice, view: View) -> Iterator[Reason]:
    iommu = view.iommu
    if device.is_bridge:
        yield Reason("bridge", Effect.BLOCKS, "It is a bridge: part of the host's wiring, not for a VM.")
    elif iommu.enabled is False:
        yield Reason("iommu_off", Effect.BLOCKS, "The IOMMU is off.", iommu.remedy)
    elif iommu.enabled is None or device.address in view.unlisted:
        message = "Its IOMMU group could not be read."
        yield Reason("iommu_unknown", Effect.COSTS, message, "See why the host's sysfs could not be read.")
    elif device.iommu_group is None:
        message = "It is in no IOMMU group: no IOMMU of the host covers it."
        yield Reason("no_iommu_group", Effect.BLOCKS, message, "Try another slot, or a newer firmware.")


def _own_reasons(
    device: PciDevice, by_address: Mapping[str, PciDevice], usb_holders: Holders
) -> Iterator[Reason]:
    """What speaks against the device itself, whatever its group."""
    yield from holder_reasons(device.held_by)
    yield from use_reasons(device.current_use)
    if running := _running(usb_holders):
        message = f"The running VM {listed(running)} holds a USB device behind it."
        yield Reason("usb_device_held", Effect.BLOCKS, message, "Detach that device first.", running)
    if device.boot_vga:
        message = "The firmware and the host's console use it to show their messages."
        remedy = "Use a serial console, and keep the host's drivers off it (video=efifb:off, vfio-pci.ids=…)."
        yield Reason("boot_vga", Effect.COSTS, message, remedy)
    if device.physical_function is not None and device.physical_function.virtual_functions:
        yield from _virtual_function_reasons(device.physical_function.virtual_functions, by_address)
    if device.mdev_instances:
        yield _mdev_reason(device)


def _virtual_function_reasons(
    functions: tuple[str, ...], by_address: Mapping[str, PciDevice]
) -> Iterator[Reason]:
    held = {
        name: None
        for address in functions
        if address in by_address
        for name in _running(by_address[address].held_by)
    }
    if held:
        message = f"Its virtual functions are held by the running VM {listed(held)}."
        yield Reason("virtual_functions_held", Effect.BLOCKS, message, "Stop those VMs first.", tuple(held))
    used = _first_use(by_address[address] for address in functions if address in by_address)
    if used is not None:
        function, use = used
        message = f"Its virtual function {function} is in use: {use.message}"
        yield Reason("virtual_function_in_use", Effect.BLOCKS, message, use.remedy, (function,))
    if not held and used is None:
        message = f"Its {len(functions)} virtual functions vanish when it is given away."
        remedy = "Give away a virtual function instead."
        yield Reason("has_virtual_functions", Effect.COSTS, message, remedy, functions)


def _first_use(devices: Iterable[PciDevice]) -> tuple[str, Reason] | None:
    """The first device that the host cannot do without, and why."""
    for device in devices:
        for reason in use_reasons(device.current_use):
            if reason.effect is Effect.BLOCKS:
                return device.address, reason
    return None


def _mdev_reason(device: PciDevice) -> Reason:
    uuids = tuple(instance.uuid for instance in device.mdev_instances)
    running = {name: None for instance in device.mdev_instances for name in _running(instance.held_by)}
    if running:
        message = f"Mediated devices made of it are held by the running VM {listed(running)}."
        return Reason("mdev_held", Effect.BLOCKS, message, "Stop those VMs first.", tuple(running))
    message = f"{len(uuids)} mediated devices are made of it."
    return Reason("has_mdevs", Effect.COSTS, message, "Remove them (mdevctl stop) first.", uuids)


def _driver_reasons(device: PciDevice, view: View, resets_known: bool) -> Iterator[Reason]:
    """Which driver has it. A VM that holds the device says enough already."""
    if device.address in view.unlisted:
        yield Reason("driver_unknown", Effect.COSTS, "Whether the host has a driver on it could not be read.")
    elif device.driver is None and (device.class_id or "").startswith(_PLATFORM_CLASSES):
        message = "It belongs to the host's platform (timers, memory map, sensors): of little use in a VM."
        yield Reason("platform_part", Effect.COSTS, message)
    elif device.driver is None:
        yield Reason("no_driver", Effect.NOTE, "No driver of the host is bound to it.")
    elif unbound(device.driver):
        if not _running(device.held_by):
            yield Reason("bound_to_vfio", Effect.NOTE, f"It is bound to {device.driver}, ready for a VM.")
    else:
        message = f"The host's driver {device.driver} is bound to it."
        by_hand = f"virsh nodedev-detach {_node_name(device)}"
        remedy = f"libvirt rebinds it where managed='yes' is set; by hand: {by_hand}."
        yield Reason("host_driver", Effect.COSTS, message, remedy, (device.driver,))
        if not view.uses_known:
            yield unknown_use_reason()
    if resets_known and device.reset_methods is None:
        message = "The kernel knows no way to reset it: a VM may find it as the last one left it."
        yield Reason("no_reset", Effect.NOTE, message)


def _node_name(device: PciDevice) -> str:
    """libvirt's name of the device."""
    return "pci_" + device.address.replace(":", "_").replace(".", "_")


def _group_reasons(
    device: PciDevice, members: Iterable[PciDevice], own: Mapping[str, tuple[Reason, ...]]
) -> Iterator[Reason]:
    others = [member for member in members if member.address != device.address]
    bridges = [member for member in others if _is_transparent(member)]
    endpoints = [member for member in others if not _is_transparent(member)]
    yield from _bridge_reasons(bridges)
    if not endpoints:
        return
    with_driver = [member for member in endpoints if not unbound(member.driver)]
    addresses = tuple(member.address for member in endpoints)
    message = (
        f"It shares IOMMU group {device.iommu_group} with {listed(addresses)}: they go to one VM together."
    )
    if with_driver:
        names = ", ".join(f"{member.address} ({member.driver})" for member in with_driver[:6])
        remedy = (
            f"Detach these from the host first: {names}. A slot behind a bridge with ACS keeps devices apart."
        )
        yield Reason("group_shared", Effect.COSTS, message, remedy, addresses)
    else:
        yield Reason("group_shared", Effect.NOTE, message, None, addresses)
    for member in endpoints:
        yield from _member_reasons(device, member, own[member.address])


def _is_transparent(device: PciDevice) -> bool:
    return (device.class_id or "").startswith(_TRANSPARENT_CLASSES)


def _bridge_reasons(bridges: Sequence[PciDevice]) -> Iterator[Reason]:
    hindering = tuple(b.address for b in bridges if b.driver not in _BRIDGE_DRIVERS and not unbound(b.driver))
    harmless = tuple(b.address for b in bridges if b.address not in hindering)
    if harmless:
        message = f"The bridge {listed(harmless)} is in its group, which does not stand in the way."
        yield Reason("group_has_bridge", Effect.NOTE, message, None, harmless)
    if hindering:
        message = (
            f"The bridge {listed(hindering)} in its group has a driver that Linux 5.19 and later refuse."
        )
        yield Reason("group_bridge_driver", Effect.COSTS, message, "Unbind that driver.", hindering)


def _member_reasons(device: PciDevice, member: PciDevice, reasons: Iterable[Reason]) -> Iterator[Reason]:
    """What hinders because of another device of the group."""
    strangers = tuple(name for name in _running(member.held_by) if name not in _running(device.held_by))
    if strangers:
        message = f"{member.address} of the same group is held by the running VM {listed(strangers)}."
        remedy = "Give both to that VM, or stop it."
        yield Reason("group_held_by_vm", Effect.BLOCKS, message, remedy, (member.address, *strangers))
    blocking = [
        reason for reason in reasons if reason.effect is Effect.BLOCKS and reason.code != "held_by_vm"
    ]
    if blocking:
        first = blocking[0]
        message = f"{member.address} of the same group is in use: {first.message}"
        yield Reason("group_member_in_use", Effect.BLOCKS, message, first.remedy, (member.address,))


def _running(holders: Holders | None) -> tuple[str, ...]:
    return tuple(dict.fromkeys(holder.vm_name for holder in holders or () if holder.running))
