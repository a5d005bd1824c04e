"""How a disk is attached: its transport, the link with its speeds, and the place in PCI and USB.

The path of a device in ``/sys/devices`` names every bus that it passes; the rest is in files of these buses
(Documentation/ABI/testing/sysfs-bus-pci, sysfs-bus-usb, sysfs-class-sas_phy of the kernel, libata's
``ata_link``).
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from nodes.inventory.parsing.numbers import integer
from nodes.inventory.smart_tree import decimal, whole
from nodes.inventory.sysfiles import Directory

_PCI = re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]\Z")
_USB = re.compile(r"\d{1,5}-\d{1,5}(?:\.\d{1,5}){0,16}\Z", re.ASCII)
_HOST = re.compile(r"/host(\d+)/")
_HCTL = re.compile(r"\d+:\d+:\d+:\d+\Z", re.ASCII)
_ATA = re.compile(r"/ata(\d+)/")
_SAS_PORT = re.compile(r"/(port-[\d:]+)/")
_NVME = re.compile(r"nvme\d+\Z")
_NVME_PATH = re.compile(r"nvme(\d+)c\d+n(\d+)\Z")
_SPEED = re.compile(r"\b(\d{1,6}(?:\.\d{1,6})?)\s{0,4}(?:GT/s|G(?:bit|bps))", re.ASCII)
_SAS_PHY = re.compile(r"/sys/class/sas_port/(port-[\d:]+)/device/phy-[^/]+/sas_phy/[^/]+/(\w+):(.*)")

_SAS_DRIVERS = frozenset(
    [
        "megaraid_sas",
        "sssraid",
        "mpt2sas",
        "mpt3sas",
        "mptsas",
        "mpt3",
        "aacraid",
        "hpsa",
        "smartpqi",
        "3w-sas",
        "isci",
        "pm80xx",
        "pm8001",
        "mvsas",
        "arcmsr",
        "aic94xx",
        "hisi_sas_v1_hw",
        "hisi_sas_v2_hw",
        "hisi_sas_v3_hw",
        "mpi3mr",
        "leapraid",
        "esas2r",
    ]
)
RAID_DRIVERS = frozenset(["megaraid_sas", "sssraid", "aacraid", "hpsa", "smartpqi", "3w-sas", "arcmsr"])
_VIRTUAL_DRIVERS = frozenset(["vmw_pvscsi", "storvsc", "virtio_scsi", "Virtio", "xen-scsi"])
_LSBLK_TRANSPORTS = {
    "sata": "sata",
    "ata": "sata",
    "sas": "sas",
    "usb": "usb",
    "nvme": "nvme",
    "virtio": "virtio",
}
_LSBLK_TRANSPORTS |= {"iscsi": "iscsi", "fc": "fc", "mmc": "mmc"}
_NAMES = {"rbd": "rbd", "nbd": "nbd", "xvd": "xen", "vd": "virtio", "mmcblk": "mmc", "nvme": "nvme"}


@dataclass(frozen=True, slots=True)
class Link:
    """The link to a disk: ``name`` as in ``SATA``, ``SAS``, ``PCIe``, ``USB``; speeds in Mbit/s, negotiated
    and the highest possible one; lanes of PCIe and phys of SAS as ``width``. None is unknown.

    The speed of PCIe is what its lanes carry after their encoding (8b/10b, from 8 GT/s on 128b/130b).
    """

    name: str
    speed_mbps: int | float | None = None
    max_speed_mbps: int | float | None = None
    width: int | None = None
    max_width: int | None = None
    slowed: bool | None = None
    """Whether it runs below the highest speed or width."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a disk is attached; ``driver`` is that of its SCSI host, ``hctl`` its address there."""

    transport: str | None
    pci_address: str | None = None
    usb_path: str | None = None
    scsi_host: int | None = None
    hctl: str | None = None
    driver: str | None = None
    nvme_controllers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Buses:
    """Files of the buses that disks hang on."""

    paths: Mapping[str, str] = field(default_factory=dict)
    """Block devices in ``/sys/devices``, by name."""
    nvme: Directory = field(default_factory=Directory)
    nvme_paths: Mapping[str, str] = field(default_factory=dict)
    heads: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Controllers of each multipath NVMe namespace."""
    hosts: Directory = field(default_factory=Directory)
    ata_links: Directory = field(default_factory=Directory)
    usb: Directory = field(default_factory=Directory)
    sas_ports: Mapping[str, tuple[tuple[int | None, int | None], ...]] = field(default_factory=dict)
    """Negotiated and highest speed of each phy, by port."""


def read_buses(
    values: Mapping[str, list[str]],
    text: str,
    listed: Iterable[str],
    paths: Mapping[str, str],
    blocks: Mapping[str, str],
) -> Buses:
    """From sysfs' files, the text they were read from, all paths listed, those that are links resolved, and
    the block devices' paths."""
    controllers = {
        posixpath.basename(link): path
        for link, path in paths.items()
        if posixpath.dirname(link) == "/sys/class/nvme"
    }
    return Buses(
        paths=blocks,
        nvme=Directory.read(values, "/sys/class/nvme/"),
        nvme_paths=controllers,
        heads=_heads(listed),
        hosts=Directory.read(values, "/sys/class/scsi_host/"),
        ata_links=Directory.read(values, "/sys/class/ata_link/"),
        usb=Directory.read(values, "/sys/bus/usb/devices/"),
        sas_ports=_sas_ports(text),
    )


