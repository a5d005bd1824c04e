"""Reaching a host over SSH: each way to fail is named, says what to do, and keeps its deadline."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from nodes.errors import (
    AuthenticationFailed,
    HostError,
    HostKeyMismatch,
    HostKeyRequired,
    HostTimeout,
    HostUnreachable,
)
from nodes.hosts.command_frame import relayed
from nodes.hosts.shell import ConnectionLost
from nodes.hosts.ssh import MAX_CHANNELS, SshConnection, scan_host_keys
from nodes.hosts.target import HostKey, PasswordCredential, SshKeyCredential
from tests.hosts.conftest import SHORT, Freezer, tcp_peer
from tests.network import ANYWHERE
from tests.sshd import IS_ROOT, LoopbackSshd, TemporaryUser, free_port, make_key, public_of

needs_root = pytest.mark.skipif(not IS_ROOT, reason="makes users of this machine")


@contextmanager
def refused_within(kind: type[HostError], seconds: float) -> Iterator[list[HostError]]:
    """The block ends with this error in time; gives it in a list."""
    caught: list[HostError] = []
    started = time.monotonic()
    with pytest.raises(kind) as info:
        yield caught
    assert time.monotonic() - started < seconds
    caught.append(info.value)


# -- host keys ------------------------------------------------------------------------------------


def test_a_scan_gives_one_key_of_each_type_and_logs_nobody_in(sshd: LoopbackSshd) -> None:
    keys = scan_host_keys("127.0.0.1", sshd.port, timeout_s=10, rules=ANYWHERE)
    assert keys == (sshd.host_key("ed25519"), sshd.host_key("ecdsa"), sshd.host_key("rsa"))


def test_without_a_pinned_key_nothing_is_sent(sshd: LoopbackSshd) -> None:
    contacts: list[socket.socket] = []
    with tcp_peer(contacts.append) as port:
        with pytest.raises(HostKeyRequired) as caught:
            SshConnection(sshd.target(port=port, host_key=None), SHORT)
        time.sleep(0.1)
    assert not contacts
    assert caught.value.code == "host_key_required"


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_any_type_of_host_key_can_be_pinned(sshd: LoopbackSshd, kind: str) -> None:
    with SshConnection(sshd.target(host_key=sshd.host_key(kind)), SHORT) as connection:
        assert connection.shell.run("echo in", timeout_s=10).stdout == b"in\n"


def test_a_changed_host_key_is_refused_with_both_fingerprints_before_any_login(tmp_path: Path) -> None:
    with LoopbackSshd(tmp_path / "s", key_types=("ed25519",)) as sshd:
        before = sshd.target(user="somebody-to-look-for")
        sshd.change_host_key()
        with refused_within(HostKeyMismatch, 5) as caught:
            SshConnection(before, SHORT)
        error = caught[0]
        assert before.host_key is not None
        for key in (before.host_key, sshd.host_key()):
            assert key.fingerprint in error.message
        assert error.extra["expected_fingerprint"] == before.host_key.fingerprint
        assert error.extra["shown_fingerprints"] == [sshd.host_key().fingerprint]
        assert "somebody-to-look-for" not in sshd.log


def test_a_host_without_a_key_of_the_pinned_type_is_a_mismatch(tmp_path: Path) -> None:
    with LoopbackSshd(tmp_path / "s", key_types=("rsa",)) as sshd:
        gone = HostKey.parse(public_of(make_key(tmp_path / "old", "ed25519")))
        with refused_within(HostKeyMismatch, 6) as caught:
            SshConnection(sshd.target(host_key=gone), SHORT)
        assert gone.fingerprint in caught[0].message
        assert sshd.host_key("rsa").fingerprint in caught[0].message


def test_another_key_type_added_later_changes_nothing(tmp_path: Path) -> None:
    with LoopbackSshd(tmp_path / "s", key_types=("rsa",)) as sshd:
        pinned = sshd.target()
        sshd.change_host_key("ed25519")
        with SshConnection(pinned, SHORT) as connection:
            assert connection.alive


# -- reaching -------------------------------------------------------------------------------------


def test_a_closed_port_is_refused_at_once(sshd: LoopbackSshd) -> None:
    with refused_within(HostUnreachable, 1) as caught:
        SshConnection(sshd.target(port=free_port()), SHORT)
    assert caught[0].extra["reason"] == "refused"
    assert "sshd" in caught[0].remedy


def test_an_unknown_name_is_told_apart(sshd: LoopbackSshd) -> None:
    with refused_within((HostUnreachable, HostTimeout), 4) as caught:  # type: ignore[arg-type]
        SshConnection(sshd.target(host="no-such-host.invalid"), SHORT)
    if isinstance(caught[0], HostUnreachable):
        assert caught[0].extra["reason"] == "name_unknown"


def test_no_route_is_told_apart(sshd: LoopbackSshd) -> None:
    # 240.0.0.0/4 is reserved (RFC 1112): Linux refuses to route to the last of it.
    with refused_within((HostUnreachable, HostTimeout), 4) as caught:  # type: ignore[arg-type]
        SshConnection(sshd.target(host="127.255.255.255"), SHORT)
    assert isinstance(caught[0], HostTimeout) or caught[0].extra["reason"] == "no_route"


def _silent(client: socket.socket) -> None:
    client.recv(1)
    threading.Event().wait(30)


def _only_a_greeting(client: socket.socket) -> None:
    client.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
    threading.Event().wait(30)


def _web_server(client: socket.socket) -> None:
    client.recv(100)
    client.sendall(b"HTTP/1.1 400 Bad Request\r\n" * 200)


def _hangs_up(client: socket.socket) -> None:
    client.close()


def _endless(client: socket.socket) -> None:
    while True:
        client.sendall(b"x" * 1000)
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("serve", "kind", "reason"),
    [
        (_silent, HostTimeout, "silent"),
        (_only_a_greeting, HostTimeout, "silent"),
        (_endless, HostUnreachable, "not_ssh"),
        (_web_server, HostUnreachable, "not_ssh"),
        (_hangs_up, HostUnreachable, "closed"),
    ],
)
def test_what_is_no_willing_ssh_server_is_told_apart(
    sshd: LoopbackSshd, serve: Callable[[socket.socket], None], kind: type[HostError], reason: str
) -> None:
    with tcp_peer(serve) as port:
        with refused_within(kind, 4) as caught:
            SshConnection(sshd.target(port=port), SHORT)
        assert caught[0].extra["reason"] == reason
        with refused_within(kind, 4):
            scan_host_keys("127.0.0.1", port, timeout_s=2, rules=ANYWHERE)


def test_a_full_backlog_is_a_timeout(sshd: LoopbackSshd) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        port = listener.getsockname()[1]
        fillers = [socket.socket() for _ in range(4)]
        try:
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(("127.0.0.1", port))
            with refused_within(HostTimeout, 4):
                SshConnection(sshd.target(port=port), SHORT)
        finally:
            for filler in fillers:
                filler.close()


@pytest.mark.parametrize("after", [1300, 1700, 2600])
def test_a_line_that_dies_during_the_beginning_keeps_the_deadline(sshd: LoopbackSshd, after: int) -> None:
    freezer = Freezer(sshd.port, freeze_after=after)
    with (
        tcp_peer(freezer.serve) as port,
        refused_within(HostTimeout, 9),
        SshConnection(sshd.target(port=port), SHORT) as connection,
    ):
        connection.shell.run("true", timeout_s=2)


def test_a_server_that_drops_connections_and_then_falls_silent_keeps_one_deadline(
    sshd: LoopbackSshd,
) -> None:
    drops_until = time.monotonic() + 3

    def serve(client: socket.socket) -> None:
        if time.monotonic() > drops_until:
            threading.Event().wait(8)
        client.close()

    limits = replace(SHORT, handshake_s=4)
    with tcp_peer(serve) as port, refused_within(HostTimeout, 6):
        SshConnection(sshd.target(port=port), limits)


def test_a_line_that_dies_later_ends_the_command_at_its_deadline(sshd: LoopbackSshd) -> None:
    freezer = Freezer(sshd.port)
    with tcp_peer(freezer.serve) as port, SshConnection(sshd.target(port=port), SHORT) as connection:
        assert connection.shell.run("echo up", timeout_s=5).stdout == b"up\n"
        freezer.frozen.set()
        with refused_within(HostTimeout, 2.5):
            connection.shell.run("true", timeout_s=1)
        assert not connection.alive, "a server that opens no channel is not to be asked again"


def test_a_connection_cut_under_a_command_is_said_so_with_what_came(tmp_path: Path) -> None:
    with (
        LoopbackSshd(tmp_path / "s", key_types=("ed25519",)) as sshd,
        SshConnection(sshd.target(), SHORT) as connection,
    ):
        threading.Timer(0.7, sshd.drop_connections).start()
        with refused_within(ConnectionLost, 5) as caught:
            connection.shell.run("echo begun; sleep 20", timeout_s=20)
        assert isinstance(caught[0], ConnectionLost)
        assert caught[0].partial.stdout == b"begun\n"
        assert not connection.alive
        with refused_within(HostUnreachable, 1):
            connection.shell.run("true", timeout_s=5)


def test_ipv6_works(tmp_path: Path) -> None:
    with LoopbackSshd(tmp_path / "s", key_types=("ed25519",), address="::1") as sshd:
        with SshConnection(sshd.target(), SHORT) as connection:
            assert connection.shell.run("echo six", timeout_s=5).stdout == b"six\n"
        assert connection.address == f"[::1]:{sshd.port}"


# -- logging in -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
@pytest.mark.parametrize("passphrase", ["", "open sesame"])
@pytest.mark.parametrize("pem", [False, True])
def test_keys_of_every_type_and_form_let_one_in(
    sshd: LoopbackSshd, tmp_path: Path, kind: str, passphrase: str, pem: bool
) -> None:
    path = make_key(tmp_path / "key", kind, passphrase=passphrase, pem=pem)
    sshd.authorize(public_of(path))
    credential = SshKeyCredential(path.read_text(), passphrase or None)
    with SshConnection(sshd.target(credential=credential), SHORT) as connection:
        assert connection.alive


def test_a_key_pasted_from_elsewhere_is_read(sshd: LoopbackSshd) -> None:
    pasted = "\n  " + sshd.user_key.read_text().strip().replace("\n", "\r\n")
    with SshConnection(sshd.target(credential=SshKeyCredential(pasted)), SHORT) as connection:
        assert connection.alive


def test_a_wrong_key_says_which_key_and_user_and_what_is_accepted(sshd: LoopbackSshd, tmp_path: Path) -> None:
    path = make_key(tmp_path / "stranger")
    with refused_within(AuthenticationFailed, 5) as caught:
        SshConnection(sshd.target(credential=SshKeyCredential(path.read_text())), SHORT)
    error = caught[0]
    assert HostKey.parse(public_of(path)).fingerprint in error.message
    assert f"“{sshd.target().user}”" in error.message
    assert error.extra["accepts"] == ["publickey"]
    assert "authorized_keys" in error.remedy


@pytest.mark.parametrize(
    ("spoil", "passphrase", "field", "says"),
    [
        (lambda text: text, "wrong one", "passphrase", "passphrase does not open"),
        (lambda text: text, None, "passphrase", "protected by a passphrase"),
        (lambda text: text[: len(text) // 2], "open sesame", "passphrase", "does not open"),
        (lambda text: "hello", None, "private_key", "not a private key"),
        (lambda text: "PuTTY-User-Key-File-3: ssh-ed25519", None, "private_key", "PuTTY"),
        (lambda text: "ssh-ed25519 AAAA you@there", None, "private_key", "public half"),
    ],
)
@pytest.mark.parametrize("pem", [False, True])
def test_a_key_that_cannot_be_read_says_why(
    sshd: LoopbackSshd,
    tmp_path: Path,
    pem: bool,
    spoil: Callable[[str], str],
    passphrase: str | None,
    field: str,
    says: str,
) -> None:
    text = make_key(tmp_path / "key", "ecdsa", passphrase="open sesame", pem=pem).read_text()
    credential = SshKeyCredential(spoil(text), passphrase)
    with refused_within(AuthenticationFailed, 5) as caught:
        SshConnection(sshd.target(credential=credential), SHORT)
    assert says in caught[0].message
    assert caught[0].field == field


def test_a_password_where_only_keys_are_taken_says_so(sshd: LoopbackSshd) -> None:
    with refused_within(AuthenticationFailed, 5) as caught:
        SshConnection(sshd.target(credential=PasswordCredential("hunter2")), SHORT)
    assert caught[0].extra["accepts"] == ["publickey"]
    assert "does not take a password" in caught[0].remedy


@needs_root
@pytest.mark.parametrize(
    "options",
    [
        {"PasswordAuthentication": "yes"},
        {"UsePAM": "yes", "PasswordAuthentication": "no", "KbdInteractiveAuthentication": "yes"},
    ],
    ids=["password", "keyboard-interactive"],
)
def test_passwords_are_taken_and_wrong_ones_refused(tmp_path: Path, options: dict[str, str]) -> None:
    tmp_path.chmod(0o755)
    with (
        TemporaryUser("na-test-pw") as user,
        LoopbackSshd(tmp_path / "s", key_types=("ed25519",), options=options) as sshd,
    ):
        target = sshd.target(user=user.name, credential=user.credential)
        with SshConnection(target) as connection:
            assert connection.shell.run("id -un", timeout_s=5).stdout.decode().strip() == user.name
            assert not connection.shell.is_root
        with refused_within(AuthenticationFailed, 10) as caught:
            SshConnection(sshd.target(user=user.name, credential=PasswordCredential("wrong")))
        assert user.name in caught[0].message
        assert set(caught[0].extra["accepts"]) & {"password", "keyboard-interactive"}


def test_secrets_are_in_no_error_traceback_or_log(
    sshd: LoopbackSshd, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    path = make_key(tmp_path / "stranger", passphrase="open sesame")
    body = path.read_text().splitlines()[1]
    attempts = [
        PasswordCredential("hunter2-secret"),
        SshKeyCredential(path.read_text(), "open sesame"),
        SshKeyCredential(path.read_text(), "wrong sesame"),
    ]
    for credential in attempts:
        with pytest.raises(AuthenticationFailed) as caught:
            SshConnection(sshd.target(credential=credential), SHORT)
        shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value.extra) + caplog.text
        shown += repr(caught.value.__dict__)
        assert not any(secret in shown for secret in ("hunter2", "sesame", body))


# -- channels -------------------------------------------------------------------------------------


def test_more_commands_than_channels_wait_for_their_turn(tmp_path: Path) -> None:
    with (
        LoopbackSshd(tmp_path / "s", key_types=("ed25519",), options={"MaxSessions": "10"}) as sshd,
        SshConnection(sshd.target()) as connection,
    ):
        streams = [connection.shell.stream("echo up; sleep 20") for _ in range(MAX_CHANNELS)]
        for stream in streams:
            assert stream.read(timeout_s=10) == b"up\n"
        with pytest.raises(HostTimeout) as caught:
            connection.open_exec(relayed("true"), 0.3)
        assert caught.value.extra["reason"] == "channels_busy"
        assert connection.alive
        streams[0].close()
        assert connection.shell.run("echo now", timeout_s=5).stdout == b"now\n"
        for stream in streams:
            stream.close()


def test_a_server_that_allows_fewer_sessions_is_still_served(tmp_path: Path) -> None:
    with (
        LoopbackSshd(tmp_path / "s", key_types=("ed25519",), options={"MaxSessions": "2"}) as sshd,
        SshConnection(sshd.target()) as connection,
    ):
        results: list[bytes] = []
        threads = [
            threading.Thread(
                target=lambda: results.append(connection.shell.run("echo x", timeout_s=20).stdout)
            )
            for _ in range(12)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert results == [b"x\n"] * 12


def test_a_session_that_is_never_opened_is_an_error_of_ours(tmp_path: Path) -> None:
    with LoopbackSshd(tmp_path / "s", key_types=("ed25519",), options={"MaxSessions": "0"}) as sshd:
        with SshConnection(sshd.target()) as connection, refused_within(HostUnreachable, 3) as caught:
            connection.shell.run("true", timeout_s=1)
        assert caught[0].extra["reason"] == "no_session"


def test_closing_a_connection_leaves_no_thread(sshd: LoopbackSshd) -> None:
    before = set(threading.enumerate())
    for _ in range(3):
        with SshConnection(sshd.target()) as connection:
            connection.shell.run("true", timeout_s=5)
    # A reader that is just about to poll may find its descriptor's number taken by the next connection; it
    # then notices at the end of that poll.
    deadline = time.monotonic() + 4
    while (left := set(threading.enumerate()) - before) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not left


def test_an_idle_connection_costs_next_to_nothing(sshd: LoopbackSshd) -> None:
    with SshConnection(sshd.target()):
        time.sleep(0.2)
        before = sum(os.times()[:2])
        time.sleep(2)
        assert sum(os.times()[:2]) - before < 0.05


def test_the_first_channel_does_not_wait_for_a_delayed_acknowledgement(sshd: LoopbackSshd) -> None:
    """40 ms on each new connection otherwise: the kernel's delay, which no load of this machine shortens."""
    waited = []
    for _ in range(5):
        with SshConnection(sshd.target()) as connection:
            started = time.monotonic()
            held = connection.open_exec(relayed("true"))
            waited.append(time.monotonic() - started)
            held.close()
    assert min(waited) < 0.03


