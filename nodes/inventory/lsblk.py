"""What ``lsblk -J -b`` knows of block devices: file systems, labels, partition tables, use of space.

Columns differ by version of util-linux, numbers were texts before 2.33, and a device that stands on several
others appears below each of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from nodes.inventory.jsontext import Tree, branch, items, read_values
from nodes.inventory.smart_tree import truth, whole, words

_DEEPEST = 16
_SIZE_HIGH = 1 << 80


@dataclass(frozen=True, slots=True)
class LsblkDevice:
    """One device. ``name`` is the kernel's, with ``!`` for ``/`` as sysfs writes it. Sizes in bytes."""

    name: str
    parents: tuple[str, ...] = ()
    kind: str | None = None
    """lsblk's TYPE: ``disk``, ``part``, ``lvm``, ``crypt``, ``mpath``, ``raid1``, ``rom`` …"""
    known_as: str | None = None
    size_bytes: int | None = None
    read_only: bool | None = None
    removable: bool | None = None
    rotational: bool | None = None
    logical_sector_bytes: int | None = None
    physical_sector_bytes: int | None = None
    fs_type: str | None = None
    fs_version: str | None = None
    fs_label: str | None = None
    fs_uuid: str | None = None
    mount_point: str | None = None
    fs_size_bytes: int | None = None
    fs_available_bytes: int | None = None
    fs_used_bytes: int | None = None
    table_type: str | None = None
    table_id: str | None = None
    part_type: str | None = None
    part_type_name: str | None = None
    part_label: str | None = None
    part_uuid: str | None = None
    part_flags: str | None = None
    model: str | None = None
    vendor: str | None = None
    serial: str | None = None
    revision: str | None = None
    wwn: str | None = None
    transport: str | None = None
    hctl: str | None = None


def read_lsblk(text: str) -> Mapping[str, LsblkDevice]:
    """The devices by name; none where ``text`` is no output of lsblk's, and never an exception."""
    values = read_values(text)
    found: dict[str, tuple[Tree, list[str]]] = {}
    for row, parent in _rows(items(values[0] if values else None, "blockdevices"), None, 0):
        name = words(row.get("kname")) or words(row.get("name"))
        if name is None:
            continue
        name = name.removeprefix("/dev/").replace("/", "!")
        _, parents = found.setdefault(name, (row, []))
        if parent is not None and parent != name and parent not in parents:
            parents.append(parent)
    return {name: _device(name, tuple(parents), row) for name, (row, parents) in found.items()}


def _rows(rows: object, parent: str | None, depth: int) -> Iterator[tuple[Tree, str | None]]:
    if not isinstance(rows, list | tuple) or depth > _DEEPEST:
        return
    for row in rows:
        if not isinstance(row, Mapping):
            continue
        yield row, parent
        name = words(row.get("kname")) or words(row.get("name"))
        below = name.removeprefix("/dev/").replace("/", "!") if name else parent
        yield from _rows(branch(row, "children"), below, depth + 1)


def _device(name: str, parents: tuple[str, ...], row: Tree) -> LsblkDevice:
    def size(column: str) -> int | None:
        return whole(row.get(column), 0, _SIZE_HIGH)

    def text(column: str) -> str | None:
        value = row.get(column)
        return (value.strip() or None) if isinstance(value, str) else None

    return LsblkDevice(
        name=name,
        parents=parents,
        kind=text("type"),
        known_as=text("name"),
        size_bytes=size("size"),
        read_only=_yes(row.get("ro")),
        removable=_yes(row.get("rm")),
        rotational=_yes(row.get("rota")),
        logical_sector_bytes=size("log-sec") or None,
        physical_sector_bytes=size("phy-sec") or None,
        fs_type=text("fstype"),
        fs_version=text("fsver"),
        fs_label=text("label"),
        fs_uuid=text("uuid"),
        mount_point=text("mountpoint"),
        fs_size_bytes=size("fssize"),
        fs_available_bytes=size("fsavail"),
        fs_used_bytes=size("fsused"),
        table_type=text("pttype"),
        table_id=text("ptuuid"),
        part_type=text("parttype"),
        part_type_name=text("parttypename"),
        part_label=text("partlabel"),
        part_uuid=text("partuuid"),
        part_flags=text("partflags"),
        model=text("model"),
        vendor=text("vendor"),
        serial=text("serial"),
        revision=text("rev"),
        wwn=text("wwn"),
        transport=text("tran"),
        hctl=text("hctl"),
    )


def _yes(value: object) -> bool | None:
    return (
        {"0": False, "1": True}.get(value) if isinstance(value, str) and value in ("0", "1") else truth(value)
    )
