"""A user who has nodeadmin connect, from inside its network, to what they could not reach themselves."""

from __future__ import annotations

import ast
import queue
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from nodes.errors import AddressDenied
from nodes.hosts import power
from nodes.hosts.bmc_target import BmcAddress, BmcTarget
from nodes.hosts.certificates import show_certificate
from nodes.hosts.checked_http import CheckedTransport
from nodes.hosts.connection import connect
from nodes.hosts.dial import dial
from nodes.hosts.greeting import Greeter
from nodes.hosts.host_key_scan import find_host_key, scan_host
from nodes.hosts.network_rules import NetworkRules, Purpose, literal_address, parse_networks
from nodes.hosts.redfish import Redfish
from nodes.hosts.shell import CommandResult
from nodes.hosts.target import HostKey, HostTarget
from nodes.operations.run.migration_route import pinned_address
from tests.factories import make_node

ROOT = Path(__file__).resolve().parents[2]
ANYWHERE = NetworkRules()
NOT_HERE = NetworkRules(denied=parse_networks(["127.0.0.0/8", "::1"]))


def rules(allowed: str = "", denied: str = "") -> NetworkRules:
    return NetworkRules(parse_networks(allowed.split()), parse_networks(denied.split()))


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254",
        "169.254.1.7",
        "fe80::1",
        "fe80::1%eth0",
        "fd00:ec2::254",
        "100.100.100.200",
        "168.63.129.16",
        "::ffff:169.254.169.254",
        "::169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::a9fe:a9fe",
        "64:ff9b:1:a9fe:a9:fe00::",
        "2002:a9fe:a9fe::1",
        "2001:db8::5efe:a9fe:a9fe",
        "2001:0:a9fe:a9fe::1",
        "0.0.0.0",
        "0.1.2.3",
        "::",
        "::ffff:0.0.0.0",
        "224.0.0.1",
        "ff02::1",
        "255.255.255.255",
        "240.0.0.1",
    ],
)
@pytest.mark.parametrize("purpose", ["host", "bmc", "migration", "webhook", "provider"])
def test_what_is_no_host_is_denied_by_default(address: str, purpose: Purpose) -> None:
    with pytest.raises(AddressDenied) as failure:
        ANYWHERE.check(address, purpose)
    assert "NODEADMIN_ALLOWED_NETWORKS" in failure.value.remedy


@pytest.mark.parametrize(
    "address", ["10.0.0.7", "192.168.1.1", "8.8.8.8", "fd00::7", "2001:db8::1", "127.0.0.1"]
)
def test_hosts_are_reached_by_default(address: str) -> None:
    assert ANYWHERE.refusal(ANYWHERE.check(address, "host"), "host") == ""


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1", "2002:7f00:1::"])
def test_a_webhook_does_not_reach_this_machine_unless_listed(address: str) -> None:
    with pytest.raises(AddressDenied, match="loopback"):
        ANYWHERE.check(address, "webhook")
    with pytest.raises(AddressDenied, match="loopback"):
        rules("0.0.0.0/0 ::/0").check(address, "webhook")
    rules("0.0.0.0/0 ::/0 127.0.0.0/8 ::1").check(address, "webhook")


def test_only_a_network_within_a_closed_one_opens_it() -> None:
    link_local, metadata = "169.254.7.7", "169.254.169.254"
    with pytest.raises(AddressDenied):
        rules("0.0.0.0/0").check(link_local, "bmc")
    rules("0.0.0.0/0 169.254.0.0/16").check(link_local, "bmc")
    with pytest.raises(AddressDenied, match="metadata"):
        rules("0.0.0.0/0 169.254.0.0/16").check(metadata, "bmc")
    rules("169.254.0.0/16 169.254.169.254").check(metadata, "bmc")
    with pytest.raises(AddressDenied, match="no address of one host"):
        rules("0.0.0.0/0 0.0.0.0").check("0.0.0.0", "host")