# -- reasons ---------------------------------------------------------------------------------------


@needs_root
@pytest.mark.parametrize(
    ("options", "spoil"),
    [
        ({"AllowUsers": "somebody-else"}, lambda _user: None),
        ({"DenyUsers": "na-test-*"}, lambda _user: None),
        ({"StrictModes": "yes"}, lambda user: user.home.chmod(0o777)),
        ({"AuthorizedKeysFile": "/etc/ssh/keys-of-%u"}, lambda _user: None),
        ({}, lambda user: subprocess.run(["passwd", "-q", "-l", user.name], check=True)),
        ({}, lambda user: subprocess.run(["chage", "-E", "1", user.name], check=True)),
    ],
    ids=["AllowUsers", "DenyUsers", "StrictModes", "AuthorizedKeysFile", "locked", "expired"],
)
def test_a_refused_key_names_every_candidate_of_the_cause(
    tmp_path: Path, options: dict[str, str], spoil: Callable[[TemporaryUser], object]
) -> None:
    """Whatever the cause, the server's answer is the same, so the message has all that it may be."""
    own_file = {"AuthorizedKeysFile": ".ssh/authorized_keys", "AuthorizedKeysCommand": "none"}
    own_file |= {"AuthorizedKeysCommandUser": "nobody"}
    with (
        TemporaryUser("na-test-let-in") as user,
        LoopbackSshd(tmp_path / "s", key_types=("ed25519",), options=own_file | options) as sshd,
    ):
        folder = user.home / ".ssh"
        folder.mkdir(0o700)
        (folder / "authorized_keys").write_text(public_of(sshd.user_key) + "\n")
        for path in (folder, folder / "authorized_keys"):
            os.chown(path, user.uid, user.gid)
        spoil(user)
        with refused_within(AuthenticationFailed, 5) as caught:
            SshConnection(sshd.target(user=user.name), SHORT)
    for candidate in (
        "authorizedkeysfile",
        "StrictModes",
        "AllowUsers",
        f"passwd -S {user.name}",
        "chage -l",
    ):
        assert candidate in caught[0].remedy
    assert "journalctl -u ssh" in caught[0].remedy


