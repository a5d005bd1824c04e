"""libvirt over the connection that stands: real daemons, and each way in which they fail."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nodes.errors import HostError, HostTimeout, InsufficientRightsOnHost, LibvirtUnavailable
from nodes.hosts import eventloop, hypervisor
from nodes.hosts.connection import HostConnection, connect
from nodes.hosts.deadlines import Clock
from nodes.hosts.libvirt_errors import LibvirtCallFailed
from nodes.hosts.target import HostTarget
from tests.hosts.conftest import SHORT
from tests.libvirtd import AVAILABLE, LibvirtHost
from tests.network import ANYWHERE
from tests.sshd import LoopbackSshd, TemporaryUser

needs_libvirtd = pytest.mark.skipif(not AVAILABLE, reason="needs root, libvirtd and unshare")
NO_FORWARDING = {"AllowStreamLocalForwarding": "no"}


@pytest.fixture
def host(libvirt_host: LibvirtHost) -> Iterator[HostConnection]:
    with connect(libvirt_host.sshd.target()) as connection:
        yield connection


def test_libvirt_answers_over_the_verified_connection(
    host: HostConnection, libvirt_host: LibvirtHost
) -> None:
    hypervisor = host.hypervisor()
    assert hypervisor.alive
    assert f"Using library: libvirt {hypervisor.version_text()}" in libvirt_host.virsh("version")
    assert host.hypervisor() is hypervisor, "one connection serves all who ask"


def test_nothing_runs_on_the_host_for_it(host: HostConnection, libvirt_host: LibvirtHost) -> None:
    host.hypervisor()
    assert "virt-ssh-helper" not in libvirt_host.processes()


def test_the_socket_on_our_side_is_private_and_soon_gone(host: HostConnection) -> None:
    host.hypervisor()
    bridge = host.hypervisor()._bridge
    assert bridge is not None
    assert not Path(bridge.path).exists()
    assert not Path(bridge.path).parent.exists()


def test_a_refusal_of_libvirt_is_an_error_of_ours_with_its_number(host: HostConnection) -> None:
    with pytest.raises(LibvirtCallFailed) as caught:
        host.hypervisor().run(lambda c: c.lookupByName("no-such-domain"), what="Looking for a VM")
    assert caught.value.libvirt_code == 42  # VIR_ERR_NO_DOMAIN
    assert caught.value.layer == "libvirt"
    assert "no-such-domain" in caught.value.message


def test_a_call_that_hangs_is_left_at_its_deadline_and_others_go_on(libvirt_host: LibvirtHost) -> None:
    with connect(libvirt_host.sshd.target()) as connection:
        hypervisor = connection.hypervisor()
        libvirt_host.freeze_libvirtd()
        try:
            started = time.monotonic()
            with pytest.raises(HostTimeout):
                hypervisor.run(lambda c: c.getLibVersion(), what="Asking the version", timeout_s=0.5)
            assert time.monotonic() - started < 1.5
            assert not hypervisor.alive
            assert connection.shell.run("echo still", timeout_s=5).stdout == b"still\n"
            with pytest.raises(HostTimeout):
                connection.hypervisor(1.0)
        finally:
            libvirt_host.thaw_libvirtd()
        assert connection.hypervisor().version_text()


@needs_libvirtd
def test_a_daemon_that_was_restarted_is_opened_again(tmp_path: Path) -> None:
    with LibvirtHost(tmp_path / "h") as own, connect(own.sshd.target()) as connection:
        first = connection.hypervisor()
        own.stop_libvirtd()
        deadline = time.monotonic() + 5
        while first.alive and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not first.alive
        with pytest.raises(LibvirtUnavailable) as caught:
            connection.hypervisor()
        assert "systemctl start libvirtd" in caught.value.remedy
        own.start_libvirtd()
        assert connection.hypervisor().version_text()


@needs_libvirtd
def test_a_dead_socket_is_libvirt_that_does_not_run(tmp_path: Path) -> None:
    with LibvirtHost(tmp_path / "h") as own, connect(own.sshd.target()) as connection:
        own.stop_libvirtd(keep_socket=True)
        with pytest.raises(LibvirtUnavailable, match="does not run"):
            connection.hypervisor()


@needs_libvirtd
def test_a_host_without_libvirt_says_so(tmp_path: Path) -> None:
    with (
        LibvirtHost(tmp_path / "h", libvirtd=False) as own,
        connect(own.sshd.target()) as connection,
        pytest.raises(LibvirtUnavailable) as caught,
    ):
        connection.hypervisor()
    assert "no libvirt socket" in caught.value.message
    assert caught.value.code == "libvirt_unavailable"


@needs_libvirtd
def test_where_forwarding_is_forbidden_the_helper_serves(tmp_path: Path) -> None:
    with LibvirtHost(tmp_path / "h", sshd_options=NO_FORWARDING) as own:
        with connect(own.sshd.target()) as connection:
            assert connection.hypervisor().version_text()
            assert connection.hypervisor().run(lambda c: c.listAllDomains(), what="Listing") == []
            assert "virt-ssh-helper" in own.processes()
        deadline = time.monotonic() + 5
        while "virt-ssh-helper" in own.processes():
            assert time.monotonic() < deadline, "the helper outlived its connection"
            time.sleep(0.05)


@needs_libvirtd
@pytest.mark.parametrize("options", [{}, NO_FORWARDING], ids=["forwarded", "no-forwarding"])
def test_a_user_who_may_not_open_the_socket_is_told_the_remedy(
    tmp_path: Path, options: dict[str, str]
) -> None:
    tmp_path.chmod(0o755)
    with TemporaryUser("na-test-virt") as user, LibvirtHost(tmp_path / "h", sshd_options=options) as own:
        target = own.sshd.target(user=user.name)
        with connect(target) as connection, pytest.raises(InsufficientRightsOnHost) as caught:
            connection.hypervisor()
        assert user.name in caught.value.message
        assert "group “libvirt”" in caught.value.remedy
        _put_socket_in_group(own, user)
        with connect(target) as connection:
            assert connection.hypervisor().version_text()


@needs_libvirtd
def test_a_user_with_sudo_reaches_libvirt_through_the_helper(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    with (
        TemporaryUser("na-test-sudo") as user,
        user.sudoers("ALL=(root) NOPASSWD: /usr/bin/virt-ssh-helper"),
        LibvirtHost(tmp_path / "h") as own,
        connect(own.sshd.target(user=user.name)) as connection,
    ):
        assert connection.hypervisor().version_text()


SUDO_ASKS = pytest.mark.parametrize("tag", ["NOPASSWD: ", ""], ids=["sudo asks for none", "sudo asks"])


@needs_libvirtd
@SUDO_ASKS
def test_a_stored_sudo_password_goes_to_sudo_and_not_into_libvirts_protocol(tmp_path: Path, tag: str) -> None:
    tmp_path.chmod(0o755)
    with (
        TemporaryUser("na-test-sudo") as user,
        user.sudoers(f"ALL=(root) {tag}/usr/bin/virt-ssh-helper"),
        LibvirtHost(tmp_path / "h") as own,
    ):
        with connect(own.sshd.target(user=user.name, sudo_password=user.password)) as connection:
            assert connection.hypervisor(10.0).version_text()
        with connect(own.sshd.target(user=user.name, sudo_password="wrong")) as connection:
            if tag:
                assert connection.hypervisor(10.0).version_text()
            else:
                with pytest.raises(InsufficientRightsOnHost, match="sudo password"):
                    connection.hypervisor(6.0)


@SUDO_ASKS
def test_what_libvirts_helper_reads_begins_with_no_password(
    sshd: LoopbackSshd, tmp_path: Path, tag: str
) -> None:
    """The program is one that writes down what it is given."""
    for folder in (tmp_path, *list(tmp_path.parents)[:2]):
        folder.chmod(0o755)
    spy, heard = tmp_path / "virt-ssh-helper", tmp_path / "heard"
    spy.write_text(f"#!/bin/sh\nexec tee -a {heard}\n")
    spy.chmod(0o755)
    with (
        TemporaryUser("na-test-sudo") as user,
        user.sudoers(f"ALL=(root) {tag}{spy}\nDefaults:{user.name} secure_path={tmp_path}:/usr/bin:/bin"),
        connect(sshd.target(user=user.name, sudo_password=user.password)) as connection,
        pytest.raises(HostError),
    ):
        hypervisor._open_by_helper(connection, "qemu:///system", Clock(5.0), sudo=True)
    assert heard.read_bytes()[:4] == b"\0\0\0\x1c", "the length of the first message of libvirt's protocol"
    assert user.password.encode() not in heard.read_bytes()


def _put_socket_in_group(own: LibvirtHost, user: TemporaryUser) -> None:
    for name in ("libvirt-sock", "."):
        os.chown(own.folder / "run" / name, -1, user.gid)


def test_the_test_driver_opens_without_any_host() -> None:
    with connect(HostTarget("", "test", libvirt_uri="test:///default", rules=ANYWHERE)) as connection:
        assert connection.hypervisor().run(lambda c: c.listAllDomains()[0].name(), what="x") == "test"
        assert not connection.has_shell
        with pytest.raises(HostError):
            connection.shell.run("true", timeout_s=1)


def test_a_slow_opening_holds_nobody_elses(libvirt_host: LibvirtHost, tmp_path: Path) -> None:
    waited: list[str] = []

    def wait() -> None:
        try:
            dead.hypervisor(3.0)
        except HostTimeout as error:
            waited.append(error.code)

    with (
        connect(libvirt_host.sshd.target()) as dead,
        connect(HostTarget("", "test", libvirt_uri="test:///default", rules=ANYWHERE)) as other,
    ):
        libvirt_host.freeze_libvirtd()
        try:
            waiter = threading.Thread(target=wait)
            waiter.start()
            time.sleep(0.3)
            started = time.monotonic()
            assert other.hypervisor().version_text()
            assert time.monotonic() - started < 1
            waiter.join(10)
            assert waited == ["timeout"]
        finally:
            libvirt_host.thaw_libvirtd()


def test_libvirt_prints_nothing_by_itself(
    host: HostConnection, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    with pytest.raises(LibvirtCallFailed):
        host.hypervisor().run(lambda c: c.lookupByName("no-such-domain"), what="x")
    printed = capfd.readouterr()
    assert (printed.out, printed.err, caplog.text) == ("", "", "")


def test_a_forked_process_is_refused_instead_of_hanging() -> None:
    program = """
