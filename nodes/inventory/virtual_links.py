"""Interfaces without hardware of their own: VLANs, tunnels, and the rest (macvtap, veth, dummy, loopback …).

Sources: ``ip -d``, /proc/net/vlan (net/8021q/vlanproc.c), and the kernel's ``DEVTYPE`` and hardware type
where there is no ``ip``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from nodes.inventory.interface import Interface, first_known, lower_of, master_of, shared_facts
from nodes.inventory.jsontext import truth, whole, words
from nodes.inventory.links import Link, Links
from nodes.inventory.parsing.numbers import integer

_ANYWHERE = frozenset({"any", "0.0.0.0", "::"})  # noqa: S104
_VLAN_LINE = re.compile(r"\s*(\S+)\s*\|\s*(\d{1,4})\s*\|\s*(\S+)\s*\Z", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Vlan(Interface):
    """A VLAN of ``parent``. ``vlan_id`` is 0 to 4095, ``protocol`` ``802.1Q`` or ``802.1ad``."""

    vlan_id: int | None
    protocol: str | None
    parent: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tunnel(Interface):
    """A tunnel; its ``kind`` says of what sort (``vxlan``, ``gre``, ``geneve``, ``wireguard``, ``tun`` …).

    ``network_id`` is the VNI of VXLAN and Geneve (or the id of an XFRM interface), ``key`` that of GRE.
    ``remote`` is a host or a multicast group. ``lower`` is the interface it leaves by, ``port`` its UDP port.
    ``external``: a program sets the peers packet by packet.
    """

    local: str | None
    remote: str | None
    lower: str | None
    network_id: int | None
    key: str | None
    port: int | None
    ttl: int | None
    external: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Other(Interface):
    """Any other interface. ``lower`` is what it stands on (of macvtap, macvlan, ipvlan), ``mode`` how; of a
    veth ``lower`` is its other end, where that is on the host. ``ports`` are the interfaces that are part
    of it."""

    lower: str | None
    mode: str | None
    ports: tuple[str, ...]


def read_vlan(link: Link, links: Links) -> Vlan:
    number, parent = _proc_vlan(link.name, links)
    return Vlan(
        **shared_facts(link, links),
        vlan_id=first_known(whole(link.data, "id"), number),
        protocol=words(link.data, "protocol"),
        parent=lower_of(link, links) or parent,
    )


def read_tunnel(link: Link, links: Links) -> Tunnel:
    data = link.data
    remote = next(
        (text for key in ("remote", "remote6", "group", "group6") if (text := words(data, key))), None
    )
    keys = [text for key in ("key", "ikey", "okey") if (text := words(data, key))]
    return Tunnel(
        **shared_facts(link, links),
        local=words(data, "local") or words(data, "local6"),
        remote=None if remote in _ANYWHERE else remote,
        lower=lower_of(link, links),
        network_id=first_known(whole(data, "id"), whole(data, "vni"), _number(words(data, "if_id"))),
        key=keys[0] if keys else None,
        port=whole(data, "port"),
        ttl=whole(data, "ttl") or None,
        external=truth(data, "external"),
    )


def read_other(link: Link, links: Links) -> Other:
    ports = tuple(other.name for other in links.by_name.values() if master_of(other) == link.name)
    return Other(
        **shared_facts(link, links), lower=lower_of(link, links), mode=words(link.data, "mode"), ports=ports
    )


def _number(text: str | None) -> int | None:
    """An id in decimal, or with 0x before it."""
    if text is None or not re.match(r"(0x[0-9a-fA-F]{1,8}|\d{1,10})\Z", text, re.ASCII):
        return None
    return integer(text, 16 if text.startswith("0x") else 10)


def _proc_vlan(name: str, links: Links) -> tuple[int | None, str | None]:
    """Number and parent by /proc/net/vlan/config: ``eth0.100  | 100  | eth0``."""
    for line in links.files.lines("/proc/net/vlan/config"):
        match = _VLAN_LINE.match(line)
        if match is not None and match.group(1) == name:
            return integer(match.group(2)), match.group(3)
    return None, None
