"""Where a domain's CPUs and memory may be: its CPU model, pinning and NUMA cells.

Format: https://libvirt.org/formatdomain.html, sections "CPU Allocation", "CPU Tuning", "NUMA Node Tuning"
and "CPU model and topology". Lists of CPUs and cells are kept in libvirt's notation (``0-3,8,^2``), in
which ``^`` takes one out again.
"""

from __future__ import annotations

from dataclasses import dataclass

from lxml import etree

from nodes.inventory.libvirt_units import attribute_bytes
from nodes.inventory.parsing.numbers import integer
from nodes.inventory.xmltext import child_text


@dataclass(frozen=True, slots=True)
class CpuModel:
    """The CPU that the guest sees. ``mode`` is ``host-passthrough``, ``host-model``, ``maximum`` or
    ``custom``.
    """

    mode: str | None
    model: str | None
    sockets: int | None
    cores: int | None
    threads: int | None


@dataclass(frozen=True, slots=True)
class VcpuPin:
    """One virtual CPU and the host CPUs on which it may run, as a list (``2,18``)."""

    vcpu: int
    cpus: str


@dataclass(frozen=True, slots=True)
class CellMemory:
    """Memory of one guest cell, and the host cells it comes from."""

    cell: int
    mode: str | None
    host_cells: str | None


@dataclass(frozen=True, slots=True)
class Pinning:
    """What binds a domain to CPUs and memory of the host; None and empty where nothing does.

    ``placement`` ``auto`` lets numad choose at each start; ``cpus`` is the list for all virtual CPUs that
    have none of their own. ``memory_mode``: ``strict``, ``preferred``, ``interleave`` or ``restrictive``.
    """

    placement: str | None
    cpus: str | None
    vcpus: tuple[VcpuPin, ...]
    emulator_cpus: str | None
    iothreads: tuple[VcpuPin, ...]
    memory_mode: str | None
    memory_host_cells: str | None
    memory_placement: str | None
    cells: tuple[CellMemory, ...]

    @property
    def pinned(self) -> bool:
        """Whether a CPU of the domain is bound to some of the host's."""
        return bool(self.cpus or self.vcpus)


@dataclass(frozen=True, slots=True)
class GuestCell:
    """A NUMA cell that the guest sees."""

    id: int | None
    cpus: str | None
    memory_bytes: int | None


def read_cpu(root: etree._Element) -> CpuModel:
    cpu, topology = root.find("cpu"), root.find("cpu/topology")
    return CpuModel(
        mode=cpu.get("mode") or ("custom" if child_text(cpu, "model") else None) if cpu is not None else None,
        model=child_text(cpu, "model"),
        sockets=_count(topology, "sockets"),
        cores=_count(topology, "cores"),
        threads=_count(topology, "threads"),
    )


def read_pinning(root: etree._Element) -> Pinning:
    vcpu, memory = root.find("vcpu"), root.find("numatune/memory")
    emulator = root.find("cputune/emulatorpin")
    cells = (
        (integer(element.get("cellid")), element.get("mode"), element.get("nodeset"))
        for element in root.iterfind("numatune/memnode")
    )
    return Pinning(
        placement=vcpu.get("placement") if vcpu is not None else None,
        cpus=_list(vcpu, "cpuset"),
        vcpus=_pins(root, "cputune/vcpupin", "vcpu"),
        emulator_cpus=_list(emulator, "cpuset"),
        iothreads=_pins(root, "cputune/iothreadpin", "iothread"),
        memory_mode=memory.get("mode") if memory is not None else None,
        memory_host_cells=_list(memory, "nodeset"),
        memory_placement=memory.get("placement") if memory is not None else None,
        cells=tuple(CellMemory(cell, mode, nodes) for cell, mode, nodes in cells if cell is not None),
    )


def read_guest_cells(root: etree._Element) -> tuple[GuestCell, ...]:
    return tuple(
        GuestCell(integer(cell.get("id")), _list(cell, "cpus"), attribute_bytes(cell, "memory"))
        for cell in root.iterfind("cpu/numa/cell")
    )


def _pins(root: etree._Element, path: str, of: str) -> tuple[VcpuPin, ...]:
    found = ((integer(pin.get(of)), _list(pin, "cpuset")) for pin in root.iterfind(path))
    return tuple(VcpuPin(number, cpus) for number, cpus in found if number is not None and cpus is not None)


def _list(element: etree._Element | None, name: str) -> str | None:
    value = element.get(name) if element is not None else None
    return (value or "").strip() or None


def _count(element: etree._Element | None, name: str) -> int | None:
    return integer(element.get(name)) if element is not None else None