@needs_root
def test_a_refused_root_is_told_of_permit_root_login_by_key_and_by_password(tmp_path: Path) -> None:
    options = {"PermitRootLogin": "no", "PasswordAuthentication": "yes"}
    with LoopbackSshd(tmp_path / "s", key_types=("ed25519",), options=options) as sshd:
        for credential in (sshd.target().credential, PasswordCredential("wrong")):
            with refused_within(AuthenticationFailed, 8) as caught:
                SshConnection(sshd.target(credential=credential), SHORT)
            assert "PermitRootLogin" in caught[0].remedy


@pytest.mark.parametrize(
    ("option", "offered", "kind", "known"),
    [
        ("KexAlgorithms", "diffie-hellman-group14-sha1", "key exchange method", "curve25519-sha256"),
        ("Ciphers", "chacha20-poly1305@openssh.com", "cipher", "aes128-gcm@openssh.com"),
        ("Ciphers", "3des-cbc,aes256-cbc", "cipher", "aes256-ctr"),
        ("MACs", "umac-128@openssh.com", "message authentication code", "hmac-sha2-256"),
    ],
)
def test_no_algorithm_in_common_names_both_lists(
    tmp_path: Path, option: str, offered: str, kind: str, known: str
) -> None:
    options = {option: offered} | ({"Ciphers": "aes256-ctr"} if option == "MACs" else {})
    with LoopbackSshd(tmp_path / "s", key_types=("ed25519",), options=options) as sshd:
        with refused_within(HostUnreachable, 5) as caught:
            SshConnection(sshd.target(), SHORT)
        assert caught[0].extra["reason"] == "no_common_algorithm"
        assert f"no SSH {kind}" in caught[0].message
        assert all(name in caught[0].message for name in offered.split(","))
        assert known in caught[0].message
        assert option in caught[0].remedy


