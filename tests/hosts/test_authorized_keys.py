"""The lines of nodeadmin's key: what they allow on a real sshd, and what stays of what others write."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import paramiko
import pytest

from nodes.errors import AuthenticationFailed
from nodes.hosts import authorize
from nodes.hosts.authorize import authorize_key, key_lines, restore_key, revoke_key
from nodes.hosts.authorized_keys import (
    NOWHERE,
    KeyOptions,
    lines_with,
    options_for,
    with_key,
    with_lines,
    without_key,
)
from nodes.hosts.connection import HostConnection, connect
from nodes.hosts.jump import jump_hosts
from nodes.hosts.keypair import generate_key_pair
from nodes.hosts.privatekey import load_private_key
from nodes.hosts.target import HostKey, HostTarget, JumpTarget, SshKeyCredential
from nodes.hosts.wire import ChannelRefused
from tests.hosts.conftest import SHORT
from tests.network import ANYWHERE
from tests.sshd import IS_ROOT, LoopbackSshd, TemporaryUser

needs_root = pytest.mark.skipif(not IS_ROOT, reason="needs a user of its own, made by root")
DEBIAN = "SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u7"
PLAIN = KeyOptions()
PAIR = generate_key_pair("nodeadmin")
KEY = HostKey.parse(PAIR.public_key)


# -- the text --------------------------------------------------------------------------------------


def test_a_new_line_restricts_the_key_to_what_nodeadmin_needs():
    content = with_key("# mine\nssh-rsa AAAA other", PAIR.public_key, options_for(PLAIN, DEBIAN))
    added = f'restrict,port-forwarding,permitlisten="{NOWHERE}" {PAIR.public_key}'
    assert content == f"# mine\nssh-rsa AAAA other\n{added}\n"
    assert without_key(content, KEY) == "# mine\nssh-rsa AAAA other\n"


@pytest.mark.parametrize(
    ("version", "first", "missing"),
    [
        ("SSH-2.0-OpenSSH_7.4", "restrict", "permitlisten"),
        ("SSH-2.0-OpenSSH_6.6.1", "no-pty", "restrict"),
        ("SSH-2.0-OpenSSH_10.0p2", "restrict", "no-pty"),
    ],
)
def test_options_that_an_older_server_would_refuse_the_key_for_are_left_out(version, first, missing):
    options = options_for(PLAIN, version)
    assert options[0] == first
    assert not any(option.startswith(missing) for option in options)


def test_another_server_than_openssh_gets_a_plain_line():
    assert options_for(PLAIN, "SSH-2.0-dropbear_2022.83") == ()


def test_a_line_without_options_is_brought_up_to_date_and_keeps_its_comment():
    old = f"{KEY.to_text()} put here by hand\n"
    assert with_key(old, PAIR.public_key, ("restrict",)) == f"restrict {KEY.to_text()} put here by hand\n"


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ('from="10.0.0.0/8"', ',from="10.0.0.0/8"'),
        ('environment="A=b, c",expiry-time="20300101"', ',environment="A=b, c",expiry-time="20300101"'),
        ('command="say \\"hi, you\\""', ',command="say \\"hi, you\\""'),
        ("no-pty,pty,agent-forwarding", ""),
        (f'restrict,port-forwarding,permitlisten="{NOWHERE}"', ""),
        ('permitopen="10.0.0.7:22"', ',permitopen="10.0.0.7:22"'),
    ],
)
def test_what_others_have_put_into_the_options_stays_and_what_widens_goes(given, kept):
    assert with_key(f"{given} {KEY.to_text()}\n", PAIR.public_key, ("restrict",)) == (
        f"restrict{kept} {KEY.to_text()}\n"
    )


def test_a_second_line_of_the_key_leaves_no_way_around_the_first():
    content = f"restrict {KEY.to_text()} a\n{KEY.to_text()} a\nssh-rsa BBBB x\n{KEY.to_text()} b\n"
    renewed = with_key(content, PAIR.public_key, ("restrict",))
    assert renewed == f"restrict {KEY.to_text()} a\nssh-rsa BBBB x\nrestrict {KEY.to_text()} b\n"


def test_the_keys_own_sources_replace_those_before():
    options = options_for(KeyOptions(sources=("192.0.2.1", "2001:db8::/64")), DEBIAN)
    line = with_key(f'from="10.0.0.1" {KEY.to_text()}\n', PAIR.public_key, options)
    assert line.count("from=") == 1 and 'from="192.0.2.1,2001:db8::/64"' in line
    with pytest.raises(ValueError, match="source"):
        options_for(KeyOptions(sources=('1.1.1.1",command="x',)), DEBIAN)


def test_a_comment_that_shows_the_key_is_no_line_of_it():
    content = f"# {PAIR.public_key}\nssh-rsa AAAA {KEY.to_text()}\n"
    assert lines_with(content, KEY) == ()
    assert without_key(content, KEY) == content
    assert with_lines(content, KEY, ["x"]) == content + "x\n"


# -- a real sshd -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def user() -> Iterator[TemporaryUser]:
    with TemporaryUser("nodeadmin-ak") as made:
        yield made


@pytest.fixture
def admin(user: TemporaryUser, sshd: LoopbackSshd) -> Iterator[HostConnection]:
    """A connection that stands whatever becomes of the file."""
    (user.home / ".ssh" / "authorized_keys").unlink(missing_ok=True)
    with connect(sshd.target(user=user.name), SHORT) as opened:
        yield opened


def by_key(sshd: LoopbackSshd, user: TemporaryUser) -> HostTarget:
    return sshd.target(user=user.name, credential=SshKeyCredential(PAIR.private_key))


@needs_root
def test_the_installed_key_runs_commands_and_opens_unix_sockets_and_nothing_else(
    admin: HostConnection, user: TemporaryUser, sshd: LoopbackSshd
) -> None:
    authorize_key(admin, PAIR.public_key)
    assert not authorize_key(admin, PAIR.public_key).changed
    with connect(by_key(sshd, user), SHORT) as connection:
        assert connection.shell.run("id -un", timeout_s=5).stdout.decode().strip() == user.name
        client = paramiko.Transport(("127.0.0.1", sshd.port))
        try:
            client.connect(username=user.name, pkey=load_private_key(SshKeyCredential(PAIR.private_key)))
            with pytest.raises(paramiko.SSHException):
                client.request_port_forward("127.0.0.1", 0)
            session = client.open_session()
            with pytest.raises(paramiko.SSHException):
                session.get_pty()
        finally:
            client.close()
    path = user.home / "a.sock"
    with connect(by_key(sshd, user), SHORT) as connection:
        listener = connection.shell.stream(f'python3 -c "{_LISTEN.format(path=path)}"')
        with listener as ready:
            assert ready.read(timeout_s=5) == b"ready\n"
            assert connection._ssh is not None
            channel = connection._ssh.open_unix(str(path))
            channel.close()
            with pytest.raises(ChannelRefused):
                connection._ssh.open_unix(str(user.home / "nothing.sock"))


_LISTEN = (
    "import socket; s = socket.socket(socket.AF_UNIX); s.bind('{path}'); s.listen(); "
    "print('ready', flush=True); s.accept(); input()"
)


@needs_root
def test_the_line_that_opens_a_host_also_leads_through_a_jump_host(
    admin: HostConnection, user: TemporaryUser, sshd: LoopbackSshd
) -> None:
    authorize_key(admin, PAIR.public_key)
    target = by_key(sshd, user)
    way = ("j", "j", target.host, target.port, target.user, target.credential, target.host_key)
    jump = JumpTarget(*way, rules=ANYWHERE)
    try:
        with connect(sshd.target(jump=jump), SHORT) as connection:
            assert connection.shell.run("true", timeout_s=5).ok
    finally:
        jump_hosts().close()


@needs_root
def test_sources_let_the_key_in_from_there_alone(
    admin: HostConnection, user: TemporaryUser, sshd: LoopbackSshd
) -> None:
    authorize_key(admin, PAIR.public_key, KeyOptions(sources=("127.0.0.0/8",)))
    connect(by_key(sshd, user), SHORT).close()
    before = key_lines(admin, PAIR.public_key)
    authorize_key(admin, PAIR.public_key, KeyOptions(sources=("192.0.2.1",)))
    with pytest.raises(AuthenticationFailed):
        connect(by_key(sshd, user), SHORT)
    restore_key(admin, PAIR.public_key, before)
    connect(by_key(sshd, user), SHORT).close()


@needs_root
def test_removal_takes_exactly_our_lines(
    admin: HostConnection, user: TemporaryUser, sshd: LoopbackSshd
) -> None:
    keys = user.home / ".ssh" / "authorized_keys"
    others = b'# \xff not utf-8\nfrom="*" ssh-rsa AAAA somebody\n\nssh-ed25519 CCCC last'
    authorize_key(admin, PAIR.public_key)
    keys.write_bytes(others + b"\n" + keys.read_bytes())
    assert len(revoke_key(admin, PAIR.public_key).before) == 1
    assert keys.read_bytes() == others + b"\n"
    assert not revoke_key(admin, PAIR.public_key).changed
    with pytest.raises(AuthenticationFailed):
        connect(by_key(sshd, user), SHORT)


@needs_root
def test_a_change_that_somebody_else_makes_meanwhile_is_not_lost(
    admin: HostConnection, user: TemporaryUser, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = user.home / ".ssh" / "authorized_keys"
    authorize_key(admin, generate_key_pair("first").public_key)
    read, done = authorize._read, []

    def reading(connection: HostConnection, timeout_s: float) -> tuple[str, str]:
        found = read(connection, timeout_s)
        if not done:
            done.append(True)
            with keys.open("a") as file:
                file.write("ssh-ed25519 AAAA0000 written meanwhile\n")
        return found

    monkeypatch.setattr(authorize, "_read", reading)
    authorize_key(admin, PAIR.public_key)
    text = keys.read_text()
    assert "written meanwhile" in text and KEY.to_text() in text
    assert sorted(path.name for path in keys.parent.iterdir()) == ["authorized_keys"]


@needs_root
def test_a_line_that_ssh_keygen_reads_is_what_was_written(
    admin: HostConnection, user: TemporaryUser, tmp_path: Path
) -> None:
    authorize_key(admin, PAIR.public_key, KeyOptions(sources=("127.0.0.1",)))
    listed = subprocess.run(
        ["ssh-keygen", "-lf", str(user.home / ".ssh" / "authorized_keys")],
        check=True,
        capture_output=True,
        text=True,
    )
    assert replace(KEY).fingerprint in listed.stdout
