"""One disk as hardware: what it is, how it is attached, what it says of itself."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from nodes.inventory.blocktree import BlockKind
from nodes.inventory.disk_facts import Disk, IoCounters, Use
from nodes.inventory.disk_link import RAID_DRIVERS, Buses, Link, Place, find_link, find_place
from nodes.inventory.disk_parts import SECTOR, HostBlocks, read_content, read_partition, shown
from nodes.inventory.disk_smart import PhysicalDisk, SmartOutputs, emmc_facts, same_disk
from nodes.inventory.smart_facts import SmartFacts
from nodes.inventory.smart_tree import first, whole

_OPTICAL = 5
"""SCSI peripheral device type of CD and DVD drives (SPC-4)."""
_EMPTY_OPTICAL_SECTORS = 2_097_151
"""What the kernel says of a drive without a medium (drivers/scsi/sr.c)."""
_EMULATED = re.compile(
    r"\b(QEMU|VMware|VBOX|Msft|Virtuozzo|Nutanix|Google|Amazon Elastic|Virtual)\b", re.IGNORECASE
)
_BMC_MEDIA = re.compile(r"virtual|vkvm|cimc|idrac|\bilo\b|lcdrive|secupd|\bimm\b", re.IGNORECASE)
_ASKED = frozenset({"nvme", "sata", "sas", "usb", "scsi"})
_VIRTUAL_TRANSPORTS = frozenset({"virtio", "xen", "rbd", "nbd"})


@dataclass(frozen=True, slots=True)
class Hardware:
    """All that is known of a host's disks beside their content."""

    host: HostBlocks
    buses: Buses
    smart: SmartOutputs
    by_id: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    by_path: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    system: frozenset[str] = frozenset()
    carried_known: bool = True
    """Whether signatures could be read, so that nothing found means nothing there."""


@dataclass(frozen=True, slots=True)
class _Identity:
    vendor: str | None
    model: str | None
    serial: str | None
    wwn: str | None
    firmware: str | None


def hidden_reason(name: str, hardware: Hardware) -> tuple[str, str | None] | None:
    """Why a disk is left out of the list, with its model: a drive without a medium, a BMC's virtual drive.

    What is in use is always shown.
    """
    host = hardware.host
    files, found = host.blocks.files, host.device(name)
    if any(host.blocks.mounts.get(other) for other in host.tree.above(name)):
        return None
    place = find_place(name, hardware.buses, files.text(name, "device/vendor"), found.transport)
    who = _identity(name, place, None, hardware)
    model = " ".join(part for part in (who.vendor, who.model) if part) or None
    size = host.size_bytes(name)
    optical = _is_optical(name, hardware)
    if place.transport in ("usb", None) and model and _BMC_MEDIA.search(model):
        return "virtual_media", model
    if name.startswith(("fd", "nbd")) and not (size and name.startswith("nbd")):
        return "no_medium", model
    no_content = found.fs_type is None and found.table_type is None and not host.blocks.signatures.get(name)
    if optical and no_content and size in (None, 0, _EMPTY_OPTICAL_SECTORS * SECTOR):
        return "no_medium", model
    removable = host.flag(name, "removable", found.removable)
    return ("no_medium", model) if size == 0 and removable else None


def read_disk(name: str, hardware: Hardware) -> Disk:
    """The facts of the block device ``name``."""
    host = hardware.host
    files, found = host.blocks.files, host.device(name)
    place = find_place(name, hardware.buses, files.text(name, "device/vendor"), found.transport)
    unasked = _identity(name, place, None, hardware)
    smart = _smart(name, place, unasked, hardware)
    who = _identity(name, place, smart, hardware)
    node = host.tree.nodes[name]
    partitions = tuple(
        read_partition(child, host)
        for child in node.children
        if host.tree.nodes[child].kind is BlockKind.PARTITION
    )
    content, memberships, use = read_content(name, host), host.memberships(name), host.use(name)
    named = " ".join(part for part in (who.vendor, who.model) if part)
    busy = bool(
        partitions or content or memberships or found.table_type or use.pools or use.vms or use.holders
    )
    users_known = host.vms_known and host.pools_known
    return Disk(
        id=_stable_id(name, unasked, hardware.by_path.get(name, ())),
        name=shown(name),
        path=f"/dev/{shown(name)}",
        block_device=True,
        type=_type(name, place, smart, hardware),
        transport=place.transport,
        emulated=place.transport in _VIRTUAL_TRANSPORTS or bool(_EMULATED.search(named)),
        model=who.model,
        vendor=who.vendor,
        serial=who.serial,
        wwn=who.wwn,
        firmware=who.firmware,
        size_bytes=host.size_bytes(name),
        logical_sector_bytes=files.number(name, "queue/logical_block_size") or found.logical_sector_bytes,
        physical_sector_bytes=files.number(name, "queue/physical_block_size") or found.physical_sector_bytes,
        rotation_rpm=_rotation(name, place, smart, hardware),
        form_factor=smart.form_factor if smart else None,
        interface=smart.interface if smart else None,
        link=_link(name, place, smart, hardware),
        pci_address=place.pci_address,
        usb_path=place.usb_path,
        hctl=place.hctl,
        driver=place.driver,
        removable=host.flag(name, "removable", found.removable),
        read_only=host.flag(name, "ro", found.read_only),
        state=files.text(name, "device/state") or _controller_text(place, hardware, "state"),
        by_id=hardware.by_id.get(name, ()),
        by_path=hardware.by_path.get(name, ()),
        system=name in hardware.system,
        table_type=found.table_type,
        table_id=found.table_id,
        partitions=partitions,
        content=content,
        memberships=memberships,
        use=use,
        unused=False if busy else True if hardware.carried_known and users_known else None,
        multipath=next((member.name for member in memberships if member.kind == "multipath"), None),
        physical_disks=_behind(place, unasked, smart, hardware),
        io=_io(files.text(name, "stat")),
        smart=smart,
    )


