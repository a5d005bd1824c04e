"""A Unix socket on our side that ends in a channel to the host: what libvirt opens in place of its own SSH.

libvirt connects to sockets by path and takes no open descriptor, so each connection gets a socket in a
directory that only this user may enter; both are removed as soon as libvirt is connected.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import paramiko

from nodes.hosts.deadlines import Clock
from nodes.hosts.host_budget import HostBudget, Meter
from nodes.hosts.sshshell import HeldChannel

_CHUNK = 64 << 10
_GONE = (OSError, EOFError, paramiko.SSHException)


MAX_PACKET = 8 << 20
"""Bytes. A text has at most half of it (REMOTE_STRING_MAX), a list of 16,384 VMs a sixth; libvirt's client
would take 32 MiB."""


class Packets:
    """Finds where libvirt's packets begin: each starts with its own length in four bytes, these included
    (https://libvirt.org/kbase/internals/rpc.html)."""

    def __init__(self) -> None:
        self._head = b""
        self._left = 0
        self.longest = 0

    def count(self, data: bytes) -> int:
        """How many begin in ``data``, which follows on what was given before."""
        at, found = 0, 0
        while at < len(data):
            if self._left:
                step = min(self._left, len(data) - at)
                self._left -= step
                at += step
                continue
            more = data[at : at + 4 - len(self._head)]
            self._head += more
            at += len(more)
            if len(self._head) == 4:
                size = int.from_bytes(self._head, "big")
                self._head = b""
                self.longest = max(self.longest, size)
                # One that says less than its own length: libvirt's client ends the connection at it.
                self._left = max(0, size - 4)
                found += 1
        return found


class Bridge:
    """One connection's way: libvirt's socket, two threads, the channel. Takes over ``held``."""

    def __init__(self, held: HeldChannel, accept_s: float, budget: HostBudget) -> None:
        self._held = held
        self._budget = budget
        self._folder = Path(tempfile.mkdtemp(prefix="nodeadmin-"))  # mode 0700 by mkdtemp
        self.path = str(self._folder / "libvirt")
        self._client: socket.socket | None = None
        self._closed = threading.Event()
        self.flaw = ""
        """Why the connection was ended from here, in words; "" where it was not."""
        self.on_loss: list[Callable[[], None]] = []
        """Called when the connection ends, whoever ends it, while libvirt does not know it yet."""
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._listener.bind(self.path)
            self._listener.listen(1)
        except OSError:
            self.close()
            raise
        self._spawn(lambda: self._accept(Clock(accept_s)))

    @property
    def errors(self) -> str:
        """What the host's side wrote to standard error (virt-ssh-helper does when it fails)."""
        return bytes(self._held.channel.errors).decode("utf-8", errors="replace").strip()

    def close(self) -> None:
        """End both sides; libvirt sees the end of its connection, so no call of its hangs on this."""
        if not self._closed.is_set():
            self._closed.set()
            for listener in tuple(self.on_loss):
                listener()
        self._held.close()
        for sock in (self._client, self._listener):
            if sock is not None:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
                sock.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _accept(self, clock: Clock) -> None:
        try:
            self._listener.settimeout(max(clock.left, 0.001))
            client, _ = self._listener.accept()
        except OSError:
            self.close()
            return
        self._listener.close()
        shutil.rmtree(self._folder, ignore_errors=True)
        client.settimeout(None)
        self._client = client
        if self._closed.is_set():
            client.close()
            return
        self._spawn(lambda: self._pump_in(client))
        self._pump_out(client)

    def _pump_out(self, client: socket.socket) -> None:
        try:
            while data := client.recv(_CHUNK):
                self._held.channel.sendall(data)
        except _GONE:
            pass
        self.close()

    def _pump_in(self, client: socket.socket) -> None:
        meter, packets = Meter(self._budget), Packets()
        try:
            while data := self._held.channel.recv(_CHUNK):
                meter.count(data, packets.count(data))
                if packets.longest > MAX_PACKET:
                    self.flaw = f"it announced a message of {packets.longest} bytes (limit: {MAX_PACKET})"
                    break
                client.sendall(data)
                meter.rest(None, self._closed)
        except _GONE:
            pass
        # What the helper has to say about its end comes before the end itself.
        self.close()

    def _spawn(self, target: Callable[[], None]) -> None:
        threading.Thread(target=target, name="host: libvirt bridge", daemon=True).start()
