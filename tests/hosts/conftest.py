"""Parts shared by the tests of reaching hosts: one sshd for the session, and peers that misbehave."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from nodes.hosts.deadlines import Deadlines
from nodes.hosts.ssh import SshConnection
from tests.libvirtd import AVAILABLE, LibvirtHost
from tests.sshd import LoopbackSshd

SHORT = Deadlines(connect_s=2, handshake_s=2, auth_s=5, channel_s=3, libvirt_s=10)


@pytest.fixture(scope="session")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopbackSshd]:
    with LoopbackSshd(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture
def connection(sshd: LoopbackSshd) -> Iterator[SshConnection]:
    with SshConnection(sshd.target()) as opened:
        yield opened


@contextmanager
def tcp_peer(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """A TCP server on loopback which hands each connection to ``serve`` in a thread; gives its port."""
    listener = socket.create_server(("127.0.0.1", 0))
    opened: list[socket.socket] = []

    def run(client: socket.socket) -> None:
        try:
            serve(client)
        except OSError:
            pass

    def accept() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            opened.append(client)
            threading.Thread(target=run, args=(client,), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for client in opened:
            client.close()
        thread.join(5)


class Freezer:
    """Relays TCP to a real server until told to stop: then the line is up and nothing passes any more."""

    def __init__(self, port: int, *, freeze_after: int | None = None) -> None:
        self._port = port
        self._left = freeze_after
        self.frozen = threading.Event()

    def serve(self, client: socket.socket) -> None:
        server = socket.create_connection(("127.0.0.1", self._port))
        threading.Thread(target=self._relay, args=(client, server, False), daemon=True).start()
        self._relay(server, client, True)

    def _relay(self, source: socket.socket, sink: socket.socket, counted: bool) -> None:
        try:
            while chunk := source.recv(65536):
                if counted and self._left is not None:
                    self._left -= len(chunk)
                    if self._left < 0:
                        self.frozen.set()
                if self.frozen.is_set():
                    threading.Event().wait(60)
                    return
                sink.sendall(chunk)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass


@pytest.fixture(scope="session")
def libvirt_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LibvirtHost]:
    """A host with its own libvirtd and sshd, whose first, slow answer is behind it."""
    if not AVAILABLE:
        pytest.skip("needs root, libvirtd and unshare")
    with LibvirtHost(tmp_path_factory.mktemp("host")) as host:
        host.virsh("capabilities")
        yield host
