"""Redfish against a BMC in software that switches real domains, and against peers that misbehave."""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nodes.errors import BmcFailed, BmcUnreachable, InvalidInput
from nodes.hosts.bmc.service import Pace
from nodes.hosts.bmc.system import System
from nodes.hosts.bmc_target import BmcAddress, BmcTarget, parse_bmc_url
from nodes.hosts.certificates import (
    fingerprint_of,
    read_fingerprint,
    show_certificate,
    write_fingerprint,
)
from nodes.hosts.deadlines import Clock
from nodes.hosts.redfish import Redfish
from tests.hosts.conftest import tcp_peer
from tests.libvirtd import AVAILABLE, LibvirtHost
from tests.network import ANYWHERE
from tests.software_bmc import PASSWORD, USER, Issuer, SoftwareBmc, define_machine, write_pair

needs_libvirt = pytest.mark.skipif(not AVAILABLE, reason="needs root and libvirtd")
FIRST = "11111111-2222-4333-8444-555555555555"
SECOND = "66666666-7777-4888-9999-aaaaaaaaaaaa"


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LibvirtHost]:
    """Two machines that are off: domains of a libvirtd of their own."""
    with LibvirtHost(tmp_path_factory.mktemp("machines")) as host:
        define_machine(host, "first", FIRST)
        define_machine(host, "second", SECOND)
        yield host


@pytest.fixture(scope="module")
def issuer() -> Issuer:
    return Issuer()


@pytest.fixture(scope="module")
def bmc(
    machines: LibvirtHost, issuer: Issuer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SoftwareBmc]:
    folder = tmp_path_factory.mktemp("bmc")
    with SoftwareBmc(folder, prefix=machines.inside, issuer=issuer) as running:
        yield running


def reason(failure: pytest.ExceptionInfo[BmcFailed]) -> str:
    return str(failure.value.extra["reason"])


# -- a BMC that really switches machines ----------------------------------------------------------


@needs_libvirt
def test_a_machine_is_found_by_its_firmwares_uuid_and_switched_on(machines, bmc):
    with Redfish(bmc.target()) as redfish:
        found = redfish.find_system(firmware_uuid=FIRST)
        assert (found.power_state, found.name) == ("Off", "first")
        assert found.reset_types is not None
        assert "On" in found.reset_types
        assert redfish.switch_on(found) == "On"
        assert redfish.system(found.path).power_state == "On"
    assert machines.virsh("domstate", "first").strip() == "running"
    assert machines.virsh("domstate", "second").strip() == "shut off"
    machines.virsh("destroy", "first")
    with Redfish(bmc.target(system_path=found.path)) as redfish:
        assert redfish.power_state() == "Off"


@needs_libvirt
def test_a_machine_is_found_by_its_id_and_by_its_path_and_never_guessed(bmc):
    with Redfish(bmc.target()) as redfish:
        assert redfish.find_system(SECOND).name == "second"
        assert redfish.find_system(f"/redfish/v1/Systems/{SECOND}").name == "second"
        for wanted in ("third", "/redfish/v1/Systems/third", "/etc/passwd", "//elsewhere/redfish/v1"):
            with pytest.raises(BmcFailed) as failure:
                redfish.find_system(wanted)
            assert reason(failure) == "no_such_system", wanted
        with pytest.raises(BmcFailed) as failure:
            redfish.find_system(firmware_uuid="00000000-0000-4000-8000-000000000000")
        assert reason(failure) == "several_systems"
        assert FIRST in failure.value.remedy


@needs_libvirt
def test_a_wrong_password_an_unknown_user_and_none_are_refused_and_shown_nowhere(bmc):
    for user, password in ((USER, "wrong-password"), ("nobody", PASSWORD), ("", "")):
        with pytest.raises(BmcFailed) as failure, Redfish(bmc.target(user=user, password=password)) as it:
            it.find_system(FIRST)
        assert reason(failure) == "authentication_failed"
        assert "wrong-password" not in failure.value.detail()
    assert PASSWORD not in repr(bmc.target())


@needs_libvirt
def test_a_bmc_without_users_is_spoken_to_without_a_credential(machines, tmp_path):
    with SoftwareBmc(tmp_path, prefix=machines.inside, user="") as bmc, Redfish(bmc.target()) as redfish:
        assert redfish.find_system(FIRST).uuid == FIRST


@needs_libvirt
def test_a_wrong_pin_names_both_fingerprints_and_the_bmc_hears_no_request(bmc):
    before = bmc.log
    wrong = "ab" * 32
    with pytest.raises(BmcFailed) as failure, Redfish(bmc.target(fingerprint=wrong)) as redfish:
        redfish.find_system(FIRST)
    assert reason(failure) == "certificate_differs"
    assert failure.value.extra["confirmed"] == write_fingerprint(wrong)
    assert failure.value.extra["shown"] == write_fingerprint(bmc.fingerprint)
    assert "GET" not in bmc.log.removeprefix(before)


