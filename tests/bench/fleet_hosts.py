"""Simulated hosts: an SSH server on loopback that beats like as many hosts as it has addresses.

One process a few hundred hosts: each host is an address of 127/8, all share one port. What comes in by
standard input is obeyed: ``silence ADDRESS…`` makes those hosts black holes (nothing is answered, nothing
is closed), ``wake ADDRESS…`` brings them back. Run: ``python -m tests.bench.fleet_hosts KEY_FILE PERIOD``; it
prints its port.
"""

from __future__ import annotations

import heapq
import logging
import random
import re
import socket
import sys
import threading
import time
from dataclasses import dataclass, field

import paramiko

MEMORY_KIB = 256 << 20


@dataclass
class Host:
    """One simulated host: its boot, its clock and its streams."""

    address: str
    boot_id: str
    silent: bool = False
    channels: list[paramiko.Channel] = field(default_factory=list)
    sent: int = 0


class Hosts:
    """All hosts of this process."""

    def __init__(self, key: paramiko.PKey, period_s: float) -> None:
        self.key = key
        self.period_s = period_s
        self.by_address: dict[str, Host] = {}
        self.held: list[socket.socket] = []
        self.lock = threading.Lock()
        self.due: list[tuple[float, int, Host, paramiko.Channel, int]] = []
        self.changed = threading.Condition(self.lock)
        self.started = time.monotonic()
        self.tie = 0
        self.first_lines: dict[paramiko.Channel, bytes] = {}

    def host(self, address: str) -> Host:
        with self.lock:
            return self.by_address.setdefault(address, Host(address, f"boot-{address}"))

    def begin(self, host: Host, channel: paramiko.Channel, first_line: bytes) -> None:
        with self.lock:
            self.first_lines[channel] = first_line
        self.plan(time.monotonic() + 0.05, host, channel, 0)

    def plan(self, at: float, host: Host, channel: paramiko.Channel, number: int) -> None:
        with self.changed:
            self.tie += 1
            heapq.heappush(self.due, (at, self.tie, host, channel, number))
            self.changed.notify()

    def send_for_ever(self) -> None:
        while True:
            with self.changed:
                while not self.due or self.due[0][0] > time.monotonic():
                    self.changed.wait(self.due[0][0] - time.monotonic() if self.due else None)
                at, _tie, host, channel, number = heapq.heappop(self.due)
            if host.silent:
                continue
            try:
                channel.sendall(self.first_lines.pop(channel, b"") + self.line(host, number))
            except (OSError, EOFError):  # EOFError: paramiko's, where the monitor at the other end was killed
                continue
            host.sent += 1
            self.plan(at + self.period_s, host, channel, number + 1)

    def line(self, host: Host, number: int) -> bytes:
        up = time.monotonic() - self.started + 1000
        busy = int(up * 400 + random.random() * 100)
        return (
            f"beat 1 n={number} boot={host.boot_id} up={up:.2f} load=1.5,1.2,1.1 cpu={busy},{int(up * 6000)} "
            f"mem={MEMORY_KIB},{MEMORY_KIB // 2},{MEMORY_KIB // 2 + random.randrange(9999)} swap=0,0 "
            f"psi=0.50,0.00,0.10 net={int(up * 1e6)},{int(up * 2e6)} "
            f"disk={int(up * 10)},{int(up * 900)},{int(up * 20)},{int(up * 2000)} libvirt=1 vms=20,24 end\n"
        ).encode()

    def accept_for_ever(self, listener: socket.socket) -> None:
        while True:
            sock, _peer = listener.accept()
            host = self.host(sock.getsockname()[0])
            if host.silent:
                self.held.append(sock)
                continue
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            transport = Server(sock)
            transport.add_server_key(self.key)
            try:
                transport.start_server(event=threading.Event(), server=Session(self, host))
            except (paramiko.SSHException, EOFError):
                sock.close()


class Server(paramiko.Transport):
    _active_check_timeout = 10.0
    _preferred_ciphers = ("aes128-gcm@openssh.com",)


class Session(paramiko.ServerInterface):
    """Lets everybody in, and answers every command with beats: a simulated host knows nothing else."""

    def __init__(self, hosts: Hosts, host: Host) -> None:
        self.hosts, self.host = hosts, host

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        return paramiko.common.AUTH_SUCCESSFUL

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return paramiko.common.OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        # The two halves of the number with which a command's output begins (nodes/hosts/command_frame.py).
        halves = re.search(rb" ([0-9a-f]{16}) ([0-9a-f]{16}) ", command)
        self.hosts.begin(self.host, channel, b"\x02%b%b\n" % halves.groups() if halves else b"")
        return True


def main() -> None:
    logging.getLogger("paramiko").setLevel(logging.CRITICAL)
    threading.stack_size(256 << 10)
    hosts = Hosts(paramiko.Ed25519Key.from_private_key_file(sys.argv[1]), float(sys.argv[2]))
    listener = socket.create_server(("0.0.0.0", 0), backlog=4096)
    for target in (lambda: hosts.accept_for_ever(listener), hosts.send_for_ever):
        threading.Thread(target=target, daemon=True).start()
    sys.stdout.write(f"{listener.getsockname()[1]}\n")
    sys.stdout.flush()
    for line in sys.stdin:
        word, *addresses = line.split()
        if word in ("silence", "wake"):
            for address in addresses:
                hosts.host(address).silent = word == "silence"
            if word == "wake":
                for sock in hosts.held:
                    sock.close()
                hosts.held.clear()
        sys.stdout.write(f"{sum(host.sent for host in hosts.by_address.values())}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