def test_the_allowed_networks_are_all_and_the_denied_ones_come_out_of_them() -> None:
    own = rules("10.0.0.0/8 fd00::/8", "10.9.0.0/16")
    own.check("10.1.2.3", "host")
    own.check("::ffff:10.1.2.3", "host")
    own.check("fd00::1", "host")
    for other in (
        "127.0.0.1",
        "192.168.1.1",
        "10.9.1.1",
        "::ffff:10.9.1.1",
        "2001:db8::1",
        "64:ff9b::a01:203",
    ):
        with pytest.raises(AddressDenied):
            own.check(other, "host")


@pytest.mark.parametrize(
    "host",
    ["2130706433", "0x7f000001", "017700000001", "127.1", "0x7f.0.0.1", "[::1]", "::1%lo"],
)
def test_an_address_in_any_form_is_one(host: str) -> None:
    found = literal_address(host)
    assert found is not None
    assert found.is_loopback
    with pytest.raises(AddressDenied):
        NOT_HERE.check_literal(host, "host")


@pytest.mark.parametrize("host", ["kvm-01", "kvm-01.example.org", "10.example.org", "0x7g", "1.2.3.4.5"])
def test_a_name_is_no_address(host: str) -> None:
    assert literal_address(host) is None
    assert NOT_HERE.check_literal(host, "host") is False


# -- what connects ----------------------------------------------------------------------------------


class Trap:
    """A server on loopback that counts who comes."""

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        self.visits = 0
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                peer, _address = self._server.accept()
            except OSError:
                return
            self.visits += 1
            peer.close()

    def close(self) -> None:
        self._server.close()


@pytest.fixture
def trap() -> Iterator[Trap]:
    made = Trap()
    yield made
    made.close()


KEY = HostKey("ssh-ed25519", b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + b"k" * 32)


def ssh_target(host: str, port: int, given: NetworkRules) -> HostTarget:
    return HostTarget("n", "ssh", host, port, "root", None, KEY, rules=given)


def bmc_target(host: str, port: int, given: NetworkRules) -> BmcTarget:
    return BmcTarget(BmcAddress(host, port), "admin", "secret", "ab" * 32, rules=given)


def _greeting(host: str, port: int, given: NetworkRules) -> None:
    answers: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    greeter = Greeter()
    try:
        greeter.ask(host, port, 5.0, given, answers.put)
        said = answers.get(timeout=30) or ""
    finally:
        greeter.close()
    if "does not connect" in said:
        raise AddressDenied(said)


def _redfish(host: str, port: int, given: NetworkRules) -> None:
    with Redfish(bmc_target(host, port, given), timeout_s=3.0) as redfish:
        redfish.find_system()


def _webhook(host: str, port: int, given: NetworkRules) -> None:
    with httpx.Client(transport=CheckedTransport(given, "webhook"), trust_env=False) as client:
        client.get(f"http://{host}:{port}/")


WAYS: dict[str, Any] = {
    "a connection": lambda host, port, given: connect(ssh_target(host, port, given)),
    "the scan of host keys": lambda host, port, given: scan_host(host, port, rules=given, timeout_s=3),
    "the check of a host key": lambda host, port, given: find_host_key(
        host, port, "SHA256:" + "x" * 43, rules=given, timeout_s=3
    ),
    "the question whether a host answers": lambda host, port, given: power.answers(
        ssh_target(host, port, given)
    ),
    "the monitor's greeting": _greeting,
    "the scan of a certificate": lambda host, port, given: show_certificate(
        host, port, rules=given, timeout_s=3
    ),
    "a request to a BMC": _redfish,
    "a webhook": _webhook,
}


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
@pytest.mark.parametrize("way", WAYS)
def test_no_way_out_leads_to_a_denied_address(way: str, host: str, trap: Trap) -> None:
    with pytest.raises(AddressDenied):
        WAYS[way](host, trap.port, NOT_HERE)
    assert trap.visits == 0


