"""What a block device is on every host that has it, whatever its path there.

A disk that several hosts reach is named by its world wide name: NAA (SPC-4, 7.8.6.6), EUI-64 or an NVMe
namespace's NGUID or UUID (NVM Express base specification, 4.7.1); one that has none by its iSCSI target and
logical unit (RFC 7143, 4.2.7). A multipath device is the disk that it leads to, a partition the disk with a
number, a logical volume its own UUID upon the disks of its group: hosts that were installed from one image
have the same UUIDs on different disks.

No identity has what only one host can hold (a disk at PCIe, SATA, USB), what is named by a made-up number,
and what two hosts must not have open at once (thin volumes, snapshots, caches and mirrors of LVM, md).
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from nodes.inventory.block.names import iscsi_units, map_name, world_wide_name
from nodes.inventory.blocktree import BlockKind, BlockNode, BlockTree, build_tree
from nodes.inventory.blockuse import BlockDevices, read_block_devices
from nodes.inventory.disk_link import Buses, find_place, read_buses
from nodes.inventory.disk_sources import DISK_FILES, DISK_LSBLK, DISK_LVM
from nodes.inventory.document import HostDocument
from nodes.inventory.hostuse import USE_FILES, USE_LINKS
from nodes.inventory.lsblk import LsblkDevice, read_lsblk
from nodes.inventory.lvm import LvmReport, read_lvm, split_mapped_name
from nodes.inventory.parsing.numbers import integer
from nodes.inventory.pool_volumes import devices_of_volumes
from nodes.inventory.pools import POOL, POOLS
from nodes.inventory.section import Parsed, Section
from nodes.inventory.sysfiles import read_links, read_values, resolve_links

_REACHED_BY_MANY = frozenset({"sas", "fc", "iscsi", "scsi", "virtio", "nvme"})
_ONE_HOST_NVME = frozenset({None, "pcie", "loop", "apple-nvme"})
_LVM_UUID = re.compile(r"LVM-([0-9A-Za-z]{32})([0-9A-Za-z]{32})\Z")
"""Of a volume itself; what LVM keeps below one has a suffix (``-tpool``, ``-cow``, ``-real``)."""
_PART = re.compile(r"part(\d+)-")


@dataclass(frozen=True, slots=True)
class BlockIdentity:
    """A device is the same as another one where both are equal.

    ``disks`` are the names of the disks that it stands on, ``layers`` what lies between (``part:2``,
    ``lvm:`` with the UUIDs of group and volume).
    """

    disks: frozenset[str]
    layers: tuple[str, ...] = ()

    def __str__(self) -> str:
        shown = [layer for layer in self.layers if layer.startswith("part:")]
        return " ".join([*sorted(self.disks), *shown])


@dataclass(frozen=True, slots=True)
class GroupIdentity:
    """A volume group by its UUID (without dashes) and its disks; ``whole`` False: there may be more of
    them."""

    uuid: str
    disks: frozenset[str]
    whole: bool

    def same(self, other: GroupIdentity) -> bool:
        """Whether both are one group on the same disks, as far as those are known."""
        if self.uuid != other.uuid:
            return False
        if self.whole and other.whole:
            return self.disks == other.disks
        return self.disks <= other.disks or other.disks <= self.disks


@dataclass(frozen=True, slots=True)
class HostBlockIdentities:
    """The block devices of one host by what they are; names are the kernel's."""

    paths: Mapping[str, str] = field(default_factory=dict)
    """Devices by each path below ``/dev`` that is known to lead to them."""
    identities: Mapping[str, BlockIdentity] = field(default_factory=dict)
    groups: Mapping[str, GroupIdentity] = field(default_factory=dict)
    """Volume groups by name, those whose disks are all reached by more than one host."""
    preferred: Mapping[BlockIdentity, str] = field(default_factory=dict)
    """The path to open a device by: a multipath device before its single paths."""
    document: HostDocument | None = None
    blocks: BlockDevices = field(default_factory=BlockDevices)

    def at(self, path: str) -> BlockIdentity | None:
        """What the device at ``path`` is; None where there is none, or it is one of this host alone."""
        return self.identities.get(self.paths.get(posixpath.normpath(path), ""))

    def has(self, path: str) -> bool:
        """Whether there is a device at ``path``."""
        return posixpath.normpath(path) in self.paths

    def of_volume(self, pool: str, volume: str) -> BlockIdentity | None:
        """What the volume of a libvirt pool of block devices is."""
        if self.document is None:
            return None
        found = devices_of_volumes(self.document, self.blocks, {(pool, volume): True}).found
        return self.identities.get(found.get((pool, volume), ""))


