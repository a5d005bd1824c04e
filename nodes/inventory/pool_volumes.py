"""Which block device a volume of a storage pool is, by the pool's description and the volume's name.

A VM's description names pool and volume alone, also while it runs. How libvirt names volumes:
https://libvirt.org/storage.html. Volumes of directories are files and no device.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from lxml import etree

from nodes.inventory.blockuse import BlockDevices
from nodes.inventory.document import HostDocument
from nodes.inventory.xmltext import child_text, parse_xml

_UNIT = re.compile(r"unit:(?:\d+:)?(\d+):(\d+):(\d+)\Z", re.ASCII)
"""Bus, target and unit of a SCSI or iSCSI pool's volume; old versions put the host before them."""
_HOST = re.compile(r"(?:scsi_)?host(\d+)\Z", re.ASCII)
_BLOCK_TYPES = frozenset({"logical", "disk", "mpath", "zfs", "iscsi", "scsi"})


@dataclass(frozen=True, slots=True)
class VolumeDevices:
    """The kernel's names of volumes (pool and name) that are block devices here, and those of pools of block
    devices whose device is not known, though it may be here under any name."""

    found: Mapping[tuple[str, str], str] = field(default_factory=dict)
    untraced: frozenset[tuple[str, str]] = frozenset()


def devices_of_volumes(
    document: HostDocument, blocks: BlockDevices, volumes: Mapping[tuple[str, str], bool]
) -> VolumeDevices:
    """The devices of ``volumes``, each with whether a running VM has it, so that it must be somewhere."""
    if not volumes:
        return VolumeDevices()
    pools: dict[str, etree._Element] = {}
    for _, output in document.items("libvirt:pool"):
        root = parse_xml(output.stdout) if output.usable else None
        if root is not None and root.tag == "pool":
            pools[child_text(root, "name") or ""] = root
    names = _Names.read(blocks)
    found: dict[tuple[str, str], str] = {}
    untraced: set[tuple[str, str]] = set()
    for key, running in volumes.items():
        pool, volume = key
        root = pools.get(pool)
        if root is None or root.get("type") not in _BLOCK_TYPES:
            continue
        name = next(_devices(root, pool, volume, names), None)
        if name is not None:
            found[key] = name
        elif running or not _is_named(root, pool, volume, names):
            untraced.add(key)
    return VolumeDevices(found, frozenset(untraced))


@dataclass(frozen=True, slots=True)
class _Names:
    """Block devices by what volumes are named after."""

    aliases: Mapping[str, str]
    iscsi: Mapping[str, str]
    """By target and unit: ``iqn.2024-01.org.example:a-lun-4``."""
    scsi: Mapping[str, str]
    """By host, bus, target and unit: ``0:0:3:0``."""
    zvols: Mapping[str, str]

    @classmethod
    def read(cls, blocks: BlockDevices) -> _Names:
        iscsi: dict[str, str] = {}
        for path, block in sorted(blocks.aliases.items()):
            _, mark, end = path.partition("-iscsi-")
            if mark:
                iscsi.setdefault(end, block)
        places = ((path.split("/")[-3:], block) for block, path in blocks.paths.items())
        scsi = {parts[0]: block for parts, block in places if parts[1:] == ["block", block]}
        return cls(blocks.aliases, iscsi, scsi, {path: block for block, path in blocks.zvols.items()})


def _devices(root: etree._Element, pool: str, volume: str, names: _Names) -> Iterator[str]:
    source, target = child_text(root, "source/name") or pool, child_text(root, "target/path")
    paths: tuple[str, ...]
    match root.get("type"):
        case "logical":
            paths = (f"/dev/{source}/{volume}", f"{target}/{volume}")
        case "disk" | "mpath":
            paths = (f"/dev/{volume}", f"{target}/{volume}")
        case "zfs":
            yield from _zvols(source, volume, names)
            return
        case _:
            yield from _units(root, volume, names)
            return
    yield from (names.aliases[path] for path in paths if path in names.aliases)


def _zvols(source: str, volume: str, names: _Names) -> Iterator[str]:
    """libvirt names a volume by its last part, in whatever data set of the pool it is."""
    if f"/dev/zvol/{source}/{volume}" in names.aliases:
        yield names.aliases[f"/dev/zvol/{source}/{volume}"]
        return
    deeper = _deeper(source, volume, names)
    if len(deeper) == 1:
        yield names.zvols[deeper[0]]


def _deeper(source: str, volume: str, names: _Names) -> list[str]:
    return [path for path in names.zvols if path.startswith(f"{source}/") and path.endswith(f"/{volume}")]


def _units(root: etree._Element, volume: str, names: _Names) -> Iterator[str]:
    unit = _UNIT.match(volume)
    if unit is None:
        return
    bus, target, number = unit.groups()
    place = _place(root)
    key = f"{place}-lun-{number}" if root.get("type") == "iscsi" else f"{place}:{bus}:{target}:{number}"
    block = (names.iscsi if root.get("type") == "iscsi" else names.scsi).get(key) if place else None
    if block is not None:
        yield block


def _place(root: etree._Element) -> str | None:
    """The iSCSI target or the number of the SCSI host that a pool is; None where it is named otherwise, as
    those of Fibre Channel are, by their world wide names."""
    device, adapter = root.find("source/device"), root.find("source/adapter")
    if root.get("type") == "iscsi":
        return device.get("path") if device is not None else None
    host = _HOST.match((adapter.get("name") or "") if adapter is not None else "")
    return host.group(1) if host else None


def _is_named(root: etree._Element, pool: str, volume: str, names: _Names) -> bool:
    """Whether the device would have been found if it was here."""
    match root.get("type"):
        case "iscsi" | "scsi":
            return _place(root) is not None and _UNIT.match(volume) is not None
        case "zfs":
            return not _deeper(child_text(root, "source/name") or pool, volume, names)
        case _:
            return True