def _heads(listed: Iterable[str]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for path in listed:
        directory, name = posixpath.split(path)
        match = _NVME_PATH.match(name)
        if match and directory.startswith("/sys/class/nvme/"):
            head = f"nvme{match.group(1)}n{match.group(2)}"
            found[head] = (*found.get(head, ()), posixpath.basename(directory))
    return found


def _sas_ports(text: str) -> dict[str, tuple[tuple[int | None, int | None], ...]]:
    rates: dict[str, dict[str, list[int | None]]] = {}
    for line in text.split("\n"):
        match = _SAS_PHY.match(line)
        if match:
            port = rates.setdefault(match.group(1), {"negotiated_linkrate": [], "maximum_linkrate": []})
            port.setdefault(match.group(2), []).append(_gigabits(match.group(3)))
    found = {}
    for name, files in rates.items():
        now, most = files["negotiated_linkrate"], files["maximum_linkrate"]
        found[name] = tuple(zip(now, most + [None] * len(now), strict=False))
    return found


def _gigabits(text: str | None) -> int | None:
    """``6.0 Gbps`` or ``12.0 Gbit`` in Mbit/s."""
    match = _SPEED.search(text or "")
    rate = decimal(match.group(1)) if match else None
    return round(rate * 1000) if rate is not None else None


def find_place(name: str, buses: Buses, vendor: str | None, lsblk_transport: str | None) -> Place:
    """Where the block device ``name`` is attached. ``vendor`` as its inquiry says it (``ATA`` is SATA)."""
    path = buses.paths.get(name, "")
    controllers = _controllers(name, path, buses)
    if controllers and not _last(_PCI, path):
        path = buses.nvme_paths.get(controllers[0], path)
    host = _HOST.search(f"{path}/")
    number = integer(host.group(1)) if host else None
    driver = buses.hosts.text(f"host{number}", "proc_name") if number is not None else None
    address = next((part for part in path.split("/") if _HCTL.match(part)), None)
    return Place(
        transport=_transport(name, path, driver, vendor, lsblk_transport),
        pci_address=_last(_PCI, path),
        usb_path=_last(_USB, path) if "/usb" in path else None,
        scsi_host=number,
        hctl=address,
        driver=driver,
        nvme_controllers=controllers,
    )


def _controllers(name: str, path: str, buses: Buses) -> tuple[str, ...]:
    if name in buses.heads:
        return buses.heads[name]
    above = posixpath.basename(posixpath.dirname(path))
    return (above,) if _NVME.match(above) else ()


def _last(pattern: re.Pattern[str], path: str) -> str | None:
    return next((part for part in reversed(path.split("/")) if pattern.match(part)), None)


def _transport(name: str, path: str, driver: str | None, vendor: str | None, told: str | None) -> str | None:
    """The bus that the disk itself speaks: a SATA disk on a SAS controller is SATA."""
    serial_ata = (vendor or "").strip() == "ATA"
    for mark, transport in (
        ("/usb", "usb"),
        ("/session", "iscsi"),
        ("/rport-", "fc"),
        ("/mmc_host/", "mmc"),
        ("/virtio", "virtio"),
        ("/vbd-", "xen"),
    ):
        if mark in path:
            return transport
    if "/end_device-" in path or driver in _SAS_DRIVERS:
        return "sata" if serial_ata else "sas"
    if _ATA.search(f"{path}/"):
        return "sata"
    if driver in _VIRTUAL_DRIVERS:
        return "virtio" if (driver or "").lower().startswith("virtio") else "scsi"
    for prefix, transport in _NAMES.items():
        if name.startswith(prefix):
            return transport
    known = _LSBLK_TRANSPORTS.get(told or "")
    return known or ("scsi" if _HOST.search(f"{path}/") else None)


def find_link(name: str, place: Place, buses: Buses) -> Link | None:
    """The link that the kernel tells of; None where it tells of none (virtual and remote disks)."""
    path = buses.paths.get(name, "")
    if place.nvme_controllers:
        return _pcie_link(place.nvme_controllers[0], buses)
    if place.transport == "usb" and place.usb_path:
        return _usb_link(place.usb_path, buses)
    port = _last_port(path)
    if port in buses.sas_ports:
        return _sas_link(place.transport, buses.sas_ports[port])
    match = _ATA.search(f"{path}/")
    if match:
        speed = _gigabits(buses.ata_links.text(f"link{match.group(1)}", "sata_spd"))
        return Link("SATA", speed) if speed else Link("SATA")
    return None


def _last_port(path: str) -> str:
    found = _SAS_PORT.findall(path)
    return found[-1] if found else ""


def _pcie_link(controller: str, buses: Buses) -> Link | None:
    transport = buses.nvme.text(controller, "transport")
    if transport not in (None, "pcie"):
        return Link(f"NVMe over {transport.upper() if transport else ''}")
    width = whole(buses.nvme.text(controller, "device/current_link_width"), 1, 32)
    most = whole(buses.nvme.text(controller, "device/max_link_width"), 1, 32)
    speed = _pcie_speed(buses.nvme.text(controller, "device/current_link_speed"), width)
    fastest = _pcie_speed(buses.nvme.text(controller, "device/max_link_speed"), most)
    slowed = None if speed is None or fastest is None else speed < fastest
    return Link("PCIe", speed, fastest, width, most, slowed)


def _pcie_speed(text: str | None, width: int | None) -> int | None:
    match = _SPEED.search(text or "")
    rate = decimal(match.group(1)) if match else None
    if rate is None or width is None:
        return None
    carried = 0.8 if rate <= 5 else 128 / 130
    return round(rate * 1000 * carried * width)


def _usb_link(device: str, buses: Buses) -> Link:
    speed = decimal(buses.usb.text(device, "speed"), 1e6)
    version = decimal(buses.usb.text(device, "version"), 10)
    most = None
    if version is not None:
        # The version of its USB specification: 3 and later may be faster than their first speed.
        most = 12 if version < 2 else 480 if version < 3 else 5000
    if speed is not None and most is not None:
        most = max(most, round(speed))
    shown = None if speed is None else round(speed) if speed == round(speed) else speed
    slowed = None if shown is None or most is None else shown < most
    return Link("USB", shown, most, slowed=slowed)


def _sas_link(transport: str | None, phys: tuple[tuple[int | None, int | None], ...]) -> Link:
    now = [speed for speed, _ in phys if speed]
    most = [speed for _, speed in phys if speed]
    speed, fastest = (max(now) if now else None), (max(most) if most else None)
    slowed = None if speed is None or fastest is None else speed < fastest
    return Link("SATA" if transport == "sata" else "SAS", speed, fastest, len(phys) or None, None, slowed)