def read_identities(document: HostDocument) -> HostBlockIdentities | None:
    """The identities in ``document``; None where the kernel's files were not read. Never raises."""
    own, shared = document.text(DISK_FILES.name), document.text(USE_FILES.name)
    links = read_links(document.text(USE_LINKS.name))
    if not shared or not links:
        return None
    values = {**read_values(shared), **read_values(own)}
    paths = resolve_links(links)
    lsblk = read_lsblk(document.text(DISK_LSBLK.name))
    blocks = read_block_devices(values, paths, links, shared)
    tree = build_tree(blocks, lsblk)
    buses = read_buses(values, own, links, paths, blocks.paths)
    reading = _Reading(blocks, tree, lsblk, buses, iscsi_units(blocks.aliases))
    identities = {name: found for name in tree.nodes if (found := reading.identity(name)) is not None}
    return HostBlockIdentities(
        paths=blocks.aliases,
        identities=identities,
        groups=_groups(read_lvm(document.text(DISK_LVM.name)), blocks, identities),
        preferred=_preferred(identities, tree, blocks),
        document=document,
        blocks=blocks,
    )


@dataclass(frozen=True, slots=True)
class _Reading:
    blocks: BlockDevices
    tree: BlockTree
    lsblk: Mapping[str, LsblkDevice]
    buses: Buses
    units: Mapping[str, str]

    def identity(self, name: str, depth: int = 16) -> BlockIdentity | None:
        node = self.tree.nodes.get(name)
        if node is None or depth == 0:
            return None
        if node.kind is BlockKind.DISK:
            found = self._disk(name)
            return BlockIdentity(frozenset({found})) if found else None
        below = [self.identity(parent, depth - 1) for parent in node.parents]
        known = [identity for identity in below if identity is not None]
        if not known or len(known) < len(below):
            return None
        if node.kind is BlockKind.PARTITION or node.volume == "partition":
            return self._partition(name, known[0])
        if node.volume == "multipath":
            return self._multipath(name, known)
        return self._logical_volume(name, node, known) if node.volume == "lvm" else None

    def _disk(self, name: str) -> str | None:
        """The name of a disk that more than one host can reach."""
        files, device = self.blocks.files, self.lsblk.get(name) or LsblkDevice(name)
        place = find_place(name, self.buses, files.text(name, "device/vendor"), device.transport)
        if place.transport not in _REACHED_BY_MANY:
            return None
        if place.transport == "nvme":
            ways = {self.buses.nvme.text(path, "transport") for path in place.nvme_controllers}
            if not ways or ways & _ONE_HOST_NVME:
                return None
        told = files.text(name, "device/wwid") or files.text(name, "wwid") or device.wwn or ""
        return world_wide_name(told) or self.units.get(name)

    def _partition(self, name: str, disk: BlockIdentity) -> BlockIdentity | None:
        number = self.blocks.files.number(name, "partition")
        told = _PART.match(self.blocks.files.text(name, "dm/uuid") or "")
        if number is None and told is not None:
            number = integer(told.group(1))
        return BlockIdentity(disk.disks, (*disk.layers, f"part:{number}")) if number is not None else None

    def _multipath(self, name: str, ways: list[BlockIdentity]) -> BlockIdentity | None:
        """The one disk that all paths lead to; the map's own name must not speak against it."""
        own = map_name(self.blocks.files.text(name, "dm/uuid") or "")
        if any(way != ways[0] for way in ways[1:]) or (own is not None and {own} != set(ways[0].disks)):
            return None
        return ways[0]

    def _logical_volume(self, name: str, node: BlockNode, below: list[BlockIdentity]) -> BlockIdentity | None:
        """A linear or striped volume, which stands on physical volumes directly."""
        uuid = _LVM_UUID.match(self.blocks.files.text(name, "dm/uuid") or "")
        on_volumes = any(self.tree.nodes[parent].volume == "lvm" for parent in node.parents)
        snapshots = any(self.tree.nodes[child].volume == "lvm" for child in node.children)
        if uuid is None or on_volumes or snapshots:
            return None
        return BlockIdentity(_disks(below), (f"lvm:{uuid.group(1)}{uuid.group(2)}",))