def test_no_type_of_host_key_in_common_names_both_lists(tmp_path: Path) -> None:
    options = {"HostKeyAlgorithms": "ssh-dss"}
    with LoopbackSshd(tmp_path / "s", key_types=("dsa",), options=options) as sshd:
        with refused_within(HostUnreachable, 8) as caught:
            scan_host_keys("127.0.0.1", sshd.port, timeout_s=4, rules=ANYWHERE)
        assert caught[0].extra["reason"] == "no_common_algorithm"
        assert "The host offers: ssh-dss" in caught[0].message
        assert "nodeadmin knows: ssh-ed25519" in caught[0].message
        assert "ssh-keygen -A" in caught[0].remedy


def test_further_connections_are_entered_with_the_credential_that_replaced_the_first(tmp_path: Path) -> None:
    with LoopbackSshd(tmp_path / "one", options={"MaxSessions": "1"}) as sshd:
        renewed = make_key(tmp_path / "renewed")
        sshd.authorize(public_of(renewed))
        by_renewed = sshd.target(credential=SshKeyCredential(renewed.read_text()))
        with SshConnection(sshd.target()) as connection:
            connection.enter_with(by_renewed)
            with connection.shell.stream("echo first; sleep 60") as held:
                held.read(timeout_s=10)
                assert connection.shell.run("echo second", timeout_s=20).stdout == b"second\n"
            accepted = [line for line in sshd.log.splitlines() if "Accepted publickey" in line]
            fingerprint = HostKey.parse(public_of(renewed)).fingerprint
            assert [fingerprint in line for line in accepted] == [False, True]
            with pytest.raises(ValueError, match="another host or user"):
                connection.enter_with(replace(by_renewed, port=1))