@needs_libvirt
def test_a_certificate_that_nobody_vouches_for_is_refused_with_its_fingerprint(bmc):
    before = bmc.log
    with pytest.raises(BmcFailed) as failure, Redfish(bmc.target(fingerprint="")) as redfish:
        redfish.find_system(FIRST)
    assert reason(failure) == "certificate_unknown"
    assert failure.value.extra["shown"] == write_fingerprint(bmc.fingerprint)
    assert "openssl" in failure.value.remedy
    assert "GET" not in bmc.log.removeprefix(before)


@needs_libvirt
def test_a_certificate_of_a_trusted_authority_needs_no_pin(bmc, issuer, tmp_path, monkeypatch):
    (tmp_path / "authorities.pem").write_bytes(issuer.pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authorities.pem"))
    with Redfish(bmc.target(fingerprint="")) as redfish:
        assert redfish.find_system(FIRST).name == "first"
    assert show_certificate("127.0.0.1", bmc.address.port, timeout_s=10, rules=ANYWHERE).vouched_for


@needs_libvirt
def test_a_certificate_is_shown_without_being_trusted(bmc):
    shown = show_certificate("127.0.0.1", bmc.address.port, timeout_s=10, rules=ANYWHERE)
    assert shown.fingerprint == write_fingerprint(bmc.fingerprint)
    assert (shown.subject, shown.issuer) == ("CN=bmc", "CN=Test authority")
    assert not shown.vouched_for
    assert shown.doubt
    assert shown.expires_at is not None


@needs_libvirt
def test_a_machine_that_is_on_already_stays_as_it_is(machines, bmc):
    with Redfish(bmc.target()) as redfish:
        found = redfish.find_system(SECOND)
        redfish.switch_on(found)
        pid = machines.virsh("domid", "second")
        redfish.switch_on(found)  # sushy-tools takes it; a BMC may also refuse it
        assert machines.virsh("domid", "second") == pid
    machines.virsh("destroy", "second")


# -- peers that misbehave -------------------------------------------------------------------------


@contextmanager
def https_peer(folder: Path, answer: Callable[[ssl.SSLSocket, bytes], None]) -> Iterator[BmcTarget]:
    """A TLS server that hands the head of each request to ``answer``; gives how to reach it."""
    issuer = Issuer()
    certificate, key = write_pair(folder, issuer.certificate, issuer.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    def serve(client: socket.socket) -> None:
        with context.wrap_socket(client, server_side=True) as wrapped:
            wrapped.settimeout(10)
            while head := _head(wrapped):
                answer(wrapped, head)

    der = ssl.PEM_cert_to_DER_cert(certificate.read_text())
    with tcp_peer(serve) as port:
        yield BmcTarget(BmcAddress("127.0.0.1", port), "admin", "secret", fingerprint_of(der), rules=ANYWHERE)


def _head(client: ssl.SSLSocket) -> bytes:
    head = b""
    while b"\r\n\r\n" not in head:
        piece = client.recv(4096)
        if not piece:
            return b""
        head += piece
    return head


def saying(body: bytes, status: str = "200 OK", extra: str = "") -> Callable[[ssl.SSLSocket, bytes], None]:
    def answer(client: ssl.SSLSocket, _head: bytes) -> None:
        client.sendall(f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{extra}\r\n".encode() + body)

    return answer


def answering(pages: dict[str, object], seen: list[str]) -> Callable[[ssl.SSLSocket, bytes], None]:
    """A small service: JSON by path, 404 else."""

    def answer(client: ssl.SSLSocket, head: bytes) -> None:
        method, path, _version = head.split(b"\r\n", 1)[0].decode().split(" ")
        seen.append(f"{method} {path}")
        page = pages.get(f"{method} {path}", pages.get(path))
        if isinstance(page, tuple):
            saying(json.dumps(page[1]).encode(), page[0])(client, head)
        else:
            saying(json.dumps(page or {}).encode(), "200 OK" if page else "404 Not Found")(client, head)

    return answer


def service(**system: object) -> dict[str, object]:
    return {
        "/redfish/v1/": {"Systems": {"@odata.id": "/redfish/v1/Systems"}},
        "/redfish/v1/Systems": {"Members": [{"@odata.id": "/redfish/v1/Systems/1"}]},
        "/redfish/v1/Systems/1": {"Id": "1", "PowerState": "Off", **system},
    }


RESET_URL = "/redfish/v1/Systems/1/Actions/Reset"
ALLOWED = "ResetType@Redfish.AllowableValues"


def test_the_values_that_reset_takes_are_also_found_in_its_action_info(tmp_path):
    action = {"target": RESET_URL, "@Redfish.ActionInfo": "/redfish/v1/Systems/1/ResetInfo"}
    pages = service(Actions={"#ComputerSystem.Reset": action})
    parameter = {"Name": "ResetType", "AllowableValues": ["ForceOn", "ForceOff"]}
    pages["/redfish/v1/Systems/1/ResetInfo"] = {"Parameters": [parameter]}
    pages[RESET_URL] = ("204 No Content", {})
    seen: list[str] = []
    with https_peer(tmp_path, answering(pages, seen)) as target, Redfish(target) as redfish:
        assert redfish.switch_on(redfish.find_system()) == "ForceOn"
    assert seen[-1] == f"POST {RESET_URL}"


@pytest.mark.parametrize(
    ("actions", "words"),
    [
        ({}, "none"),
        ({"#ComputerSystem.Reset": {"target": "https://elsewhere/x", ALLOWED: ["On"]}}, "On"),
        ({"#ComputerSystem.Reset": {"target": RESET_URL, ALLOWED: ["ForceOff"]}}, "ForceOff"),
    ],
)
def test_a_bmc_that_offers_no_way_to_switch_on_is_asked_for_none(tmp_path, actions, words):
    seen: list[str] = []
    pages = service(Actions=actions)
    with (
        https_peer(tmp_path, answering(pages, seen)) as target,
        Redfish(target) as redfish,
        pytest.raises(BmcFailed) as failure,
    ):
        redfish.switch_on(redfish.find_system())
    assert reason(failure) == "reset_refused"
    assert words in failure.value.message
    assert not [line for line in seen if line.startswith("POST")]


def test_a_refused_reset_says_what_the_bmc_said(tmp_path):
    pages = service(Actions={"#ComputerSystem.Reset": {"target": RESET_URL}})
    words = {"error": {"@Message.ExtendedInfo": [{"Message": "The lid is\n open."}], "message": "general"}}
    pages[RESET_URL] = ("409 Conflict", words)
    with (
        https_peer(tmp_path, answering(pages, [])) as target,
        Redfish(target, pace=Pace(late_s=0.2, look_s=0.05)) as redfish,
        pytest.raises(BmcFailed) as failure,
    ):
        redfish.switch_on(redfish.find_system())
    assert reason(failure) == "reset_refused"
    assert "HTTP 409" in failure.value.message
    assert "The lid is? open." in failure.value.message


def test_the_bmc_of_another_machine_is_told_and_a_swapped_uuid_is_not_another(tmp_path):
    swapped = "11111111-2222-3333-4444-555555555555"
    with https_peer(tmp_path, answering(service(UUID=swapped), [])) as target, Redfish(target) as redfish:
        assert redfish.find_system(firmware_uuid=swapped).path == "/redfish/v1/Systems/1"
        with pytest.raises(BmcFailed) as failure:
            redfish.find_system(firmware_uuid=FIRST)
        assert reason(failure) == "other_system"
        # Named by a person, it is taken.
        assert redfish.find_system("1", firmware_uuid=FIRST).uuid == swapped
    system = System("", "", "33221100-5544-7766-8899-aabbccddeeff", None, None, None)
    assert system.is_host("00112233-4455-6677-8899-aabbccddeeff") is True
    assert system.is_host("") is None


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (saying(b"<html>router</html>"), "no JSON object"),
        (saying(b"[" * 100_000), "no JSON object"),
        (saying(b"[]"), "no JSON object"),
        (saying(b"{}"), "no systems"),
        (saying(b"{}", "302 Found", "Location: https://elsewhere.example/\r\n"), "HTTP 302"),
        (saying(b"{}", "501 Not Implemented"), "HTTP 501"),
        (saying(b'{"a": "' + b"x" * (2 << 20) + b'"}'), "too long"),
        (saying(b'{"Systems": {"@odata.id": "https://elsewhere.example/redfish/v1"}}'), "no systems"),
    ],
)
def test_what_is_no_redfish_service_is_named_so(tmp_path, answer, why):
    with (
        https_peer(tmp_path, answer) as target,
        Redfish(target) as redfish,
        pytest.raises(BmcFailed) as failure,
    ):
        redfish.find_system()
    assert reason(failure) == "not_redfish"
    assert why in failure.value.message


def test_an_answer_that_drips_for_ever_ends_at_the_deadline(tmp_path):
    def drip(client: ssl.SSLSocket, _head: bytes) -> None:
        for byte in b"HTTP/1.1 200 OK\r\n" + b"X: " + b"y" * 10_000:
            client.sendall(bytes([byte]))
            time.sleep(0.1)

    with https_peer(tmp_path, drip) as target:
        begun = time.monotonic()
        with pytest.raises(BmcUnreachable) as failure, Redfish(target, timeout_s=1.0) as redfish:
            redfish.find_system()
        assert time.monotonic() - begun < 3
        assert failure.value.retryable


def test_a_call_that_was_cut_off_harms_neither_the_next_one_nor_another_bmc(tmp_path):
    """Its socket's number goes to the next connection, from which its thread must read nothing."""
    threads = threading.active_count()

    def drip_once(client: ssl.SSLSocket, head: bytes) -> None:
        if dripped.is_set():
            answering(service(), [])(client, head)
            return
        dripped.set()
        for byte in b"HTTP/1.1 200 OK\r\nX: " + b"y" * 10_000:
            client.sendall(bytes([byte]))
            time.sleep(0.02)

    for _round in range(10):
        dripped = threading.Event()
        with https_peer(tmp_path, drip_once) as target, Redfish(target, timeout_s=0.4) as redfish:
            with pytest.raises(BmcUnreachable):
                redfish.find_system()
            with https_peer(tmp_path, answering(service(), [])) as other, Redfish(other) as second:
                assert second.find_system().power_state == "Off"
            redfish._service.timeout_s = 5.0
            assert redfish.find_system().power_state == "Off"
    deadline = time.monotonic() + 5
    while threading.active_count() > threads and time.monotonic() < deadline:
        time.sleep(0.05)
    assert threading.active_count() <= threads, [thread.name for thread in threading.enumerate()]


def test_all_calls_together_end_at_the_clock(tmp_path):
    def slow(client: ssl.SSLSocket, head: bytes) -> None:
        time.sleep(0.4)
        answering(service(), [])(client, head)

    with https_peer(tmp_path, slow) as target:
        begun = time.monotonic()
        with pytest.raises(BmcUnreachable), Redfish(target, timeout_s=5.0, clock=Clock(1.0)) as redfish:
            redfish.find_system()
        assert time.monotonic() - begun < 3


def test_a_peer_that_says_nothing_and_one_without_tls_are_told_apart():
    stop = threading.Event()
    with tcp_peer(lambda _client: stop.wait(5) and None) as port:
        target = BmcTarget(BmcAddress("127.0.0.1", port), fingerprint="ab" * 32, rules=ANYWHERE)
        with pytest.raises(BmcUnreachable) as failure, Redfish(target, timeout_s=1.0) as redfish:
            redfish.find_system()
        assert reason(failure) == "unreachable"
        with pytest.raises(BmcUnreachable):
            show_certificate("127.0.0.1", port, timeout_s=1.0, rules=ANYWHERE)
        stop.set()
    with tcp_peer(lambda client: client.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")) as port:
        with pytest.raises(BmcFailed) as failure:
            show_certificate("127.0.0.1", port, timeout_s=2.0, rules=ANYWHERE)
        assert reason(failure) == "not_tls"


def test_a_closed_port_and_an_unknown_name_are_unreachable():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    for address, words in (
        (BmcAddress("127.0.0.1", port), "refused"),
        (BmcAddress("bmc.invalid"), "not known"),
    ):
        with pytest.raises(BmcUnreachable) as failure, Redfish(BmcTarget(address, rules=ANYWHERE)) as redfish:
            redfish.find_system()
        assert words in failure.value.message


# -- addresses and fingerprints -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("https://10.0.0.7", "https://10.0.0.7"),
        (" https://BMC-01.example.org:443/ ", "https://bmc-01.example.org"),
        ("https://bmc:8443", "https://bmc:8443"),
        ("https://[FE80::1]:8443", "https://[fe80::1]:8443"),
    ],
)
def test_addresses_are_written_in_one_way(text, url):
    assert parse_bmc_url(text).url == url


