"""A libvirt socket that lies: it speaks libvirt's protocol as far as it takes to be believed.

Run inside the host of a real sshd, it listens where libvirtd does. How it lies stands in a file, which is
read for each connection. The protocol: https://libvirt.org/kbase/internals/rpc.html, the numbers of its
procedures: src/remote/remote_protocol.x; texts are XDR (RFC 4506).
"""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.libvirtd import LibvirtHost

KEEPALIVE = 0x6B656570
CALL, REPLY, MESSAGE = 0, 1, 2
TYPE, VERSION, CAPABILITIES, XML, HOSTNAME, FEATURE, AUTHENTICATION, URI = 3, 4, 7, 14, 59, 60, 66, 110
LIB_VERSION, SYSINFO, STATE, INFO, DOMAINS, DOMAIN_CAPABILITIES, STATISTICS = 157, 203, 212, 16, 273, 342, 344
POOLS, NETWORKS, NETWORK_XML = 281, 283, 43
LONGEST_TEXT = 4 << 20
"""REMOTE_STRING_MAX: libvirt's client takes no longer ones."""
MOST_DOMAINS = 16_384
"""REMOTE_DOMAIN_LIST_MAX."""
OVERRIDE = "vm\u202egnp\x1b[2J<b>\n"

RAW = frozenset({"garbage", "endless", "one byte a second", "length of 4 GiB", "silent", "zero lengths"})
"""Those that are no libvirt's from the first byte."""
FLOODS = ("keep-alives without end", "messages without end")
"""Those that begin once the connection stands."""
KINDS = (
    *sorted(RAW),
    "error without end",
    "capabilities of 100 MB",
    "capabilities as long as they may be",
    "nested capabilities",
    "description of 100 MB",
    "100,000 domains",
    "as many domains as there may be",
    "large domains",
    "odd names",
    "networks as many and as long as there may be",
    "answers of others",
    *FLOODS,
)


def number(value: int) -> bytes:
    return struct.pack(">I", value & 0xFFFFFFFF)


def text(value: str | bytes, claimed: int | None = None) -> bytes:
    data = value.encode("utf-8") if isinstance(value, str) else value
    return number(len(data) if claimed is None else claimed) + data + b"\0" * (-len(data) % 4)


def domain(count: int, name: str = "") -> bytes:
    return text(name or f"vm-{count}") + struct.pack(">QQ", 0, count) + number(count)


def listing(rows: list[bytes], claimed: int | None = None) -> bytes:
    size = len(rows) if claimed is None else claimed
    return number(size) + b"".join(rows) + number(size)


def packet(body: bytes, procedure: int, serial: int, kind: int = REPLY, status: int = 0) -> bytes:
    return number(28 + len(body)) + struct.pack(">6I", 0x20008086, 1, procedure, kind, serial, status) + body


def error(message: str) -> bytes:
    """remote_error: code, domain, message, level, no domain, three texts, two numbers, no network."""
    told = number(1) + text(message)
    return number(3) + number(7) + told + number(2) + number(0) + told * 3 + number(0) * 2 + number(0)


