"""What holds several devices together: volume groups, ZFS pools, btrfs of several devices."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from nodes.inventory.disk_facts import StorageGroup
from nodes.inventory.disk_parts import HostBlocks, shown
from nodes.inventory.disk_pools import group_members, zfs_members
from nodes.inventory.lvm import split_mapped_name


def read_groups(host: HostBlocks) -> tuple[StorageGroup, ...]:
    """All groups, by kind and name; those whose manager could not be asked with what the kernel shows."""
    found = (*_volume_groups(host), *_zpools(host), *_btrfs(host))
    return tuple(sorted(found, key=lambda group: (group.kind, group.name)))


def _volume_groups(host: HostBlocks) -> Iterator[StorageGroup]:
    names = dict.fromkeys(host.managers.lvm.groups)
    for node in host.tree.nodes.values():
        split = split_mapped_name(host.blocks.volume_name(node.name)) if node.volume == "lvm" else None
        if split:
            names.setdefault(split[0])
    for name in names:
        told = host.managers.lvm.groups.get(name)
        members = group_members(name, host.blocks, host.tree, host.managers)
        missing = told.missing if told else None
        yield _group(
            host,
            "lvm",
            name,
            members,
            uuid=told.uuid if told else None,
            size_bytes=told.size_bytes if told else None,
            free_bytes=told.free_bytes if told else None,
            health=None if missing is None else "partial" if missing else "complete",
            missing=missing,
        )


def _zpools(host: HostBlocks) -> Iterator[StorageGroup]:
    for name in dict.fromkeys((*host.managers.zfs.pools, *host.blocks.zfs.values())):
        told = host.managers.zfs.pools.get(name)
        of_pool = [device for device in host.managers.zfs.devices.values() if device.pool == name]
        gone = sum(device.state in ("UNAVAIL", "REMOVED", "FAULTED") for device in of_pool)
        yield _group(
            host,
            "zfs",
            name,
            zfs_members(name, host.blocks, host.managers),
            size_bytes=told.size_bytes if told else None,
            free_bytes=told.free_bytes if told else None,
            health=told.health if told else None,
            missing=gone if of_pool else None,
        )


def _btrfs(host: HostBlocks) -> Iterator[StorageGroup]:
    for uuid, names in host.btrfs.items():
        if len(names) > 1:
            sizes = [host.device(name).fs_size_bytes for name in names]
            size = next((size for size in sizes if size is not None), None)
            label = host.btrfs_labels.get(uuid) or host.device(names[0]).fs_label or uuid
            yield _group(host, "btrfs", label, names, uuid=uuid, size_bytes=size)


def _group(
    host: HostBlocks,
    kind: str,
    name: str,
    members: Iterable[str],
    *,
    uuid: str | None = None,
    size_bytes: int | None = None,
    free_bytes: int | None = None,
    health: str | None = None,
    missing: int | None = None,
) -> StorageGroup:
    unique = tuple(dict.fromkeys(members))
    disks = dict.fromkeys(shown(disk) for member in unique for disk in host.tree.disks_of(member))
    return StorageGroup(
        kind=kind,
        name=name,
        uuid=uuid,
        size_bytes=size_bytes,
        free_bytes=free_bytes,
        health=health,
        missing=missing,
        members=tuple(shown(host.blocks.volume_name(member)) for member in unique),
        disks=tuple(disks),
    )
