"""LVM's own account of its volume groups: ``lvm fullreport --reportformat json`` (lvmreport(7)).

Numbers come as texts, in bytes; empty texts are what LVM does not know or does not apply.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from nodes.inventory.jsontext import Tree, read_values
from nodes.inventory.smart_tree import branch, decimal, rows, whole, words

_CEPH_TAG = "ceph."


@dataclass(frozen=True, slots=True)
class PhysicalVolume:
    """One physical volume by its device ``path``. ``missing``: the group knows it, but no device has it."""

    path: str
    group: str | None
    uuid: str | None
    size_bytes: int | None
    free_bytes: int | None
    missing: bool


@dataclass(frozen=True, slots=True)
class LogicalVolume:
    """One logical volume.

    ``layout`` as in ``linear``, ``raid,raid1`` or ``thin,pool``, ``health`` as in ``partial`` or ``refresh
    needed`` (None is well); ``data_percent`` and ``metadata_percent`` of thin pools, caches and snapshots.
    ``tags`` are what Ceph writes there (``osd_id`` and the like, without their prefix).
    """

    name: str
    group: str
    uuid: str | None
    size_bytes: int | None
    layout: str | None
    role: str | None
    active: bool | None
    health: str | None
    data_percent: float | None
    metadata_percent: float | None
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class VolumeGroup:
    """One group. ``missing`` is the number of physical volumes that are gone."""

    name: str
    uuid: str | None
    size_bytes: int | None
    free_bytes: int | None
    missing: int | None


@dataclass(frozen=True, slots=True)
class LvmReport:
    """All that LVM tells: groups by name, physical volumes by path, logical volumes by group and name."""

    groups: Mapping[str, VolumeGroup] = field(default_factory=dict)
    physical: Mapping[str, PhysicalVolume] = field(default_factory=dict)
    logical: Mapping[tuple[str, str], LogicalVolume] = field(default_factory=dict)


def read_lvm(text: str) -> LvmReport:
    """The report in ``text``; an empty one where it is none. Never raises."""
    values = read_values(text)
    groups: dict[str, VolumeGroup] = {}
    physical: dict[str, PhysicalVolume] = {}
    logical: dict[tuple[str, str], LogicalVolume] = {}
    for report in rows(values[0] if values else None, "report"):
        group: str | None = None
        for row in rows(report, "vg"):
            group = words(row.get("vg_name"))
            if group is not None:
                groups[group] = _group(group, row)
        for row in rows(report, "pv"):
            path = words(row.get("pv_name"))
            if path is not None:
                physical[path] = _physical(path, row, group)
        for row in rows(report, "lv"):
            name = words(row.get("lv_name"))
            if name is not None and group is not None:
                logical[(group, name)] = _logical(name, group, row)
    return LvmReport(groups, physical, logical)


def _group(name: str, row: Tree) -> VolumeGroup:
    return VolumeGroup(
        name=name,
        uuid=words(row.get("vg_uuid")),
        size_bytes=whole(row.get("vg_size")),
        free_bytes=whole(row.get("vg_free")),
        missing=whole(row.get("vg_missing_pv_count")),
    )


def _physical(path: str, row: Tree, group: str | None) -> PhysicalVolume:
    return PhysicalVolume(
        path=path,
        group=words(row.get("vg_name")) or group,
        uuid=words(row.get("pv_uuid")),
        size_bytes=whole(row.get("pv_size")),
        free_bytes=whole(row.get("pv_free")),
        missing=bool(words(row.get("pv_missing"))),
    )


def _logical(name: str, group: str, row: Tree) -> LogicalVolume:
    active = words(row.get("lv_active"))
    return LogicalVolume(
        # Those that only LVM itself uses stand in brackets.
        name=name.strip("[]"),
        group=group,
        uuid=words(row.get("lv_uuid")),
        size_bytes=whole(row.get("lv_size")),
        layout=words(row.get("lv_layout")),
        role=words(row.get("lv_role")),
        active=None
        if branch(row, "lv_active") is None
        else active is not None and active.startswith("active"),
        health=words(row.get("lv_health_status")),
        data_percent=decimal(row.get("data_percent"), 100),
        metadata_percent=decimal(row.get("metadata_percent"), 100),
        tags=_tags(words(row.get("lv_tags")) or ""),
    )


def _tags(text: str) -> Mapping[str, str]:
    pairs = (tag.partition("=") for tag in text.split(",") if tag.startswith(_CEPH_TAG))
    return {name.removeprefix(_CEPH_TAG): value for name, equals, value in pairs if equals}


def split_mapped_name(name: str) -> tuple[str, str] | None:
    """Group and volume in a name of device-mapper, where LVM doubles the dashes of both; None for others."""
    plain = name.replace("--", "\0")
    group, dash, volume = plain.partition("-")
    if not (dash and group and volume):
        return None
    return group.replace("\0", "-"), volume.replace("\0", "-")
