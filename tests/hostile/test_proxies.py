"""A client that says of itself where it comes from, and pages of other origins that open sockets."""

from __future__ import annotations

from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest

from nodeadmin.proxies import TrustedProxies, read_address
from nodes.realtime import fleet
from nodes.realtime.access import is_own_page
from tests.factories import make_user
from tests.realtime.sockets import Socket, cookie_of

PROXY, OTHER_PROXY = "10.0.0.2", "10.0.0.3"


async def _nothing(_scope: Any, _receive: Any, _send: Any) -> None:
    return None


def judged(
    peer: str | None,
    *headers: tuple[str, str],
    proxies: tuple[str, ...] = ("10.0.0.0/29", "fd00::2"),
    kind: str = "http",
) -> Any:
    scope = {
        "type": kind,
        "scheme": "http" if kind == "http" else "ws",
        "client": (peer, 4711) if peer else None,
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers],
        "method": "GET",
        "path": "/",
        "query_string": b"",
    }
    return TrustedProxies(_nothing, proxies).judged(scope)


FOR, PROTO = "X-Forwarded-For", "X-Forwarded-Proto"


def test_nobody_but_a_trusted_proxy_says_who_the_client_is() -> None:
    scope = judged(
        "203.0.113.9", (FOR, "127.0.0.1"), (PROTO, "https"), ("X-Real-IP", "127.0.0.1"),
        ("Forwarded", "for=127.0.0.1;proto=https"), ("X_Forwarded_For", "127.0.0.1"), ("Host", "x"),
    )  # fmt: skip
    assert (scope["client"], scope["scheme"]) == (("203.0.113.9", 4711), "http")
    assert scope["headers"] == [(b"host", b"x")]


@pytest.mark.parametrize(
    ("headers", "client"),
    [
        ([(FOR, "198.51.100.7")], "198.51.100.7"),
        ([(FOR, "127.0.0.1, 198.51.100.7")], "198.51.100.7"),
        ([(FOR, "127.0.0.1"), (FOR, "198.51.100.7")], "198.51.100.7"),
        ([(FOR, "127.0.0.1, 198.51.100.7, 10.0.0.3")], "198.51.100.7"),
        ([(FOR, "10.0.0.5, 10.0.0.3")], "10.0.0.5"),
        ([(FOR, "198.51.100.7:5000")], "198.51.100.7"),
        ([(FOR, "[2001:db8::7]:5000")], "2001:db8::7"),
        ([(FOR, "2001:db8::7")], "2001:db8::7"),
        ([(FOR, "::ffff:198.51.100.7")], "198.51.100.7"),
        ([(FOR, "127.0.0.1, unknown")], PROXY),
        ([(FOR, "127.0.0.1, garbage, 10.0.0.3")], OTHER_PROXY),
        ([(FOR, "")], PROXY),
        ([(FOR, ", ,")], PROXY),
        ([], PROXY),
        ([("Forwarded", "for=198.51.100.7")], PROXY),
        ([("X-Real-IP", "198.51.100.7")], PROXY),
        ([(FOR, "6.6.6.6, " * 5000 + "198.51.100.7")], "198.51.100.7"),
    ],
)
@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_the_client_is_the_nearest_that_is_no_proxy(
    headers: list[tuple[str, str]], client: str, kind: str
) -> None:
    assert judged(PROXY, *headers, kind=kind)["client"][0] == client
    assert judged(f"::ffff:{PROXY}", *headers, kind=kind)["client"][0] == client


@pytest.mark.parametrize(
    ("proto", "hops", "scheme"),
    [
        ("https", "198.51.100.7", "https"),
        ("HTTPS", "198.51.100.7", "https"),
        ("http", "198.51.100.7", "http"),
        ("wss", "198.51.100.7", "https"),
        ("gopher", "198.51.100.7", "http"),
        ("https, http", "198.51.100.7, 10.0.0.3", "https"),
        ("https, http", "198.51.100.7", "http"),
        ("http, https, http", "6.6.6.6, 198.51.100.7, 10.0.0.3", "https"),
        ("https", "198.51.100.7, 10.0.0.3", "https"),
        ("https", "", "https"),
    ],
)
def test_the_scheme_is_what_the_client_used(proto: str, hops: str, scheme: str) -> None:
    scope = judged(PROXY, (PROTO, proto), (FOR, hops))
    assert scope["scheme"] == scheme
    socket = judged(PROXY, (PROTO, proto), (FOR, hops), kind="websocket")
    assert socket["scheme"] == {"http": "ws", "https": "wss"}[scheme]
    request = ASGIRequest(scope, __import__("io").BytesIO())
    assert request.is_secure() is (scheme == "https")
    assert request.META["REMOTE_ADDR"] == scope["client"][0]
    assert not any("FORWARDED" in name for name in request.META)


