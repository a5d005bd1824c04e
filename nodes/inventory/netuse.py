"""What the host does with each of its network interfaces: addresses, routes, bridges, bonds.

Sources: ``/sys/class/net`` (Documentation/ABI/testing/sysfs-class-net of the kernel), ``/proc/net/route``,
``/proc/net/ipv6_route`` and ``/proc/net/if_inet6`` (Documentation/networking/ipv6.rst, man proc), and
``ip -j address``: an IPv4 address without a subnet of its own (a /32) stands in no table of routes.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from nodes.inventory.jsontext import items, read_objects, words
from nodes.inventory.parsing.numbers import integer
from nodes.inventory.sysfiles import Directory

_NET = "/sys/class/net/"
_IFF_UP = 0x1
_RTF_REJECT = 0x200
_LINK_LOCAL_SCOPE = "20"
_WIDE_SCOPES = frozenset({"global", "site"})
_NO_SPEED = frozenset({65535, 4294967295})
"""What drivers give for "unknown" in 16 and in 32 bits."""


@dataclass(frozen=True, slots=True)
class InterfaceUse:
    """One use: ``default_route``, ``address``, ``bridge_port``, ``bond_slave``, ``vswitch_port``, ``member``
    (of a team, a VRF …) or ``interface_up``; ``names`` are the interfaces that make it so."""

    kind: str
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Interfaces:
    """The network interfaces of a host, by name."""

    files: Directory = field(default_factory=Directory)
    paths: Mapping[str, str] = field(default_factory=dict)
    """The device in ``/sys/devices``."""
    masters: Mapping[str, str] = field(default_factory=dict)
    uppers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Interfaces that stand on it: its master, and its VLANs and the like."""
    kinds: Mapping[str, str] = field(default_factory=dict)
    """``bridge`` or ``bond`` where an interface is one."""
    routed: frozenset[str] = frozenset()
    """Those with an address of their own."""
    default: frozenset[str] = frozenset()
    """Those that a default route leaves by."""

    def speed_mbps(self, name: str) -> int | None:
        """Speed in Mbit/s; None where the driver knows none (-1, 65535 and 4294967295 say so too)."""
        speed = self.files.number(name, "speed")
        return speed if speed is not None and speed > 0 and speed not in _NO_SPEED else None

    def is_up(self, name: str) -> bool:
        """Whether somebody has switched the interface on (whatever its cable says)."""
        flags = self.files.number(name, "flags")
        return flags is not None and bool(flags & _IFF_UP)

    def uses(self, name: str) -> Iterator[InterfaceUse]:
        """All uses of one interface, the weightiest first."""
        above = self._above(name)
        if default := tuple(upper for upper in above if upper in self.default):
            yield InterfaceUse("default_route", default)
        if addressed := tuple(upper for upper in above if upper in self.routed):
            yield InterfaceUse("address", addressed)
        master = self.masters.get(name)
        if master is not None:
            yield InterfaceUse(self._membership(master), (master,))
        if not addressed and not default and master is None and self.is_up(name):
            yield InterfaceUse("interface_up", (name,))

    def _membership(self, master: str) -> str:
        if master == "ovs-system":
            return "vswitch_port"
        return {"bridge": "bridge_port", "bond": "bond_slave"}.get(self.kinds.get(master, ""), "member")

    def _above(self, name: str) -> tuple[str, ...]:
        """The interface and all that stand on it, from below up."""
        found = {name: None}
        pending = [name]
        while pending:
            for upper in self.uppers.get(pending.pop(0), ()):
                if upper not in found:
                    found[upper] = None
                    pending.append(upper)
        return tuple(found)


def read_interfaces(
    values: Mapping[str, list[str]],
    links: Mapping[str, str | None],
    paths: Mapping[str, str],
    addresses: str = "",
) -> Interfaces:
    """Put together from the files, the links as listed, the links resolved, and what ``ip`` says."""
    masters: dict[str, str] = {}
    uppers: dict[str, tuple[str, ...]] = {}
    kinds: dict[str, str] = {}
    devices: dict[str, str] = {}
    for path in links:
        if not path.startswith(_NET):
            continue
        name, slash, entry = path[len(_NET) :].partition("/")
        if not slash:
            if path in paths:
                devices[name] = paths[path]
        elif entry in ("bridge", "bonding"):
            kinds[name] = "bridge" if entry == "bridge" else "bond"
        elif path in paths:
            upper = posixpath.basename(paths[path])
            if entry == "master":
                masters[name] = upper
            if upper not in uppers.get(name, ()):
                uppers[name] = (*uppers.get(name, ()), upper)
    return Interfaces(
        files=Directory.read(values, _NET),
        paths=devices,
        masters=masters,
        uppers=uppers,
        kinds=kinds,
        routed=frozenset((*_with_address(values), *_with_address_by_ip(addresses))),
        default=frozenset(_with_default_route(values)),
    )


def _with_address(values: Mapping[str, list[str]]) -> Iterator[str]:
    """Interfaces with an address that reaches further than the link: a subnet of their own in the routes."""
    for row in _rows(values.get("/proc/net/route", [])):
        if len(row) > 2 and row[2] == "00000000" and row[1] != "00000000":
            yield row[0]
    for row in _rows(values.get("/proc/net/if_inet6", [])):
        if len(row) == 6 and row[3] != _LINK_LOCAL_SCOPE:
            yield row[5]


def _with_address_by_ip(text: str) -> Iterator[str]:
    """Interfaces with an address of their own, whatever its prefix, that is known beyond host and link."""
    for link in read_objects(text):
        name = words(link, "ifname")
        if name and any(words(address, "scope") in _WIDE_SCOPES for address in items(link, "addr_info")):
            yield name


def _with_default_route(values: Mapping[str, list[str]]) -> Iterator[str]:
    for row in _rows(values.get("/proc/net/route", [])):
        if len(row) > 7 and row[1] == "00000000" and row[7] == "00000000":
            yield row[0]
    for row in _rows(values.get("/proc/net/ipv6_route", [])):
        if len(row) == 10 and row[1] == "00" and row[0].strip("0") == "" and not _rejects(row[8]):
            yield row[9]


def _rejects(flags: str) -> bool:
    """Every host has a default route to nowhere, on ``lo``."""
    known = integer(flags, 16)
    return True if known is None else bool(known & _RTF_REJECT)


def _rows(lines: Iterable[str]) -> Iterator[list[str]]:
    for line in lines:
        yield line.split()
