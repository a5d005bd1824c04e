"""libvirt's virtual networks: bridges of its own, others' bridges, pools of interfaces and virtual functions.

Source: the list of networks and each one's XML (https://libvirt.org/formatnetwork.html).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_network

from lxml import etree

from nodes.inventory.document import HostDocument, Problem
from nodes.inventory.forms import json_of, xml_of
from nodes.inventory.holders import pci_address
from nodes.inventory.jsontext import Tree, read_objects, truth, words
from nodes.inventory.parsing.numbers import decimal, integer
from nodes.inventory.source import LibvirtSource
from nodes.inventory.vm_ports import VmPorts, VmRef
from nodes.inventory.xmltext import child_text, parse_xml

NETWORKS = LibvirtSource("libvirt:networks", json_of(list, always=True))
NETWORK = LibvirtSource("libvirt:network", xml_of("network"))


@dataclass(frozen=True, slots=True)
class NetworkAddress:
    """An address that the host has on the network, and what its DHCP server gives out there."""

    family: str
    address: str
    prefix_length: int | None
    dhcp_ranges: tuple[str, ...]
    dhcp_hosts: int


@dataclass(frozen=True, slots=True)
class LibvirtNetwork:
    """One network.

    ``forward_mode``: ``nat``, ``route``, ``open``, ``bridge``, ``private``, ``vepa``, ``passthrough``,
    ``hostdev``, or ``isolated`` where nothing leaves it; None where its XML could not be read.
    ``forward_devices`` are interfaces of the host (a pool of them, for the modes that have one),
    ``pci_addresses`` virtual functions, ``vms`` those that are on it or will be when they start.
    """

    uuid: str
    name: str
    active: bool | None
    autostart: bool | None
    persistent: bool | None
    bridge: str | None
    forward_mode: str | None
    forward_devices: tuple[str, ...]
    pci_addresses: tuple[str, ...]
    domain: str | None
    mtu: int | None
    virtual_port: str | None
    vlan_tags: tuple[int, ...]
    stp: bool | None
    delay_s: float | None
    addresses: tuple[NetworkAddress, ...]
    portgroups: tuple[str, ...]
    vms: tuple[VmRef, ...] | None


def read_networks(document: HostDocument) -> tuple[tuple[LibvirtNetwork, ...], tuple[Problem, ...]]:
    """All networks by name, without their VMs, and what could not be read."""
    described: dict[str, etree._Element] = {}
    problems: list[Problem] = []
    for uuid, output in document.items(NETWORK.name):
        root = parse_xml(output.stdout) if output.usable else None
        if root is not None and root.tag == "network":
            described[uuid] = root
        elif output.usable:
            message = f"The description of the network {uuid} is no XML that can be read."
            problems.append(Problem("net", f"{NETWORK.name}:{uuid}", "unreadable", message))
    rows = {
        key: row
        for row in read_objects(document.text(NETWORKS.name))
        if (key := words(row, "uuid")) is not None
    }
    names = dict.fromkeys((*rows, *described))
    networks = (_network(uuid, rows.get(uuid, {}), described.get(uuid)) for uuid in names)
    return tuple(sorted(networks, key=lambda network: (network.name, network.uuid))), tuple(problems)


def with_vms(networks: Sequence[LibvirtNetwork], vm_ports: VmPorts) -> tuple[LibvirtNetwork, ...]:
    """``networks`` with the VMs on each; None where libvirt could not be asked for them."""

    def users(name: str) -> tuple[VmRef, ...] | None:
        return vm_ports.users(lambda port: port.network == name)

    return tuple(replace(network, vms=users(network.name)) for network in networks)


def _network(uuid: str, row: Tree, root: etree._Element | None) -> LibvirtNetwork:
    bridge = root.find("bridge") if root is not None else None
    return LibvirtNetwork(
        uuid=uuid,
        name=words(row, "name") or child_text(root, "name") or uuid,
        active=truth(row, "active"),
        autostart=truth(row, "autostart"),
        persistent=truth(row, "persistent"),
        bridge=words(row, "bridge") or (bridge.get("name") if bridge is not None else None),
        forward_mode=_forward_mode(root) if root is not None else None,
        forward_devices=_forward_devices(root),
        pci_addresses=_pool_addresses(root),
        domain=_attribute(root, "domain", "name"),
        mtu=integer(_attribute(root, "mtu", "size")),
        virtual_port=_attribute(root, "virtualport", "type"),
        vlan_tags=_tags(root),
        stp={"on": True, "off": False}.get(_attribute(root, "bridge", "stp") or ""),
        delay_s=_delay(_attribute(root, "bridge", "delay")),
        addresses=tuple(_address(element) for element in _all(root, "ip")),
        portgroups=tuple(name for group in _all(root, "portgroup") if (name := group.get("name"))),
        vms=None,
    )


def _forward_mode(root: etree._Element) -> str:
    forward = root.find("forward")
    return "isolated" if forward is None else forward.get("mode") or "nat"


def _forward_devices(root: etree._Element | None) -> tuple[str, ...]:
    """Interfaces and the card whose virtual functions are used; the first also stands at ``<forward>``
    itself.
    """
    named = [_attribute(root, "forward", "dev")]
    for path in ("forward/interface", "forward/pf"):
        named += [element.get("dev") for element in _all(root, path)]
    return tuple(dict.fromkeys(name for name in named if name))


def _pool_addresses(root: etree._Element | None) -> tuple[str, ...]:
    addresses = (pci_address(element) for element in _all(root, "forward/address"))
    return tuple(address for address in addresses if address is not None)


def _tags(root: etree._Element | None) -> tuple[int, ...]:
    tags = (integer(element.get("id")) for element in _all(root, "vlan/tag"))
    return tuple(tag for tag in tags if tag is not None)


def _address(element: etree._Element) -> NetworkAddress:
    family = {"ipv6": "inet6"}.get(element.get("family") or "", "inet")
    ranges = ((pool.get("start"), pool.get("end")) for pool in element.iterfind("dhcp/range"))
    return NetworkAddress(
        family=family,
        address=element.get("address") or "",
        prefix_length=_prefix_length(element),
        dhcp_ranges=tuple(f"{first}-{last}" for first, last in ranges if first and last),
        dhcp_hosts=len(element.findall("dhcp/host")),
    )


def _prefix_length(element: etree._Element) -> int | None:
    """The prefix, or what the netmask comes to."""
    prefix, mask = integer(element.get("prefix")), element.get("netmask")
    if prefix is not None or not mask:
        return prefix
    try:
        return ip_network(f"0.0.0.0/{mask}").prefixlen
    except ValueError:
        return None


def _delay(text: str | None) -> float | None:
    delay = decimal(text)
    return max(delay, 0.0) if delay is not None else None


def _attribute(root: etree._Element | None, path: str, name: str) -> str | None:
    element = root.find(path) if root is not None else None
    return (element.get(name) or None) if element is not None else None


def _all(root: etree._Element | None, path: str) -> Sequence[etree._Element]:
    return root.findall(path) if root is not None else ()
