"""Virtual functions of network cards, and who has them.

Sources: ``sriov_totalvfs``, ``sriov_numvfs`` and the links ``virtfnN`` and ``physfn`` of a PCI function
(Documentation/ABI/testing/sysfs-bus-pci), the list of VFs in ``ip -d``, and libvirt's domains.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from nodes.inventory.holders import Holder, Holdings, unique_holders
from nodes.inventory.jsontext import Tree, branch, items, truth, whole, words
from nodes.inventory.links import Link, Links, base_name, read_mac
from nodes.inventory.parsing.numbers import capped
from nodes.inventory.vm_ports import VmPorts

_VF = re.compile(r"device/virtfn(\d{1,5})\Z", re.ASCII)
_REPRESENTOR = re.compile(r"(?:c\d+)?pf\d+(?:vf|sf)\d+\Z|\d+\Z", re.ASCII)
"""The port names of a switch's representors; before Linux 5.1 the VF's bare number."""


@dataclass(frozen=True, slots=True)
class VirtualFunction:
    """One VF. ``interface`` is its name on the host, None while a VM has it or no driver drives it. ``mac``
    None: none was given, or it is the guest's to choose. ``vlan`` 0 is none. ``link_state`` is ``auto``,
    ``enable`` or ``disable``. ``held_by``: the VMs that have it, or will when they start; None where
    libvirt could not be asked."""

    index: int
    pci_address: str | None
    interface: str | None
    driver: str | None
    mac: str | None
    vlan: int | None
    spoof_check: bool | None
    trusted: bool | None
    link_state: str | None
    held_by: tuple[Holder, ...] | None


@dataclass(frozen=True, slots=True)
class Sriov:
    """What a card that can be divided is divided into. ``total_vfs``: how many it could have;
    ``configured_vfs``: has; ``assigned_vfs``: of those, how many a running VM holds. A total of 0 is what a
    card says whose SR-IOV is switched off in its firmware."""

    total_vfs: int | None
    configured_vfs: int | None
    assigned_vfs: int | None
    vfs: tuple[VirtualFunction, ...]


@dataclass(frozen=True, slots=True)
class PhysicalFunction:
    """The card that a VF is a part of, and its number there."""

    pci_address: str
    interface: str | None
    index: int | None


def is_representor(link: Link) -> bool:
    """Whether ``link`` is the host's end of a VF's or subfunction's port in a card's own switch. It stands on
    the PF, and is none (Documentation/networking/representors.rst)."""
    port = link.text("phys_port_name") or words(link.ip, "phys_port_name") or ""
    switch = link.text("phys_switch_id") or words(link.ip, "phys_switch_id")
    return switch is not None and _REPRESENTOR.match(port) is not None


def read_sriov(link: Link, links: Links, holdings: Holdings, vm_ports: VmPorts) -> Sriov | None:
    """The VFs of the card ``link``; None where it cannot have any."""
    if is_representor(link):
        return None
    total, configured = link.number("device/sriov_totalvfs"), link.number("device/sriov_numvfs")
    found = {
        capped(match.group(1)): target for path, target in link.links.items() if (match := _VF.match(path))
    }
    if total is None and not found:
        return None
    told = _told(link.ip)
    by_address = {address: other.name for other in links.by_name.values() if (address := other.pci_address)}
    macs = {port.pci_address: port.mac for port in vm_ports.ports if port.pci_address and port.vm.running}
    vfs = []
    for index, target in sorted(found.items()):
        address = base_name(target)
        interface = by_address.get(address or "")
        own = read_mac(links.by_name[interface].text("address")) if interface else None
        driver = base_name(link.links.get(f"device/virtfn{index}/driver"))
        vfs.append(
            _vf(
                index,
                address,
                interface,
                driver,
                own or macs.get(address or ""),
                told.get(index, {}),
                holdings,
            )
        )
    assigned = sum(any(holder.running for holder in vf.held_by or ()) for vf in vfs)
    known = assigned if assigned or holdings.complete else None
    return Sriov(total, len(vfs) if configured is None else configured, known, tuple(vfs))


def read_physical_function(link: Link, links: Links) -> PhysicalFunction | None:
    """The card of which the interface ``link`` is a VF; None where it is none."""
    address = base_name(link.links.get("device/physfn"))
    if address is None:
        return None
    cards = (other for other in links.by_name.values() if other.pci_address == address)
    owner = next((card for card in cards if not is_representor(card)), None)
    index = None
    for path, target in owner.links.items() if owner is not None else ():
        match = _VF.match(path)
        if match is not None and base_name(target) == link.pci_address:
            index = capped(match.group(1))
    return PhysicalFunction(address, owner.name if owner is not None else None, index)


def _vf(
    index: int,
    address: str | None,
    interface: str | None,
    driver: str | None,
    mac: str | None,
    told: Tree,
    holdings: Holdings,
) -> VirtualFunction:
    given = read_mac(words(told, "address") or words(told, "mac"))
    return VirtualFunction(
        index=index,
        pci_address=address,
        interface=interface,
        driver=driver,
        mac=given or mac,
        vlan=_vlan(told) if told else None,
        spoof_check=truth(told, "spoofchk"),
        trusted=truth(told, "trust"),
        link_state=words(told, "link_state"),
        held_by=holdings.known(unique_holders([holdings.pci.get(address or "", ())])),
    )


def _told(ip: Tree) -> Mapping[int, Tree]:
    """``vfinfo_list`` of ``ip -d`` by the VF's number."""
    entries = (entry for entry in items(ip, "vfinfo_list") if isinstance(entry, Mapping))
    return {index: entry for entry in entries if (index := whole(entry, "vf")) is not None}


def _vlan(told: Tree) -> int | None:
    """The VLAN, in the list of newer versions or on its own in older ones; none is 0."""
    listed = items(told, "vlan_list")
    vlan = whole(listed[0], "vlan") if listed else whole(told, "vlan")
    return vlan if vlan is not None or branch(told, "vlan_list") is not None else 0
