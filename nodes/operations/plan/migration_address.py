"""Whether an address is one at which a host can take migrations: one of its own, and no other host's."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

_LISTS = ("nics", "bonds", "bridges", "vlans", "tunnels", "other")
_NOT_YET = frozenset({"tentative", "dadfailed"})


def literal(address: str) -> IpAddress | None:
    """The IP address that ``address`` is, brackets and all; None for a name."""
    try:
        found = ipaddress.ip_address(address.strip("[]"))
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return mapped or found


def leads_nowhere(address: IpAddress) -> bool:
    """Whether it is no address of one host on a network: loopback, unspecified, multicast, link-local,
    reserved (RFC 6890)."""
    return (
        address.is_loopback
        or address.is_unspecified
        or address.is_multicast
        or address.is_link_local
        or address.is_reserved
    )


def shown_addresses(net: Mapping[str, Any] | None) -> tuple[IpAddress, ...] | None:
    """The addresses that other hosts may reach, by the facts of the section ``net``; None where they are not
    known (no inventory, or no ``ip`` on the host)."""
    if not net:
        return None
    interfaces = [interface for name in _LISTS for interface in net.get(name) or ()]
    if not interfaces or all(interface.get("addresses") is None for interface in interfaces):
        return None
    rows = [row for interface in interfaces for row in interface.get("addresses") or ()]
    return tuple(_usable(rows))


def _usable(rows: Sequence[Mapping[str, Any]]) -> Iterator[IpAddress]:
    for row in rows:
        address = literal(str(row.get("address") or ""))
        if address is None or leads_nowhere(address) or _NOT_YET & set(row.get("flags") or ()):
            continue
        yield address


def listed(addresses: Sequence[IpAddress], *, most: int = 6) -> str:
    """The addresses for a message, the first ``most`` of them."""
    words = [str(address) for address in addresses[:most]]
    return ", ".join([*words, "…"] if len(addresses) > most else words) or "–"
