"""What is mounted where, of every kind, as ``/proc/self/mountinfo`` lists it (proc_pid_mountinfo(5))."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from nodes.inventory.blockuse import BlockDevices
from nodes.inventory.parsing.numbers import capped

_OCTAL = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mount:
    """One mount: ``number`` is the device's ``major:minor``, which is no block device's for btrfs or ZFS;
    ``root`` the directory of the file system that is mounted, another than ``/`` of a bind mount."""

    point: str
    number: str
    fs_type: str
    source: str
    root: str = "/"


_OWN_HOST = re.compile(r"(localhost(\.localdomain)?|ip6-localhost|127(\.\d+){3}|\[?::1\]?)\Z", re.IGNORECASE)
_TAGGED = frozenset({"9p", "virtiofs"})
"""Their source is a word that the host of a VM has made up."""


def is_own_host(name: str) -> bool:
    """Whether ``name`` is how every host calls itself."""
    return bool(_OWN_HOST.match(name))


def names_a_server(mount: Mount) -> bool:
    """Whether the source of a network file system means the same on every host."""
    if mount.fs_type in _TAGGED:
        return False
    told = mount.source.removeprefix("//")
    server = told.partition("]")[0] if told.startswith("[") else re.split("[:/]", told, maxsplit=1)[0]
    return not is_own_host(server.strip("[]"))


def read_mounts(lines: Iterable[str]) -> tuple[Mount, ...]:
    """The mounts in their order; a later one hides an earlier one on the same point."""
    found = []
    for line in lines:
        head, _, tail = line.partition(" - ")
        fields, rest = head.split(" "), tail.split(" ")
        if len(fields) >= 5 and len(rest) >= 2:
            found.append(Mount(_plain(fields[4]), fields[2], rest[0], _plain(rest[1]), _plain(fields[3])))
    return tuple(found)


def _plain(text: str) -> str:
    return _OCTAL.sub(lambda match: chr(capped(match.group(1), 8)), text)


def mount_of(path: str, mounts: Sequence[Mount]) -> Mount | None:
    """The mount that holds ``path``: the last one of the longest mount points above it."""
    path = posixpath.normpath(path)
    best: Mount | None = None
    for mount in mounts:
        inside = path == mount.point or path.startswith(mount.point.rstrip("/") + "/")
        if inside and (best is None or len(mount.point) >= len(best.point)):
            best = mount
    return best


def fs_types(mounts: Iterable[Mount], blocks: BlockDevices) -> Mapping[str, str]:
    """Types of the mounted file systems by the block devices that carry them."""
    numbers = {number: name for name in blocks.files if (number := blocks.files.text(name, "dev"))}
    found: dict[str, str] = {}
    for mount in mounts:
        name = numbers.get(mount.number) or blocks.aliases.get(mount.source)
        if name is not None:
            found.setdefault(name, mount.fs_type)
    return found


def device_of(mount: Mount | None, blocks: BlockDevices) -> str | None:
    """The block device below a mount, by kernel name; None for those of memory, network or pools."""
    if mount is None:
        return None
    for name in blocks.files:
        if blocks.files.text(name, "dev") == mount.number:
            return name
    return blocks.aliases.get(mount.source)
