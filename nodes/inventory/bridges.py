"""Bridges of the kernel and their ports.

Sources: the files ``bridge/`` and ``brport/`` in sysfs (net/bridge/br_sysfs_br.c, IEEE 802.1D), ``ip -d``
and, for the VLANs of ports, ``bridge -j vlan``. Times are in seconds; the kernel gives them in hundredths.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nodes.inventory.interface import (
    Interface,
    by_number,
    first_known,
    hexadecimal,
    kind_of,
    master_of,
    shared_facts,
)
from nodes.inventory.jsontext import Tree, items, truth, whole, words
from nodes.inventory.links import Link, Links
from nodes.inventory.vm_ports import VmPort, VmPorts, VmRef

_STP = {0: "off", 1: "kernel", 2: "user"}
_PORT_STATES = {0: "disabled", 1: "listening", 2: "learning", 3: "forwarding", 4: "blocking"}
_INSIDE = frozenset({"tap", "veth", "dummy"})
"""Kinds of ports that VMs, containers and libvirt itself (``virbr0-nic``) have."""
_TICKS_PER_SECOND = 100
"""USER_HZ: the same on every architecture that runs KVM."""


@dataclass(frozen=True, slots=True)
class BridgePort:
    """A port of a bridge.

    ``state`` is the spanning tree's: ``disabled``, ``listening``, ``learning``, ``forwarding`` or
    ``blocking``; None on Open vSwitch, which keeps it to itself. ``vm`` is the VM behind it. ``pvid`` is
    the VLAN that untagged frames get, ``tagged`` and ``untagged`` those that leave with and without a tag,
    as lists (``10,20-29``); None where the bridge does not filter VLANs. ``interfaces`` are those of an
    Open vSwitch bond; else the port's own name.
    """

    name: str
    kind: str | None
    interfaces: tuple[str, ...]
    vm: VmRef | None = None
    state: str | None = None
    number: int | None = None
    path_cost: int | None = None
    priority: int | None = None
    hairpin: bool | None = None
    isolated: bool | None = None
    learning: bool | None = None
    bpdu_guard: bool | None = None
    pvid: int | None = None
    tagged: str | None = None
    untagged: str | None = None
    bond_mode: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bridge(Interface):
    """A bridge.

    ``type`` is ``linux`` or ``openvswitch``. ``stp`` is ``off``, ``kernel`` or ``user`` (a daemon's), on
    Open vSwitch ``stp``, ``rstp`` or ``off``; its parameters follow, whether it is on or not. ``is_root``,
    ``root_port`` are None while it is off. ``vms`` are the VMs on it, also those that will be when they
    start. ``inside_only``: no port leads out of the host, so that its carrier and what else a bridge takes
    from its ports follow the VMs on it.
    """

    type: str
    ports: tuple[BridgePort, ...]
    inside_only: bool = False
    vms: tuple[VmRef, ...] | None
    stp: str | None = None
    bridge_id: str | None = None
    root_id: str | None = None
    is_root: bool | None = None
    root_port: str | None = None
    root_path_cost: int | None = None
    priority: int | None = None
    hello_time_s: float | None = None
    forward_delay_s: float | None = None
    max_age_s: float | None = None
    ageing_time_s: float | None = None
    topology_change: bool | None = None
    vlan_filtering: bool | None = None
    vlan_protocol: str | None = None
    default_pvid: int | None = None
    multicast_snooping: bool | None = None
    datapath: str | None = None
    fail_mode: str | None = None


def read_bridge(link: Link, links: Links, vm_ports: VmPorts) -> Bridge:
    """The kernel's bridge ``link``."""
    stp = by_number(_STP, _number(link, "stp_state"))
    own, root = _bridge_id(link, "bridge_id"), _bridge_id(link, "root_id")
    ports = _ports(link.name, links, vm_ports)
    root_port = _number(link, "root_port")
    on = stp in ("kernel", "user")
    filtering = _flag(link, "vlan_filtering")
    return Bridge(
        **shared_facts(link, links),
        type="linux",
        stp=stp,
        bridge_id=own,
        root_id=root,
        is_root=own == root if on and own and root else None,
        root_port=next((p.name for p in ports if on and root_port and p.number == root_port), None),
        root_path_cost=_number(link, "root_path_cost"),
        priority=_number(link, "priority"),
        hello_time_s=_seconds(link, "hello_time"),
        forward_delay_s=_seconds(link, "forward_delay"),
        max_age_s=_seconds(link, "max_age"),
        ageing_time_s=_seconds(link, "ageing_time"),
        topology_change=_flag(link, "topology_change"),
        vlan_filtering=filtering,
        vlan_protocol=_vlan_protocol(link),
        default_pvid=first_known(link.number("bridge/default_pvid"), whole(link.data, "vlan_default_pvid")),
        multicast_snooping=_truth(
            first_known(link.number("bridge/multicast_snooping"), whole(link.data, "mcast_snooping"))
        ),
        ports=ports,
        inside_only=all(port.kind in _INSIDE for port in ports),
        vms=vm_ports.users(lambda port: port.bridge == link.name),
    )


def _ports(bridge: str, links: Links, vm_ports: VmPorts) -> tuple[BridgePort, ...]:
    owners, vlans = vm_ports.by_device(), _vlans(links.vlans)
    members = (link for link in links.by_name.values() if master_of(link) == bridge)
    return tuple(_port(link, links, owners.get(link.name), vlans.get(link.name)) for link in members)


def _port(link: Link, links: Links, owner: VmPort | None, vlans: _PortVlans | None) -> BridgePort:
    data = link.port_data
    state = by_number(_PORT_STATES, link.number("brport/state")) or words(data, "state")
    number = hexadecimal(link.text("brport/port_no") or words(data, "no"))
    return BridgePort(
        name=link.name,
        kind=kind_of(link, links),
        state=state if state in _PORT_STATES.values() else None,
        number=number,
        path_cost=first_known(link.number("brport/path_cost"), whole(data, "cost")),
        priority=first_known(link.number("brport/priority"), whole(data, "priority")),
        hairpin=_truth(first_known(link.number("brport/hairpin_mode"), truth(data, "hairpin"))),
        isolated=_truth(first_known(link.number("brport/isolated"), truth(data, "isolated"))),
        learning=_truth(first_known(link.number("brport/learning"), truth(data, "learning"))),
        bpdu_guard=_truth(first_known(link.number("brport/bpdu_guard"), truth(data, "guard"))),
        pvid=vlans.pvid if vlans else None,
        tagged=vlans.tagged if vlans else None,
        untagged=vlans.untagged if vlans else None,
        vm=owner.vm if owner else None,
        interfaces=(link.name,),
    )


@dataclass(frozen=True, slots=True)
class _PortVlans:
    pvid: int | None
    tagged: str
    untagged: str


def _vlans(objects: Sequence[Tree]) -> Mapping[str, _PortVlans]:
    """The VLANs of each port in ``bridge -j vlan``: ``{"ifname", "vlans": [{"vlan", "vlanEnd"?,
    "flags"?}]}``.
    """
    found: dict[str, _PortVlans] = {}
    for port in objects:
        name, pvid = words(port, "ifname"), None
        lists: dict[bool, list[str]] = {True: [], False: []}
        for entry in items(port, "vlans"):
            first, last = whole(entry, "vlan"), whole(entry, "vlanEnd")
            flags = items(entry, "flags")
            if first is None:
                continue
            pvid = first if "PVID" in flags else pvid
            lists["Egress Untagged" in flags].append(str(first) if last is None else f"{first}-{last}")
        if name is not None:
            found[name] = _PortVlans(pvid, ",".join(lists[False]), ",".join(lists[True]))
    return found


def _number(link: Link, name: str) -> int | None:
    found: int | None = first_known(link.number(f"bridge/{name}"), whole(link.data, name))
    return found


def _seconds(link: Link, name: str) -> float | None:
    ticks = _number(link, name)
    return ticks / _TICKS_PER_SECOND if ticks is not None else None


def _flag(link: Link, name: str) -> bool | None:
    return _truth(_number(link, name))


def _truth(value: int | None) -> bool | None:
    return bool(value) if value in (0, 1) else None


def _bridge_id(link: Link, name: str) -> str | None:
    """Priority and address, as sysfs writes them: ``8000.525400a1b2c3``. ``ip`` has
    ``8000.52:54:0:a1:b2:c3``.
    """
    text = link.text(f"bridge/{name}")
    if text is None and (told := words(link.data, name)) is not None:
        priority, _, address = told.partition(".")
        text = f"{priority}." + "".join(part.zfill(2) for part in address.split(":"))
    return text.lower() if text else None


def _vlan_protocol(link: Link) -> str | None:
    """0x8100 is 802.1Q and 0x88a8 is 802.1ad."""
    told = words(link.data, "vlan_protocol") or link.text("bridge/vlan_protocol")
    return {"0x8100": "802.1Q", "0x88a8": "802.1ad"}.get(told or "", told)
