"""Which addresses nodeadmin may connect to: judged after a name was resolved, on the address itself.

Whoever names a host, a BMC or a webhook has this server connect to it, from inside its network. So addresses
that lead to something else than a host are refused: a cloud's metadata service hands out credentials to
whoever asks from the right machine, and link-local addresses are no host's address for others (RFC 3927,
RFC 4291). The administrator's own networks come on top.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from nodes.errors import AddressDenied

Purpose = Literal["host", "bmc", "migration", "webhook", "provider"]
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

ALLOWED_SETTING, DENIED_SETTING = "NODEADMIN_ALLOWED_NETWORKS", "NODEADMIN_DENIED_NETWORKS"
FIELDS: dict[Purpose, str] = {
    "host": "uri",
    "bmc": "bmc.url",
    "migration": "migration_address",
    "webhook": "url",
    "provider": "",
}


def _networks(*texts: str) -> tuple[Network, ...]:
    return tuple(ipaddress.ip_network(text) for text in texts)


NEVER = _networks("0.0.0.0/8", "224.0.0.0/4", "240.0.0.0/4", "::/128", "ff00::/8")
"""Unspecified, multicast, reserved and broadcast (RFC 6890): no peer has such an address, whatever is listed.
A connection to an unspecified one reaches this machine."""
METADATA = _networks(
    "169.254.169.254/32",  # Amazon, Google, Azure, OpenStack and most others
    "169.254.170.2/32",  # Amazon's containers
    "169.254.170.23/32",
    "fd00:ec2::254/128",
    "fd00:ec2::23/128",
    "fd20:ce::254/128",  # Google
    "100.100.100.200/32",  # Alibaba
    "168.63.129.16/32",  # Azure
    "192.0.0.192/32",  # Oracle
)
LINK_LOCAL = _networks("169.254.0.0/16", "fe80::/10")
LOOPBACK = _networks("127.0.0.0/8", "::1/128")

_COMPATIBLE = ipaddress.IPv6Network("::/96")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_NAT64_LOCAL = ipaddress.IPv6Network("64:ff9b:1::/48")
_ISATAP = (0x0000_5EFE, 0x0200_5EFE)
_NUMBERS = re.compile(r"(?:0x[0-9a-f]*|\d+)(?:\.(?:0x[0-9a-f]*|\d+)){0,3}", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class NetworkRules:
    """``allowed`` is all that may be reached where it is not empty; ``denied`` is taken out of it.

    A network that is refused by default (link-local, metadata, loopback for webhooks) is opened only by an
    allowed network that lies within it: ``0.0.0.0/0`` alone opens none of them.
    """

    allowed: tuple[Network, ...] = ()
    denied: tuple[Network, ...] = ()

    def check(self, text: str, purpose: Purpose, *, name: str = "") -> Address:
        """The IP address ``text``, which may be connected to; a zone (``%eth0``) counts for nothing.

        ``name`` is what led to it, for the message. Raises AddressDenied, ValueError for what is no address.
        """
        address = ipaddress.ip_address(text.partition("%")[0].strip("[]"))
        reason = self.refusal(address, purpose)
        if reason:
            raise denied(str(address), purpose, reason, name=name)
        return address

    def check_literal(self, host: str, purpose: Purpose) -> bool:
        """Check ``host`` where it is an address in whatever form a resolver takes for one; False for a name.

        For what somebody else resolves, such as a jump host. Raises AddressDenied.
        """
        address = literal_address(host)
        if address is None:
            return False
        self.check(str(address), purpose, name=host if host != str(address) else "")
        return True

    def refusal(self, address: Address, purpose: Purpose) -> str:
        """Why the address may not be connected to, as the words of a sentence; "" where it may."""
        forms = tuple(_forms_of(address))
        same = forms[: _same(address)]
        if any(_within(form, NEVER) for form in same):
            return "it is no address of one host"
        for form in forms:
            if _within(form, self.denied):
                return f"{DENIED_SETTING} has it"
            for kind, networks in _by_default(purpose):
                if any(form in network and not self._opens(form, network) for network in networks):
                    return f"{kind} addresses are denied unless {ALLOWED_SETTING} lists them"
        if self.allowed and not any(_within(form, self.allowed) for form in same):
            return f"{ALLOWED_SETTING} does not have it"
        return ""

    def _opens(self, address: Address, closed: Network) -> bool:
        """Whether an allowed network within ``closed`` has the address."""
        return any(
            address in network and network.version == closed.version and network.prefixlen >= closed.prefixlen
            for network in self.allowed
        )


def _by_default(purpose: Purpose) -> Iterator[tuple[str, tuple[Network, ...]]]:
    yield "metadata", METADATA
    yield "link-local", LINK_LOCAL
    if purpose == "webhook":
        yield "loopback", LOOPBACK


def _within(address: Address, networks: Iterable[Network]) -> bool:
    return any(address in network for network in networks)


def _same(address: Address) -> int:
    """How many of :func:`_forms_of` are one and the same peer: a mapped address is sent as IPv4."""
    return 2 if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None else 1


def _forms_of(address: Address) -> Iterator[Address]:
    """The address, and the IPv4 addresses in it to which a kernel, a NAT64 or a tunnel would send."""
    yield address
    if isinstance(address, ipaddress.IPv4Address):
        return
    value = int(address)
    if address.ipv4_mapped is not None:  # RFC 4291, 2.5.5.2
        yield address.ipv4_mapped
    elif address in _COMPATIBLE and value > 1:  # RFC 4291, 2.5.5.1
        yield ipaddress.IPv4Address(value)
    if address in _NAT64:  # RFC 6052, 2.1
        yield ipaddress.IPv4Address(value & 0xFFFF_FFFF)
    if address in _NAT64_LOCAL:  # RFC 8215: any length of prefix from 48 to 96; bits 64 to 71 are left out
        yield ipaddress.IPv4Address(value & 0xFFFF_FFFF)
        yield ipaddress.IPv4Address((value >> 64 & 0xFFFF) << 16 | value >> 40 & 0xFFFF)
        yield ipaddress.IPv4Address((value >> 64 & 0xFF) << 24 | value >> 32 & 0xFF_FFFF)
        yield ipaddress.IPv4Address(value >> 24 & 0xFFFF_FFFF)
    if address.sixtofour is not None:  # RFC 3056
        yield address.sixtofour
    if address.teredo is not None:  # RFC 4380: server and client
        yield from address.teredo
    if value >> 32 & 0xFFFF_FFFF in _ISATAP:  # RFC 5214, 6.1
        yield ipaddress.IPv4Address(value & 0xFFFF_FFFF)


def literal_address(host: str) -> Address | None:
    """The address that a resolver takes ``host`` for without asking anybody; None for a name.

    Besides the usual forms that is ``127.1``, ``0x7f000001``, ``017700000001`` and their like (inet_aton(3)).
    """
    bare = host.strip().strip("[]").partition("%")[0]
    try:
        return ipaddress.ip_address(bare)
    except ValueError:
        pass
    if _NUMBERS.fullmatch(bare) is None:
        return None
    try:
        return ipaddress.IPv4Address(socket.inet_aton(bare))
    except OSError:
        return None


def denied(address: str, purpose: Purpose, reason: str, *, name: str = "") -> AddressDenied:
    """The error of an address that may not be connected to."""
    led = f"{name} leads to {address}" if name and name != address else address
    return AddressDenied(
        f"nodeadmin does not connect to {led}: {reason}.",
        remedy=f"Give another address, or have whoever runs the server list its network in {ALLOWED_SETTING} "
        f"(and take it out of {DENIED_SETTING}).",
        field=FIELDS[purpose],
        extra={"reason": "address_denied"},
    )


def parse_networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """Networks (``10.0.0.0/8``) and single addresses. Raises ValueError, naming the first that is neither."""
    found = []
    for text in texts:
        try:
            found.append(ipaddress.ip_network(text))
        except ValueError:
            raise ValueError(text) from None
    return tuple(found)
