"""What a user may do is found out, not guessed; and a key let in opens the host."""

from __future__ import annotations

import os
import signal
import stat
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from nodes.errors import AuthenticationFailed, InsufficientRightsOnHost, UndeclaredCommand
from nodes.hosts import elevation
from nodes.hosts.authorize import authorize_key
from nodes.hosts.authorized_keys import KeyOptions, line_of, options_for
from nodes.hosts.connection import connect
from nodes.hosts.keypair import generate_key_pair
from nodes.hosts.rights import ASKED, POWER_OFF, REBOOT, SMART, preflight
from nodes.hosts.target import HostKey, HostTarget, SshKeyCredential
from tests.libvirtd import AVAILABLE, LibvirtHost
from tests.network import ANYWHERE
from tests.sshd import IS_ROOT, LoopbackSshd, TemporaryUser

needs_root = pytest.mark.skipif(not IS_ROOT, reason="makes users of this machine")
PASSWORDS = {"PasswordAuthentication": "yes"}


@pytest.fixture
def user() -> Iterator[TemporaryUser]:
    with TemporaryUser("na-test-rights") as made:
        yield made


@pytest.fixture
def host(tmp_path: Path) -> Iterator[LibvirtHost]:
    if not AVAILABLE:
        pytest.skip("needs root, libvirtd and unshare")
    with LibvirtHost(tmp_path / "h") as made:
        yield made


def test_root_may_everything(libvirt_host: LibvirtHost) -> None:
    with connect(libvirt_host.sshd.target()) as connection:
        rights = preflight(connection)
    assert (rights.uid, rights.is_root, rights.sudo, rights.libvirt) == (0, True, True, True)
    assert all(rights.may(command) for command in ASKED)
    assert rights.missing() == []
    assert rights.to_dict()["commands"] == dict.fromkeys(ASKED, True)


@needs_root
def test_a_plain_user_lacks_what_is_listed(user: TemporaryUser, host: LibvirtHost) -> None:
    with connect(host.sshd.target(user=user.name)) as connection:
        rights = preflight(connection)
    assert (rights.user, rights.uid, rights.is_root, rights.sudo) == (user.name, user.uid, False, False)
    assert rights.groups == (user.name,)
    assert rights.libvirt is False
    assert not any(rights.may(command) for command in ASKED)
    lacking = " ".join(rights.missing())
    assert all(word in lacking for word in ("libvirt", "sudo -n systemctl reboot", "smartctl"))


@needs_root
@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("ALL=(root) NOPASSWD: ALL", {REBOOT, POWER_OFF, SMART}),
        ("ALL=(ALL:ALL) ALL", set()),
        ("ALL=(root) NOPASSWD: /usr/bin/systemctl reboot", {REBOOT}),
        ("ALL=(root) NOPASSWD: /usr/bin/systemctl reboot, PASSWD: /usr/bin/systemctl poweroff", {REBOOT}),
        ("ALL=(root) PASSWD: /usr/bin/systemctl reboot, NOPASSWD: /usr/sbin/smartctl", {SMART}),
        ("ALL=(root) NOPASSWD: /usr/bin/systemctl *", {REBOOT, POWER_OFF}),
    ],
)
def test_single_commands_allowed_by_sudoers_are_seen(
    user: TemporaryUser, sshd: LoopbackSshd, rule: str, expected: set[str]
) -> None:
    with user.sudoers(rule), connect(sshd.target(user=user.name)) as connection:
        rights = preflight(connection)
        # Allowed with a password is not allowed: nobody is there to type it.
        assert {command for command in ASKED if rights.may(command)} == expected
        assert rights.sudo is (rule.endswith("NOPASSWD: ALL"))
        for command in expected & {SMART}:
            assert connection.shell.run(command, sudo=True, timeout_s=10).ok


@needs_root
def test_a_user_whom_sudo_asks_for_no_password_by_its_defaults_may_what_is_permitted(
    user: TemporaryUser, sshd: LoopbackSshd
) -> None:
    permitted = "ALL=(root) /usr/bin/systemctl reboot, PASSWD: /usr/bin/systemctl poweroff"
    for scope, expected in ((f":{user.name}", {REBOOT}), ("!/usr/bin/true", set())):
        with (
            user.sudoers(f"{permitted}\nDefaults{scope} !authenticate"),
            connect(sshd.target(user=user.name)) as connection,
        ):
            rights = preflight(connection)
            assert {command for command in ASKED if rights.may(command)} == expected, scope


@needs_root
def test_sudo_runs_as_root_and_never_waits_for_a_password(user: TemporaryUser, sshd: LoopbackSshd) -> None:
    with connect(sshd.target(user=user.name)) as connection:
        command = "ls /etc/libvirt"
        refused = connection.shell.run(command, sudo=True, timeout_s=10)
        assert refused.exit_status == 1
        assert "password" in refused.error_text
        with user.sudoers("ALL=(root) NOPASSWD: ALL"):
            assert "password" not in connection.shell.run(command, sudo=True, timeout_s=10).error_text
            with pytest.raises(UndeclaredCommand):
                connection.shell.run("id -u", sudo=True, timeout_s=10)
            with pytest.raises(UndeclaredCommand):
                connection.shell.stream("id -u", sudo=True)


