"""Building blocks of the section ``disks``: what each device carries, who uses it, partitions and volumes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from nodes.inventory.blocktree import BlockNode, BlockTree, natural
from nodes.inventory.blockuse import BlockDevices
from nodes.inventory.disk_facts import (
    Content,
    LvmVolume,
    Membership,
    Partition,
    Raid,
    Swap,
    Use,
    VmUse,
    Volume,
)
from nodes.inventory.holders import Holders
from nodes.inventory.lsblk import LsblkDevice
from nodes.inventory.lvm import split_mapped_name
from nodes.inventory.membership import MEMBER_TYPES, Managers, Signature, read_memberships
from nodes.inventory.multipath import PathState
from nodes.inventory.smart_tree import whole

SECTOR = 512
"""The unit of ``size``, ``start`` and ``stat`` in sysfs, whatever the device's own sectors are."""


@dataclass(frozen=True, slots=True)
class HostBlocks:
    """All that is known of a host's block devices, read once and looked up by kernel name."""

    blocks: BlockDevices
    tree: BlockTree
    lsblk: Mapping[str, LsblkDevice]
    managers: Managers
    all_swaps: tuple[Swap, ...] = ()
    swaps: Mapping[str, Swap] = field(default_factory=dict)
    """Those on block devices, by device."""
    pools: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    vm_disks: Mapping[str, Holders] = field(default_factory=dict)
    fs_types: Mapping[str, str] = field(default_factory=dict)
    """Types of mounted file systems, by device."""
    btrfs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Devices of each mounted btrfs, by its UUID."""
    btrfs_labels: Mapping[str, str] = field(default_factory=dict)
    vms_known: bool = True
    pools_known: bool = True
    """Whether libvirt described its VMs and pools: what is of none of them is then free of them."""
    broken_multipath: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Disks by the world wide name that they share, where no multipath device holds them."""

    def device(self, name: str) -> LsblkDevice:
        return self.lsblk.get(name) or LsblkDevice(name)

    def size_bytes(self, name: str) -> int | None:
        sectors = self.blocks.files.number(name, "size")
        if sectors is not None and sectors >= 0:
            return sectors * SECTOR
        return self.device(name).size_bytes

    def flag(self, name: str, file: str, told: bool | None) -> bool | None:
        text = self.blocks.files.text(name, file)
        return {"0": False, "1": True}.get(text) if text in ("0", "1") else told

    def signature(self, name: str) -> Signature:
        found = self.device(name)
        kind = found.fs_type or self.blocks.signatures.get(name)
        return Signature(kind, found.fs_label, found.fs_uuid, found.part_type)

    def memberships(self, name: str) -> tuple[Membership, ...]:
        found = read_memberships(name, self.signature(name), self.blocks, self.tree, self.managers)
        group = next((uuid for uuid, names in self.btrfs.items() if name in names and len(names) > 1), None)
        if group is None:
            return found
        label = self.btrfs_labels.get(group) or self.device(name).fs_label or group
        return (*found, Membership("btrfs", label, "member", "mounted"))

    def use(self, name: str) -> Use:
        node = self.tree.nodes.get(name)
        above = self.tree.above(name)
        pools = {pool: None for other in above for pool in self.pools.get(other, ())}
        vms = {
            (holder.vm_uuid, holder.vm_name, holder.running): None
            for other in above
            for holder in self.vm_disks.get(other, ())
        }
        holders = [child for child in (node.children if node else ()) if self._is_volume(child)]
        return Use(
            tuple(sorted((self.blocks.volume_name(child) for child in holders), key=natural)),
            tuple(sorted(pools)),
            tuple(VmUse(*key) for key in sorted(vms)) if vms or self.vms_known else None,
        )

    def _is_volume(self, name: str) -> bool:
        node = self.tree.nodes.get(name)
        return bool(node and node.volume)


def shown(name: str) -> str:
    """A kernel name as people write it: ``cciss!c0d0`` is ``cciss/c0d0``."""
    return name.replace("!", "/")


def read_content(name: str, host: HostBlocks) -> Content | None:
    """What the device itself carries; None where it carries nothing that is known."""
    found = host.device(name)
    mounts = host.blocks.mounts.get(name, ())
    swap = host.swaps.get(name)
    kind = found.fs_type or host.fs_types.get(name) or host.blocks.signatures.get(name)
    if kind is None and not mounts and swap is None:
        return None
    sizes = _space(found) if mounts else (None, None, None)
    if swap is not None:
        free = (
            None if swap.size_bytes is None or swap.used_bytes is None else swap.size_bytes - swap.used_bytes
        )
        sizes = (swap.size_bytes, swap.used_bytes, free)
    size, used, available = sizes
    return Content(
        kind=_content_kind(kind, swap is not None),
        type=kind or ("swap" if swap is not None else None),
        version=found.fs_version,
        label=found.fs_label,
        uuid=found.fs_uuid,
        mount_points=mounts,
        active=bool(mounts) or swap is not None,
        size_bytes=size,
        used_bytes=used,
        available_bytes=available,
        used_percent=_used_percent(size, used, available),
    )


