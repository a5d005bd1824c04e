"""A host that allows few sessions in a connection is used over several; what cannot work is refused early."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from nodes.errors import HostError, HostTimeout, HostUnreachable
from nodes.hosts.channel_check import try_channels
from nodes.hosts.connection import connect
from nodes.hosts.deadlines import Deadlines
from nodes.hosts.ssh import SshConnection
from tests.hosts.conftest import SHORT, Freezer, tcp_peer
from tests.libvirtd import AVAILABLE, LibvirtHost
from tests.sshd import LoopbackSshd

needs_libvirtd = pytest.mark.skipif(not AVAILABLE, reason="needs root, libvirtd and unshare")


def sshd_with(folder: Path, sessions: int) -> LoopbackSshd:
    return LoopbackSshd(folder, key_types=("ed25519",), options={"MaxSessions": str(sessions)})


@pytest.mark.parametrize(("sessions", "connections"), [(1, 3), (2, 2), (10, 1)])
def test_everything_that_a_node_needs_runs_at_once_whatever_the_server_allows(
    tmp_path: Path, sessions: int, connections: int
) -> None:
    """A heartbeat, a journal that is followed, and a command; libvirt's socket is no session."""
    with sshd_with(tmp_path / "s", sessions) as sshd, connect(sshd.target()) as connection:
        started = time.monotonic()
        assert try_channels(connection) == connections
        assert time.monotonic() - started < 10
        results = [connection.shell.run(f"echo {number}", timeout_s=10).stdout for number in range(10)]
        assert results == [f"{number}\n".encode() for number in range(10)]
        assert connection.ssh_connections <= connections


@needs_libvirtd
def test_libvirt_by_its_helper_takes_one_more(tmp_path: Path) -> None:
    options = {"MaxSessions": "1", "AllowStreamLocalForwarding": "no"}
    with (
        LibvirtHost(tmp_path / "h", sshd_options=options) as host,
        connect(host.sshd.target()) as connection,
    ):
        assert try_channels(connection) == 4
        assert connection.hypervisor().version_text()


def test_further_connections_are_closed_when_nobody_needs_them(tmp_path: Path) -> None:
    with (
        sshd_with(tmp_path / "s", 1) as sshd,
        SshConnection(sshd.target(), SHORT) as connection,
        connection.shell.stream("echo one; sleep 30") as stream,
    ):
        assert stream.read(timeout_s=5) == b"one\n"
        assert connection.shell.run("echo two", timeout_s=5).stdout == b"two\n"
        connection.rest(60)
        assert connection.connections == 2
        connection.rest(0)
        assert connection.connections == 1
        assert connection.shell.run("echo three", timeout_s=5).stdout == b"three\n"
        assert connection.alive


def test_commands_at_once_share_as_few_connections_as_they_need(tmp_path: Path) -> None:
    answers: list[bytes] = []

    def ask(number: int) -> None:
        answers.append(connection.shell.run(f"sleep 0.2; echo {number}", timeout_s=30).stdout)

    with sshd_with(tmp_path / "s", 3) as sshd, SshConnection(sshd.target()) as connection:
        threads = [threading.Thread(target=ask, args=(number,)) for number in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(40)
        assert sorted(answers) == sorted(f"{number}\n".encode() for number in range(16))
        assert connection.connections <= 8


def test_a_further_connection_that_is_refused_is_told_with_its_reason_and_a_way_out(tmp_path: Path) -> None:
    """A firewall that lets one connection of an address through, before a server that allows one session."""
    lets_in = threading.Semaphore(1)

    def serve(client: socket.socket) -> None:
        if lets_in.acquire(blocking=False):
            relay.serve(client)
        else:
            client.close()

    with sshd_with(tmp_path / "s", 1) as sshd:
        relay = Freezer(sshd.port)
        with tcp_peer(serve) as port, connect(sshd.target(port=port), Deadlines(channel_s=2)) as connection:
            assert connection.shell.run("echo alone", timeout_s=5).stdout == b"alone\n"
            started = time.monotonic()
            with pytest.raises(HostUnreachable) as caught:
                try_channels(connection, timeout_s=4)
            assert time.monotonic() - started < 8
    assert caught.value.extra["reason"] == "no_session"
    assert "MaxSessions" in caught.value.message
    assert "without a greeting" in caught.value.message
    assert "MaxSessions to 10" in caught.value.remedy


def test_a_deadline_that_is_nearly_over_ends_no_connection_and_leaves_no_session(tmp_path: Path) -> None:
    """What waited long for its turn asks a server that is slow at that moment; others go on using it."""
    with (
        sshd_with(tmp_path / "s", 1) as sshd,
        SshConnection(sshd.target(), SHORT) as connection,
    ):
        assert connection.shell.run("echo before", timeout_s=5).stdout == b"before\n"
        time.sleep(0.5)  # the server no longer counts that session
        with sshd.held():
            started = time.monotonic()
            with pytest.raises(HostTimeout):
                connection.shell.run("true", timeout_s=0.2)
            with pytest.raises(HostTimeout):
                connection.open_unix(str(tmp_path / "none"), 0.2)
            assert time.monotonic() - started < 2
        assert connection.alive
        for number in range(3):
            answer = connection.shell.run(f"echo {number}", timeout_s=5).stdout
            assert answer == f"{number}\n".encode()
        assert connection.connections == 1, "the session that was opened too late is still counted"


def test_a_place_that_is_given_back_is_taken_while_a_further_connection_hangs(tmp_path: Path) -> None:
    relayed, silent = threading.Semaphore(1), threading.Event()
    answers: list[float] = []

    def serve(client: socket.socket) -> None:
        if relayed.acquire(blocking=False):
            relay.serve(client)
        else:
            silent.wait(20)

    def ask(timeout_s: float) -> None:
        with suppress(HostError):
            connection.shell.run("true", timeout_s=timeout_s)
        answers.append(time.monotonic())

    with sshd_with(tmp_path / "s", 1) as sshd:
        relay = Freezer(sshd.port)
        with tcp_peer(serve) as port, connect(sshd.target(port=port)) as connection:
            stream = connection.shell.stream("echo up; sleep 30")
            assert stream.read(timeout_s=5) == b"up\n"
            threads = [threading.Thread(target=ask, args=(timeout_s,)) for timeout_s in (15.0, 12.0)]
            for thread in threads:
                thread.start()
                time.sleep(0.5)
            freed = time.monotonic()
            stream.close()
            threads[1].join(20)
            silent.set()
            threads[0].join(20)
    assert min(answers) - freed < 3