def _disks(identities: Iterable[BlockIdentity]) -> frozenset[str]:
    return frozenset(disk for identity in identities for disk in identity.disks)


def _preferred(
    identities: Mapping[str, BlockIdentity], tree: BlockTree, blocks: BlockDevices
) -> dict[BlockIdentity, str]:
    found: dict[BlockIdentity, str] = {}
    for name, identity in identities.items():
        node = tree.nodes[name]
        held = any(tree.nodes[child].volume == "multipath" for child in node.children)
        if held or (identity in found and node.volume != "multipath"):
            continue
        known_as = blocks.files.text(name, "dm/name")
        found[identity] = f"/dev/mapper/{known_as}" if known_as else _steady_path(name, blocks)
    return found


def _steady_path(name: str, blocks: BlockDevices) -> str:
    """A path that stays the same over reboots, where there is one."""
    links = sorted(path for path, device in blocks.aliases.items() if device == name)
    steady = [path for path in links if path.startswith(("/dev/disk/by-id/wwn-", "/dev/disk/by-id/nvme-"))]
    by_id = [path for path in links if path.startswith("/dev/disk/by-id/")]
    return next(iter((*steady, *by_id)), f"/dev/{name.replace('!', '/')}")


def _groups(
    report: LvmReport, blocks: BlockDevices, identities: Mapping[str, BlockIdentity]
) -> dict[str, GroupIdentity]:
    """By LVM's report; where that may not be read, by the volumes that are active."""
    found: dict[str, GroupIdentity] = {}
    for name, group in report.groups.items():
        devices = [pv.path for pv in report.physical.values() if pv.group == name]
        below = [identities.get(blocks.aliases.get(path, "")) for path in devices]
        known = [identity for identity in below if identity is not None]
        if group.uuid and known and len(known) == len(below):
            found[name] = GroupIdentity(group.uuid.replace("-", ""), _disks(known), whole=True)
    if report.groups:
        return found
    for name, identity in identities.items():
        split = split_mapped_name(blocks.files.text(name, "dm/name") or "")
        uuid = _LVM_UUID.match(blocks.files.text(name, "dm/uuid") or "")
        if split is not None and uuid is not None:
            known_disks = found[split[0]].disks if split[0] in found else frozenset()
            found[split[0]] = GroupIdentity(uuid.group(1), known_disks | identity.disks, whole=False)
    return found


def _parse(document: HostDocument) -> Parsed[HostBlockIdentities | None]:
    return Parsed(read_identities(document), ())


SECTION: Section[HostBlockIdentities | None] = Section(
    slug="block-identity",
    title="Block devices",
    sources=(USE_FILES, USE_LINKS, DISK_FILES, DISK_LSBLK, DISK_LVM),
    parse=_parse,
    libvirt=(POOLS, POOL),
    tab=False,
)
"""What identities are read from. No section of the inventory: a plan asks for it when it is made."""
