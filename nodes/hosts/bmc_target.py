"""How to reach a BMC: its address, the user, and what its certificate has to be."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import urlsplit

from nodes.errors import InvalidInput, InvalidUri
from nodes.hosts.network_rules import NetworkRules
from nodes.hosts.uri import parse_uri

_URL = "https://host[:port]"


@dataclass(frozen=True, slots=True)
class BmcAddress:
    """Host (lower case, ASCII, IPv6 without brackets) and port of a BMC's HTTPS service."""

    host: str
    port: int = 443

    @property
    def url(self) -> str:
        """The one way to write it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"https://{host}" if self.port == 443 else f"https://{host}:{self.port}"


def parse_bmc_url(text: str) -> BmcAddress:
    """Check and take apart a BMC's address. Raises InvalidInput, field ``bmc.url``, saying what is wrong."""
    try:
        parts = urlsplit(text.strip())
        port, host = parts.port, parts.hostname or ""
    except ValueError:
        raise _bad_url("The address is malformed: its host or port is not valid.") from None
    if parts.scheme.lower() != "https":
        raise _bad_url("A BMC is spoken to over HTTPS alone: anything else would show its password.")
    if "@" in parts.netloc:
        raise _bad_url("User and password do not belong into the address.")
    if parts.path not in ("", "/") or parts.query or parts.fragment or "?" in text or "#" in text:
        raise _bad_url("The address has a path or parameters; it is the host alone, and a port.")
    if port == 0 or parts.netloc.endswith(":") or "%" in host:
        raise _bad_url("A port is a number from 1 to 65535, and the host has no zone.")
    try:
        # The same rules as for the addresses of nodes: names, IPv4 and IPv6, internationalized names.
        checked = parse_uri(f"qemu+ssh://{f'[{host}]' if ':' in host else host}/system").host
    except InvalidUri as error:
        raise _bad_url(error.message) from None
    return BmcAddress(checked, port or 443)


def _bad_url(message: str) -> InvalidInput:
    return InvalidInput(message, remedy=f"Give it as {_URL}.", field="bmc.url")


@dataclass(frozen=True, slots=True)
class BmcTarget:
    """How a BMC is reached. An empty ``user`` sends no credential.

    ``fingerprint`` (64 hexadecimal digits) pins the certificate; without one this machine's authorities must
    vouch for it. ``system_path`` is the resource of the machine, "" where it is still to be found.
    """

    address: BmcAddress
    user: str = ""
    password: str = field(default="", repr=False)
    fingerprint: str = ""
    system_path: str = ""
    rules: NetworkRules = field(kw_only=True)
    """Which addresses its name may lead to; without a default, as in HostTarget."""
