"""Who is at the other end of a socket: the same logins and tokens as over HTTP, and no foreign page.

A browser sends cookies with a socket that any page opens, and asks nobody (RFC 6455, section 10.2): so a
login counts only where the page came from this server. A token is sent by no browser of itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.http.cookie import parse_cookie
from django.http.request import validate_host

from nodeadmin.callers import OUTCOME, Outcome
from nodes import events
from nodes.audit.requests import tell_refused_token
from nodes.engine.logins import user_of_session
from nodes.events import Actor
from nodes.models import ApiToken, User
from nodes.models.event import Via

Scope = Mapping[str, Any]
_PAGES = {"ws": "http", "wss": "https"}
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Caller:
    """What a socket was opened with. Asked again and again: a login ends, a token is revoked."""

    token: str = ""
    session_key: str = ""
    address: str | None = None
    outcome: Outcome = field(default_factory=Outcome, compare=False)

    @classmethod
    def of(cls, scope: Scope) -> Caller:
        found = cls._of(scope)
        return replace(found, outcome=scope.get(OUTCOME) or found.outcome)

    @classmethod
    def _of(cls, scope: Scope) -> Caller:
        headers = headers_of(scope)
        word, _, token = headers.get("authorization", "").partition(" ")
        if word.lower() == "bearer":
            return cls(token=token.strip(), address=address_of(scope))
        if not is_own_page(headers, scope.get("scheme", "ws")):
            return cls()
        cookies = parse_cookie(headers.get("cookie", ""))
        return cls(session_key=cookies.get(settings.SESSION_COOKIE_NAME, ""), address=address_of(scope))

    def user(self) -> User | None:
        """As :meth:`actor`, without where they are and how they came."""
        found = self.actor()
        return found.user if found is not None else None

    def actor(self) -> Actor | None:
        """Who it is, read from the database at each call, with the limits of their token; None where there is
        nobody any more."""
        found = self._by_token() if self.token else self._by_session()
        self.outcome.known = found is not None
        return found

    def tell_refused(self) -> None:
        """An entry of a token that opened no socket. Who has no login at all leaves none."""
        if self.token:
            tell_refused_token(Actor(source_ip=self.address, via=Via.API))

    def _by_token(self) -> Actor | None:
        found = ApiToken.find(self.token, self.address)
        if found is None or not isinstance(found.user, User):
            return None
        found.touch(self.address)
        return Actor(found.user, self.address, Via.API, found.name)

    def _by_session(self) -> Actor | None:
        user = user_of_session(self.session_key) if self.session_key else None
        if user is None:
            return None
        return Actor(user, self.address, Via.PAGE, session_key=self.session_key)


class Recheck:
    """When a socket looks again at whether its login holds: after a while, and at once when this process ends
    logins or tokens of its user. Made in the socket's event loop."""

    def __init__(self) -> None:
        self.user_id: int | None = None
        self._loop = asyncio.get_running_loop()
        self._now = asyncio.Event()
        self.close = events.listen(self._published)

    async def wait(self, seconds: float) -> None:
        """Return after ``seconds``, or when there is something to look at."""
        try:
            async with asyncio.timeout(seconds):
                await self._now.wait()
        except TimeoutError:
            pass
        self._now.clear()

    def _published(self, kind: str, payload: Mapping[str, Any]) -> None:
        if kind == events.LoginsEnded.__name__ and payload["user_id"] == self.user_id:
            self._loop.call_soon_threadsafe(self._now.set)


def headers_of(scope: Scope) -> dict[str, str]:
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}


def address_of(scope: Scope) -> str | None:
    """The address that the socket was opened from."""
    client = scope.get("client")
    return client[0] if client else None


def is_own_page(headers: Mapping[str, str], scheme: str) -> bool:
    """Whether the page that opens the socket came from this server, by its Origin header (RFC 6454).

    ``scheme`` is that of the socket as the client opened it, ``ws`` or ``wss``. Scheme, host and port have to
    be the same, or the origin one of ``NODEADMIN_TRUSTED_ORIGINS``; ``null`` is nobody's.
    """
    origin = origin_of(headers.get("origin", ""))
    if origin is None:
        return False
    if any(_matches(origin, trusted) for trusted in settings.CSRF_TRUSTED_ORIGINS):
        return True
    own = origin_of(f"{_PAGES.get(scheme, scheme)}://{headers.get('host', '')}")
    return own is not None and origin == own and validate_host(own.host, settings.ALLOWED_HOSTS)


@dataclass(frozen=True, slots=True)
class Origin:
    """Scheme, host in lower case as it stands in an address, and port."""

    scheme: str
    host: str
    port: int


def origin_of(text: str) -> Origin | None:
    """An origin with its default port filled in; None for ``null`` and for what is none."""
    try:
        parts = urlsplit(text)
        port, host = parts.port, parts.hostname or ""
    except ValueError:
        return None
    default = _PORTS.get(parts.scheme)
    if default is None or not host or parts.path or parts.query or parts.fragment or "@" in parts.netloc:
        return None
    host = f"[{host}]" if ":" in host else host.removesuffix(".")
    return Origin(parts.scheme, host, default if port is None else port)


def _matches(origin: Origin, trusted: str) -> bool:
    """Whether ``trusted``, which may be ``https://*.example.org`` as Django takes it, names the origin."""
    scheme, _, rest = trusted.partition("://*.")
    if rest:
        wanted = origin_of(f"{scheme}://{rest}")
        return (
            wanted is not None
            and (wanted.scheme, wanted.port) == (origin.scheme, origin.port)
            and origin.host.endswith(f".{wanted.host}")
        )
    return origin == origin_of(trusted)
