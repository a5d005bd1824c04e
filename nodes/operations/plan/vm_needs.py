"""What a VM is tied to on whichever host it runs: huge pages, CPUs, NUMA cells and files of the host.

Format: https://libvirt.org/formatdomain.html, sections "Memory Backing", "NUMA Node Tuning" and "Devices".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from nodes.inventory.cpulist import format_cpu_list, parse_cpu_list
from nodes.inventory.domain_tuning import CellMemory, Pinning
from nodes.inventory.libvirt_units import attribute_bytes
from nodes.operations.plan.host_resources import HostResources
from nodes.operations.plan.vm_state import VmState

BINDING = ("strict", "restrictive")
"""Modes of NUMA tuning in which memory comes from the named cells or not at all."""


def ids_in(text: str | None) -> frozenset[int]:
    """CPUs or cells in libvirt's notation, where ``^`` takes one out again: ``0-3,^2``."""
    parts = [part.strip() for part in (text or "").split(",")]
    without = [part[1:] for part in parts if part.startswith("^")]
    named = [part for part in parts if not part.startswith("^")]
    return frozenset(parse_cpu_list(",".join(named))) - frozenset(parse_cpu_list(",".join(without)))


@dataclass(frozen=True, slots=True)
class MemoryNeed:
    """Part of a VM's memory: ``page_kib`` None is the host's default size of a huge page, 0 no huge page.
    ``cells`` are the host's cells that it has to come from, None where any will do."""

    size_bytes: int
    page_kib: int | None = 0
    cells: frozenset[int] | None = None

    def pages(self, page_kib: int) -> int:
        """How many pages of that size it takes."""
        return -(-self.size_bytes // (page_kib << 10))


def memory_needs(vm: VmState) -> tuple[MemoryNeed, ...]:
    """The VM's memory in parts that have the same needs; empty where its size is not known."""
    if vm.xml is None or vm.element is None:
        return ()
    pages = [
        (attribute_bytes(page, "size"), page.get("nodeset"))
        for page in vm.element.iterfind("memoryBacking/hugepages/page")
    ]
    backed = vm.xml.huge_pages
    found: dict[tuple[int | None, frozenset[int] | None], int] = {}
    for cell, size in _guest_cells(vm):
        page_kib = _page_of(cell, pages) if backed else 0
        key = page_kib, _host_cells(cell, vm.xml.pinning)
        found[key] = found.get(key, 0) + size
    return tuple(MemoryNeed(size, page, cells) for (page, cells), size in found.items())


def _guest_cells(vm: VmState) -> Iterator[tuple[int | None, int]]:
    """The guest's cells with their memory in bytes; one without a number where the guest has none."""
    cells = vm.xml.guest_cells if vm.xml is not None else ()
    if cells and all(cell.memory_bytes is not None for cell in cells):
        for position, cell in enumerate(cells):
            yield (position if cell.id is None else cell.id), cell.memory_bytes or 0
    elif vm.xml is not None and (size := vm.xml.memory_max_bytes) is not None:
        yield None, size


def _page_of(cell: int | None, pages: Sequence[tuple[int | None, str | None]]) -> int | None:
    """The size of page that backs a guest's cell: the one that names it, else the one for all, else none."""
    if not pages:
        return None
    for size, nodeset in pages:
        if nodeset is not None and (cell or 0) in ids_in(nodeset):
            return _page_kib(size)
    return next((_page_kib(size) for size, nodeset in pages if nodeset is None), 0)


def _page_kib(size_bytes: int | None) -> int | None:
    return (size_bytes or 0) >> 10 or None


def _host_cells(cell: int | None, pinning: Pinning) -> frozenset[int] | None:
    own = next((found for found in pinning.cells if found.cell == cell), None)
    bound = own or CellMemory(0, pinning.memory_mode, pinning.memory_host_cells)
    if (bound.mode or "strict") not in BINDING or not bound.host_cells:
        return None
    return ids_in(bound.host_cells)


def pinned_cpus(vm: VmState) -> frozenset[int]:
    """The host CPUs that the VM's vCPUs, emulator or I/O threads are pinned to; empty: none."""
    if vm.xml is None:
        return frozenset()
    pinning = vm.xml.pinning
    lists = [pinning.cpus, pinning.emulator_cpus]
    lists += [pin.cpus for pin in (*pinning.vcpus, *pinning.iothreads)]
    return frozenset[int]().union(*(ids_in(text) for text in lists))


def bound_cells(vm: VmState) -> frozenset[int]:
    """The host cells that the VM's memory may only come from; empty: any."""
    return frozenset[int]().union(*(need.cells or () for need in memory_needs(vm)))


# -- what several VMs share ------------------------------------------------------------------------


def demands_of(vm: VmState, default_page_kib: int | None) -> dict[str, int]:
    """What the VM takes of things that VMs on the same host share, by the name of the thing: huge pages by
    size (and cells), bytes of NUMA memory by cells."""
    found: dict[str, int] = {}
    for need in memory_needs(vm):
        page_kib = default_page_kib if need.page_kib is None else need.page_kib
        if page_kib is None:
            continue
        amount = need.pages(page_kib) if page_kib else need.size_bytes
        names = [f"pages/{page_kib}"] if page_kib else []
        if need.cells is not None:
            names.append(f"{'pages' if page_kib else 'memory'}/{page_kib}/{format_cpu_list(need.cells)}")
        for name in names:
            found[name] = found.get(name, 0) + amount
    return found


def supplies_of(resources: HostResources, names: Iterable[str]) -> dict[str, int]:
    """What a host has free of the things that ``names`` name, as :func:`demands_of` names them."""
    found = {}
    for name in names:
        kind, page_kib, *cells = name.split("/")
        within = ids_in(cells[0]) if cells else None
        if kind == "pages":
            found[name] = resources.free_pages_of(int(page_kib), within)
        else:
            found[name] = sum(resources.cells_free_bytes.get(cell, 0) for cell in within or ())
    return found


def huge_page_bytes(vm: VmState) -> int:
    """How much of the VM's memory lies in huge pages, and takes nothing of what the kernel hands out."""
    return sum(need.size_bytes for need in memory_needs(vm) if need.page_kib != 0)
