"""Clients that hold connections, send what never ends, or call without a login as often as they can: against
the server's own process."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from nodeadmin.callers import OUTCOME, BoundedCallers
from nodes.rate_limit import Rate
from tests.browser.serving import Server
from tests.patience import Deadline

PROXY = "127.0.0.2"
RATE = 40
PER_ADDRESS = 30


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    environment = {
        "NODEADMIN_TRUSTED_PROXIES": PROXY,
        "NODEADMIN_ANONYMOUS_RATE": f"{RATE}/h",
        "NODEADMIN_CONNECTIONS_PER_ADDRESS": str(PER_ADDRESS),
        "NODEADMIN_METRICS_TOKEN": "a-token-for-prometheus",
        "NODEADMIN_MONITOR": "separate",
    }
    with Server(tmp_path_factory.mktemp("server"), environment) as running:
        yield running


@dataclass
class Client:
    """Somebody at an address of loopback."""

    server: Server
    address: str
    headers: dict[str, str] = field(default_factory=dict)

    def connect(self) -> socket.socket:
        return socket.create_connection(
            ("127.0.0.1", self.server.port), timeout=30, source_address=(self.address, 0)
        )

    def ask(self, method: str, path: str, body: str = "", **headers: str) -> http.client.HTTPResponse:
        line = http.client.HTTPConnection(
            "127.0.0.1", self.server.port, timeout=60, source_address=(self.address, 0)
        )
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        line.request(method, path, body or None, {"Host": "localhost", **self.headers, **given})
        answer = line.getresponse()
        answer.body = answer.read()  # type: ignore[attr-defined]
        line.close()
        return answer

    def statuses(self, count: int, method: str, path: str, **headers: str) -> list[int]:
        return [self.ask(method, path, **headers).status for _ in range(count)]


# -- half-open connections --------------------------------------------------------------------------

HEAD = b"POST /api/list-nodes HTTP/1.1\r\nHost: localhost\r\n"
UPGRADE = b"GET /ws/fleet/ HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
CLIENTS: dict[str, tuple[bytes, bytes]] = {
    "says nothing": (b"", b""),
    "half a request line": (b"GET /log", b""),
    "half a head": (HEAD, b""),
    "a head that trickles": (HEAD, b"X-A: b\r\n"),
    "half a body": (HEAD + b"Content-Length: 1000\r\n\r\n{", b""),
    "a body that trickles": (HEAD + b"Content-Length: 100000\r\n\r\n{", b" "),
    "chunks that trickle": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    "half a handshake of a socket": (UPGRADE, b""),
    "a handshake that trickles": (UPGRADE, b"X-A: b\r\n"),
    "a second request that is half": (
        b"GET /favicon.ico HTTP/1.1\r\nHost: localhost\r\n\r\nGET /log", b""
    ),
}  # fmt: skip


def test_half_a_request_is_dropped_after_ten_seconds_and_others_are_served(server: Server) -> None:
    """All of them at once; each has one answer at most, and then the end of its connection."""
    enemy, friend = Client(server, "127.0.0.10"), Client(server, "127.0.0.11")
    started = time.monotonic()
    open_now = {name: enemy.connect() for name in CLIENTS}
    ended: dict[str, float] = {}
    for name, (first, _more) in CLIENTS.items():
        open_now[name].sendall(first)
        open_now[name].setblocking(False)
    slowest, deadline = 0.0, Deadline(16)
    while len(ended) < len(CLIENTS) and not deadline.over():
        time.sleep(0.5)
        for name, (_first, more) in CLIENTS.items():
            if name not in ended and _has_ended(open_now[name], more):
                ended[name] = time.monotonic() - started
        asked = time.monotonic()
        assert friend.ask("GET", "/favicon.ico").status == 302
        slowest = max(slowest, time.monotonic() - asked)
    assert set(ended) == set(CLIENTS), ended
    assert min(ended.values()) > 4, f"nobody honest is cut off: {ended}"
    assert slowest < 5
    for peer in open_now.values():
        peer.close()


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """With few places, which a single address can have connections for."""
    environment = {"NODEADMIN_REQUESTS": "16", "NODEADMIN_MONITOR": "separate"}
    with Server(tmp_path_factory.mktemp("small"), environment) as running:
        yield running


@pytest.mark.parametrize("sent", ["Content-Length: 2000000\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n"])
def test_bodies_that_are_on_their_way_take_nobody_elses_place(small: Server, sent: str) -> None:
    """As fast as they may be slow: each holds a place for a minute, and the next one follows."""
    enemy = Client(small, "127.0.0.15")
    token = {"Authorization": f"Bearer {small.token()}", "Content-Type": "application/json"}
    user, guest = Client(small, "127.0.0.16", token), Client(small, "127.0.0.17")
    assert user.ask("POST", "/api/list-nodes", "{}").status == 200
    held = [enemy.connect() for _ in range(24)]
    for peer in held:
        peer.sendall(HEAD + sent.encode())
    deadline = Deadline(10)
    while enemy.ask("GET", "/login/").status != 503 and not deadline.over():
        time.sleep(0.1)
    assert enemy.ask("GET", "/login/").status == 503, "what one address may have is used up"
    assert user.ask("POST", "/api/list-nodes", "{}").status == 200
    assert guest.ask("GET", "/login/").status == 200
    for peer in held:
        peer.close()


class Held:
    """An application whose answers wait until they are let go, to callers who are known by a token."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.bounded = BoundedCallers(self._answer, Rate(1000, 1000), 16, free=(), cookie="session")

    async def _answer(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/wait":
            await self.go.wait()
        scope[OUTCOME].known = any(name == b"authorization" for name, _value in scope["headers"])
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def ask(self, address: str, path: str = "/", token: str = "") -> int:
        statuses: list[int] = []

        async def send(message: Any) -> None:
            statuses.extend([message["status"]] if "status" in message else [])

        headers = [(b"authorization", token.encode())] if token else []
        scope = {"type": "http", "path": path, "client": (address, 1), "headers": headers}
        await self.bounded(scope, None, send)  # type: ignore[arg-type]
        return statuses[0]

    def hold(self, count: int, address: str, token: str = "") -> list[asyncio.Task[int]]:
        return [asyncio.create_task(self.ask(address, "/wait", token)) for _ in range(count)]


async def test_nobody_has_more_than_a_share_of_the_requests_that_run_at_once() -> None:
    server = Held()
    for token in ("one", "two"):
        assert await server.ask("10.0.0.1", token=token) == 200
    held = server.hold(6, "10.0.0.1")
    await asyncio.sleep(0)
    assert await server.ask("10.0.0.1") == 503, "an address has a quarter"
    assert await server.ask("10.0.0.2") == 200
    assert await server.ask("10.0.0.1", token="one") == 200, "a login behind it has its own"
    held += server.hold(6, "10.0.0.2") + server.hold(6, "10.0.0.3")
    await asyncio.sleep(0)
    assert await server.ask("10.0.0.4") == 503, "all who are not signed in have half"
    held += server.hold(6, "10.0.0.1", "one")
    await asyncio.sleep(0)
    assert await server.ask("10.0.0.5", token="one") == 503, "a login has a quarter, wherever it comes from"
    assert await server.ask("10.0.0.5", token="two") == 200
    server.go.set()
    assert sorted(await asyncio.gather(*held)) == [200] * 12 + [503] * 12
    assert await server.ask("10.0.0.1") == 200
    assert await server.ask("10.0.0.1", token="one") == 200, "places are given back"


def _has_ended(peer: socket.socket, more: bytes) -> bool:
    try:
        if more:
            peer.send(more)
        return peer.recv(65536) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def test_a_head_without_an_end_is_refused(server: Server) -> None:
    with Client(server, "127.0.0.12").connect() as peer:
        said = b""
        try:
            peer.sendall(b"GET / HTTP/1.1\r\n")
            for _number in range(400):
                peer.sendall(b"X-A: " + b"a" * 1000 + b"\r\n")
        except OSError:
            pass
        try:
            said = peer.recv(4096)
        except ConnectionResetError:
            return
    assert said.startswith(b"HTTP/1.1 431 "), said[:100]


def test_one_address_has_so_many_connections_and_a_proxy_any_number(server: Server) -> None:
    enemy, friend, proxy = (Client(server, address) for address in ("127.0.0.13", "127.0.0.14", PROXY))
    held = [enemy.connect() for _ in range(PER_ADDRESS)]
    assert enemy.ask("GET", "/favicon.ico").status == 503
    assert friend.ask("GET", "/favicon.ico").status == 302
    many = [proxy.connect() for _ in range(PER_ADDRESS + 5)]
    assert proxy.ask("GET", "/favicon.ico").status == 302
    for peer in (*held, *many):
        peer.close()
    deadline = Deadline(10)
    while enemy.ask("GET", "/favicon.ico").status == 503 and not deadline.over():
        time.sleep(0.1)
    assert enemy.ask("GET", "/favicon.ico").status == 302, "places are given back"


# -- callers without a login ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "method", "path", "headers", "before"),
    [
        ("127.0.0.20", "POST", "/api/list-nodes", {}, 401),
        ("127.0.0.21", "POST", "/api/list-nodes", {"Authorization": "Bearer nodeadmin_x"}, 401),
        ("127.0.0.22", "GET", "/login/", {}, 200),
        ("127.0.0.23", "GET", "/nodes/", {}, 302),
        ("127.0.0.24", "GET", "/metrics", {"Authorization": "Bearer wrong"}, 401),
        ("127.0.0.25", "GET", "/no-such-page", {}, 404),
        ("127.0.0.26", "POST", "/api/no-such-endpoint", {}, 401),
    ],
)
def test_an_address_without_a_login_is_bounded(
    server: Server, address: str, method: str, path: str, headers: dict[str, str], before: int
) -> None:
    enemy = Client(server, address, headers)
    statuses = enemy.statuses(RATE + 5, method, path)
    assert statuses[0] in (before, 404)
    assert 429 not in statuses[:RATE]
    assert set(statuses[RATE + 1 :]) == {429}
    refused = enemy.ask(method, path)
    assert int(refused.headers["Retry-After"]) > 0
    if path.startswith("/api/"):
        assert json.loads(refused.body)["code"] == "rate_limited"  # type: ignore[attr-defined]
    assert enemy.ask("GET", "/static/css/frame.css").status in (200, 404), "files are free"
    assert Client(server, "127.0.0.30").ask("GET", "/login/").status == 200, "others are not held up"