@contextmanager
def two_faced_resolver(monkeypatch: pytest.MonkeyPatch, first: str, then: str) -> Iterator[list[str]]:
    """``rebind.example`` is ``first`` at the first look-up, and ``then`` at every later one."""
    asked: list[str] = []
    real = socket.getaddrinfo

    def resolve(host: Any, port: Any, *args: Any, **options: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if name == "rebind.example":
            asked.append(name)
            return real(first if len(asked) == 1 else then, port, *args, **options)
        return real(host, port, *args, **options)

    with monkeypatch.context() as patched:
        patched.setattr(socket, "getaddrinfo", resolve)
        yield asked


@pytest.mark.parametrize("way", WAYS)
def test_a_name_that_changes_its_address_leads_nowhere_new(
    way: str, trap: Trap, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first answer is permitted and dead, the later ones are the trap: 127.0.0.1 is denied."""
    only_dead = rules(allowed="127.66.0.0/16")
    with two_faced_resolver(monkeypatch, "127.66.0.1", "127.0.0.1") as asked:
        with pytest.raises(Exception):  # noqa: B017 - refused or denied: nobody listens at the first
            found = WAYS[way]("rebind.example", trap.port, only_dead)
            raise ConnectionError(str(found))
        assert asked
    assert trap.visits == 0


def test_of_several_addresses_the_permitted_one_is_taken(trap: Trap, monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.getaddrinfo

    def resolve(host: Any, port: Any, *args: Any, **options: Any) -> Any:
        if host == "both.example":
            return real("169.254.169.254", port, *args, **options) + real("127.0.0.1", port, *args, **options)
        return real(host, port, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    dial("both.example", trap.port, 5.0, ANYWHERE).close()


def test_a_redirection_is_judged_like_any_request() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(
            target=_redirect, args=(server, "http://169.254.169.254/latest/"), daemon=True
        ).start()
        transport = CheckedTransport(rules("127.0.0.0/8"), "webhook")
        with (
            httpx.Client(transport=transport, trust_env=False, follow_redirects=True) as client,
            pytest.raises(AddressDenied),
        ):
            client.get(f"http://127.0.0.1:{server.getsockname()[1]}/")


def _redirect(server: socket.socket, location: str) -> None:
    peer, _address = server.accept()
    with peer:
        peer.recv(4096)
        peer.sendall(f"HTTP/1.1 302 x\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode())


# -- migrations -------------------------------------------------------------------------------------


class AnsweringShell:
    """The shell of a source whose resolver says ``found``."""

    def __init__(self, *found: str) -> None:
        self._lines = "".join(f"{address} STREAM x\n" for address in found)

    def run(self, command: str, *, timeout_s: float) -> Any:
        return CommandResult(stdout=self._lines.encode(), stderr=b"", exit_status=0, duration_s=0.0)


@dataclass
class Source:
    shell: Any
    has_shell: bool = True


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("found", "verified", "leads_to"),
    [
        (("10.0.0.7",), False, "10.0.0.7"),
        (("169.254.169.254", "10.0.0.7"), False, "10.0.0.7"),
        (("10.0.0.7",), True, "kvm.example"),
        (("169.254.169.254", "10.0.0.7"), True, None),
        (("169.254.169.254",), False, None),
        (("10.9.0.7",), False, None),
    ],
)
def test_qemu_is_sent_to_the_address_that_was_judged(
    settings: Any, found: tuple[str, ...], verified: bool, leads_to: str | None
) -> None:
    """Where an old libvirt verifies the name in the URI, the name stays, and no denied address behind it."""
    settings.NODEADMIN_DENIED_NETWORKS = ["10.9.0.0/16"]
    target = make_node("kvm-02", migration_address="kvm.example", migration_address_forced=True)
    source: Any = Source(AnsweringShell(*found))
    if leads_to is None:
        with pytest.raises(AddressDenied):
            pinned_address(source, target, name_is_verified=verified)
    else:
        assert pinned_address(source, target, name_is_verified=verified) == leads_to


@pytest.mark.django_db
def test_a_migration_is_not_sent_to_a_denied_address(settings: Any) -> None:
    settings.NODEADMIN_DENIED_NETWORKS = ["10.9.0.0/16"]
    for address in ("10.9.0.7", "[::ffff:10.9.0.7]", "0x0a090007", "fe80::1"):
        target = make_node(f"kvm-{address.strip('[]').replace(':', '-')}", migration_address=address)
        with pytest.raises(AddressDenied):
            pinned_address(Source(AnsweringShell()), target, name_is_verified=False)  # type: ignore[arg-type]


# -- no other way out -------------------------------------------------------------------------------

OPENERS = {
    "create_connection", "sock_connect", "connect_ex", "urlopen", "HTTPConnection",
    "HTTPSConnection", "SSHClient", "HTTPTransport", "AsyncHTTPTransport", "AsyncClient", "ProxyCommand",
}  # fmt: skip
DOORS = {
    "nodes/hosts/dial.py": "judges every address",
    "nodes/hosts/greeting.py": "judges every address",
    "nodes/hosts/checked_http.py": "judges every address",
    "nodes/hosts/checked_requests.py": "judges every address",
    "nodeadmin/scale/__main__.py": "a free port of this machine",
    "nodes/audit/syslog.py": "the receiver that the settings name",
    "nodes/web/accounts/oidc.py": "the identity provider that the settings name",
    "nodes/web/views/oidc.py": "its errors",
}
NETWORK_MODULES = {"requests", "urllib3", "aiohttp", "ftplib", "smtplib", "telnetlib", "xmlrpc.client"}


def test_nothing_else_opens_a_connection() -> None:
    """A client, a socket or a module that connects stands in a file of DOORS, or is httpx with the checked
    transport."""
    found = []
    for path in sorted([*ROOT.glob("nodes/**/*.py"), *ROOT.glob("nodeadmin/**/*.py")]):
        name = str(path.relative_to(ROOT))
        if name not in DOORS:
            found += [f"{name}:{line}: {what}" for line, what in _openings(ast.parse(path.read_text()))]
    assert found == []


def _openings(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for item in ast.walk(tree):
        if isinstance(item, ast.Import | ast.ImportFrom):
            names = (
                {alias.name for alias in item.names} if isinstance(item, ast.Import) else {item.module or ""}
            )
            yield from ((item.lineno, name) for name in names & NETWORK_MODULES)
        if not isinstance(item, ast.Call):
            continue
        called = item.func.attr if isinstance(item.func, ast.Attribute) else getattr(item.func, "id", "")
        owner = getattr(getattr(item.func, "value", None), "id", "")
        options = {word.arg: ast.unparse(word.value) for word in item.keywords}
        if called in OPENERS:
            yield item.lineno, called
        if (
            owner == "httpx"
            and not (
                called == "Client"
                and options.get("transport", "").startswith("CheckedTransport(")
                and options.get("trust_env") == "False"
            )
            and called not in ("ReadTimeout", "create_ssl_context")
        ):
            yield item.lineno, f"httpx.{called}"
        if owner == "asyncio" and called == "open_connection":
            yield item.lineno, called
        if owner == "socket" and called == "socket" and "AF_UNIX" not in ast.unparse(item):
            yield item.lineno, "socket.socket"


def test_the_look_for_openings_sees_them() -> None:
    for text in (
        "socket.create_connection(('x', 1))", "httpx.get('http://x')", "httpx.Client()", "import requests",
        "httpx.Client(transport=CheckedTransport(r, 'bmc'))", "socket.socket()",
        "asyncio.open_connection(h, 1)",
    ):  # fmt: skip
        assert list(_openings(ast.parse(text))), text
