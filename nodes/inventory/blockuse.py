"""What the host does with each of its block devices: mounts, swap, and the volumes that stand on them.

Sources: ``/proc/self/mountinfo`` and ``/proc/swaps`` (man proc), the ``holders`` of a block device in sysfs
(which device-mapper, md or bcache device stands on it), ``/sys/fs/btrfs`` for file systems of several
devices, udev's database for what a device carries, and ``/proc/spl/kstat/zfs`` for imported pools.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from nodes.inventory.lvm import split_mapped_name
from nodes.inventory.parsing.numbers import capped
from nodes.inventory.sysfiles import Directory

_BLOCK = "/sys/class/block/"
_ZVOLS = "/dev/zvol/"
_OCTAL = re.compile(r"\\([0-7]{3})")
_UDEV = re.compile(r"/run/udev/data/b(\d+:\d+):E:ID_FS_(TYPE|LABEL)=(.*)")
_DEEPEST = 16
"""Volumes stand on volumes; a damaged document may make a ring of them."""

_DM_UUID = re.compile(r"(?:part\d+-)?([A-Za-z]+)-")
_DM_KINDS = {"LVM": "lvm", "CRYPT": "encrypted", "mpath": "multipath", "stratis": "stratis"}
SYSTEM_MOUNTS = frozenset({"/", "/boot", "/boot/efi", "/efi", "/usr", "/var", "/home", "/etc"})


@dataclass(frozen=True, slots=True)
class BlockUse:
    """One use of a block device.

    ``kind`` is ``mount``, ``swap``, ``lvm``, ``raid``, ``encrypted``, ``multipath``, ``bcache``, ``zfs``,
    ``stratis`` or ``volume``; ``names`` the mount points, or the volume's or the pool's name; ``through`` the
    volumes between the device and its use.
    """

    kind: str
    names: tuple[str, ...]
    through: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BlockDevices:
    """The block devices of a host, by their kernel name as sysfs writes it (``cciss!c0d0``)."""

    files: Directory = field(default_factory=Directory)
    paths: Mapping[str, str] = field(default_factory=dict)
    """The device in ``/sys/devices``."""
    holders: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Names of the block devices that stand on it."""
    mounts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    swaps: frozenset[str] = frozenset()
    zfs: Mapping[str, str] = field(default_factory=dict)
    """The imported pool whose member it is."""
    signatures: Mapping[str, str] = field(default_factory=dict)
    """What it carries, in blkid's words (``ext4``, ``LVM2_member``)."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    """Names by path below ``/dev``."""
    zvols: Mapping[str, str] = field(default_factory=dict)
    """The ZFS volume (``tank/vms/web``) that a device is."""

    def size_bytes(self, name: str) -> int | None:
        """Size of the device; None where unknown, and where there is no medium (a size of 0)."""
        sectors = self.files.number(name, "size")
        return sectors * 512 if sectors and sectors > 0 else None

    def volume_kind(self, name: str) -> str:
        """What kind of volume a device is that stands on others."""
        if name.startswith("md"):
            return "raid"
        if name.startswith("bcache"):
            return "bcache"
        match = _DM_UUID.match(self.files.text(name, "dm/uuid") or "")
        return _DM_KINDS.get(match.group(1), "volume") if match else "volume"

    def volume_name(self, name: str) -> str:
        """The name people know it by: device-mapper's or ZFS's, else the kernel's with its slashes back."""
        return self.files.text(name, "dm/name") or self.zvols.get(name) or name.replace("!", "/")

    def uses(self, name: str) -> Iterator[BlockUse]:
        """All uses of one device itself (not of its partitions), also those through volumes on it."""
        yield from self._uses(name, (), frozenset())

    def _uses(self, name: str, through: tuple[str, ...], seen: frozenset[str]) -> Iterator[BlockUse]:
        if mounted := self.mounts.get(name):
            yield BlockUse("mount", mounted, through)
        if name in self.swaps:
            yield BlockUse("swap", (self.volume_name(name),), through)
        if pool := self.zfs.get(name):
            yield BlockUse("zfs", (pool,), through)
        if name in seen or len(seen) >= _DEEPEST:
            return
        for holder in self.holders.get(name, ()):
            known_as = self.volume_name(holder)
            above = list(self._uses(holder, (*through, known_as), seen | {name}))
            yield from above or (BlockUse(self.volume_kind(holder), (known_as,), through),)

    def standing_on(self, name: str) -> frozenset[str]:
        """The device itself and every volume that stands on it."""
        found, pending = {name}, [name]
        while pending:
            above = [holder for holder in self.holders.get(pending.pop(), ()) if holder not in found]
            found.update(above)
            pending += above
        return frozenset(found)


