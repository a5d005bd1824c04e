"""What every network interface of a host has, whatever it is: name, address, state, counters.

Sources: Documentation/ABI/testing/sysfs-class-net, RFC 2863 (operational states), iproute2's JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nodes.inventory.counters import Counters
from nodes.inventory.jsontext import Tree, branch, items, whole, words
from nodes.inventory.links import Link, Links, base_name, link_index, read_mac
from nodes.inventory.parsing.numbers import integer

_IFF_UP = 0x1
_NO_SPEED = frozenset({65535, 4294967295})
"""-1 in 16 and in 32 bits without a sign: how drivers say that there is no speed."""

_STATES = frozenset({"notpresent", "down", "lowerlayerdown", "testing", "dormant", "up"})
_ADDRESS_FLAGS = (
    "secondary",
    "temporary",
    "dynamic",
    "deprecated",
    "tentative",
    "dadfailed",
    "mngtmpaddr",
    "noprefixroute",
)
_HARDWARE_TYPES = {
    768: "ipip",
    769: "ip6tnl",
    772: "loopback",
    776: "sit",
    778: "gre",
    823: "ip6gre",
}
"""ARPHRD numbers of include/uapi/linux/if_arp.h that tell a kind by themselves."""

_HARDWARE_KINDS = frozenset({"dsa", "wwan", "ipoib", "rmnet"})
"""Kinds of rtnetlink that stand on hardware all the same."""

NIC = "nic"
TUNNELS = frozenset(
    {
        *("vxlan", "geneve", "gre", "gretap", "ip6gre", "ip6gretap", "erspan", "ip6erspan"),
        *(
            "ipip",
            "sit",
            "ip6tnl",
            "vti",
            "vti6",
            "xfrm",
            "wireguard",
            "tun",
            "gtp",
            "bareudp",
            "macsec",
            "l2tp",
        ),
    }
)


@dataclass(frozen=True, slots=True)
class Address:
    """An address of an interface. ``family`` is ``inet`` or ``inet6``, ``scope`` ``global``, ``link``,
    ``host`` or ``site``; ``flags`` as ``ip`` names them (``dynamic``, ``deprecated``, ``temporary`` …)."""

    family: str
    address: str
    prefix_length: int | None
    scope: str | None
    peer: str | None
    flags: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Interface:
    """The part that all kinds share.

    ``index`` is the kernel's number. ``state`` is the operational state (``up``, ``down``,
    ``lowerlayerdown``, ``dormant``, ``testing``, ``notpresent``; None where the driver does not tell, as of
    loopback). ``admin_up`` is what was asked of it. ``carrier`` is None while it is not asked to be up.
    ``alt_names`` and ``addresses`` are None where ``ip`` could not be read. ``master`` is the bridge, bond
    or other device it is a port of.
    """

    name: str
    index: int | None
    kind: str
    mac: str | None
    mtu: int | None
    state: str | None
    admin_up: bool | None
    carrier: bool | None
    alias: str | None
    alt_names: tuple[str, ...] | None
    addresses: tuple[Address, ...] | None
    master: str | None
    counters: Counters | None


def shared_facts(link: Link, links: Links) -> dict[str, Any]:
    """The members of :class:`Interface`, as keyword arguments for the classes that extend it."""
    flags = link.ip.get("flags")
    file_flags = hexadecimal(link.text("flags"))
    admin_up = bool(file_flags & _IFF_UP) if file_flags is not None else None
    if admin_up is None and isinstance(flags, list):
        admin_up = "UP" in flags
    mtu = link.number("mtu")
    return {
        "name": link.name,
        "index": link_index(link),
        "kind": kind_of(link, links),
        "mac": read_mac(link.text("address") or words(link.ip, "address")),
        "mtu": whole(link.ip, "mtu") if mtu is None else mtu,
        "state": _state(link),
        "admin_up": admin_up,
        "carrier": _carrier(link, admin_up, flags),
        "alias": link.text("ifalias") or words(link.ip, "ifalias"),
        "alt_names": _alt_names(link.ip) if link.ip else None,
        "addresses": read_addresses(link.ip) if link.ip else None,
        "master": master_of(link),
        "counters": link.counters,
    }


def kind_of(link: Link, links: Links) -> str:
    """What the interface is: ``nic``, ``loopback``, ``bridge``, ``bond``, ``vlan``, ``tap``, ``veth``, a
    kind of tunnel or another of rtnetlink's kinds; ``virtual`` where it has no hardware and nothing tells
    more."""
    told = words(link.info, "info_kind")
    if "device" in link.links and told in (None, *_HARDWARE_KINDS):
        return NIC
    if told == "tun":
        return words(link.data, "type") or _tun_kind(link) or "tun"
    if told is not None:
        return told
    if "bridge/bridge_id" in link.files or "bridge/stp_state" in link.files:
        return "bridge"
    if "bonding/mode" in link.files:
        return "bond"
    kind = link.uevent.get("DEVTYPE") or _tun_kind(link) or _HARDWARE_TYPES.get(link.number("type") or 0)
    if kind is not None:
        return kind
    if f"/proc/net/vlan/{link.name}" in links.files:
        return "vlan"
    # Only where sysfs is silent: hardware is then what is no kind of virtual device.
    medium = words(link.ip, "link_type")
    if medium == "loopback":
        return medium
    return NIC if medium in ("ether", "infiniband") and "" not in link.links else "virtual"


def master_of(link: Link) -> str | None:
    """The device that the interface is a port of."""
    return base_name(link.links.get("master")) or words(link.ip, "master")


def lower_of(link: Link, links: Links) -> str | None:
    """The interface that this one stands on: a VLAN's parent, a tunnel's way out."""
    named = words(link.ip, "link") or words(link.data, "link")
    if named is not None:
        return named
    below = link.number("iflink")
    # Only without `ip` is the number asked: of a veth it names the peer in a name space of its own.
    return links.named(below) if below and not link.ip and below != link_index(link) else None


def read_speed(text: str | None) -> int | None:
    """Mbit/s; None for every way of saying that there is none (0, -1, 65535, 4294967295, nothing)."""
    speed = integer(text)
    return speed if speed is not None and 0 < speed < 1 << 31 and speed not in _NO_SPEED else None


def read_duplex(text: str | None) -> str | None:
    """``full`` or ``half``."""
    duplex = (text or "").strip().lower()
    return duplex if duplex in ("full", "half") else None


def read_addresses(ip: Tree) -> tuple[Address, ...]:
    """The addresses in an object of ``ip -j address``. How long they are valid changes by the second: left
    out.
    """
    found = []
    for entry in items(ip, "addr_info"):
        address = words(entry, "local")
        if address is not None:
            flags = tuple(flag for flag in _ADDRESS_FLAGS if branch(entry, flag) is True)
            family, peer = words(entry, "family") or "inet", words(entry, "address")
            length = whole(entry, "prefixlen")
            found.append(Address(family, address, length, words(entry, "scope"), peer, flags))
    return tuple(found)


def _alt_names(ip: Tree) -> tuple[str, ...]:
    return tuple(name for name in items(ip, "altnames") if isinstance(name, str))


def _state(link: Link) -> str | None:
    state = link.text("operstate") or (words(link.ip, "operstate") or "").lower()
    return state if state in _STATES else None


def _carrier(link: Link, admin_up: bool | None, flags: object) -> bool | None:
    carrier = link.text("carrier")
    if carrier in ("0", "1"):
        return carrier == "1"
    return "LOWER_UP" in flags if admin_up and isinstance(flags, list) else None


def _tun_kind(link: Link) -> str | None:
    """IFF_TUN is 1 and IFF_TAP 2 (Documentation/networking/tuntap.rst)."""
    flags = hexadecimal(link.text("tun_flags"))
    return None if flags is None else "tap" if flags & 2 else "tun"


def hexadecimal(text: str | None) -> int | None:
    """A number as the kernel's files write it: ``0x1003``."""
    return integer(text, 16)


def first_known(*values: Any) -> Any:
    """The first that is not None."""
    return next((value for value in values if value is not None), None)


def by_number(numbers: Mapping[int, str], number: int | None) -> str | None:
    return numbers.get(number) if number is not None else None
