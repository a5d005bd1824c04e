"""What a host has left of what VMs can be tied to: huge pages, NUMA memory, CPUs, ports and addresses.

Read by one command just now, since all of it changes by the minute. Sources: hugetlbpage.rst and numaperf.rst
of the kernel's admin guide (``/sys/devices/system/node``), proc_net(5) for ``/proc/net/tcp``, ip-address(8).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address
from itertools import pairwise

from nodes.inventory.cpulist import parse_cpu_list
from nodes.inventory.parsing.numbers import integer

COMMAND = r"""export LC_ALL=C PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"
cd /sys/devices/system/node 2>/dev/null || cd /
grep -sH . node[0-9]*/hugepages/hugepages-*kB/free_hugepages
grep -sHE 'MemFree|\(file\)' node[0-9]*/meminfo
grep -sH Hugepagesize /proc/meminfo
grep -sH . /sys/devices/system/cpu/online
grep -sHE '^ *[0-9]+: [0-9A-F]+:[0-9A-F]+ [0-9A-F]+:[0-9A-F]+ 0A' /proc/net/tcp /proc/net/tcp6
command -v ip >/dev/null && ip -o addr show 2>/dev/null | sed 's/^/address:/' && echo addresses:
for tool in swtpm swtpm_setup; do path=$(command -v $tool) && echo "tool:$path"; done
for hook in /etc/libvirt/hooks/qemu /etc/libvirt/hooks/qemu.d/*; do [ -f "$hook" ] && echo "hook:$hook"; done
echo end:"""

Address = IPv4Address | IPv6Address

_PAGES = re.compile(r"node(\d+)/hugepages/hugepages-(\d+)kB/free_hugepages\Z", re.ASCII)
_MEMORY = re.compile(r"node(\d+)/meminfo\Z", re.ASCII)
_KIB = re.compile(r":\s*(\d+) kB", re.ASCII)
_LISTENS = re.compile(r"\s*\d+: ([0-9A-F]{8}|[0-9A-F]{32}):([0-9A-F]{4}) ", re.ASCII)


@dataclass(frozen=True, slots=True)
class Listener:
    """A TCP port that is taken, on one of ``addresses``: the kernel writes an address in the byte order of
    its processor, which it does not name, so it may be either of two."""

    addresses: tuple[Address, ...]
    port: int

    @property
    def takes_all(self) -> bool:
        return any(address.is_unspecified for address in self.addresses)


@dataclass(frozen=True, slots=True)
class HostResources:
    """``free_pages`` by NUMA cell and page size in KiB; ``cells_free_bytes`` by cell, what the kernel could
    hand out there, page cache included; ``addresses`` are the host's own, None where they were not told;
    ``default_page_kib`` is the size that the kernel uses where none is named."""

    free_pages: Mapping[tuple[int, int], int] = field(default_factory=dict)
    default_page_kib: int | None = None
    cells_free_bytes: Mapping[int, int] = field(default_factory=dict)
    cpus_online: frozenset[int] = frozenset()
    listeners: tuple[Listener, ...] = ()
    addresses: frozenset[Address] | None = None
    tools: frozenset[str] = frozenset()
    hooks: tuple[str, ...] = ()

    def free_pages_of(self, size_kib: int, cells: Iterable[int] | None = None) -> int:
        """Free huge pages of that size: on ``cells``, or on all."""
        wanted = None if cells is None else set(cells)
        return sum(
            count
            for (cell, size), count in self.free_pages.items()
            if size == size_kib and (wanted is None or cell in wanted)
        )

    def takes_port(self, port: int, address: Address | None) -> bool:
        """Whether something listens on ``port`` already, where ``address`` (None: any) would."""
        everywhere = address is None or address.is_unspecified
        return any(
            listener.port == port and (everywhere or listener.takes_all or address in listener.addresses)
            for listener in self.listeners
        )


def parse_resources(text: str) -> HostResources | None:
    """What :data:`COMMAND` printed; None where it did not run to its end."""
    lines = text.splitlines()
    if not lines or lines[-1] != "end:":
        return None
    pages: dict[tuple[int, int], int] = {}
    memory: dict[int, int] = {}
    default: int | None = None
    online: tuple[int, ...] = ()
    listeners: list[Listener] = []
    told: dict[str, list[str]] = {}
    for line in lines:
        name, _, value = line.partition(":")
        if match := _PAGES.match(name):
            count = integer(value)
            if count is not None:
                pages[int(match[1]), int(match[2])] = count
        elif match := _MEMORY.match(name):
            memory[int(match[1])] = memory.get(int(match[1]), 0) + ((_kib(value) or 0) << 10)
        elif name == "/proc/meminfo":
            default = _kib(":" + value.partition(":")[2]) or default
        elif name == "/sys/devices/system/cpu/online":
            online = parse_cpu_list(value)
        elif name in ("/proc/net/tcp", "/proc/net/tcp6"):
            listeners += _listener(value)
        else:
            told.setdefault(name, []).append(value)
    return HostResources(
        free_pages=pages,
        default_page_kib=default,
        cells_free_bytes=memory,
        cpus_online=frozenset(online),
        listeners=tuple(listeners),
        addresses=frozenset(_addresses(told.get("address", ()))) if "addresses" in told else None,
        tools=frozenset(path.rpartition("/")[2] for path in told.get("tool", ())),
        hooks=tuple(told.get("hook", ())),
    )


def _kib(text: str) -> int | None:
    """The 123 of "…: 123 kB"."""
    match = _KIB.search(text)
    return integer(match[1]) if match else None


def _listener(line: str) -> Iterable[Listener]:
    match = _LISTENS.match(line)
    if match is None:
        return
    raw = bytes.fromhex(match[1])
    # proc_net(5): 32-bit words in the processor's byte order.
    swapped = b"".join(raw[start : start + 4][::-1] for start in range(0, len(raw), 4))
    yield Listener(tuple({_mapped(ip_address(found)) for found in (raw, swapped)}), int(match[2], 16))


def _mapped(address: Address) -> Address:
    """An IPv4 address that is written as an IPv6 one, as itself."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _addresses(lines: Iterable[str]) -> Iterable[Address]:
    for line in lines:
        words = line.split()
        for family, value in pairwise(words):
            if family in ("inet", "inet6"):
                try:
                    yield ip_address(value.partition("/")[0].partition("%")[0])
                except ValueError:
                    continue
