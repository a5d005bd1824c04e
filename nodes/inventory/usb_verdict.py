"""Which USB devices can be given to a VM.

QEMU takes them through usbfs and detaches the host's driver itself, so that neither an IOMMU nor groups
matter; what matters is whether the host uses the device.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from nodes.inventory.passthrough import (
    Effect,
    Passthrough,
    Reason,
    conclude,
    holder_reasons,
    listed,
    unknown_use_reason,
    use_reasons,
)
from nodes.inventory.usb_facts import UsbDevice, UsbSelector


def judge(devices: Sequence[UsbDevice], *, uses_known: bool) -> tuple[UsbDevice, ...]:
    """The devices with their verdicts, the ways to name them, and the others that are alike.

    ``uses_known``: whether what the host uses was read.
    """
    same: dict[tuple[str | None, str | None], list[str]] = {}
    for device in devices:
        same.setdefault((device.vendor_id, device.product_id), []).append(device.name)
    judged: list[UsbDevice] = []
    for device in devices:
        others = same[device.vendor_id, device.product_id] if device.vendor_id else []
        alike = tuple(name for name in others if name != device.name)
        judged.append(
            replace(
                device,
                alike=() if device.is_root_hub else alike,
                selector=None if device.is_root_hub else _selector(device, alike),
                passthrough=_verdict(device, alike, uses_known),
            )
        )
    return tuple(judged)


def _selector(device: UsbDevice, alike: tuple[str, ...]) -> UsbSelector:
    return UsbSelector(
        vendor_id=device.vendor_id,
        product_id=device.product_id,
        unique=not alike if device.vendor_id and device.product_id else None,
        bus=device.bus,
        device_number=device.device_number,
        port=device.name,
    )


def _verdict(device: UsbDevice, alike: tuple[str, ...], uses_known: bool) -> Passthrough:
    if device.is_root_hub:
        message = "It is the root hub: part of the controller, which can be given away as a PCI device."
        return conclude([Reason("root_hub", Effect.BLOCKS, message)])
    if device.is_hub:
        message = "It is a hub: QEMU gives devices to VMs, not hubs."
        return conclude(
            [Reason("hub", Effect.BLOCKS, message, "Give away the devices behind it one by one.")]
        )
    unknown = () if uses_known else (unknown_use_reason(),)
    return conclude((*_reasons(device, alike), *unknown))


def _reasons(device: UsbDevice, alike: tuple[str, ...]) -> Iterator[Reason]:
    yield from holder_reasons(device.held_by)
    yield from use_reasons(device.current_use)
    running = any(holder.running for holder in device.held_by or ())
    if not running and any(interface.driver == "usbfs" for interface in device.interfaces):
        message = "A program of the host has it open through usbfs."
        yield Reason(
            "claimed_by_program", Effect.COSTS, message, "Find out with lsof /dev/bus/usb which one."
        )
    if device.authorized is False:
        message = "The host does not authorize it: it has no working configuration."
        yield Reason(
            "not_authorized", Effect.COSTS, message, f"echo 1 >/sys/bus/usb/devices/{device.name}/authorized"
        )
    if device.device_number is None or device.bus is None:
        yield Reason("address_unknown", Effect.COSTS, "Its number on the bus could not be read.")
    if alike:
        message = (
            f"Its ids do not tell it from {listed(alike)}: name it by bus and device number, or by its port."
        )
        yield Reason("ambiguous_ids", Effect.NOTE, message, None, alike)
