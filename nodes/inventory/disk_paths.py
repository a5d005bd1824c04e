"""Disks that are several paths to one, while no multipath device holds them together.

Told by the name that a disk gives itself: its world wide name, else its serial number with all else alike.
Makers hand out names twice, so that a name alone proves nothing: the paths must also lead over different
ports, and of NVMe the controllers' serial numbers must agree (the same for all controllers of a subsystem,
NVM Express base specification, Identify Controller).
"""

from __future__ import annotations

from collections.abc import Mapping

from nodes.inventory.blocktree import BlockKind, BlockTree
from nodes.inventory.blockuse import BlockDevices
from nodes.inventory.disk_link import Buses, Place, find_place
from nodes.inventory.lsblk import LsblkDevice

_SHARED = frozenset({"sas", "fc", "iscsi", "scsi", "nvme"})
"""Transports on which one disk may be reached by several ways."""
_BY_SERIAL = frozenset({"sas", "fc", "scsi"})
"""Of these a disk of one serial number is one. Software targets of iSCSI all give the same number."""
_NAMED = ("0x", "eui.", "uuid.", "nvme.")
_COUNTED = ("0123456789ABCDEF0123456789ABCDEF", "1234567890" * 4, "ABCDEFGHIJKLMNOPQRSTUVWXYZ")
_SHORTEST_SERIAL = 5
_FEWEST_SIGNS = 3


def broken_multipath(
    blocks: BlockDevices, tree: BlockTree, lsblk: Mapping[str, LsblkDevice], buses: Buses
) -> Mapping[str, tuple[str, ...]]:
    """Disks of one name that no multipath device holds together, by that name."""
    members: dict[tuple[str, ...], dict[str, str]] = {}
    for node in tree.of_kind(BlockKind.DISK):
        device = lsblk.get(node.name) or LsblkDevice(node.name)
        vendor = blocks.files.text(node.name, "device/vendor")
        place = find_place(node.name, buses, vendor, device.transport)
        key = _own_name(node.name, place, device, blocks, buses) if place.transport in _SHARED else ()
        if key:
            members.setdefault(key, {})[node.name] = _port(node.name, place)
    found: dict[str, tuple[str, ...]] = {}
    for (name, *_), ports in members.items():
        held = {disk for disk in ports if _is_held(disk, tree)}
        if len(ports) > 1 and len(held) < len(ports) and len({*ports.values()}) == len(ports):
            found[name] = tuple(disk for disk in ports if disk not in held)
    return found


def is_plausible_serial(serial: str) -> bool:
    """Whether a serial number looks like one of a device alone: none counted up, nor of one sign repeated."""
    signs = serial.strip().upper()
    if len(signs) < _SHORTEST_SERIAL or len(set(signs)) < _FEWEST_SIGNS:
        return False
    return not any(signs in row or signs in row[::-1] for row in _COUNTED)


def _own_name(
    name: str, place: Place, device: LsblkDevice, blocks: BlockDevices, buses: Buses
) -> tuple[str, ...]:
    """What a disk calls itself, the name to show first; nothing where it has no name to rely on."""
    told = blocks.files.text(name, "device/wwid") or blocks.files.text(name, "wwid") or device.wwn or ""
    wwn = told.replace("naa.", "0x", 1) if told.startswith("naa.") else told
    if place.transport == "nvme":
        serial = _nvme_serial(place, device, buses)
        if serial is not None and not is_plausible_serial(serial):
            return ()
        return (wwn, serial or "") if _is_name(wwn) else ()
    if _is_name(wwn):
        return (wwn,)
    serial = device.serial or blocks.files.text(name, "device/serial")
    if wwn or not serial or place.transport not in _BY_SERIAL or not is_plausible_serial(serial):
        return ()
    files = (blocks.files.text(name, file) or "" for file in ("device/vendor", "device/model", "size"))
    unit = (place.hctl or "").rpartition(":")[2]
    return (f"serial-{serial.strip()}", *files, unit)


def _nvme_serial(place: Place, device: LsblkDevice, buses: Buses) -> str | None:
    told = (buses.nvme.text(controller, "serial") for controller in place.nvme_controllers)
    return next((serial.strip() for serial in told if serial and serial.strip()), device.serial)


def _is_name(wwn: str) -> bool:
    """A world wide name that is more than its kind and one sign repeated."""
    digits = wwn.lower().removeprefix("0x").rpartition(".")[2].replace("-", "")
    return wwn.startswith(_NAMED) and len(set(digits)) > 1


def _port(name: str, place: Place) -> str:
    """Host, bus and target of a SCSI disk, the controllers of an NVMe namespace; else the disk itself."""
    if place.hctl:
        return place.hctl.rpartition(":")[0]
    return ",".join(place.nvme_controllers) or name


def _is_held(name: str, tree: BlockTree) -> bool:
    return any(tree.nodes[child].volume == "multipath" for child in tree.nodes[name].children)
