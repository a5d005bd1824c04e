"""The block devices of a host as the kernel stacks them: disks, their partitions, the volumes upon these.

What is a partition of what, and what stands on what, comes from the kernel's own links (``sdaa1`` is no
part of ``sda``); where they could not be read, from lsblk's tree.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from nodes.inventory.blockuse import BlockDevices
from nodes.inventory.lsblk import LsblkDevice
from nodes.inventory.parsing.numbers import capped

_VOLUME = re.compile(r"(?:dm-|md|bcache|drbd|zd)\d|md_[\w.-]")
"""Arrays may have names: ``md_home`` (``create_named`` of md_mod), ``md_d3`` of old kernels."""
_NEVER_SHOWN = re.compile(r"(?:loop|ram|zram|mtdblock|nullb)\d")
_MMC_AREA = re.compile(r"mmcblk\d+(?:boot\d|rpmb|gp\d)")
_NVME_PATH = re.compile(r"nvme\d+c\d+n\d+")
_DM_UUID = re.compile(r"(part\d+-)?([A-Za-z]+)-")
_DM_KINDS = {"lvm": "lvm", "crypt": "crypt", "mpath": "multipath", "dmraid": "raid", "stratis": "stratis"}
_DEEPEST = 32


class BlockKind(StrEnum):
    DISK = "disk"
    PARTITION = "partition"
    VOLUME = "volume"
    UNSHOWN = "unshown"
    """What is no storage of the host's: loop, RAM disks, and the single paths of NVMe namespaces."""


@dataclass(frozen=True, slots=True)
class BlockNode:
    """One device by its kernel name. ``volume`` tells the kind of a volume (``lvm``, ``crypt``, ``raid``,
    ``multipath``, ``bcache``, ``zvol``, ``drbd``, ``partition`` of a volume, ``other``)."""

    name: str
    kind: BlockKind
    volume: str | None
    parents: tuple[str, ...]
    children: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BlockTree:
    """All devices by kernel name, in a natural order (``sd2`` before ``sd10``)."""

    nodes: Mapping[str, BlockNode]

    def of_kind(self, kind: BlockKind) -> tuple[BlockNode, ...]:
        return tuple(node for node in self.nodes.values() if node.kind is kind)

    def below(self, name: str) -> tuple[str, ...]:
        """The device and all that it stands on, down to the disks."""
        return self._reach(name, up=False)

    def above(self, name: str) -> tuple[str, ...]:
        """The device and all that stands on it."""
        return self._reach(name, up=True)

    def disks_of(self, name: str) -> tuple[str, ...]:
        """The disks that a device stands on (a disk stands on itself)."""
        found = (self.nodes.get(other) for other in self.below(name))
        return tuple(sorted((n.name for n in found if n and n.kind is BlockKind.DISK), key=natural))

    def _reach(self, name: str, *, up: bool) -> tuple[str, ...]:
        found, pending = {name: None}, [name]
        while pending:
            node = self.nodes.get(pending.pop())
            for other in (node.children if up else node.parents) if node else ():
                if other not in found:
                    found[other] = None
                    pending.append(other)
        return tuple(found)


def natural(name: str) -> tuple[tuple[int, int, str], ...]:
    """A key that sorts numbers in names as numbers, and ``sdz`` before ``sdaa``."""
    match = re.match(r"([sxvh]v?d)([a-z]{1,4})(\d*)\Z", name, re.ASCII)
    if match:
        letters = f"{len(match.group(2))}{match.group(2)}"
        return ((1, 0, match.group(1)), (1, 0, letters), (0, capped(match.group(3) or "0"), ""))
    parts = re.findall(r"[0-9]{1,9}|[^0-9]+", name)
    return tuple((0, capped(part), "") if part[0] in "0123456789" else (1, 0, part) for part in parts)


def build_tree(blocks: BlockDevices, lsblk: Mapping[str, LsblkDevice]) -> BlockTree:
    """The tree of every device that the kernel's files, its links or lsblk name."""
    names = sorted({*blocks.files, *blocks.paths, *lsblk}, key=natural)
    known = frozenset(names)
    below: dict[str, list[str]] = {name: [] for name in names}
    for name in names:
        parent = posixpath.basename(posixpath.dirname(blocks.paths.get(name, "")))
        if parent in known and parent != name:
            below[name].append(parent)
    for name, holders in blocks.holders.items():
        for holder in holders:
            if holder in known and name in known and name not in below[holder]:
                below[holder].append(name)
    for name in names:
        found = lsblk.get(name)
        if found and not below[name]:
            below[name] += [parent for parent in found.parents if parent in known]
    above: dict[str, list[str]] = {name: [] for name in names}
    for name, parents in below.items():
        for parent in parents:
            above[parent].append(name)
    return BlockTree({name: _node(name, blocks, lsblk, below[name], above[name]) for name in names})


def _node(
    name: str,
    blocks: BlockDevices,
    lsblk: Mapping[str, LsblkDevice],
    parents: Iterable[str],
    children: Iterable[str],
) -> BlockNode:
    told = lsblk[name].kind if name in lsblk else None
    kind, volume = BlockKind.DISK, None
    is_partition = blocks.files.number(name, "partition") is not None or told == "part"
    on_volume = any(_VOLUME.match(parent) for parent in parents)
    if _NEVER_SHOWN.match(name) or _NVME_PATH.match(name) or blocks.files.text(name, "hidden") == "1":
        kind = BlockKind.UNSHOWN
    elif is_partition and not on_volume:
        kind = BlockKind.PARTITION
    elif _VOLUME.match(name) or on_volume:
        kind, volume = BlockKind.VOLUME, "partition" if is_partition else volume_kind(name, blocks, told)
    elif _MMC_AREA.match(name):
        kind = BlockKind.UNSHOWN
    return BlockNode(name, kind, volume, tuple(parents), tuple(sorted(children, key=natural)))


def volume_kind(name: str, blocks: BlockDevices, told: str | None) -> str:
    """The kind of a volume by its name, else by the UUID that its maker gave device-mapper, else by lsblk."""
    for prefix, kind in (("md", "raid"), ("bcache", "bcache"), ("drbd", "drbd"), ("zd", "zvol")):
        if name.startswith(prefix):
            return kind
    match = _DM_UUID.match(blocks.files.text(name, "dm/uuid") or "")
    if match:
        return "partition" if match.group(1) else _DM_KINDS.get(match.group(2).lower(), "other")
    return {"lvm": "lvm", "crypt": "crypt", "mpath": "multipath", "part": "partition"}.get(
        told or "", "other"
    )