import os, sys
from nodes.errors import LibvirtUnavailable
from nodes.hosts.connection import connect
from nodes.hosts.network_rules import NetworkRules
from nodes.hosts.target import HostTarget
target = HostTarget("", "test", libvirt_uri="test:///default", rules=NetworkRules())
connect(target).hypervisor()
child = os.fork()
if child == 0:
    try:
        connect(target).hypervisor()
    except LibvirtUnavailable:
        os._exit(7)
    os._exit(1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    ended = subprocess.run([sys.executable, "-c", program], timeout=30, check=False)
    assert ended.returncode == 7


def test_threads_and_channels_are_given_back(libvirt_host: LibvirtHost) -> None:
    eventloop.ensure_running()
    before = set(threading.enumerate())
    for _ in range(3):
        with connect(libvirt_host.sshd.target(), SHORT) as connection:
            connection.hypervisor().version_text()
    deadline = time.monotonic() + 6
    while (left := set(threading.enumerate()) - before) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not left


@needs_libvirtd
@pytest.mark.parametrize("as_root", [True, False], ids=["root", "a user with sudo"])
def test_a_socket_that_asks_for_a_sasl_login_says_how_to_let_nodeadmin_in(
    tmp_path: Path, as_root: bool
) -> None:
    tmp_path.chmod(0o755)
    conf = {"auth_unix_rw": '"sasl"', "unix_sock_rw_perms": '"0777"'}
    with (
        TemporaryUser("na-test-sasl") as user,
        user.sudoers("ALL=(root) NOPASSWD: /usr/bin/virt-ssh-helper"),
        LibvirtHost(tmp_path / "h", conf=conf) as own,
        connect(own.sshd.target(**({} if as_root else {"user": user.name}))) as connection,
        pytest.raises(InsufficientRightsOnHost) as caught,
    ):
        connection.hypervisor()
    assert "asks for a login of its own" in caught.value.message
    assert "SASL" in caught.value.remedy
    assert "auth_unix_rw" in caught.value.remedy
    assert "group" not in caught.value.remedy
