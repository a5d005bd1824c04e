"""NUMA cells: CPUs, memory, huge pages and the distances between all of them.

Sources: the kernel's Documentation/ABI/stable/sysfs-devices-node; distances as ACPI's SLIT defines them
(10 is local, 20 is twice as far).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from nodes.inventory.capabilities import Capabilities, CapabilityCell
from nodes.inventory.cpulist import format_cpu_list, parse_cpu_list
from nodes.inventory.forms import FILES
from nodes.inventory.memory import HugePages, percent, read_meminfo, read_pools
from nodes.inventory.parsing.numbers import capped, integer
from nodes.inventory.procfiles import Files
from nodes.inventory.source import Source

NUMA = Source(
    "numa",
    """cd /sys/devices/system/node || exit
grep -as . online node[0-9]*/cpulist node[0-9]*/distance node[0-9]*/meminfo \\
  node[0-9]*/hugepages/*/nr_hugepages node[0-9]*/hugepages/*/free_hugepages \\
  node[0-9]*/hugepages/*/surplus_hugepages""",
    ok_statuses=(0, 1, 2),
    form=FILES,
)

_CPULIST = re.compile(r"node(\d{1,5})/(?:cpulist|distance|meminfo)")
_POOL = re.compile(r"node(\d{1,5})/hugepages/hugepages-(\d{1,12})kB/([a-z_]{1,40})")
_LINE = re.compile(r"Node\s+\d+\s+(.*)\Z", re.ASCII)
_BASE_PAGE = 1 << 16
"""Pages up to this size are the kernel's own (4, 16 or 64 KiB), no huge ones."""


@dataclass(frozen=True, slots=True)
class NumaCell:
    """A NUMA cell. ``cpus`` holds CPU numbers, ``cpu_list`` the same in the kernel's list format; both are
    empty for a cell of memory alone. ``distances`` has one value for each cell, in the order of the cells."""

    id: int
    cpus: tuple[int, ...]
    cpu_list: str
    memory_total_bytes: int | None
    memory_used_bytes: int | None
    memory_free_bytes: int | None
    memory_used_percent: float | None
    distances: tuple[int | None, ...]
    huge_pages: tuple[HugePages, ...]


@dataclass(frozen=True, slots=True)
class NumaFacts:
    """All cells, ascending by id, and the full matrix of distances: a row and a column for each cell, both
    in the order of ``cells``. Distances are relative; 10 is a cell to itself."""

    cells: tuple[NumaCell, ...]
    distances: tuple[tuple[int | None, ...], ...]


def read_numa(files: Files, capabilities: Capabilities) -> NumaFacts:
    """Facts from :data:`NUMA`; libvirt's where the host itself was not read or knows no cells."""
    ids = sorted({capped(match.group(1)) for match, _ in files.matching(_CPULIST)})
    if not ids:
        return _from_capabilities(capabilities)
    pools = read_pools(files, _POOL)
    # The distance file has a column for each cell online, in ascending order, with memory or without.
    columns = parse_cpu_list(files.get("online")) or tuple(ids)
    cells = tuple(_cell(files, number, ids, columns, pools.get(str(number), ())) for number in ids)
    return NumaFacts(cells, tuple(cell.distances for cell in cells))


def _cell(
    files: Files, number: int, ids: list[int], columns: tuple[int, ...], pools: tuple[HugePages, ...]
) -> NumaCell:
    matches = (_LINE.match(line) for line in files.lines(f"node{number}/meminfo"))
    sizes = read_meminfo([match.group(1) for match in matches if match])
    total, free = sizes.get("MemTotal"), sizes.get("MemFree")
    used = sizes.get("MemUsed")
    if used is None and total is not None and free is not None:
        used = max(total - free, 0)
    values = [integer(word) for word in (files.get(f"node{number}/distance") or "").split()]
    row = dict(zip(columns, values, strict=False))
    cpus = parse_cpu_list(files.get(f"node{number}/cpulist"))
    return NumaCell(
        id=number,
        cpus=cpus,
        cpu_list=format_cpu_list(cpus),
        memory_total_bytes=total,
        memory_used_bytes=used,
        memory_free_bytes=free,
        memory_used_percent=percent(used, total),
        distances=tuple(row.get(other) for other in ids),
        huge_pages=pools,
    )


def _from_capabilities(capabilities: Capabilities) -> NumaFacts:
    known = sorted({cell.id: cell for cell in capabilities.cells}.values(), key=lambda cell: cell.id)
    cells = tuple(_capability_cell(cell, known) for cell in known)
    return NumaFacts(cells, tuple(cell.distances for cell in cells))


def _capability_cell(cell: CapabilityCell, known: list[CapabilityCell]) -> NumaCell:
    distances = tuple(cell.distances.get(other.id) for other in known)
    pools = tuple(
        HugePages(size, total, None, None, None, None) for size, total in cell.pages if size > _BASE_PAGE
    )
    cpu_list = format_cpu_list(cell.cpus)
    return NumaCell(cell.id, cell.cpus, cpu_list, cell.memory_bytes, None, None, None, distances, pools)
