"""Which of libvirt's storage pools use which block devices, and which VMs have one as their disk.

A pool names devices, a volume group, a ZFS pool, a SCSI host, or just a directory, which lies on the file
system mounted above it (https://libvirt.org/formatstorage.html).
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence

from nodes.inventory.blocktree import BlockTree
from nodes.inventory.blockuse import BlockDevices
from nodes.inventory.document import HostDocument
from nodes.inventory.lvm import split_mapped_name
from nodes.inventory.membership import Managers
from nodes.inventory.mounts import Mount, device_of, mount_of
from nodes.inventory.pools import Pool
from nodes.inventory.pools import parse as parse_pools

_SCSI_HOST = re.compile(r"(?:scsi_)?host(\d+)\Z")


def pools_by_device(
    document: HostDocument,
    blocks: BlockDevices,
    tree: BlockTree,
    managers: Managers,
    mounts: Sequence[Mount],
) -> Mapping[str, tuple[str, ...]]:
    """Names of the active pools by the device (a disk, a partition or a volume) that each stands on."""
    found: dict[str, list[str]] = {}
    for pool in parse_pools(document).facts.pools:
        if pool.active is False:
            continue
        for name in _devices(pool, blocks, tree, managers, mounts):
            names = found.setdefault(name, [])
            if pool.name not in names:
                names.append(pool.name)
    return {name: tuple(names) for name, names in found.items()}


def _devices(
    pool: Pool, blocks: BlockDevices, tree: BlockTree, managers: Managers, mounts: Sequence[Mount]
) -> Iterator[str]:
    source = pool.source
    for path in source.devices if source else ():
        name = blocks.aliases.get(posixpath.normpath(path))
        if name is not None:
            yield name
        elif pool.type == "iscsi" and path.startswith("iqn."):
            yield from (name for alias, name in blocks.aliases.items() if f"-iscsi-{path}-" in alias)
    named = (source.name if source else None) or pool.name
    match pool.type:
        case "logical":
            yield from group_members(named, blocks, tree, managers)
        case "zfs":
            yield from zfs_members(named.split("/")[0], blocks, managers)
        case "mpath":
            yield from (node.name for node in tree.nodes.values() if node.volume == "multipath")
        case "scsi":
            yield from _on_scsi_host(source.adapter if source else None, blocks)
        case "dir" | "fs":
            yield from devices_below(pool.target_path, blocks, managers, mounts)


def group_members(group: str, blocks: BlockDevices, tree: BlockTree, managers: Managers) -> Iterator[str]:
    """Devices of a volume group: by LVM's report, and those right below the group's active volumes."""
    for path, physical in managers.lvm.physical.items():
        name = blocks.aliases.get(path)
        if physical.group == group and name is not None:
            yield name
    for node in tree.nodes.values():
        split = split_mapped_name(blocks.volume_name(node.name)) if node.volume == "lvm" else None
        if split and split[0] == group:
            yield from (parent for parent in node.parents if tree.nodes[parent].volume != "lvm")


def zfs_members(pool: str, blocks: BlockDevices, managers: Managers) -> Iterator[str]:
    """Devices of a ZFS pool, by ZFS's own list and by the labels that the devices carry."""
    for path, device in managers.zfs.devices.items():
        name = blocks.aliases.get(path)
        if device.pool == pool and name is not None:
            yield name
    yield from (name for name, of_pool in blocks.zfs.items() if of_pool == pool)


def _on_scsi_host(adapter: str | None, blocks: BlockDevices) -> Iterator[str]:
    match = _SCSI_HOST.match(adapter or "")
    if match:
        mark = f"/host{match.group(1)}/"
        yield from (name for name, path in blocks.paths.items() if mark in f"{path}/")


def devices_below(
    path: str | None, blocks: BlockDevices, managers: Managers, mounts: Sequence[Mount]
) -> Iterator[str]:
    """The devices that carry the file system in which ``path`` lies."""
    mount = mount_of(path, mounts) if path else None
    if mount is not None and mount.fs_type == "zfs":
        yield from zfs_members(mount.source.split("/")[0], blocks, managers)
        return
    name = device_of(mount, blocks)
    if name is not None:
        yield name
