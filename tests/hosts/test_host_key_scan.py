"""Scanning host keys where sshd drops connections: nothing is missing, and no key is called a wrong one."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nodes.errors import HostKeyMismatch, HostUnreachable
from nodes.hosts.host_key_scan import find_host_key, scan_host
from nodes.hosts.ssh import SshConnection
from nodes.hosts.target import HostKey
from tests.hosts.conftest import SHORT, tcp_peer
from tests.network import ANYWHERE
from tests.sshd import LoopbackSshd, make_key, public_of

TRIES = 200 if os.environ.get("NODEADMIN_SOAK") else 6
ONE_AT_A_TIME = {"PerSourceMaxStartups": "1"}


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopbackSshd]:
    """It takes one connection that is not logged in from an address, and drops all others."""
    with LoopbackSshd(tmp_path_factory.mktemp("strict"), options=ONE_AT_A_TIME) as server:
        yield server


def connections(sshd: LoopbackSshd) -> int:
    return sshd.log.count("Connection from")


def test_every_scan_is_whole_though_all_but_one_connection_at_once_are_dropped(strict: LoopbackSshd) -> None:
    for _try in range(TRIES):
        scan = scan_host("127.0.0.1", strict.port, timeout_s=20, rules=ANYWHERE)
        assert scan.complete
        assert scan.keys == tuple(strict.host_key(kind) for kind in ("ed25519", "ecdsa", "rsa"))
    assert "PerSourceMaxStartups" in strict.log or "MaxStartups" in strict.log, "nothing was dropped"


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_a_confirmed_key_is_found_and_used_each_time_though_connections_are_dropped(
    strict: LoopbackSshd, kind: str
) -> None:
    key = strict.host_key(kind)
    for number in range(TRIES):
        known = key.type if number % 2 else ""
        scan = find_host_key(
            "127.0.0.1", strict.port, key.fingerprint, key_type=known, timeout_s=20, rules=ANYWHERE
        )
        assert scan.key_of(key.fingerprint) == key
        with SshConnection(strict.target(host_key=key)) as connection:
            assert connection.alive


def test_a_key_of_a_known_type_is_asked_for_over_one_connection(tmp_path: Path) -> None:
    with LoopbackSshd(tmp_path / "s") as sshd:
        before = connections(sshd)
        key = sshd.host_key("rsa")
        assert find_host_key(
            "127.0.0.1", sshd.port, key.fingerprint, key_type=key.type, rules=ANYWHERE
        ).keys == (key,)
        assert connections(sshd) == before + 1
        first = sshd.host_key("ed25519")
        assert find_host_key("127.0.0.1", sshd.port, first.fingerprint, rules=ANYWHERE).keys == (first,)
        assert connections(sshd) == before + 2, "the most usual type is asked for first"


def test_keys_on_several_curves_are_all_shown(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    wide = tmp_path / "s" / "wide"
    make_key(wide, "ecdsa-384")
    with LoopbackSshd(tmp_path / "s", key_types=("ecdsa",), options={"HostKey": str(wide)}) as sshd:
        scan = scan_host("127.0.0.1", sshd.port, rules=ANYWHERE)
        assert scan.keys == (sshd.host_key("ecdsa"), HostKey.parse(public_of(wide)))
        assert set(scan.absent) == {"ssh-ed25519", "ecdsa-sha2-nistp521", "ssh-rsa"}
        assert scan.complete
        assert find_host_key("127.0.0.1", sshd.port, scan.keys[1].fingerprint, rules=ANYWHERE).key_of(
            scan.keys[1].fingerprint
        )


def test_a_server_that_is_full_is_quoted_and_one_that_gets_free_is_scanned(tmp_path: Path) -> None:
    options = {"MaxStartups": "1:100:1", "LoginGraceTime": "60"}
    with LoopbackSshd(tmp_path / "s", key_types=("ed25519",), options=options) as sshd:
        waiting = greeted(sshd)
        with waiting, pytest.raises(HostUnreachable) as full:
            scan_host("127.0.0.1", sshd.port, timeout_s=1.5, rules=ANYWHERE)
        waiting = greeted(sshd)
        with waiting, pytest.raises(HostUnreachable) as refused:
            SshConnection(sshd.target(), SHORT)
        for failure in (full, refused):
            assert "“Exceeded MaxStartups”" in failure.value.message
            assert "connections tried in" in failure.value.message
            assert failure.value.extra["tries"] > 2
        with greeted(sshd) as waiting:
            threading.Timer(0.5, waiting.shutdown, [socket.SHUT_RDWR]).start()
            assert scan_host("127.0.0.1", sshd.port, timeout_s=10, rules=ANYWHERE).keys == (sshd.host_key(),)


def greeted(sshd: LoopbackSshd) -> socket.socket:
    """A connection that waits for its login; sshd may still count the one before it for a moment."""
    deadline = time.monotonic() + 10
    while True:
        opened = socket.create_connection(("127.0.0.1", sshd.port))
        if opened.recv(4) == b"SSH-":
            return opened
        opened.close()
        assert time.monotonic() < deadline
        time.sleep(0.05)


@contextmanager
def dropping_after(count: int, sshd: LoopbackSshd) -> Iterator[int]:
    """The port of a way to ``sshd`` that lets ``count`` connections through, and ends all later ones."""
    taken = iter(range(count))
    guard = threading.Lock()

    def serve(client: socket.socket) -> None:
        with guard:
            passes = next(taken, None) is not None
        if not passes:
            client.close()
            return
        with socket.create_connection(("127.0.0.1", sshd.port)) as server:
            there = threading.Thread(target=copy, args=(client, server), daemon=True)
            there.start()
            copy(server, client)

    with tcp_peer(serve) as port:
        yield port


def copy(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def test_a_scan_that_stays_incomplete_says_which_types_are_missing_and_why(sshd: LoopbackSshd) -> None:
    with dropping_after(1, sshd) as port:
        begun = time.monotonic()
        scan = scan_host("127.0.0.1", port, timeout_s=2, rules=ANYWHERE)
        assert time.monotonic() - begun < 4
    assert len(scan.keys) == 1
    assert not scan.complete
    asked = {kind for item in scan.missing for kind in item.types}
    assert len(scan.missing) == 2
    assert scan.keys[0].type not in asked
    assert {"ssh-ed25519", "ecdsa-sha2-nistp256", "ssh-rsa"} - {scan.keys[0].type} <= asked
    assert all("closed the connection" in item.error.message for item in scan.missing)


def test_a_confirmed_key_that_could_not_be_asked_for_is_no_wrong_key(sshd: LoopbackSshd) -> None:
    wanted = sshd.host_key("rsa")
    with dropping_after(1, sshd) as port:
        scan = find_host_key("127.0.0.1", port, wanted.fingerprint, timeout_s=2, rules=ANYWHERE)
        assert scan.keys == (sshd.host_key("ed25519"),)
        assert isinstance(scan.missing[-1].error, HostUnreachable)
    with dropping_after(0, sshd) as port, pytest.raises(HostUnreachable):
        find_host_key("127.0.0.1", port, wanted.fingerprint, key_type="ssh-rsa", timeout_s=1, rules=ANYWHERE)
    with dropping_after(0, sshd) as port, pytest.raises(HostUnreachable):
        SshConnection(sshd.target(port=port, host_key=wanted), SHORT)


@pytest.mark.parametrize(
    ("key_types", "reason", "says"),
    [
        (("ed25519", "rsa"), "differs", "another host key"),
        (("rsa",), "type_missing", "no host key of the type ssh-ed25519"),
    ],
)
def test_a_key_that_differs_and_a_type_that_is_gone_are_told_apart(
    tmp_path: Path, key_types: tuple[str, ...], reason: str, says: str
) -> None:
    pinned = HostKey.parse(public_of(make_key(tmp_path / "old", "ed25519")))
    check: Callable[[HostKeyMismatch], bool] = lambda error: says in error.message  # noqa: E731
    with LoopbackSshd(tmp_path / "s", key_types=key_types) as sshd:
        with pytest.raises(HostKeyMismatch, check=check) as failure:
            SshConnection(sshd.target(host_key=pinned), SHORT)
        assert failure.value.extra["reason"] == reason
        scan = find_host_key("127.0.0.1", sshd.port, pinned.fingerprint, key_type=pinned.type, rules=ANYWHERE)
        assert (scan.key_of_type(pinned.type) is not None) is (reason == "differs")
        assert (pinned.type in scan.absent) is (reason == "type_missing")
        assert scan.key_of(pinned.fingerprint) is None