def _used_percent(size: int | None, used: int | None, available: int | None) -> float | None:
    """As ``df`` counts and the summary's root file system does: of what users can reach, so that 100 % is
    where writing fails. What is kept for root is neither used nor available."""
    reachable = size if available is None or used is None else used + available
    return round(100 * used / reachable, 1) if used is not None and reachable else None


def _space(found: LsblkDevice) -> tuple[int | None, int | None, int | None]:
    return found.fs_size_bytes, found.fs_used_bytes, found.fs_available_bytes


def _content_kind(kind: str | None, is_swap: bool) -> str:
    if is_swap or kind in ("swap", "swsuspend"):
        return "swap"
    if kind in ("crypto_LUKS", "BitLocker"):
        return "encrypted"
    if kind in MEMBER_TYPES:
        return "member"
    return "filesystem" if kind else "other"


def read_partition(name: str, host: HostBlocks) -> Partition:
    found = host.device(name)
    start = host.blocks.files.number(name, "start")
    return Partition(
        name=shown(name),
        path=f"/dev/{shown(name)}",
        number=whole(host.blocks.files.number(name, "partition"), 1),
        start_bytes=start * SECTOR if start is not None and start >= 0 else None,
        size_bytes=host.size_bytes(name),
        type_id=found.part_type,
        type_name=found.part_type_name,
        label=found.part_label,
        uuid=found.part_uuid,
        flags=found.part_flags,
        read_only=host.flag(name, "ro", found.read_only),
        content=read_content(name, host),
        memberships=host.memberships(name),
        use=host.use(name),
    )


def read_volume(node: BlockNode, host: HostBlocks) -> Volume:
    name = node.name
    files, found = host.blocks.files, host.device(node.name)
    known_as = files.text(name, "dm/name") or host.blocks.zvols.get(name) or found.known_as or name
    return Volume(
        id=files.text(name, "dm/uuid") or shown(name),
        name=shown(known_as),
        kernel_name=name,
        path=_volume_path(name, known_as, host),
        kind=node.volume or "other",
        size_bytes=host.size_bytes(name),
        read_only=host.flag(name, "ro", found.read_only),
        parents=tuple(host.blocks.volume_name(parent) for parent in node.parents),
        disks=tuple(shown(disk) for disk in host.tree.disks_of(name)),
        content=read_content(name, host),
        memberships=host.memberships(name),
        use=host.use(name),
        lvm=_lvm(known_as, host) if node.volume == "lvm" else None,
        raid=_raid(name, host) if node.volume == "raid" and name.startswith("md") else None,
        paths=_paths(node, host) if node.volume == "multipath" else (),
        state=files.text(name, "bcache/state"),
    )


def _volume_path(name: str, known_as: str, host: HostBlocks) -> str:
    if name.startswith("dm-") and known_as != name:
        return f"/dev/mapper/{known_as}"
    return f"/dev/zvol/{known_as}" if name in host.blocks.zvols else f"/dev/{shown(name)}"


def _lvm(known_as: str, host: HostBlocks) -> LvmVolume | None:
    split = split_mapped_name(known_as)
    if split is None:
        return None
    told = host.managers.lvm.logical.get(split)
    if told is None:
        return LvmVolume(split[0], split[1], None, None, None, None, None)
    return LvmVolume(
        split[0], split[1], told.layout, told.role, told.health, told.data_percent, told.metadata_percent
    )


def _raid(name: str, host: HostBlocks) -> Raid:
    files = host.blocks.files
    done, _, total = (files.text(name, "md/sync_completed") or "").partition(" / ")
    now, most = whole(done), whole(total, 1)
    return Raid(
        level=files.text(name, "md/level"),
        devices=whole(files.text(name, "md/raid_disks")),
        missing=whole(files.text(name, "md/degraded")),
        state=files.text(name, "md/array_state"),
        action=files.text(name, "md/sync_action"),
        done_percent=round(100 * now / most, 1) if now is not None and most else None,
        metadata=files.text(name, "md/metadata_version"),
    )


def _paths(node: BlockNode, host: HostBlocks) -> tuple[PathState, ...]:
    told = host.managers.multipath.get(node.name)
    if told:
        return told
    states = ((disk, host.blocks.files.text(disk, "device/state")) for disk in node.parents)
    return tuple(PathState(shown(disk), 1, None, None, state) for disk, state in states)


def read_swaps(lines: Iterable[str]) -> tuple[Swap, ...]:
    """The lines of ``/proc/swaps``; sizes there are KiB."""
    found = []
    for line in lines:
        fields = line.split()
        if len(fields) < 5 or not fields[0].startswith("/"):
            continue
        size, used = whole(fields[2]), whole(fields[3])
        found.append(
            Swap(
                path=fields[0].replace("\\040", " "),
                kind=fields[1],
                size_bytes=None if size is None else size * 1024,
                used_bytes=None if used is None else used * 1024,
                priority=whole(fields[4], low=-(2**31)),
            )
        )
    return tuple(found)