def read_physical_disk(physical: PhysicalDisk, hardware: Hardware) -> Disk:
    """The facts of a disk that only its RAID controller sees."""
    smart = physical.smart
    transport = "sata" if smart.protocol == "ata" else "sas" if smart.protocol == "scsi" else None
    kind = None if smart.rotation_rpm is None else "hdd" if smart.rotation_rpm else "ssd"
    host = str(physical.scsi_host)
    mark = f"/host{host}/"
    beside = next((name for name, path in hardware.buses.paths.items() if mark in f"{path}/"), None)
    place = find_place(beside, hardware.buses, None, None) if beside else Place(transport)
    named = smart.model or ""
    return Disk(
        id=_stable_id(physical.name, _Identity(None, smart.model, smart.serial, smart.wwn, None), ()),
        name=physical.name,
        path=physical.path,
        block_device=False,
        type=kind,
        transport=transport,
        emulated=bool(_EMULATED.search(named)),
        model=smart.model,
        vendor=smart.vendor,
        serial=smart.serial,
        wwn=smart.wwn,
        firmware=smart.firmware,
        size_bytes=smart.capacity_bytes,
        logical_sector_bytes=smart.logical_sector_bytes,
        physical_sector_bytes=smart.physical_sector_bytes,
        rotation_rpm=smart.rotation_rpm,
        form_factor=smart.form_factor,
        interface=smart.interface,
        link=_smart_link(transport, smart),
        pci_address=place.pci_address,
        usb_path=None,
        hctl=None,
        driver=hardware.buses.hosts.text(f"host{host}", "proc_name"),
        removable=None,
        read_only=None,
        state=None,
        by_id=(),
        by_path=(),
        system=False,
        table_type=None,
        table_id=None,
        partitions=(),
        content=None,
        memberships=(),
        use=Use(),
        unused=None,
        multipath=None,
        physical_disks=(),
        io=None,
        smart=smart,
    )


def is_seen_as_block_device(physical: PhysicalDisk, disks: tuple[Disk, ...]) -> bool:
    """Whether one of ``disks`` is the same disk, which the controller passes through as it is."""
    return any(same_disk(physical.smart, disk.serial, disk.wwn) for disk in disks)


def _identity(name: str, place: Place, smart: SmartFacts | None, hardware: Hardware) -> _Identity:
    """Who the disk is: its own word (by SMART) before udev's, and that before a short inquiry's."""
    files, found = hardware.host.blocks.files, hardware.host.device(name)
    vendor = files.text(name, "device/vendor") or found.vendor
    vendor = (vendor or "").strip()
    if vendor in ("ATA", "NVMe") or vendor.startswith("0x"):
        vendor = ""
    vendor = (smart.vendor if smart else None) or vendor
    told = smart.model if smart else None
    # smartctl writes SCSI's vendor before the model.
    told = told.removeprefix(f"{vendor} ") if told and vendor else told
    return _Identity(
        vendor=vendor or None,
        model=told
        or _controller_text(place, hardware, "model")
        or found.model
        or files.text(name, "device/model")
        or files.text(name, "device/name"),
        serial=(smart.serial if smart else None)
        or _controller_text(place, hardware, "serial")
        or found.serial
        or files.text(name, "device/serial")
        or files.text(name, "serial"),
        wwn=_wwn(files.text(name, "device/wwid") or files.text(name, "wwid"))
        or found.wwn
        or (smart.wwn if smart else None),
        firmware=(smart.firmware if smart else None)
        or _controller_text(place, hardware, "firmware_rev")
        or files.text(name, "device/rev")
        or files.text(name, "device/fwrev")
        or found.revision,
    )


def _controller_text(place: Place, hardware: Hardware, file: str) -> str | None:
    text = hardware.buses.nvme.text(place.nvme_controllers[0], file) if place.nvme_controllers else None
    return text.strip() if text else None


def _wwn(wwid: str | None) -> str | None:
    """NAA names as udev writes them, EUI-64 and NVMe's UUIDs as they are; t10 names are no WWN."""
    if not wwid:
        return None
    if wwid.startswith("naa."):
        return f"0x{wwid[4:]}"
    return wwid if wwid.startswith(("eui.", "uuid.", "nvme.")) else None


