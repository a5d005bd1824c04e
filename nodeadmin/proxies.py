"""Who the client is: what a proxy says of it counts where the proxy is trusted, and from nobody else.

``X-Forwarded-For`` and ``X-Forwarded-Proto`` are read here, in one place, and then taken out of every
request: nothing behind (Django, axes, the event log, throttles) can come to believe them. ``Forwarded``
(RFC 7239) and all other headers of their kind are taken out unread. Sockets are treated as requests are.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable, Iterable, MutableMapping, Sequence
from typing import Any

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

UNIX = "unix"
"""In the list of trusted proxies: whoever connects over a Unix socket, which has no address; the permissions
of the socket's file decide who that is."""
FOR, PROTO = b"x-forwarded-for", b"x-forwarded-proto"
TAKEN_OUT = frozenset(
    {
        FOR, PROTO, b"forwarded", b"x-forwarded", b"x-forwarded-host", b"x-forwarded-port",
        b"x-forwarded-server", b"x-forwarded-ssl", b"x-forwarded-scheme", b"x-forwarded-prefix", b"x-scheme",
        b"x-url-scheme", b"x-real-ip", b"x-client-ip", b"x-cluster-client-ip", b"true-client-ip",
        b"cf-connecting-ip", b"front-end-https", b"forwarded-for", b"client-ip", b"via",
    }
)  # fmt: skip
MOST_HOPS = 32
_SECURE = {"http": {"http": "http", "https": "https"}, "websocket": {"http": "ws", "https": "wss"}}


class TrustedProxies:
    """The application, whose requests and sockets have the client's own address and scheme.

    ``proxies`` are addresses, networks and :data:`UNIX`. The client is the right-most address of
    ``X-Forwarded-For`` that is no trusted proxy's: what stands left of it was written by the client.
    """

    def __init__(self, application: Application, proxies: Sequence[str]) -> None:
        self._application = application
        self._unix = UNIX in proxies
        self._networks = tuple(ipaddress.ip_network(text) for text in proxies if text != UNIX)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            scope = self.judged(scope)
        await self._application(scope, receive, send)

    def judged(self, scope: Scope) -> Scope:
        """The scope as the application is to see it."""
        peer = _peer_of(scope)
        found: Scope = {**scope, "headers": _without(scope["headers"])}
        if peer is not None:
            found["client"] = (str(peer), scope["client"][1])
        if not self._trusts(peer, is_unix=not scope.get("client")):
            return found
        hops = _values(scope["headers"], FOR)[-MOST_HOPS:]
        client, passed = self._client(peer, hops)
        if client is not None:
            found["client"] = (str(client), 0 if passed else scope["client"][1])
        schemes = _values(scope["headers"], PROTO)
        if schemes:
            # Each proxy appends the scheme by which it was asked; many overwrite what was there instead.
            said = schemes[-1 - min(max(0, passed - 1), len(schemes) - 1)].lower()
            secure = {"ws": "http", "wss": "https"}.get(said, said)
            found["scheme"] = _SECURE[scope["type"]].get(secure, scope.get("scheme", "http"))
        return found

    def _client(self, peer: Address | None, hops: Sequence[str]) -> tuple[Address | None, int]:
        """The client, and how many hops of the header lead to it. What is no address ends the way: the
        client is then whoever said so."""
        nearest, passed = peer, 0
        for hop in reversed(hops):
            address = read_address(hop)
            if address is None:
                break
            nearest, passed = address, passed + 1
            if not self._trusts(address, is_unix=False):
                break
        return nearest, passed

    def _trusts(self, address: Address | None, *, is_unix: bool) -> bool:
        if address is None:
            return is_unix and self._unix
        return any(address in network for network in self._networks)


def read_address(text: str) -> Address | None:
    """``10.0.0.7``, ``10.0.0.7:80``, ``fd00::7`` or ``[fd00::7]:80``; an IPv4 address that is mapped into
    IPv6 as IPv4. None for anything else, such as ``unknown``."""
    bare = text.strip().strip('"')
    if bare.startswith("["):
        bare, bracket, port = bare[1:].partition("]")
        if not bracket or (port and not (port[0] == ":" and port[1:].isdecimal())):
            return None
    elif bare.count(":") == 1:
        bare, _colon, port = bare.partition(":")
        if not port.isdecimal():
            return None
    try:
        found = ipaddress.ip_address(bare.partition("%")[0])
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


def _peer_of(scope: Scope) -> Address | None:
    client = scope.get("client")
    return read_address(str(client[0])) if client else None


def _values(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> list[str]:
    """The members of a header's list, over all of its lines in their order."""
    lines = [value.decode("latin-1") for found, value in headers if found.lower() == name]
    return [word.strip() for line in lines for word in line.split(",") if word.strip()]


def _without(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The headers but those of proxies, and those with an underscore: behind CGI's names, as Django has them,
    ``X_Forwarded_For`` is the same as the one with hyphens."""
    return [(name, value) for name, value in headers if name.lower() not in TAKEN_OUT and b"_" not in name]