def read_block_devices(
    values: Mapping[str, list[str]], paths: Mapping[str, str], links: Iterable[str], text: str
) -> BlockDevices:
    """Put together from sysfs' files, its links by path, all paths listed, and the text with udev's lines."""
    files = Directory.read(values, _BLOCK)
    devices = {path[len(_BLOCK) :]: real for path, real in paths.items() if _is_entry(path, _BLOCK)}
    numbers = {number: name for name in files if (number := files.text(name, "dev"))}
    aliases = _aliases(paths, files, devices)
    listed = tuple(links)
    mounts = _mounts(values.get("/proc/self/mountinfo", []), numbers, aliases)
    for name, others in _btrfs(listed).items():
        of_whole = tuple(point for other in others for point in mounts.get(other, ()))
        mounts.setdefault(name, of_whole or ("(btrfs)",))
    carried = _carried(text, numbers)
    return BlockDevices(
        files=files,
        paths=devices,
        holders=_holders(listed),
        mounts=mounts,
        swaps=frozenset(_swaps(values.get("/proc/swaps", []), aliases)),
        zfs=_zfs(carried, listed),
        signatures={name: found["TYPE"] for name, found in carried.items() if found.get("TYPE")},
        aliases=aliases,
        zvols={name: path[len(_ZVOLS) :] for path, name in aliases.items() if _is_zvol(path, name)},
    )


def _is_zvol(path: str, name: str) -> bool:
    """Whether ``path`` is a whole ZFS volume, and not a partition of one."""
    return path.startswith(_ZVOLS) and re.fullmatch(r"zd\d+", name) is not None


def _is_entry(path: str, directory: str) -> bool:
    return path.startswith(directory) and "/" not in path[len(directory) :]


def _aliases(paths: Mapping[str, str], files: Directory, devices: Mapping[str, str]) -> dict[str, str]:
    """Kernel names by what may stand for them in fstab, mountinfo or a VM's description."""
    aliases = {f"/dev/{name.replace('!', '/')}": name for name in (*files, *devices)}
    for name in files:
        if known_as := files.text(name, "dm/name"):
            aliases[f"/dev/mapper/{known_as}"] = name
            if split := split_mapped_name(known_as):
                aliases[f"/dev/{split[0]}/{split[1]}"] = name
    for path, real in paths.items():
        if path.startswith(("/dev/disk/", _ZVOLS)):
            aliases[path] = posixpath.basename(real)
    return aliases


def _mounts(
    lines: Iterable[str], numbers: Mapping[str, str], aliases: Mapping[str, str]
) -> dict[str, tuple[str, ...]]:
    """Mount points by device, without bind mounts of parts of what is mounted whole.

    btrfs and bcachefs have numbers of no device: their source tells then.
    """
    whole: dict[str, dict[str, None]] = {}
    parts: dict[str, dict[str, None]] = {}
    for line in lines:
        head, _, tail = line.partition(" - ")
        fields, source = head.split(" "), tail.split(" ")
        if len(fields) < 5:
            continue
        named = numbers.get(fields[2])
        names = [named] if named else []
        if not names and len(source) > 1:
            names = [aliases[part] for part in _unescape(source[1]).split(":") if part in aliases]
        for name in names:
            points = (whole if fields[3] == "/" else parts).setdefault(name, {})
            points[_unescape(fields[4])] = None
    return {name: tuple(sorted(points, key=_shortest)) for name, points in (parts | whole).items()}


def _shortest(point: str) -> tuple[int, str]:
    return len(point), point


def _swaps(lines: Iterable[str], aliases: Mapping[str, str]) -> Iterator[str]:
    for line in lines:
        path = _unescape(line.split(" ")[0].split("\t")[0])
        if path in aliases:
            yield aliases[path]


def _unescape(text: str) -> str:
    """Blanks and the like in paths of /proc stand as octal numbers."""
    return _OCTAL.sub(lambda match: chr(capped(match.group(1), 8)), text)


def _holders(listed: Iterable[str]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for path in listed:
        if path.startswith(_BLOCK):
            name, slash, holder = path[len(_BLOCK) :].partition("/holders/")
            if slash and holder and "/" not in name:
                found[name] = (*found.get(name, ()), holder)
    return found


def _btrfs(listed: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """The other devices of the mounted btrfs that each device belongs to."""
    members: dict[str, list[str]] = {}
    for path in listed:
        if path.startswith("/sys/fs/btrfs/"):
            uuid, found, name = path.removeprefix("/sys/fs/btrfs/").partition("/devices/")
            if found and name:
                members.setdefault(uuid, []).append(name)
    return {name: tuple(names) for names in members.values() for name in names}


def _carried(text: str, numbers: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """TYPE and LABEL of what each device carries, from udev's database."""
    found: dict[str, dict[str, str]] = {}
    for line in text.split("\n"):
        match = _UDEV.match(line)
        if match is not None and match.group(1) in numbers:
            found.setdefault(numbers[match.group(1)], {})[match.group(2)] = match.group(3)
    return found


def _zfs(carried: Mapping[str, Mapping[str, str]], listed: Iterable[str]) -> dict[str, str]:
    """Members of imported pools. A member's label is its pool's name."""
    root = "/proc/spl/kstat/zfs/"
    imported = {path[len(root) :] for path in listed if _is_entry(path, root)}
    return {
        name: found["LABEL"]
        for name, found in carried.items()
        if found.get("TYPE") == "zfs_member" and found.get("LABEL") in imported
    }


def is_system(use: BlockUse) -> bool:
    """Whether the host itself runs from what the device carries."""
    return use.kind == "swap" or (use.kind == "mount" and any(name in SYSTEM_MOUNTS for name in use.names))
