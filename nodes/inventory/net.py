"""Section ``net``: the network of a host, from its cards to the VMs on its bridges.

What is read and from where: links.py (sysfs, ``ip``), ethtool.py, ovs.py, vm_ports.py and libvirt_networks.py
(libvirt). Rates between two snapshots: counters.py.
"""

from __future__ import annotations

from dataclasses import dataclass

from nodes.inventory.bonds import Bond, read_bond
from nodes.inventory.bridges import Bridge, read_bridge
from nodes.inventory.document import HostDocument
from nodes.inventory.ethtool import ETHTOOL, read_ethtool
from nodes.inventory.holders import DOMAIN, DOMAINS, read_holdings
from nodes.inventory.interface import NIC, TUNNELS, kind_of
from nodes.inventory.libvirt_networks import NETWORK, NETWORKS, LibvirtNetwork, read_networks, with_vms
from nodes.inventory.links import IP_ADDRESS, NET_FILES, NET_LINKS, Link, read_links
from nodes.inventory.nics import Nic, read_nic
from nodes.inventory.ovs import OVS, read_ovs_bridges
from nodes.inventory.section import Parsed, Section
from nodes.inventory.virtual_links import Other, Tunnel, Vlan, read_other, read_tunnel, read_vlan
from nodes.inventory.vm_ports import VmPort, read_vm_ports


@dataclass(frozen=True, slots=True)
class NetFacts:
    """Every interface of a host in one of these lists, each ordered by name.

    ``nics``: on hardware, virtual functions among them. ``vm_ports``: the network cards of VMs with their
    taps, which stand in no other list. ``other``: what is none of the rest (loopback, veth, dummy, macvlan
    …).
    """

    nics: tuple[Nic, ...]
    bonds: tuple[Bond, ...]
    bridges: tuple[Bridge, ...]
    vlans: tuple[Vlan, ...]
    tunnels: tuple[Tunnel, ...]
    other: tuple[Other, ...]
    vm_ports: tuple[VmPort, ...]
    libvirt_networks: tuple[LibvirtNetwork, ...]


def parse(document: HostDocument) -> Parsed[NetFacts]:
    """The network in ``document``. Never raises."""
    links = read_links(document)
    networks, problems = read_networks(document)
    bridges_of = {network.name: network.bridge for network in networks if network.bridge}
    holdings = read_holdings(document)
    vm_ports = read_vm_ports(document, links, bridges_of, complete=holdings.complete)
    told = {
        name: read_ethtool(output.stdout) for name, output in document.items(ETHTOOL.name) if output.usable
    }
    ovs = read_ovs_bridges(document, links, vm_ports)
    apart = {*vm_ports.by_device(), *(bridge.name for bridge in ovs)}
    sorted_links: dict[str, list[Link]] = {}
    for link in links.by_name.values():
        kind = kind_of(link, links)
        known = kind in (NIC, "bond", "bridge", "vlan") or kind in TUNNELS
        # A VM may stand on a card as such (a VF of the host with its driver): it stays a card.
        group = "vm" if link.name in apart and not known else kind if known else "other"
        sorted_links.setdefault("tunnel" if group in TUNNELS else group, []).append(link)
    return Parsed(
        NetFacts(
            nics=tuple(read_nic(link, links, told, holdings, vm_ports) for link in sorted_links.get(NIC, ())),
            bonds=tuple(read_bond(link, links) for link in sorted_links.get("bond", ())),
            bridges=(
                *(read_bridge(link, links, vm_ports) for link in sorted_links.get("bridge", ())),
                *ovs,
            ),
            vlans=tuple(read_vlan(link, links) for link in sorted_links.get("vlan", ())),
            tunnels=tuple(read_tunnel(link, links) for link in sorted_links.get("tunnel", ())),
            other=tuple(read_other(link, links) for link in sorted_links.get("other", ())),
            vm_ports=vm_ports.ports,
            libvirt_networks=with_vms(networks, vm_ports),
        ),
        problems,
    )


_LISTS = ("nics", "bonds", "bridges", "vlans", "tunnels", "other")
_FROM_PORTS = ("state", "carrier", "mac", "mtu", "bridge_id", "root_id")

SECTION = Section(
    slug="net",
    title="Network",
    sources=(NET_FILES, NET_LINKS, IP_ADDRESS, ETHTOOL, OVS),
    parse=parse,
    libvirt=(DOMAINS, DOMAIN, NETWORKS, NETWORK),
    optional=(OVS.name,),
    identity={
        **dict.fromkeys(_LISTS, "name"),
        **{f"{name}.addresses": "family,address" for name in _LISTS},
        "nics.sriov.vfs": "index",
        "nics.sriov.vfs.held_by": "vm_uuid",
        "nics.held_by": "vm_uuid",
        "bonds.slaves": "name",
        "bridges.ports": "name",
        "bridges.vms": "vm_uuid",
        "vm_ports": "mac",
        "libvirt_networks": "uuid",
        "libvirt_networks.vms": "vm_uuid",
        "libvirt_networks.addresses": "family,address",
    },
    volatile=frozenset(
        {
            # Counters, and numbers that the kernel gives anew at each start of the host or a VM.
            "counters",
            "index",
            "failure_count",
            # While a bridge learns its tree anew, the kernel shortens how long it keeps addresses.
            "topology_change",
            "ageing_time_s",
            "vm_ports.name",
            "vm_ports.state",
            "vm_ports.mtu",
            "running",
            "nics.sriov.assigned_vfs",
            # An address is tentative for a second, and deprecated from time to time.
            "flags",
            # Its members name it as their master.
            "other.ports",
            # Follows from its ports.
            "bridges.inside_only",
        }
    ),
    # A port that has come learns for some seconds before it forwards.
    alike={"bridges.ports.state": frozenset({"listening", "learning", "forwarding"})},
    # A bridge takes these from its ports, and of some all ports are VMs'.
    moving={f"bridges.{name}": "inside_only" for name in _FROM_PORTS},
    # Named anew at each start of a VM (whose cards are in vm_ports) or a container; made anew day by day.
    passing={
        "bridges.ports": {"kind": frozenset({"tap", "veth"})},
        "other": {"kind": frozenset({"veth"})},
        **{f"{name}.addresses": {"flags": frozenset({"temporary"})} for name in _LISTS},
        # The kernel gives it one when the first port comes.
        "bridges.addresses": {"flags": frozenset({"temporary"}), "scope": frozenset({"link"})},
    },
    presence=frozenset(
        {NET_FILES.name, NET_LINKS.name, IP_ADDRESS.name, OVS.name, DOMAINS.name, NETWORKS.name}
    ),
)
