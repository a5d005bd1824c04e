"""What the kernel prints, for hosts that are written by hand."""

from __future__ import annotations

from collections.abc import Iterable

OBSERVED_AT = "2025-03-01T10:00:00+00:00"
EPOCH = 1740823200
GIB = 1 << 20
"""In KiB, as the kernel counts."""


def lines(values: Iterable[tuple[str, object]]) -> str:
    return "".join(f"{path}:{value}\n" for path, value in values)


def meminfo(**kib: int) -> str:
    return "".join(f"/proc/meminfo:{key + ':':15} {value:>9} kB\n" for key, value in kib.items())


def node(number: int, cpus: str, distance: str, total: int, free: int) -> str:
    memory = "".join(
        f"node{number}/meminfo:Node {number} {key + ':':15} {value:>9} kB\n"
        for key, value in (("MemTotal", total), ("MemFree", free), ("MemUsed", total - free))
    )
    return lines([(f"node{number}/cpulist", cpus), (f"node{number}/distance", distance)]) + memory


def node_pool(number: int, size: int, total: int, free: int) -> str:
    pool = f"node{number}/hugepages/hugepages-{size}kB"
    counters = (("nr_hugepages", total), ("free_hugepages", free), ("surplus_hugepages", 0))
    return lines((f"{pool}/{name}", value) for name, value in counters)


def pressure(resource: str, some: str, full: str) -> list[tuple[str, object]]:
    return [
        (f"/proc/pressure/{resource}", f"some {some} total=1234567"),
        (f"/proc/pressure/{resource}", f"full {full} total=234567"),
    ]
