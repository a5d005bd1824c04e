"""Which block device a volume of a storage pool is, by the pool's description and the volume's name.

A VM's description names pool and volume alone, also while it runs. How libvirt names volumes:
https://libvirt.org/storage.html. Volumes of directories are files and no device.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from lxml import etree

from nodes.inventory.blockuse import BlockDevices
from nodes.inventory.document import HostDocument
from nodes.inventory.xmltext import child_text, parse_xml

_UNIT = re.compile(r"unit:(?:\d+:)?(\d+):(\d+):(\d+)\Z", re.ASCII)
"""Bus, target and unit of a SCSI or iSCSI pool's volume; old versions put the host before them."""
_HOST = re.compile(r"(?:scsi_)?host(\d+)\Z", re.ASCII)


def devices_of_volumes(
    document: HostDocument, blocks: BlockDevices, volumes: Iterable[tuple[str, str]]
) -> Mapping[tuple[str, str], str]:
    """The kernel's name of each of ``volumes`` (pool and name) that is a block device here."""
    wanted = list(volumes)
    if not wanted:
        return {}
    pools: dict[str, etree._Element] = {}
    for _, output in document.items("libvirt:pool"):
        root = parse_xml(output.stdout) if output.usable else None
        if root is not None and root.tag == "pool":
            pools[child_text(root, "name") or ""] = root
    found: dict[tuple[str, str], str] = {}
    for pool, volume in wanted:
        for name in _devices(pools[pool], pool, volume, blocks) if pool in pools else ():
            found[pool, volume] = name
            break
    return found


def _devices(root: etree._Element, pool: str, volume: str, blocks: BlockDevices) -> Iterator[str]:
    source, target = child_text(root, "source/name") or pool, child_text(root, "target/path")
    paths: tuple[str, ...]
    match root.get("type"):
        case "logical":
            paths = (f"/dev/{source}/{volume}", f"{target}/{volume}")
        case "disk" | "mpath":
            paths = (f"/dev/{volume}", f"{target}/{volume}")
        case "zfs":
            paths = (f"/dev/zvol/{source}/{volume}",)
        case "iscsi" | "scsi":
            yield from _units(root, volume, blocks)
            return
        case _:
            return
    yield from (blocks.aliases[path] for path in paths if path in blocks.aliases)


def _units(root: etree._Element, volume: str, blocks: BlockDevices) -> Iterator[str]:
    unit = _UNIT.match(volume)
    if unit is None:
        return
    bus, target, number = unit.groups()
    device, adapter = root.find("source/device"), root.find("source/adapter")
    host = _HOST.match((adapter.get("name") or "") if adapter is not None else "")
    name = device.get("path") if device is not None else None
    if root.get("type") == "iscsi" and name:
        end = f"-iscsi-{name}-lun-{number}"
        yield from (block for path, block in sorted(blocks.aliases.items()) if path.endswith(end))
    elif host is not None:
        place = f"/{host.group(1)}:{bus}:{target}:{number}/block/"
        yield from (
            block for block, path in blocks.paths.items() if place in path and path.endswith(f"block/{block}")
        )