@needs_root
@pytest.mark.parametrize("rule", ["ALL=(root) NOPASSWD: ALL", "ALL=(root) NOPASSWD: /usr/bin/tail"])
def test_a_stream_of_root_can_be_read_and_ended(
    user: TemporaryUser, sshd: LoopbackSshd, rule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(elevation, "require_declared", lambda command: None)
    with user.sudoers(rule), connect(sshd.target(user=user.name)) as connection:
        with connection.shell.stream("tail -n 1 -f /etc/shadow", sudo=True) as stream:
            assert b":" in stream.read(timeout_s=10)
        if rule.endswith(" ALL"):
            deadline = time.monotonic() + 5
            while _follows_shadow():
                assert time.monotonic() < deadline, "root's process outlived its reader"
                time.sleep(0.05)
    _end_followers()


def _follows_shadow() -> list[int]:
    wanted = b"tail\0-n\x001\0-f\0/etc/shadow\0"
    return [int(path.parent.name) for path in Path("/proc").glob("[0-9]*/cmdline") if _reads(path) == wanted]


def _reads(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _end_followers() -> None:
    for pid in _follows_shadow():
        os.kill(pid, signal.SIGKILL)


def test_a_test_node_has_libvirt_alone() -> None:
    with connect(HostTarget("", "test", libvirt_uri="test:///default", rules=ANYWHERE)) as connection:
        rights = preflight(connection)
    assert (rights.libvirt, rights.uid, rights.sudo, rights.missing()) == (True, None, None, [])


# -- letting a key in -----------------------------------------------------------------------------

OPTIONS = options_for(KeyOptions(), "SSH-2.0-OpenSSH_9.2p1")


@needs_root
def test_a_password_lets_a_key_in_which_then_opens_the_host(user: TemporaryUser, tmp_path: Path) -> None:
    pair = generate_key_pair("nodeadmin")
    with LoopbackSshd(tmp_path / "s", key_types=("ed25519",), options=PASSWORDS) as sshd:
        by_password = sshd.target(user=user.name, credential=user.credential)
        by_key = replace(by_password, credential=SshKeyCredential(pair.private_key))
        with pytest.raises(AuthenticationFailed):
            connect(by_key)
        with connect(by_password) as connection:
            assert authorize_key(connection, pair.public_key).new
            assert not authorize_key(connection, pair.public_key).changed
            assert not authorize_key(connection, pair.public_key + "-renamed").changed
        with connect(by_key) as connection:
            assert connection.shell.run("id -un", timeout_s=5).stdout.decode().strip() == user.name
    keys = user.home / ".ssh" / "authorized_keys"
    assert keys.read_text() == line_of(pair.public_key, OPTIONS) + "\n"
    for path, mode in ((keys.parent, 0o700), (keys, 0o600)):
        assert stat.S_IMODE(path.stat().st_mode) == mode
        assert path.stat().st_uid == user.uid
    assert sorted(path.name for path in keys.parent.iterdir()) == ["authorized_keys"]


@needs_root
def test_keys_that_are_there_stay(user: TemporaryUser, sshd: LoopbackSshd) -> None:
    folder = user.home / ".ssh"
    folder.mkdir(mode=0o755)
    elsewhere = user.home / "kept-elsewhere"
    pair, before = generate_key_pair("mine"), generate_key_pair("before")
    # No newline at the end, and our key only as a comment: neither may be lost or taken for the key.
    elsewhere.write_text(f"# {pair.public_key}\n{before.public_key}")
    (folder / "authorized_keys").symlink_to(elsewhere)
    for path in (folder, elsewhere):
        os.chown(path, user.uid, user.gid)
    with connect(sshd.target(user=user.name)) as connection:
        assert authorize_key(connection, pair.public_key).new
    assert (folder / "authorized_keys").is_symlink()
    added = line_of(pair.public_key, OPTIONS)
    assert elsewhere.read_text() == f"# {pair.public_key}\n{before.public_key}\n{added}\n"


@needs_root
def test_a_home_that_cannot_be_written_says_so(user: TemporaryUser, sshd: LoopbackSshd) -> None:
    os.chown(user.home, 0, 0)
    user.home.chmod(0o755)
    with (
        connect(sshd.target(user=user.name)) as connection,
        pytest.raises(InsufficientRightsOnHost) as caught,
    ):
        authorize_key(connection, generate_key_pair().public_key)
    assert "authorized_keys" in caught.value.message


@pytest.mark.parametrize("text", ["", "hello", "ssh-ed25519 AAAA; rm -rf /", "ssh-ed25519 $(reboot)"])
def test_what_is_no_public_key_reaches_no_host(sshd: LoopbackSshd, text: str) -> None:
    with connect(sshd.target()) as connection, pytest.raises(ValueError, match="key"):
        authorize_key(connection, text)


def test_own_key_pairs_differ_and_hide_their_secret() -> None:
    one, two = generate_key_pair("a"), generate_key_pair("a")
    assert one.public_key != two.public_key
    assert one.public_key.endswith(" a")
    assert HostKey.parse(one.public_key).type == "ssh-ed25519"
    assert "PRIVATE" not in repr(one)
    with pytest.raises(ValueError, match="line"):
        generate_key_pair("a\nb")
