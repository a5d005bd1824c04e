"""Memory, swap and huge pages of the whole host.

Sources: the kernel's Documentation/filesystems/proc.rst (meminfo), and hugetlbpage.rst and transhuge.rst in
Documentation/admin-guide/mm.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from nodes.inventory.forms import FILES_OF_EVERY_HOST
from nodes.inventory.parsing.numbers import capped, integer
from nodes.inventory.procfiles import Files, kib_to_bytes
from nodes.inventory.source import Source

MEMORY = Source(
    "memory",
    """cd /sys/kernel/mm 2>/dev/null
grep -as . /proc/meminfo /proc/swaps transparent_hugepage/enabled transparent_hugepage/defrag \\
  transparent_hugepage/shmem_enabled ksm/run ksm/pages_sharing \\
  hugepages/*/nr_hugepages hugepages/*/free_hugepages hugepages/*/resv_hugepages \\
  hugepages/*/surplus_hugepages hugepages/*/nr_overcommit_hugepages""",
    ok_statuses=(0, 1, 2),
    form=FILES_OF_EVERY_HOST,
)

_POOL = re.compile(r"hugepages/hugepages-(\d{1,12})kB/([a-z_]{1,40})")
_SWAP = re.compile(r"(\S+)\s+(\S+)\s+(\d{1,18})\s+(\d{1,18})\s+(-?\d{1,9})\s*\Z", re.ASCII)
_CHOSEN = re.compile(r"\[([^\[\]]+)\]")


@dataclass(frozen=True, slots=True)
class HugePages:
    """Huge pages of one size: numbers of pages. ``used`` is total less free.

    ``reserved`` are promised but not yet touched (they are still free); ``surplus`` were taken beyond the
    pool on demand. The kernel counts no reserved ones for a single NUMA cell: None there.
    """

    size_bytes: int
    total: int | None
    used: int | None
    free: int | None
    reserved: int | None
    surplus: int | None
    overcommit: int | None = None
    """How many surplus pages the kernel may take at most."""


@dataclass(frozen=True, slots=True)
class HugePageFacts:
    """``supported``: the kernel has them. ``enabled``: a pool has pages, or may take some on demand."""

    supported: bool | None
    enabled: bool | None
    default_size_bytes: int | None
    total_bytes: int | None
    free_bytes: int | None
    sizes: tuple[HugePages, ...]
    transparent: str | None
    """``always``, ``madvise`` or ``never``."""
    transparent_defrag: str | None
    transparent_shared: str | None


@dataclass(frozen=True, slots=True)
class SwapDevice:
    """``kind`` is ``partition`` or ``file``, in the kernel's words."""

    path: str
    kind: str
    total_bytes: int
    used_bytes: int
    priority: int


@dataclass(frozen=True, slots=True)
class SwapFacts:
    """``devices`` is empty where there is no swap; the totals are None where memory could not be read."""

    total_bytes: int | None
    used_bytes: int | None
    free_bytes: int | None
    used_percent: float | None
    devices: tuple[SwapDevice, ...]


@dataclass(frozen=True, slots=True)
class MemoryFacts:
    """``used_bytes`` is total less available, as ``free`` counts it; huge page pools count as used."""

    total_bytes: int | None
    available_bytes: int | None
    used_bytes: int | None
    used_percent: float | None
    free_bytes: int | None
    buffers_bytes: int | None
    cached_bytes: int | None
    shared_bytes: int | None
    kernel_bytes: int | None
    """Slab, page tables and kernel stacks."""
    same_page_merging: bool | None
    """Whether KSM runs, which shares equal pages between VMs."""
    swap: SwapFacts
    huge_pages: HugePageFacts


def read_memory(files: Files) -> MemoryFacts:
    """Facts from :data:`MEMORY`."""
    sizes = read_meminfo(files.lines("/proc/meminfo"))
    total, available = sizes.get("MemTotal"), sizes.get("MemAvailable")
    used = total - available if total is not None and available is not None else None
    merging = files.get("ksm/run")
    kernel = [sizes[key] for key in ("Slab", "PageTables", "KernelStack") if key in sizes]
    return MemoryFacts(
        total_bytes=total,
        available_bytes=available,
        used_bytes=used,
        used_percent=percent(used, total),
        free_bytes=sizes.get("MemFree"),
        buffers_bytes=sizes.get("Buffers"),
        cached_bytes=sizes.get("Cached"),
        shared_bytes=sizes.get("Shmem"),
        kernel_bytes=sum(kernel) if kernel else None,
        same_page_merging=merging == "1" if merging is not None else None,
        swap=_swap(files, sizes),
        huge_pages=_huge_pages(files, sizes),
    )


def read_meminfo(lines: list[str]) -> dict[str, int]:
    """Sizes in bytes by name; lines that count no kilobytes (numbers of pages) are left out."""
    found: dict[str, int] = {}
    for line in lines:
        key, colon, value = line.partition(":")
        size = kib_to_bytes(value) if colon and value.rstrip().endswith("kB") else None
        if size is not None:
            found[key.strip()] = size
    return found


def percent(part: int | None, whole: int | None) -> float | None:
    """``part`` of ``whole``, 0 to 100 with one decimal; None where one is unknown or the whole is nothing."""
    if part is None or not whole:
        return None
    return round(min(max(part / whole, 0.0), 1.0) * 100, 1)


def read_pools(files: Files, pattern: re.Pattern[str]) -> dict[str, tuple[HugePages, ...]]:
    """Huge page pools of files that fit ``pattern``, by what its optional group ``cell`` says.

    Its groups ``size`` and ``counter`` are not named: they are the last two.
    """
    counters: dict[tuple[str, int], dict[str, int | None]] = {}
    for match, value in files.matching(pattern):
        *place, size, counter = match.groups()
        key = (place[0] if place else "", capped(size) * 1024)
        counters.setdefault(key, {})[counter] = integer(value)
    pools: dict[str, list[HugePages]] = {}
    for (cell, size_bytes), counter in sorted(counters.items()):
        pools.setdefault(cell, []).append(_pool(size_bytes, counter))
    return {cell: tuple(sizes) for cell, sizes in pools.items()}


def _pool(size_bytes: int, counter: dict[str, int | None]) -> HugePages:
    total, free = counter.get("nr_hugepages"), counter.get("free_hugepages")
    used = max(total - free, 0) if total is not None and free is not None else None
    reserved, surplus = counter.get("resv_hugepages"), counter.get("surplus_hugepages")
    overcommit = counter.get("nr_overcommit_hugepages")
    return HugePages(size_bytes, total, used, free, reserved, surplus, overcommit)


def _huge_pages(files: Files, sizes: dict[str, int]) -> HugePageFacts:
    pools = read_pools(files, _POOL).get("", ())
    default = sizes.get("Hugepagesize")
    known = [pool for pool in pools if pool.total is not None]
    supported = bool(pools) or default is not None if files else None
    enabled = False if supported is False else None
    if known:
        enabled = any(pool.total or pool.overcommit for pool in known)
    free = [pool.size_bytes * pool.free for pool in pools if pool.free is not None]
    return HugePageFacts(
        supported=supported,
        enabled=enabled,
        default_size_bytes=default,
        total_bytes=sum(pool.size_bytes * (pool.total or 0) for pool in known) if known else None,
        free_bytes=sum(free) if free else None,
        sizes=pools,
        transparent=_chosen(files.get("transparent_hugepage/enabled")),
        transparent_defrag=_chosen(files.get("transparent_hugepage/defrag")),
        transparent_shared=_chosen(files.get("transparent_hugepage/shmem_enabled")),
    )


def _chosen(text: str | None) -> str | None:
    """``madvise`` of ``always [madvise] never``."""
    match = _CHOSEN.search(text or "")
    return match.group(1) if match else None


def _swap(files: Files, sizes: dict[str, int]) -> SwapFacts:
    matches = (_SWAP.match(line) for line in files.lines("/proc/swaps"))
    devices = tuple(
        SwapDevice(m[1], m[2], capped(m[3]) * 1024, capped(m[4]) * 1024, capped(m[5])) for m in matches if m
    )
    total, free = sizes.get("SwapTotal"), sizes.get("SwapFree")
    used = max(total - free, 0) if total is not None and free is not None else None
    return SwapFacts(total, used, free, percent(used, total), devices)