def _stable_id(name: str, who: _Identity, by_path: tuple[str, ...]) -> str:
    """A name that outlives reboots, from what is known without asking the disk, which may sleep."""
    if who.wwn:
        return f"wwn-{who.wwn}"
    if who.serial:
        return "-".join(part for part in ("serial", who.model, who.serial) if part)
    return f"path-{by_path[0]}" if by_path else f"name-{shown(name)}"


def _smart(name: str, place: Place, who: _Identity, hardware: Hardware) -> SmartFacts | None:
    own = hardware.smart.by_disk.get(name)
    if own is not None:
        return own
    for physical in hardware.smart.physical:
        if physical.scsi_host == place.scsi_host and same_disk(physical.smart, who.serial, who.wwn):
            return physical.smart
    if place.transport == "mmc":
        files = hardware.host.blocks.files
        return emmc_facts(files.text(name, "device/life_time"), files.text(name, "device/pre_eol_info"))
    named = " ".join(part for part in (who.vendor, who.model) if part)
    asked = place.transport in _ASKED and not _is_optical(name, hardware) and not _EMULATED.search(named)
    return hardware.smart.unread if asked and place.driver not in RAID_DRIVERS else None


def _behind(place: Place, who: _Identity, smart: SmartFacts | None, hardware: Hardware) -> tuple[str, ...]:
    if smart is not None or place.scsi_host is None:
        return ()
    return tuple(disk.name for disk in hardware.smart.physical if disk.scsi_host == place.scsi_host)


def _is_optical(name: str, hardware: Hardware) -> bool:
    files = hardware.host.blocks.files
    return name.startswith("sr") or files.number(name, "device/type") == _OPTICAL


def _type(name: str, place: Place, smart: SmartFacts | None, hardware: Hardware) -> str | None:
    files, found = hardware.host.blocks.files, hardware.host.device(name)
    if _is_optical(name, hardware):
        return "optical"
    if name.startswith("nvme"):
        return "nvme"
    vendor = (files.text(name, "device/vendor") or "").strip()
    if place.transport in _VIRTUAL_TRANSPORTS or vendor in ("VMware", "Msft", "VBOX", "Google", "Nutanix"):
        return "virtual"
    if smart is not None and smart.rotation_rpm is not None:
        return "hdd" if smart.rotation_rpm else "ssd"
    if place.transport == "mmc":
        return "ssd"
    rotational = host_flag(name, hardware)
    if place.transport == "usb" and hardware.host.flag(name, "removable", found.removable):
        # A stick: bridges call every disk rotating, but only flash calls its medium removable.
        return "ssd"
    return None if rotational is None else "hdd" if rotational else "ssd"


def host_flag(name: str, hardware: Hardware) -> bool | None:
    return hardware.host.flag(name, "queue/rotational", hardware.host.device(name).rotational)


def _rotation(name: str, place: Place, smart: SmartFacts | None, hardware: Hardware) -> int | None:
    if smart is not None and smart.rotation_rpm is not None:
        return smart.rotation_rpm
    if name.startswith("nvme") or place.transport == "mmc":
        return 0
    physical = place.transport in ("sata", "sas", "usb")
    return 0 if physical and host_flag(name, hardware) is False else None


def _link(name: str, place: Place, smart: SmartFacts | None, hardware: Hardware) -> Link | None:
    """The kernel's link, completed by what the disk says of its own possible speed."""
    link = find_link(name, place, hardware.buses)
    if link is None:
        return _smart_link(place.transport, smart) if smart else None
    if link.name not in ("SATA", "SAS") or smart is None:
        return link
    now = first(_whole(link.speed_mbps), smart.interface_speed_mbps)
    most = first(smart.interface_max_speed_mbps, _whole(link.max_speed_mbps))
    slowed = None if now is None or most is None else now < most
    return Link(link.name, now, most, link.width, link.max_width, slowed)


def _whole(speed: int | float | None) -> int | None:
    return None if speed is None else round(speed)


def _smart_link(transport: str | None, smart: SmartFacts) -> Link | None:
    now, most = smart.interface_speed_mbps, smart.interface_max_speed_mbps
    if transport not in ("sata", "sas") or (now is None and most is None):
        return None
    slowed = None if now is None or most is None else now < most
    return Link(transport.upper(), now, most, slowed=slowed)


def _io(stat: str | None) -> IoCounters | None:
    numbers = [whole(word) for word in (stat or "").split()]
    if len(numbers) < 7:
        return None
    reads, sectors_read, writes, sectors_written = numbers[0], numbers[2], numbers[4], numbers[6]
    if reads is None or sectors_read is None or writes is None or sectors_written is None:
        return None
    busy = numbers[9] if len(numbers) > 9 else None
    return IoCounters(reads, sectors_read * SECTOR, writes, sectors_written * SECTOR, busy)