@pytest.mark.parametrize(
    "text",
    [
        "", "http://10.0.0.7", "10.0.0.7", "https://", "https://root:secret@10.0.0.7", "https://10.0.0.7/redfish",
        "https://10.0.0.7?x", "https://10.0.0.7#x", "https://10.0.0.7:0", "https://10.0.0.7:", "https://127.1",
        "https://[fe80::1%25eth0]", "https://a b", "https://[::1", "https://10.0.0.7:99999", "ftp://x",
    ],
)  # fmt: skip
def test_what_is_no_address_of_a_bmc_is_refused_without_repeating_a_password(text):
    with pytest.raises(InvalidInput) as failure:
        parse_bmc_url(text)
    assert failure.value.field == "bmc.url"
    assert "secret" not in failure.value.detail()


def test_fingerprints_are_read_as_people_copy_them():
    digits = "0123456789abcdef" * 4
    shown = write_fingerprint(digits)
    for text in (digits, digits.upper(), shown, f"sha256 Fingerprint={shown}", f" SHA256:{digits} "):
        assert read_fingerprint(text) == digits
    for text in ("", digits[:-1], digits + "0", "SHA256:47DEQpj8HBSa", "zz" * 32):
        with pytest.raises(ValueError, match="64 hexadecimal"):
            read_fingerprint(text)
