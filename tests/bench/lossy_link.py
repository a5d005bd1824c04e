"""A network namespace behind a bad link: packets are delayed and lost, as ``tc netem`` does in the kernel.

Done by hand over two TUN devices (the kernel's networking/tuntap), because not every kernel has netem. Needs
root. Whatever runs in the namespace is reached at any address of 10.200.0.0/16.
"""

from __future__ import annotations

import fcntl
import heapq
import os
import random
import select
import struct
import subprocess
import threading
import time
from types import TracebackType
from typing import Self

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000


class LossyLink:
    """``delay_s`` and ``loss`` (a fraction) hold for each direction."""

    def __init__(self, delay_s: float, loss: float) -> None:
        self.delay_s, self.loss = delay_s, loss
        self.namespace = f"nodeadmin-{os.getpid()}"
        self.passed = self.lost = 0
        self._stop = threading.Event()

    @property
    def prefix(self) -> list[str]:
        """What to put before a command that is to run at the far end."""
        return ["ip", "netns", "exec", self.namespace]

    def __enter__(self) -> Self:
        near, far = f"nanear{os.getpid() % 10000}", f"nafar{os.getpid() % 10000}"
        self._ends = (_tun(near), _tun(far))
        for command in (
            f"ip netns add {self.namespace}",
            f"ip link set {far} netns {self.namespace}",
            f"ip addr add 10.201.0.1/32 dev {near}",
            f"ip link set {near} up",
            f"ip route add 10.200.0.0/16 dev {near}",
            f"ip -n {self.namespace} link set lo up",
            f"ip -n {self.namespace} link set {far} up",
            f"ip -n {self.namespace} route add local 10.200.0.0/16 dev lo",
            f"ip -n {self.namespace} route add default dev {far}",
        ):
            subprocess.run(command.split(), check=True)
        self._thread = threading.Thread(target=self._relay, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(5)
        for end in self._ends:
            os.close(end)
        subprocess.run(["ip", "netns", "del", self.namespace], check=False)

    def _relay(self) -> None:
        under_way: list[tuple[float, int, int, bytes]] = []
        count = 0
        while not self._stop.is_set():
            wait = min(0.2, max(0.0, under_way[0][0] - time.monotonic())) if under_way else 0.2
            for end in select.select(self._ends, [], [], wait)[0]:
                packet = os.read(end, 65536)
                if random.random() < self.loss:
                    self.lost += 1
                    continue
                count += 1
                other = self._ends[1] if end == self._ends[0] else self._ends[0]
                heapq.heappush(under_way, (time.monotonic() + self.delay_s, count, other, packet))
            while under_way and under_way[0][0] <= time.monotonic():
                _at, _count, end, packet = heapq.heappop(under_way)
                os.write(end, packet)
                self.passed += 1


def _tun(name: str) -> int:
    descriptor = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(descriptor, TUNSETIFF, struct.pack("16sH", name.encode(), IFF_TUN | IFF_NO_PI))
    return descriptor
