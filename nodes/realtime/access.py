"""Who is at the other end of a socket: the same logins and tokens as over HTTP, and no foreign page.

A browser sends cookies with a socket that any page opens, and asks nobody (RFC 6455, section 10.2): so a
login counts only where the page came from this server. A token is sent by no browser of itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib import auth
from django.contrib.sessions.backends.base import SessionBase
from django.http import HttpRequest
from django.http.cookie import parse_cookie
from django.http.request import validate_host
from django.utils.module_loading import import_string

from nodes.models import ApiToken, User

Scope = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Caller:
    """What a socket was opened with. Asked again and again: a login ends, a token is revoked."""

    token: str = ""
    session_key: str = ""
    address: str | None = None

    @classmethod
    def of(cls, scope: Scope) -> Caller:
        headers = headers_of(scope)
        word, _, token = headers.get("authorization", "").partition(" ")
        if word.lower() == "bearer":
            return cls(token=token.strip(), address=address_of(scope))
        if not is_own_page(headers):
            return cls()
        cookies = parse_cookie(headers.get("cookie", ""))
        return cls(session_key=cookies.get(settings.SESSION_COOKIE_NAME, ""))

    def user(self) -> User | None:
        """The user, read from the database at each call, with the limits of their token; None where there is
        none any more."""
        if self.token:
            found = ApiToken.find(self.token, self.address)
            if found is None:
                return None
            found.touch(self.address)
            return found.user
        if not self.session_key:
            return None
        store: type[SessionBase] = import_string(f"{settings.SESSION_ENGINE}.SessionStore")
        request = HttpRequest()
        request.session = store(self.session_key)
        user = auth.get_user(request)
        return user if isinstance(user, User) and user.is_active else None


def headers_of(scope: Scope) -> dict[str, str]:
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}


def address_of(scope: Scope) -> str | None:
    """The address that the socket was opened from."""
    client = scope.get("client")
    return client[0] if client else None


def is_own_page(headers: Mapping[str, str]) -> bool:
    """Whether the page that opens the socket came from this server, by its Origin header (RFC 6454)."""
    origin, host = headers.get("origin", ""), headers.get("host", "")
    if origin in settings.CSRF_TRUSTED_ORIGINS:
        return True
    allowed = settings.ALLOWED_HOSTS
    name = urlsplit(f"//{host}").hostname or ""
    return bool(host) and urlsplit(origin).netloc == host and validate_host(name, allowed)
