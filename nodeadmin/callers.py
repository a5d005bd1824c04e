"""Callers who are not signed in: so many requests from one address, counted before the database is asked.

A request counts where it turns out that nobody was signed in: a page of the login, an API call answered with
401, a wrong token, a socket without a login. Once an address has used up what it has, its requests get 429
at once, but those that come with a session or a token that was seen to count a moment ago: who is signed in
is not held up by others behind the same address. What is remembered is bounded.

Requests that run at once are bounded as well: each takes a thread, and with PostgreSQL a connection. One
whose body is still on its way is among them: so a caller has a quarter of the places at most, and all unknown
ones have half of them together.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import time
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import Any

from django.utils.translation import gettext as _

from nodes.rate_limit import Buckets, Rate

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

OUTCOME = "nodeadmin.caller"
"""In the scope: the :class:`Outcome` of a request, filled in by who finds out."""
KNOWN_S = 600.0
MOST_KNOWN = 20_000
V6_PREFIX = 64
"""What one customer has of IPv6 at least (RFC 6177): an address for itself says nothing."""


@dataclass(slots=True)
class Outcome:
    """Whether the caller has been found to be signed in, or allowed to call without."""

    known: bool = False


def known(request: Any) -> None:
    """Say that the caller of a Django request is signed in, or has shown a token of another kind."""
    outcome = getattr(request, "scope", {}).get(OUTCOME)
    if isinstance(outcome, Outcome):
        outcome.known = True


def address_key(text: str) -> str:
    """What stands for a client in counts: the IPv4 address, the /64 of an IPv6 one, ``unix`` for none."""
    if not text:
        return "unix"
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return text[:64]
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, V6_PREFIX), strict=False))


class BoundedCallers:
    """The application, whose unknown callers are bounded by ``rate``, and requests at once by ``at_once``.

    ``free`` are beginnings of paths that cost nothing: files that are served without the database.
    """

    def __init__(
        self, application: Application, rate: Rate, at_once: int, *, free: tuple[str, ...], cookie: str
    ) -> None:
        self._application = application
        self._buckets = Buckets(rate)
        self._at_once = at_once
        self._share = max(1, at_once // 4)
        self._running: Counter[bytes | str] = Counter()
        self._unknown = 0
        self._free = free
        self._cookie = cookie
        self._known: OrderedDict[bytes | None, float] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket") or scope["path"].startswith(self._free):
            await self._application(scope, receive, send)
            return
        key = address_key(str(scope["client"][0]) if scope.get("client") else "")
        credential = self._credential(scope)
        paid = not self._is_known(credential)
        if paid and (wait_s := self._buckets.take(key)):
            await refuse(scope, receive, send, 429, wait_s)
            return
        counted = scope["type"] == "http"
        caller = key if paid or credential is None else credential
        if counted and not self._has_place(caller, unknown=paid):
            await refuse(scope, receive, send, 503, 1)
            return
        outcome = Outcome()
        scope = {**scope, OUTCOME: outcome}
        self._running[caller] += counted
        self._unknown += counted and paid
        try:
            await self._application(scope, receive, send)
        finally:
            self._running[caller] -= counted
            self._unknown -= counted and paid
            if not self._running[caller]:
                del self._running[caller]
            if not outcome.known:
                # A session that ended, or a token that was revoked, opens nothing any more.
                self._known.pop(credential, None)
            else:
                self._remember(credential)
                if paid:
                    self._buckets.give_back(key)

    def _has_place(self, caller: bytes | str, *, unknown: bool) -> bool:
        if self._running[caller] >= self._share or (unknown and self._unknown >= self._at_once // 2):
            return False
        return self._running.total() < self._at_once

    def _credential(self, scope: Scope) -> bytes | None:
        """A digest of the token or the session that the request comes with; None where it has neither."""
        headers = {name.lower(): value for name, value in scope["headers"]}
        given = headers.get(b"authorization", b"")
        if not given:
            try:
                cookies = SimpleCookie(headers.get(b"cookie", b"").decode("latin-1"))
            except CookieError:
                return None
            session = cookies.get(self._cookie)
            given = session.value.encode() if session is not None else b""
        return hashlib.sha256(given).digest() if given else None

    def _is_known(self, credential: bytes | None) -> bool:
        until = self._known.get(credential) if credential is not None else None
        return until is not None and time.monotonic() < until

    def _remember(self, credential: bytes | None) -> None:
        if credential is None:
            return
        self._known[credential] = time.monotonic() + KNOWN_S
        self._known.move_to_end(credential)
        if len(self._known) > MOST_KNOWN:
            self._known.popitem(last=False)


async def refuse(scope: Scope, receive: Receive, send: Send, status: int, wait_s: float) -> None:
    """429 or 503 with Retry-After, as a problem document to the API and in plain words to others; a socket is
    refused in its handshake."""
    seconds = str(int(wait_s) + 1)
    if scope["type"] == "websocket":
        await receive()
        if "websocket.http.response" not in scope.get("extensions", {}):
            await send({"type": "websocket.close", "code": 1013})
            return
    kind = "websocket.http.response" if scope["type"] == "websocket" else "http.response"
    title = _("Too many requests") if status == 429 else _("The server is busy")
    detail = (
        _("There were too many requests from your address without a login.")
        if status == 429
        else _("The server carries out as many requests as it can.")
    )
    code = "rate_limited" if status == 429 else "server_busy"
    if scope["path"].startswith("/api/"):
        problem = {
            "type": f"urn:nodeadmin:problem:{code}",
            "title": title,
            "status": status,
            "detail": detail,
            "code": code,
            "errors": [],
            "retryable": True,
            "retry_after_s": int(seconds),
        }
        content, media_type = json.dumps(problem).encode(), b"application/problem+json"
    else:
        words = _("Try again in %s s.") % seconds
        content, media_type = f"{title}. {detail} {words}\n".encode(), b"text/plain; charset=utf-8"
    headers = [
        (b"content-type", media_type),
        (b"content-length", str(len(content)).encode()),
        (b"retry-after", seconds.encode()),
        (b"cache-control", b"no-store"),
    ]
    await send({"type": f"{kind}.start", "status": status, "headers": headers})
    await send({"type": f"{kind}.body", "body": content})
