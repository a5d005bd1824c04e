"""An identity provider that is an enemy, or that a name server leads elsewhere: what is asked of it ends."""

from __future__ import annotations

import http.server
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
import requests

from nodes.hosts import dial
from nodes.hosts.checked_requests import CheckedSession
from nodes.hosts.network_rules import NetworkRules
from tests.qemu_certificates import Authority

SECONDS, BYTES = 1.0, 100_000
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


@contextmanager
def answering(*parts: bytes, every_s: float = 0.0, forever: bool = False) -> Iterator[str]:
    """An address that answers each connection with these parts, over and over where ``forever``."""
    listener, ended = socket.create_server(("127.0.0.1", 0)), threading.Event()

    def serve() -> None:
        with suppress(OSError):
            while True:
                peer, _address = listener.accept()
                with peer, suppress(OSError):
                    peer.recv(65536)
                    peer.sendall(parts[0])
                    while not ended.is_set():
                        for part in parts[1:]:
                            peer.sendall(part)
                            ended.wait(every_s)
                        if not forever:
                            break

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
    finally:
        ended.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def session(*denied: str) -> CheckedSession:
    rules = NetworkRules(denied=tuple(ipaddress.ip_network(one) for one in denied))
    return CheckedSession(rules, "provider", timeout_s=SECONDS, most_bytes=BYTES)


def requesters() -> int:
    return sum("The request to" in thread.name for thread in threading.enumerate())


@pytest.mark.parametrize(
    ("parts", "every_s"),
    [
        ((HEAD, b"X-A: b\r\n"), 0.05),
        ((HEAD + b"\r\n", b"x"), 0.05),
        ((HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"), 0.05),
        ((b"", b""), 0.05),
    ],
    ids=["headers", "body", "chunks", "silence"],
)
def test_an_answer_without_an_end_ends_in_time_and_so_does_its_thread(parts, every_s):
    with answering(*parts, every_s=every_s, forever=True) as address, session() as asking:
        began = time.monotonic()
        with pytest.raises(requests.RequestException):
            asking.get(address)
        assert time.monotonic() - began < 3 * SECONDS
        until = time.monotonic() + 5
        while requesters() and time.monotonic() < until:
            time.sleep(0.02)
        assert not requesters()


def test_an_answer_that_is_too_long_is_not_kept():
    endless = answering(HEAD + b"\r\n", b"x" * 4096, forever=True)
    too_long = pytest.raises(requests.RequestException, match="longer than")
    with endless as address, session() as asking, too_long:
        asking.get(address)


@pytest.mark.parametrize("body", [b'{"a": 1}', b""])
def test_an_answer_that_is_one_is_read_whole(body):
    head = HEAD + b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(body)
    with answering(head + body) as address, session() as asking:
        assert asking.get(address).content == body


def test_a_denied_address_is_not_connected_to():
    refused = pytest.raises(requests.ConnectionError, match="NODEADMIN_DENIED_NETWORKS")
    with answering(HEAD + b"\r\n") as address, session("127.0.0.0/8") as asking, refused:
        asking.get(address)
    for literal in ("http://169.254.169.254/", "http://[fd00:ec2::254]/", "http://0xa9fea9fe/"):
        with session() as asking, pytest.raises(requests.ConnectionError, match="metadata"):
            asking.get(literal)


def test_a_name_that_leads_elsewhere_a_moment_later_is_not_asked_again(monkeypatch):
    answers = iter(("127.0.0.1", "169.254.169.254"))

    def lookup(host: str, port: int, *_args: object, **_more: object) -> list[object]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(answers), port))]

    monkeypatch.setattr(dial.socket, "getaddrinfo", lookup)
    head = HEAD + b"Content-Length: 2\r\nConnection: close\r\n\r\n{}"
    with answering(head) as address, session() as asking:
        name = address.replace("127.0.0.1", "idp.example.org")
        assert asking.get(name).json() == {}
        with pytest.raises(requests.ConnectionError, match=r"idp\.example\.org leads to 169\.254\.169\.254"):
            asking.get(name)


def test_neither_a_redirection_nor_a_proxy_is_followed(monkeypatch):
    class Away(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(302)
            self.send_header("Location", "http://169.254.169.254/latest/")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_args: object) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Away)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    try:
        with session() as asking:
            assert asking.get(f"http://127.0.0.1:{server.server_port}/").status_code == 302
            with pytest.raises(requests.RequestException):
                asking.get("http://127.0.0.1/", proxies={"http": "http://127.0.0.1:9"})
    finally:
        server.shutdown()
        server.server_close()


def test_tls_verifies_the_name_and_not_the_address_that_is_connected_to(tmp_path):
    Authority().equip(tmp_path, "idp", names=["localhost"])

    class Quiet(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server-cert.pem", tmp_path / "server-key.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with session() as asking:
            asking.verify = str(tmp_path / "ca-cert.pem")
            assert asking.get(f"https://localhost:{server.server_port}/").json() == {}
            with pytest.raises(requests.exceptions.SSLError):
                asking.get(f"https://127.0.0.1:{server.server_port}/")
    finally:
        server.shutdown()
        server.server_close()
