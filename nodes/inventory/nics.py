"""Network cards: what stands on hardware, also virtual hardware (virtio) and virtual functions.

Sources: sysfs and ``ip`` (links.py), ethtool, and the names of PCI devices.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from nodes.inventory.ethtool import Ethtool
from nodes.inventory.holders import Holder, Holdings, unique_holders
from nodes.inventory.hwids import pci_names
from nodes.inventory.interface import Interface, first_known, read_duplex, read_speed, shared_facts
from nodes.inventory.jsontext import words
from nodes.inventory.links import Link, Links, base_name, read_mac
from nodes.inventory.sriov import (
    PhysicalFunction,
    Sriov,
    read_physical_function,
    read_sriov,
)
from nodes.inventory.vm_ports import VmPorts

_PCI_ADDRESS = re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-1][0-9a-f]\.[0-7]\Z")
_PCI_ID = re.compile(r"0x([0-9a-f]{4})\Z")
_MEDIA = {"wlan": "wireless", "wwan": "mobile"}
_ARPHRD_ETHERNET, _ARPHRD_INFINIBAND = 1, 32
_VIRTIO = ("1af4", "1041")
"""The PCI ids of a virtio network card."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Nic(Interface):
    """A network card.

    ``medium`` is ``ethernet``, ``infiniband``, ``wireless``, ``mobile`` or None. ``bus`` is the kernel's
    (``pci``, ``usb``, ``virtio``, ``vmbus``, ``platform`` …). ``speed_mbps`` is the negotiated one, None
    without a link; ``supported_max_speed_mbps`` the fastest it has a mode for. ``permanent_mac`` is the one
    in its memory, also while a bond or an administrator has it use another. ``port`` as ethtool words it.
    ``wake_on`` has ethtool's letters: ``g`` wakes by a magic packet, ``d`` is off. ``physical_function`` is
    there for a VF, ``sriov`` for a card that can have some. ``held_by``: VMs that take the card whole, or
    stand on it by macvtap.
    """

    medium: str | None
    vendor: str | None
    model: str | None
    vendor_id: str | None
    device_id: str | None
    driver: str | None
    firmware: str | None
    bus: str | None
    pci_address: str | None
    usb_path: str | None
    numa_cell: int | None
    permanent_mac: str | None
    speed_mbps: int | None
    supported_max_speed_mbps: int | None
    duplex: str | None
    autoneg: bool | None
    port: str | None
    wake_on: str | None
    port_name: str | None
    port_number: int | None
    switch_id: str | None
    sriov: Sriov | None
    physical_function: PhysicalFunction | None
    held_by: tuple[Holder, ...] | None


def read_nic(
    link: Link,
    links: Links,
    told: Mapping[str, Ethtool],
    holdings: Holdings,
    vm_ports: VmPorts,
) -> Nic:
    """The card ``link``. ``told`` is what ethtool said, by interface."""
    tool = told.get(link.name, Ethtool())
    vendor, device = _pci_ids(link)
    cell = link.number("device/numa_node")
    return Nic(
        **shared_facts(link, links),
        medium=_medium(link),
        vendor=pci_names().vendor(vendor) if vendor else None,
        model=_model(link, vendor, device),
        vendor_id=vendor,
        device_id=device,
        driver=base_name(link.links.get("device/driver")) or tool.driver,
        firmware=tool.firmware,
        bus=base_name(link.links.get("device/subsystem")) or words(link.ip, "parentbus"),
        pci_address=link.pci_address or _told_parent(link),
        usb_path=link.usb_path,
        numa_cell=cell if cell is not None and cell >= 0 else None,
        permanent_mac=_permanent_mac(link, tool),
        speed_mbps=first_known(read_speed(link.text("speed")), tool.speed_mbps),
        supported_max_speed_mbps=tool.supported_max_speed_mbps,
        duplex=read_duplex(link.text("duplex")) or tool.duplex,
        autoneg=tool.autoneg,
        port=tool.port,
        wake_on=tool.wake_on,
        port_name=link.text("phys_port_name"),
        port_number=link.number("dev_port"),
        switch_id=link.text("phys_switch_id"),
        sriov=read_sriov(link, links, holdings, vm_ports),
        physical_function=read_physical_function(link, links),
        held_by=holdings.known(
            unique_holders(
                [holdings.pci.get(link.pci_address or "", ()), holdings.interfaces.get(link.name, ())]
            )
        ),
    )


def _pci_ids(link: Link) -> tuple[str | None, str | None]:
    """Vendor and device; on other buses the files of these names hold something else."""
    if base_name(link.links.get("device/subsystem")) != "pci":
        return None, None
    vendor = _PCI_ID.match(link.text("device/vendor") or "")
    device = _PCI_ID.match(link.text("device/device") or "")
    return vendor.group(1) if vendor else None, device.group(1) if device else None


def _model(link: Link, vendor: str | None, device: str | None) -> str | None:
    if base_name(link.links.get("device/subsystem")) == "virtio":
        return pci_names().device(*_VIRTIO)
    if vendor and device:
        return pci_names().device(vendor, device)
    return link.text("device/../product") if link.usb_path else None


def _medium(link: Link) -> str | None:
    kind = _MEDIA.get(link.uevent.get("DEVTYPE", ""))
    number, told = link.number("type"), words(link.ip, "link_type")
    if kind is not None:
        return kind
    if number == _ARPHRD_INFINIBAND or told == "infiniband":
        return "infiniband"
    return "ethernet" if number == _ARPHRD_ETHERNET or told == "ether" else None


def _told_parent(link: Link) -> str | None:
    """The PCI function by ``ip``, where sysfs could not be read."""
    parent = words(link.ip, "parentdev") or ""
    return parent if words(link.ip, "parentbus") == "pci" and _PCI_ADDRESS.match(parent) else None


def _permanent_mac(link: Link, tool: Ethtool) -> str | None:
    """``ip`` tells it only where it is another than the one in use; an ``addr_assign_type`` of 0 says that it
    is that one (Documentation/ABI/testing/sysfs-class-net)."""
    told = link.text("bonding_slave/perm_hwaddr") or words(link.ip, "permaddr")
    own = link.text("address") if link.number("addr_assign_type") == 0 else None
    return tool.permanent_mac or read_mac(told) or read_mac(own)