class Peer:
    """One connection to the socket."""

    def __init__(self, client: socket.socket, kind: str) -> None:
        self.client, self.kind = client, kind
        self.sending = threading.Lock()
        self.floods = False

    def serve(self) -> None:
        with self.client:
            if self.kind in RAW:
                self._lie_at_once()
                return
            while (head := self._exactly(28)) is not None:
                size, program, _version, procedure, kind, serial, _status = struct.unpack(">7I", head)
                body = self._exactly(size - 28)
                if body is None:
                    return
                if program == KEEPALIVE:
                    continue
                if kind == CALL:
                    self._answer(procedure, serial)

    def _lie_at_once(self) -> None:
        if self.kind == "silent":
            time.sleep(600)
        first = {
            "garbage": os.urandom(1 << 20),
            "endless": b"\0\0\0\x1c" + b"\0" * ((1 << 20) - 4),
            "one byte a second": b"\0",
            "length of 4 GiB": b"\xff" * (1 << 20),
            "zero lengths": bytes(1 << 20),
        }[self.kind]
        while True:
            self.client.sendall(first)
            if self.kind == "one byte a second":
                time.sleep(1)

    def _exactly(self, size: int) -> bytes | None:
        data = b""
        while len(data) < size:
            more = self.client.recv(size - len(data))
            if not more:
                return None
            data += more
        return data

    def _answer(self, procedure: int, serial: int) -> None:
        if procedure == DOMAINS and self.kind in FLOODS and not self.floods:
            self.floods = True
            threading.Thread(target=self._flood, daemon=True).start()
        if self.kind == "answers of others" and procedure not in (AUTHENTICATION, 1, FEATURE):
            serial += 1
        if self.kind == "error without end" and procedure not in (AUTHENTICATION, 1, FEATURE):
            body, status = error(OVERRIDE * 100_000), 1
        else:
            known = self._body(procedure)
            body, status = (error(OVERRIDE), 1) if known is None else (known, 0)
        self._send(packet(body, procedure, serial, status=status))

    def _flood(self) -> None:
        one = number(28) + struct.pack(">6I", KEEPALIVE, 1, 1, MESSAGE, 0, 0)
        if self.kind == "messages without end":
            one = packet(domain(1) + number(0) * 2, 318, 0, MESSAGE)
        try:
            while True:
                self._send(one * 1000)
        except OSError:
            return

    def _send(self, data: bytes) -> None:
        with self.sending:
            self.client.sendall(data)

    def _body(self, procedure: int) -> bytes | None:
        simple = {
            1: b"",
            2: b"",
            AUTHENTICATION: number(1) + number(0),
            FEATURE: number(1),
            TYPE: text("QEMU"),
            VERSION: struct.pack(">Q", 9_000_000),
            LIB_VERSION: struct.pack(">Q", 9_000_000),
            HOSTNAME: text(OVERRIDE),
            URI: text("qemu:///system"),
            CAPABILITIES: self._capabilities(),
            DOMAIN_CAPABILITIES: text("<domainCapabilities/>"),
            SYSINFO: text("<sysinfo/>"),
            XML: self._description(),
            NETWORK_XML: text("<network>" + "<a>" * 1000 + "x" * (LONGEST_TEXT - 5000)),
            STATE: number(1) * 2,
            INFO: number(1) + struct.pack(">QQHxxQ", 1, 1, 1, 1)[:0] + number(0) * 9,
        }
        if procedure in simple:
            return simple[procedure]
        if procedure == DOMAINS:
            return self._domains()
        if procedure == STATISTICS:
            return number(0)
        if procedure == POOLS:
            return listing([])
        if procedure == NETWORKS:
            rows = [text(f"net-{count}") + struct.pack(">QQ", 0, count) for count in range(16_000)]
            return listing(rows if self.kind.startswith("networks") else [])
        return None

    def _capabilities(self) -> bytes:
        if self.kind == "capabilities of 100 MB":
            return text(b"<capabilities>" + b" " * (30 << 20), 100 << 20)
        if self.kind == "capabilities as long as they may be":
            row = b"<cpu id='1' socket_id='0' core_id='0' siblings='0-99999999999'/>"
            return text(b"<capabilities><host><topology><cells><cell>" + row * (LONGEST_TEXT // len(row) - 9))
        if self.kind == "nested capabilities":
            return text(b"<a>" * (LONGEST_TEXT // 3 - 9))
        return text("<capabilities/>")

    def _description(self) -> bytes:
        if self.kind == "description of 100 MB":
            return text(b"<domain>" + b" " * (30 << 20), 100 << 20)
        if self.kind == "large domains":
            disk = b"<disk type='block'><source dev='/dev/x'/><target dev='vda'/></disk>"
            begin, end = b"<domain><devices>", b"</devices></domain>"
            return text(begin + disk * ((1 << 19) // len(disk) - 9) + end)
        return text(f"<domain><name>{OVERRIDE.translate({0x1B: None, 0x3C: None})}</name></domain>")

    def _domains(self) -> bytes:
        if self.kind == "100,000 domains":
            return listing([domain(count) for count in range(100_000)])
        if self.kind == "as many domains as there may be":
            return listing([domain(count) for count in range(MOST_DOMAINS)])
        if self.kind == "large domains":
            return listing([domain(count) for count in range(2000)])
        return listing([domain(count, f"{count}{OVERRIDE}") for count in range(3)])


class LyingLibvirt(LibvirtHost):
    """A host with a real sshd, at whose libvirt socket something else listens."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, libvirtd=False)
        self._liar: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        super().start()
        self.lie("silent")
        command = [sys.executable, "-m", "tests.hostile.libvirt_socket", str(self.folder)]
        # Entering the mounts changes the working directory.
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
        self._liar = subprocess.Popen([*self.inside, *command], env=environment)
        end = time.monotonic() + 20
        while not (self.folder / "run" / "libvirt-sock").exists():
            if self._liar.poll() is not None or time.monotonic() > end:
                raise RuntimeError("the socket that lies did not start")
            time.sleep(0.02)
        return self

    def lie(self, kind: str) -> None:
        """From the next connection on it lies in this way."""
        (self.folder / "kind").write_text(kind)

    def stop(self) -> None:
        liar, self._liar = self._liar, None
        if liar is not None:
            liar.kill()
            liar.wait(5)
        super().stop()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def main(folder: Path) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(folder / "run" / "libvirt-sock"))
    listener.listen(50)

    def serve(client: socket.socket) -> None:
        try:
            Peer(client, (folder / "kind").read_text()).serve()
        except OSError:
            return

    while True:
        client, _address = listener.accept()
        threading.Thread(target=serve, args=(client,), daemon=True).start()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