def test_an_address_that_is_used_up_opens_no_socket(server: Server) -> None:
    enemy = Client(server, "127.0.0.31")
    upgrade = {
        "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }  # fmt: skip
    enemy.headers = upgrade
    statuses = enemy.statuses(RATE + 3, "GET", "/ws/no-such-socket/")
    assert statuses[0] == 403
    assert statuses[-1] == 429


def test_who_claims_other_addresses_is_one_address_all_the_same(server: Server) -> None:
    enemy = Client(server, "127.0.0.32")
    statuses = [
        enemy.ask("POST", "/api/list-nodes", X_Forwarded_For=f"10.0.0.{number}").status
        for number in range(RATE + 5)
    ]
    assert statuses[-1] == 429
    proxy = Client(server, PROXY)
    assert all(
        proxy.ask("POST", "/api/list-nodes", X_Forwarded_For=f"10.0.0.{number}").status == 401
        for number in range(RATE + 5)
    ), "a proxy's clients are counted each for itself"
    behind = [
        proxy.ask("POST", "/api/list-nodes", X_Forwarded_For=f"6.6.6.6, 2001:db8:7::{number:x}").status
        for number in range(RATE + 5)
    ]
    assert behind[-1] == 429, "an IPv6 client has a whole /64"


def test_who_is_signed_in_is_not_held_up_by_others_behind_the_same_address(server: Server) -> None:
    address = "127.0.0.33"
    token = {"Authorization": f"Bearer {server.token()}", "Content-Type": "application/json"}
    user = Client(server, address, token)
    assert user.statuses(RATE + 10, "POST", "/api/list-nodes") == [200] * (RATE + 10), "costs nothing"
    enemy = Client(server, address)
    assert enemy.statuses(RATE + 5, "POST", "/api/list-nodes")[-1] == 429
    assert user.ask("POST", "/api/list-nodes", "{}").status == 200
    scraper = Client(server, "127.0.0.34", {"Authorization": "Bearer a-token-for-prometheus"})
    assert set(scraper.statuses(RATE + 5, "GET", "/metrics")) == {200}
