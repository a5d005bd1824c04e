"""What libvirt's capabilities say of the host itself: the fallback where no shell was reached.

Source: https://libvirt.org/formatcaps.html.
"""

from __future__ import annotations

from dataclasses import dataclass

from lxml import etree

from nodes.inventory.cpulist import parse_cpu_list
from nodes.inventory.parsing.numbers import integer
from nodes.inventory.xmltext import child_text, parse_xml

_UNITS = {"b": 1, "bytes": 1, "KiB": 1 << 10, "k": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


@dataclass(frozen=True, slots=True)
class CapabilityCell:
    """A NUMA cell. ``pages``: page size in bytes and number of pages, in pairs; ``distances`` by cell id."""

    id: int
    memory_bytes: int | None
    cpus: tuple[int, ...]
    distances: dict[int, int]
    pages: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Capabilities:
    """The host part of the capabilities, and which guests libvirt can run here.

    ``sockets`` and ``cores`` are those of the whole host. ``kvm`` and ``iommu`` are None where there are no
    capabilities at all.
    """

    architecture: str | None = None
    model: str | None = None
    vendor: str | None = None
    microcode: str | None = None
    sockets: int | None = None
    cores: int | None = None
    threads: int | None = None
    threads_per_core: int | None = None
    cpus: tuple[int, ...] = ()
    cells: tuple[CapabilityCell, ...] = ()
    host_uuid: str | None = None
    iommu: bool | None = None
    kvm: bool | None = None
    security_models: tuple[str, ...] = ()
    migration_transports: tuple[str, ...] = ()


def parse_capabilities(text: str) -> Capabilities:
    """Read ``libvirt:capabilities``; all unknown where there is none."""
    root = parse_xml(text)
    host = root.find("host") if root is not None else None
    if root is None or host is None:
        return Capabilities()
    cells = tuple(_cells(host))
    places = [_place(cpu) for cpu in host.iterfind("topology/cells/cell/cpus/cpu")]
    sockets = {socket for _, socket, _ in places if socket is not None}
    cores = {(socket, siblings) for _, socket, siblings in places if siblings}
    microcode = host.find("cpu/microcode")
    topology = host.find("cpu/topology")
    iommu = host.find("iommu")
    cpus = tuple(sorted({cpu for cpu, _, _ in places if cpu is not None}))
    domains = {element.get("type") for element in root.iterfind("guest/arch/domain")}
    return Capabilities(
        architecture=child_text(host, "cpu/arch"),
        model=child_text(host, "cpu/model"),
        vendor=child_text(host, "cpu/vendor"),
        microcode=microcode.get("version") if microcode is not None else None,
        sockets=len(sockets) or None,
        cores=len(cores) or None,
        threads=len(cpus) or None,
        threads_per_core=integer(topology.get("threads")) if topology is not None else None,
        cpus=cpus,
        cells=cells,
        host_uuid=child_text(host, "uuid"),
        iommu=iommu.get("support") == "yes" if iommu is not None else None,
        kvm="kvm" in domains,
        security_models=tuple(_texts(host, "secmodel/model")),
        migration_transports=tuple(_texts(host, "migration_features/uri_transports/uri_transport")),
    )


def _texts(element: etree._Element, path: str) -> list[str]:
    return [text for found in element.iterfind(path) if (text := (found.text or "").strip())]


def _place(cpu: etree._Element) -> tuple[int | None, int | None, tuple[int, ...]]:
    """A CPU's number, its socket and its thread siblings."""
    return integer(cpu.get("id")), integer(cpu.get("socket_id")), parse_cpu_list(cpu.get("siblings"))


def _cells(host: etree._Element) -> list[CapabilityCell]:
    cells = []
    for cell in host.iterfind("topology/cells/cell"):
        number = integer(cell.get("id"))
        if number is None:
            continue
        distances = {
            sibling: value
            for element in cell.iterfind("distances/sibling")
            if (sibling := integer(element.get("id"))) is not None
            and (value := integer(element.get("value"))) is not None
        }
        pages = tuple(
            (size, count)
            for element in cell.iterfind("pages")
            if (size := _scaled(element.get("size"), element.get("unit"))) is not None
            and (count := integer(element.text)) is not None
        )
        cpus = {
            cpu for element in cell.iterfind("cpus/cpu") if (cpu := integer(element.get("id"))) is not None
        }
        memory = cell.find("memory")
        memory_bytes = _scaled(memory.text, memory.get("unit")) if memory is not None else None
        cells.append(CapabilityCell(number, memory_bytes, tuple(sorted(cpus)), distances, pages))
    return cells


def _scaled(text: str | None, unit: str | None) -> int | None:
    number, scale = integer(text), _UNITS.get(unit or "KiB")
    return number * scale if number is not None and scale is not None else None
