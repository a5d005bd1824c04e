"""Where VMs are plugged in on a host: their taps, macvtaps and virtual functions, by libvirt's descriptions.

Format: https://libvirt.org/formatdomain.html#network-interfaces. What exists on the host alone (a tap's name,
its counters) is there for running VMs only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from nodes.inventory.counters import Counters
from nodes.inventory.document import HostDocument
from nodes.inventory.domain_devices import NetworkInterface, read_interfaces
from nodes.inventory.domain_states import active_domains
from nodes.inventory.interface import shared_facts
from nodes.inventory.links import Links
from nodes.inventory.xmltext import child_text, parse_xml


@dataclass(frozen=True, slots=True)
class VmRef:
    """A VM that uses something of the host. ``running`` False: it will when it starts."""

    vm_uuid: str
    vm_name: str
    running: bool


@dataclass(frozen=True, slots=True)
class VmPort:
    """One network card of a VM, seen from the host.

    ``name`` is the host's interface (``vnet3``, ``macvtap0``) of a running VM; ``index``, ``state``,
    ``mtu`` and ``counters`` are that interface's. ``mac`` is the guest's. ``bridge`` is the bridge it is on
    (or will be), ``lower_device`` the host's interface below a macvtap, ``pci_address`` the function given
    to the guest. ``link_up`` False: the cable was pulled in the VM's description.
    """

    name: str | None
    index: int | None
    vm: VmRef
    type: str
    mac: str | None
    model: str | None
    network: str | None
    bridge: str | None
    lower_device: str | None
    mode: str | None
    pci_address: str | None
    virtual_port: str | None
    vlan_tags: tuple[int, ...]
    link_up: bool | None
    state: str | None
    mtu: int | None
    counters: Counters | None


@dataclass(frozen=True, slots=True)
class VmPorts:
    """The network cards of all VMs, by name of the VM. ``complete``: every VM was read, so that what has
    none of them has none."""

    ports: tuple[VmPort, ...] = ()
    complete: bool = False

    def by_device(self) -> dict[str, VmPort]:
        """The port behind each interface of the host."""
        return {port.name: port for port in self.ports if port.name is not None}

    def users(self, belongs: Callable[[VmPort], bool]) -> tuple[VmRef, ...] | None:
        """The VMs of the ports that belong, each once, the running ones first; None where there are none only
        because not all VMs were read."""
        once = {port.vm.vm_uuid: port.vm for port in self.ports if belongs(port)}
        found = tuple(sorted(once.values(), key=lambda vm: (not vm.running, vm.vm_name, vm.vm_uuid)))
        return found if found or self.complete else None


def read_vm_ports(
    document: HostDocument, links: Links, bridges: Mapping[str, str], *, complete: bool
) -> VmPorts:
    """The network cards of all VMs. ``bridges``: the bridge of each libvirt network; ``complete``: as of
    :class:`VmPorts`."""
    active = active_domains(document)
    found: list[VmPort] = []
    for uuid, output in document.items("libvirt:domain"):
        root = parse_xml(output.stdout) if output.usable else None
        if root is None or root.tag != "domain":
            continue
        # A live description carries the domain's id: enough where the list could not be read.
        running = active.get(uuid, root.get("id") is not None)
        vm = VmRef(uuid, child_text(root, "name") or uuid, running)
        found += [_port(vm, card, links, bridges) for card in read_interfaces(root)]
    return VmPorts(tuple(sorted(found, key=lambda port: (port.vm.vm_name, port.vm.vm_uuid))), complete)


def _port(vm: VmRef, card: NetworkInterface, links: Links, bridges: Mapping[str, str]) -> VmPort:
    # The configuration of a VM that is off may name a tap of its own; whose it is now is another matter.
    link = links.by_name.get(card.target_device or "") if vm.running else None
    facts = shared_facts(link, links) if link is not None else {}
    bridge = card.bridge or bridges.get(card.network or "")
    direct = card.type in ("direct", "vdpa")
    # To the kernel all ports of Open vSwitch are its datapath's.
    master = facts.get("master") if facts.get("master") != "ovs-system" else bridge
    return VmPort(
        name=card.target_device if vm.running else None,
        index=facts.get("index"),
        vm=vm,
        type=card.type,
        mac=card.mac,
        model=card.model,
        network=card.network,
        bridge=bridge if direct else master or bridge,
        lower_device=card.source_device if direct else None,
        mode=card.source_mode,
        pci_address=card.pci_address,
        virtual_port=card.virtual_port,
        vlan_tags=card.vlan_tags,
        link_up=card.link_up,
        state=facts.get("state"),
        mtu=facts.get("mtu"),
        counters=facts.get("counters"),
    )
