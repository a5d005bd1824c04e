"""Somebody who may scan, and maps the network around the server by what scans say of it."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse

from nodes import access
from nodes.engine.waits import waits
from nodes.errors import HostError
from nodes.hosts.bmc_target import BmcAddress
from nodes.hosts.deadlines import Clock
from nodes.hosts.host_key_scan import scan_host
from nodes.hosts.jump import jump_hosts
from nodes.hosts.scan_answer import bmc_told_alike
from nodes.models import Event, JumpHost, User
from tests.api.conftest import Api
from tests.api.test_jump_hosts import make_jump_host
from tests.engine.running import run_queued
from tests.factories import grant, make_node
from tests.network import ANYWHERE
from tests.software_bmc import Issuer
from tests.sshd import ME, LoopbackSshd, free_port

pytestmark = pytest.mark.django_db
DEADLINE_S = 0.5
SECRET = b"internal-service-4711"

Talk = Callable[[socket.socket], None]


def says(*words: bytes) -> Talk:
    def talk(peer: socket.socket) -> None:
        for said in words:
            peer.sendall(said)
        peer.settimeout(5)
        peer.recv(4096)

    return talk


def hangs_up(peer: socket.socket) -> None:
    return None


def is_silent(peer: socket.socket) -> None:
    time.sleep(3 * DEADLINE_S)


SERVICES: dict[str, Talk | None] = {
    "closed": None,
    "silent": is_silent,
    "hangs up": hangs_up,
    "HTTP": says(b"HTTP/1.1 400 Bad Request\r\nServer: " + SECRET + b"\r\n\r\n"),
    "SMTP": says(b"220 " + SECRET + b" ESMTP\r\n"),
    "Redis": says(b"-ERR " + SECRET + b"\r\n"),
    "bytes": says(bytes(range(256)) * 40),
    "endless": says(*[SECRET * 1000] * 50),
    "almost SSH": says(b"SSH " + SECRET + b"\r\n"),
}


@pytest.fixture
def api() -> type[Api]:
    return Api


@contextmanager
def listening(talk: Talk | None) -> Iterator[int]:
    """A port of loopback at which ``talk`` is held with whoever comes; None: nobody listens."""
    if talk is None:
        yield free_port()
        return
    with socket.create_server(("127.0.0.1", 0)) as server:

        def run() -> None:
            while True:
                try:
                    peer, _address = server.accept()
                except OSError:
                    return
                threading.Thread(target=held, args=(peer,), daemon=True).start()

        def held(peer: socket.socket) -> None:
            with peer:
                try:
                    talk(peer)
                except OSError:
                    return

        threading.Thread(target=run, daemon=True).start()
        yield int(server.getsockname()[1])
        server.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def scanner(operator: User, settings: Any) -> User:
    """May scan, and nothing else."""
    settings.NODEADMIN_HOST_TIMEOUT_S = DEADLINE_S
    operator.user_permissions.add(Permission.objects.get(codename="scan_host"))
    return operator


def plain(text: str, port: int) -> str:
    return text.replace(str(port), "PORT")


def test_a_scan_says_the_same_of_whatever_is_no_ssh_server(scanner: User, api: Any) -> None:
    call, told, took = api(scanner), {}, {}
    for name, talk in SERVICES.items():
        with listening(talk) as port:
            started = time.monotonic()
            raw = call.raw("scan-host-key", {"uri": f"qemu+ssh://127.0.0.1:{port}/system"})
            took[name] = time.monotonic() - started
            told[name] = (raw.status_code, plain(raw.content.decode(), port))
            assert SECRET.decode() not in raw.content.decode()
    assert len(set(told.values())) == 1, told
    assert told["closed"][0] == 502
    assert min(took.values()) >= DEADLINE_S, f"who is told earlier knows more: {took}"


def test_the_page_says_the_same_too(scanner: User) -> None:
    client, told = Client(), set()
    client.force_login(scanner)
    for name in ("closed", "HTTP", "silent"):
        with listening(SERVICES[name]) as port:
            answer = client.post(reverse("node-add-scan"), {"uri": f"qemu+ssh://127.0.0.1:{port}/system"})
            told.add((answer.status_code, plain(answer.content.decode(), port)))
    assert len(told) == 1


def test_scans_need_their_own_permission(operator: User, api: Any) -> None:
    """Who may add nodes, or change one, is not to look at any address for that."""
    operator.user_permissions.add(Permission.objects.get(codename="add_node"))
    grant(operator, make_node("kvm-01"), "view_node", "change_node")
    uri = {"uri": f"qemu+ssh://127.0.0.1:{free_port()}/system"}
    bmc = {"node": "kvm-01", "url": f"https://127.0.0.1:{free_port()}"}
    client = Client()
    client.force_login(operator)
    assert api(operator)("scan-host-key", uri)[0] == 403
    assert api(operator)("scan-bmc-certificate", bmc)[0] == 403
    assert client.post(reverse("node-add-scan"), uri).status_code == 403
    assert client.post(reverse("node-bmc-scan", args=["kvm-01"]), bmc).status_code == 403
    assert not Event.objects.filter(kind="address_scanned").exists()


def test_the_page_without_the_permission_asks_for_a_fingerprint_instead(operator: User) -> None:
    operator.user_permissions.add(Permission.objects.get(codename="add_node"))
    client = Client()
    client.force_login(operator)
    page = client.get(reverse("node-add")).content.decode()
    assert reverse("node-add-scan") not in page
    assert 'id="id_fingerprint"' in page


def test_scans_are_counted_for_each_user_and_kept_on_record(
    scanner: User, administrator: User, settings: Any, api: Any
) -> None:
    settings.NODEADMIN_SCAN_RATE = "2/h"
    settings.NODEADMIN_HOST_TIMEOUT_S = 0.1
    body = {"uri": f"qemu+ssh://127.0.0.1:{free_port()}/system"}
    call = api(scanner)
    assert [call("scan-host-key", body)[0] for _ in range(2)] == [502, 502]
    raw = call.raw("scan-host-key", body)
    assert (raw.status_code, raw.json()["code"]) == (429, "rate_limited")
    assert 0 < int(raw["Retry-After"]) <= 1801
    assert api(administrator)("scan-host-key", body)[0] == 502, "others are not held up by it"
    events = Event.objects.filter(kind="address_scanned", user=scanner)
    assert (events.count(), events[0].target_type) == (2, "address")


def test_adding_a_node_says_the_same_of_whatever_is_no_ssh_server(administrator: User, settings: Any) -> None:
    settings.NODEADMIN_HOST_TIMEOUT_S = DEADLINE_S
    call, told = Api(administrator), set()
    for name in ("closed", "HTTP", "hangs up"):
        with listening(SERVICES[name]) as port:
            status, body = call(
                "add-node",
                {
                    "name": f"kvm-{name.replace(' ', '-').lower()}",
                    "uri": f"qemu+ssh://root@127.0.0.1:{port}/system",
                    "type": "compute",
                    "host_key_fingerprint": "SHA256:" + "A" * 43,
                    "credential": {"kind": "nodeadmin_key"},
                },
            )
            assert status == 202, body
            (ended,) = run_queued()
            assert ended.status == "failed"
            told.add(plain(f"{ended.error} {ended.message}", port))
    assert len(told) == 1, told


@pytest.fixture
def bastion(tmp_path: Path, administrator: User) -> Iterator[JumpHost]:
    """A jump host that is entered, and asked for what it sees."""
    with LoopbackSshd(tmp_path / "bastion", key_types=("ed25519",)) as server:
        server.authorize(access.own_key_pair().public_key)
        key = server.host_key()
        yield JumpHost.objects.create(
            name="bastion",
            host="127.0.0.1",
            port=server.port,
            user=ME,
            host_key=key.to_text(),
            host_key_fingerprint=key.fingerprint,
            credential_kind="nodeadmin_key",
        )
        jump_hosts().close()


@pytest.mark.parametrize("way", ["directly", "through a jump host"])
@pytest.mark.parametrize("call", ["add", "change", "the page", "scan"])
def test_jump_hosts_are_no_way_to_learn_what_is_at_a_port(
    administrator: User, settings: Any, bastion: JumpHost, call: str, way: str
) -> None:
    """Neither one that is added or changed, nor one from which another address is asked."""
    settings.NODEADMIN_HOST_TIMEOUT_S = 1.0 + 2 * DEADLINE_S
    through = way != "directly"
    access.connect_once(access.jump_target(bastion).target).close()
    make_jump_host("other")
    client, told, took = Client(), {}, {}
    client.force_login(administrator)
    given = {"host": "127.0.0.1", "host_key_fingerprint": "SHA256:" + "A" * 43}
    given |= {"through": "bastion"} if through else {}

    def ask(port: int) -> Any:
        address = {**given, "port": port}
        credential = {"kind": "nodeadmin_key", "user": ME}
        match call:
            case "add":
                body = {**address, "name": "new", "credential": credential}
                return Api(administrator).raw("add-jump-host", body)
            case "change":
                body = {**address, "jump_host": "other", "credential": credential}
                return Api(administrator).raw("update-jump-host", body)
            case "the page":
                form = {"name": "new", "host": "127.0.0.1", "port": port, "kind": "nodeadmin_key", "user": ME}
                form |= {"fingerprint": given["host_key_fingerprint"], "through": given.get("through", "")}
                return client.post(reverse("jump-host-add"), form, headers={"HX-Request": "true"})
        body = {"uri": f"qemu+ssh://127.0.0.1:{port}/system"} | ({"jump_host": "bastion"} if through else {})
        return Api(administrator).raw("scan-host-key", body)

    for name in ("closed", "silent", "hangs up", "HTTP"):
        with listening(SERVICES[name]) as port:
            started = time.monotonic()
            raw = ask(port)
            took[name] = time.monotonic() - started
            told[name] = (raw.status_code, plain(raw.content.decode(), port))
    assert len(set(told.values())) == 1, told
    assert "No SSH server answered" in told["closed"][1]
    assert min(took.values()) >= 2 * DEADLINE_S, f"who is told earlier knows more: {took}"


def test_those_who_add_jump_hosts_wait_within_the_bound_of_all_who_wait(
    administrator: User, settings: Any
) -> None:
    settings.NODEADMIN_WAITS = 0
    waits.cache_clear()
    body = {
        "name": "new",
        "host": "127.0.0.1",
        "port": free_port(),
        "host_key_fingerprint": "SHA256:" + "A" * 43,
        "credential": {"kind": "nodeadmin_key", "user": ME},
    }
    assert Api(administrator)("add-jump-host", body)[0] == 429


@contextmanager
def tls(folder: Path, answer: bytes | None) -> Iterator[int]:
    """A TLS service that answers every request so; None: it hangs up after the handshake."""
    certificate, key = Issuer("Internal " + SECRET.decode()).issue(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    def talk(peer: socket.socket) -> None:
        with context.wrap_socket(peer, server_side=True) as wrapped:
            if answer is None:
                return
            wrapped.recv(65536)
            wrapped.sendall(answer)

    with listening(talk) as port:
        yield port


OTHERS = {
    "an HTML page": b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>",
    "a refusal": b"HTTP/1.1 401 " + SECRET + b"\r\nContent-Length: 0\r\n\r\n",
    "a redirection": b"HTTP/1.1 302 x\r\nLocation: https://" + SECRET + b"/\r\nContent-Length: 0\r\n\r\n",
    "nothing": None,
}


def test_the_certificate_of_what_is_no_bmc_is_not_shown(scanner: User, api: Any, tmp_path: Path) -> None:
    grant(scanner, make_node("kvm-01"), "view_node", "change_node")
    call, told = api(scanner), {}

    def ask(name: str, port: int) -> None:
        url = f"https://127.0.0.1:{port}"
        for endpoint, body in (
            ("scan-bmc-certificate", {"node": "kvm-01", "url": url}),
            ("update-node", {"node": "kvm-01", "bmc": {"url": url, "system": "/redfish/v1/x"}}),
            ("update-node", {"node": "kvm-01", "bmc": {"url": url, "certificate_fingerprint": "ab" * 32}}),
        ):
            raw = call.raw(endpoint, body)
            assert SECRET.decode() not in raw.content.decode()
            told[f"{name}, {endpoint}"] = (raw.status_code, plain(raw.content.decode(), port))

    with listening(SERVICES["closed"]) as port:
        ask("closed", port)
    for name, answer in OTHERS.items():
        folder = tmp_path / name.replace(" ", "-")
        folder.mkdir()
        with tls(folder, answer) as port:
            ask(name, port)
    assert len(set(told.values())) == 1, told


def test_a_greeting_of_an_ssh_server_is_told_and_made_harmless() -> None:
    """An SSH server that has nothing in common with us says so; its names are no more than names."""
    names = b"evil\x1b[31m<script>,ssh-unknown@example.org"
    lists = [names, names, *[names] * 6, b"", b""]
    packed = b"".join(len(text).to_bytes(4, "big") + text for text in lists)
    payload = b"\x14" + b"c" * 16 + packed + b"\0" * 5
    padding = 8 - (len(payload) + 5) % 8 + 8
    packet = (len(payload) + padding + 1).to_bytes(4, "big") + bytes([padding]) + payload + b"\0" * padding
    with listening(says(b"SSH-2.0-x\r\n", packet)) as port, pytest.raises(HostError) as failure:
        scan_host("127.0.0.1", port, rules=ANYWHERE, timeout_s=3)
    assert failure.value.extra["reason"] == "no_common_algorithm"
    assert "ssh-unknown@example.org" in failure.value.message
    assert "\x1b" not in failure.value.message
    assert "<script>" not in str(failure.value.extra)


def test_what_is_told_of_no_bmc_comes_at_the_deadline() -> None:
    clock = Clock(0.3)
    with pytest.raises(HostError), ExitStack() as stack:
        stack.enter_context(bmc_told_alike(BmcAddress("127.0.0.1"), clock))
        raise HostError("refused")
    assert clock.passed
