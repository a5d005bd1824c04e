"""The addresses of nodes: libvirt's URIs, narrowed to those that nodeadmin can vouch for.

libvirt's remote URIs (https://libvirt.org/uri.html) take parameters that run a command on our side
(``command``, ``netcat``), switch the check of the host key off (``no_verify``) or read files of ours
(``keyfile``, ``known_hosts``). A node's URI is typed by users, so every parameter is refused, by name.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

import idna

from nodes.errors import InvalidUri

SUPPORTED = "qemu:///system for this machine, qemu+ssh://[user@]host[:port]/system for another"
MAX_LENGTH = 400

_USER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}\$?")
"""POSIX portable user names and what useradd allows beside them; never a leading hyphen."""
_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_ZONE = re.compile(r"[A-Za-z0-9_.-]{1,15}")
_TEST_PATH = re.compile(r"/[A-Za-z0-9_./-]{1,200}")


@dataclass(frozen=True, slots=True)
class NodeUri:
    """A node's address, checked. ``host`` is lower case, in ASCII (IDNA), IPv6 without brackets."""

    transport: Literal["local", "ssh", "test"]
    host: str = ""
    port: int = 22
    user: str = ""
    path: str = "/system"

    def canonical(self) -> str:
        """The one way to write this address."""
        if self.transport == "local":
            return f"qemu://{self.path}"
        if self.transport == "test":
            return f"test://{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        user = f"{self.user}@" if self.user else ""
        port = "" if self.port == 22 else f":{self.port}"
        return f"qemu+ssh://{user}{host}{port}{self.path}"

    @property
    def libvirt_uri(self) -> str:
        """What libvirt opens at the host's own side."""
        return f"test://{self.path}" if self.transport == "test" else f"qemu://{self.path}"


def parse_uri(text: str, *, allow_test: bool = False) -> NodeUri:
    """Check and take apart a node's URI.

    ``allow_test`` lets libvirt's test driver (``test:///default``) in. Raises InvalidUri, which says what is
    wrong and what is supported.
    """
    supported = f"{SUPPORTED}, test:///default for libvirt's test driver" if allow_test else SUPPORTED
    text = text.strip()
    if not text or len(text) > MAX_LENGTH:
        raise _refuse(f"An address has 1 to {MAX_LENGTH} characters.", supported)
    if any(ord(character) <= 0x20 or ord(character) == 0x7F for character in text):
        raise _refuse("The address has spaces or control characters in it.", supported)
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise _refuse("The address is malformed: its host or port is not valid.", supported) from error
    _refuse_parameters(parts.query, "#" in text, "?" in text, supported)
    if parts.password is not None:
        raise _refuse("A password does not belong into the address; give it as the credential.", supported)

    scheme = parts.scheme.lower()
    if scheme == "qemu":
        if parts.netloc or parts.path != "/system":
            raise _refuse("Without a transport, only this machine's system instance is reachable.", supported)
        return NodeUri("local")
    if scheme == "test" and allow_test:
        if parts.netloc or not _TEST_PATH.fullmatch(parts.path) or ".." in parts.path:
            raise _refuse("The test driver takes a plain path.", supported)
        return NodeUri("test", path=parts.path)
    if scheme != "qemu+ssh":
        named = f"“{parts.scheme}”" if parts.scheme else "An address without a scheme"
        raise _refuse(f"{named} is not supported.", supported)
    if parts.path != "/system":
        raise _refuse("The path has to be /system.", supported)
    if port == 0 or parts.netloc.endswith(":"):
        raise _refuse("A port is a number from 1 to 65535.", supported)
    user = parts.username or ""
    if "@" in parts.netloc and not _USER.fullmatch(user):
        raise _refuse("The user name is not valid.", supported)
    return NodeUri("ssh", _host(parts.hostname or "", supported), port or 22, user)


def _refuse(reason: str, supported: str) -> InvalidUri:
    return InvalidUri(reason, remedy=f"Supported are {supported}.", field="uri")


def _refuse_parameters(query: str, fragment: bool, question: bool, supported: str) -> None:
    if fragment:
        raise _refuse("The address has a fragment (“#”).", supported)
    if not question:
        return
    names = [name for name in (pair.partition("=")[0] for pair in re.split("[&;]", query)) if name]
    shown = ", ".join(f"“{re.sub(r'[^A-Za-z0-9_.%-]', '?', name)[:40]}”" for name in names[:10])
    raise _refuse(
        f"Parameters in the address are refused: {shown or '“?”'}. They could run a command on the server "
        "or switch the check of the host key off.",
        supported,
    )


def _host(host: str, supported: str) -> str:
    if not host:
        raise _refuse("The address names no host.", supported)
    if ":" in host:
        address, percent, zone = host.partition("%")
        try:
            plain = ipaddress.IPv6Address(address).compressed
        except ValueError as error:
            raise _refuse("The host is not a valid IPv6 address.", supported) from error
        zone = zone.removeprefix("25")  # RFC 6874 writes the percent sign itself as %25
        if percent and not _ZONE.fullmatch(zone):
            raise _refuse("The zone of the IPv6 address is not valid.", supported)
        return f"{plain}%{zone}" if percent else plain
    return _host_name(host, supported)


def _host_name(host: str, supported: str) -> str:
    name = host.lower().removesuffix(".")
    if not name.isascii():
        try:
            name = idna.encode(name, uts46=True).decode("ascii")
        except idna.IDNAError as error:
            raise _refuse("The host is not a valid internationalized name.", supported) from error
    labels = name.split(".")
    if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise _refuse("The host is not a valid name or address.", supported)
    if re.fullmatch(r"\d+|0x[0-9a-f]*", labels[-1]):
        # Resolvers read 127.1 or 0x7f000001 as addresses: only the four-part form means what it looks like.
        try:
            return str(ipaddress.IPv4Address(name))
        except ValueError as error:
            raise _refuse("The host is not a valid IPv4 address.", supported) from error
    return name