def test_a_unix_socket_is_a_proxy_only_where_the_settings_say_so() -> None:
    headers = [(FOR, "198.51.100.7"), (PROTO, "https")]
    scope = judged(None, *headers)
    assert (scope["client"], scope["scheme"]) == (None, "http")
    scope = judged(None, *headers, proxies=("unix",))
    assert (scope["client"], scope["scheme"]) == (("198.51.100.7", 0), "https")
    assert judged("203.0.113.9", *headers, proxies=("unix",))["client"][0] == "203.0.113.9"


@pytest.mark.parametrize(
    "text", ["", "unknown", "_hidden", "[::1", "[::1]x", "1.2.3", "1.2.3.4:x", "::1:2:3:4:5:6:7:8:9"]
)
def test_what_is_no_address_is_none(text: str) -> None:
    assert read_address(text) is None


# -- origins ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scheme", "host", "origin", "own"),
    [
        ("ws", "localhost", "http://localhost", True),
        ("ws", "localhost:80", "http://localhost", True),
        ("ws", "localhost", "http://localhost:80", True),
        ("ws", "localhost:8000", "http://localhost:8000", True),
        ("wss", "localhost", "https://localhost", True),
        ("wss", "localhost", "https://localhost:443", True),
        ("wss", "LOCALHOST", "https://localhost", True),
        ("ws", "[::1]:8000", "http://[::1]:8000", True),
        ("wss", "localhost", "http://localhost", False),
        ("ws", "localhost", "https://localhost", False),
        ("ws", "localhost:8000", "http://localhost:8001", False),
        ("ws", "localhost", "http://localhost:8000", False),
        ("ws", "localhost:8000", "http://localhost", False),
        ("ws", "localhost", "null", False),
        ("ws", "localhost", "", False),
        ("ws", "", "", False),
        ("ws", "", "http://", False),
        ("ws", "localhost", "ftp://localhost", False),
        ("ws", "localhost", "http://x@localhost", False),
        ("ws", "localhost", "http://localhost/", False),
        ("ws", "localhost", "http://localhost:x", False),
        ("ws", "evil.example", "http://evil.example", False),
        ("ws", "localhost", "http://localhost.evil.example", False),
        ("ws", "inner", "https://trusted.example", True),
        ("ws", "inner", "https://trusted.example:443", True),
        ("ws", "inner", "http://trusted.example", False),
        ("ws", "inner", "https://trusted.example:8443", False),
        ("ws", "inner", "https://a.many.example", True),
        ("ws", "inner", "https://many.example", False),
        ("ws", "inner", "https://evilmany.example", False),
    ],
)
def test_a_page_is_ours_by_scheme_host_and_port(
    settings: Any, scheme: str, host: str, origin: str, own: bool
) -> None:
    settings.ALLOWED_HOSTS = ["localhost", "[::1]"]
    settings.CSRF_TRUSTED_ORIGINS = ["https://trusted.example", "https://*.many.example"]
    assert is_own_page({"host": host, "origin": origin}, scheme) is own


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("origin", [b"http://localhost:8001", b"https://localhost", b"null"])
async def test_a_page_of_another_port_or_scheme_gets_no_socket(origin: bytes) -> None:
    user = await sync_to_async(make_user)(is_superuser=True)
    cookie = await sync_to_async(cookie_of)(user)
    socket = Socket("/ws/fleet/", [(b"host", b"localhost:8000"), (b"origin", origin), cookie])
    await socket.open()
    assert await socket.close_code() == fleet.UNAUTHENTICATED
    await socket.close()
