"""What some PCI devices have to themselves: links, mediated devices, NVMe controllers, GPUs, interfaces."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from posixpath import basename

from nodes.inventory.holders import Holdings
from nodes.inventory.hostuse import HostUses, pci_address_of
from nodes.inventory.parsing.numbers import decimal
from nodes.inventory.pci_facts import (
    DisplayConnector,
    Gpu,
    MdevInstance,
    MdevType,
    NetworkPort,
    NvmeController,
    PcieLink,
)
from nodes.inventory.sysfiles import Directory

_MDEV_DEVICES = "/sys/bus/mdev/devices/"
_TYPES = "mdev_supported_types/"
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")
_SPEED = re.compile(r"(\d{1,3}(?:\.\d)?) GT/s")
_WIDTHS = frozenset({1, 2, 4, 8, 12, 16, 32})
"""Those that PCI Express knows; 0 says that there is no link, 255 that nobody answered."""


def read_link(files: Directory, address: str) -> PcieLink | None:
    """Speed and width of a PCI Express link; None for what is not PCI Express."""
    speed, max_speed = (_speed(files.text(address, f"{of}_link_speed")) for of in ("current", "max"))
    width, max_width = (files.number(address, f"{of}_link_width") for of in ("current", "max"))
    width = width if width in _WIDTHS else None
    max_width = max_width if max_width in _WIDTHS else None
    if speed is None and max_speed is None and width is None and max_width is None:
        return None
    reduced: bool | None = None
    if speed is not None and max_speed is not None and width is not None and max_width is not None:
        reduced = speed < max_speed or width < max_width
    return PcieLink(speed, width, max_speed, max_width, reduced)


def _speed(text: str | None) -> float | None:
    match = _SPEED.match(text or "")
    return decimal(match.group(1)) if match else None


Mdevs = Mapping[str, str | None]
"""Mediated devices: the ids of their types by UUID."""


def read_mdevs(paths: Mapping[str, str]) -> dict[str, dict[str, str | None]]:
    """All mediated devices of a host by the PCI device that they are made of."""
    found: dict[str, dict[str, str | None]] = {}
    for path, target in paths.items():
        uuid = path.removeprefix(_MDEV_DEVICES)
        address = pci_address_of(target) if uuid != path and _UUID.match(uuid) else None
        if address is not None:
            type_path = paths.get(f"{path}/mdev_type")
            found.setdefault(address, {})[uuid] = basename(type_path) if type_path else None
    return found


def read_mdev_types(files: Directory, address: str, mdevs: Mdevs) -> tuple[MdevType, ...]:
    """The types that a device offers, by the kernel's ids (``nvidia-35``, ``i915-GVTg_V5_4``)."""
    of_device = files.entries.get(address, {})
    ids = {path[len(_TYPES) :].partition("/")[0]: None for path in of_device if path.startswith(_TYPES)}
    types: list[MdevType] = []
    for type_id in ids:
        base = _TYPES + type_id
        available = files.number(address, f"{base}/available_instances")
        types.append(
            MdevType(
                id=type_id,
                name=files.text(address, f"{base}/name"),
                description=" ".join(of_device.get(f"{base}/description", ())) or None,
                device_api=files.text(address, f"{base}/device_api"),
                available=available if available is not None and available >= 0 else None,
                instances=tuple(uuid for uuid, of_type in mdevs.items() if of_type == type_id),
            )
        )
    return tuple(types)


def read_mdev_instances(mdevs: Mdevs, holdings: Holdings) -> tuple[MdevInstance, ...]:
    """Mediated devices with the VMs that hold them."""
    return tuple(
        MdevInstance(uuid, type_id, holdings.known(holdings.mdevs.get(uuid, ())))
        for uuid, type_id in mdevs.items()
    )


def read_nvme(files: Directory, controllers: Iterable[str]) -> tuple[NvmeController, ...]:
    """NVMe controllers by their names, from the files of ``/sys/class/nvme``."""
    return tuple(
        NvmeController(
            name=name,
            model=files.text(name, "model"),
            serial=files.text(name, "serial"),
            firmware=files.text(name, "firmware_rev"),
            state=files.text(name, "state"),
        )
        for name in controllers
    )


def read_ports(uses: HostUses, names: Iterable[str]) -> tuple[NetworkPort, ...]:
    """Interfaces of a device by their names."""
    files = uses.interfaces.files
    return tuple(
        NetworkPort(
            name=name,
            mac=files.text(name, "address"),
            operational_state=files.text(name, "operstate"),
            speed_mbps=uses.interfaces.speed_mbps(name),
        )
        for name in names
    )


def read_gpu(values: Mapping[str, list[str]], files: Directory, uses: HostUses, address: str) -> Gpu:
    """A GPU's nodes and monitors, and what amdgpu or NVIDIA's driver tell of it."""
    nodes = uses.attached(address).drm_nodes
    memory = files.number(address, "mem_info_vram_total")
    nvidia = _colon_pairs(values.get(f"/proc/driver/nvidia/gpus/{address}/information", ()))
    version = " ".join(values.get("/proc/driver/nvidia/version", ())[:1])
    driver = re.search(r"Kernel Module(?: for \S+)?\s+(\d[\w.]*)", version) if nvidia else None
    return Gpu(
        drm_nodes=nodes,
        connectors=_connectors(uses.values, nodes),
        memory_bytes=memory if memory and memory > 0 else None,
        vbios_version=files.text(address, "vbios_version") or nvidia.get("Video BIOS"),
        vendor_model=nvidia.get("Model"),
        vendor_uuid=nvidia.get("GPU UUID"),
        vendor_driver_version=driver.group(1) if driver else None,
    )


def _connectors(values: Mapping[str, list[str]], nodes: Iterable[str]) -> tuple[DisplayConnector, ...]:
    files = Directory.read(values, "/sys/class/drm/")
    cards = tuple(f"{node}-" for node in nodes)
    return tuple(
        DisplayConnector(
            name=name.partition("-")[2],
            status=files.text(name, "status"),
            enabled={"enabled": True, "disabled": False}.get(files.text(name, "enabled") or ""),
        )
        for name in sorted(files)
        if name.startswith(cards)
    )


def _colon_pairs(lines: Iterable[str]) -> dict[str, str]:
    pairs = (line.partition(":") for line in lines)
    return {key.strip(): value.strip() for key, colon, value in pairs if colon and value.strip()}
