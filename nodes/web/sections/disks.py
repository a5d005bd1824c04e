"""Disks: what each is, how it fares, and the tree of what stands upon it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext as _

from nodes.web.tones import Tone

Facts = Mapping[str, Any]
DEEPEST = 12
"""Levels of volumes upon volumes; a document that goes round in circles ends here."""
TROUBLED = (Tone.BAD, Tone.WARN)
"""The worst first."""


@dataclass(frozen=True, slots=True)
class TreeLine:
    """One partition or volume upon a disk."""

    depth: int
    name: str
    kind: str
    size_bytes: int | None
    content: str
    mount_points: tuple[str, ...]
    used_percent: float | None
    used_bytes: int | None
    memberships: tuple[str, ...]
    vms: tuple[tuple[str, bool], ...]
    pools: tuple[str, ...]
    trouble: str


@dataclass(frozen=True, slots=True)
class DiskLine:
    """One disk with its health as a badge and its tree."""

    disk: Facts
    type: str
    link: str
    link_slowed: bool
    tone: Tone
    health: str
    reasons: tuple[tuple[str, str], ...]
    temperature_tone: str
    tree: tuple[TreeLine, ...]
    purpose: tuple[str, ...]


def prepare(facts: Facts) -> dict[str, Any]:
    upon: dict[str, list[Facts]] = {}
    for volume in facts["volumes"]:
        for parent in volume["parents"]:
            upon.setdefault(parent, []).append(volume)
    lines = [disk_line(disk, upon) for disk in facts["disks"]]
    return {
        "lines": lines,
        "troubled": [line for tone in TROUBLED for line in lines if line.tone == tone],
        "kinds": _kinds(lines),
        "total_bytes": sum(d["size_bytes"] or 0 for d in facts["disks"] if d["block_device"]),
    }


def _kinds(lines: list[DiskLine]) -> list[tuple[str, int]]:
    counts: dict[str, int] = {}
    for line in lines:
        counts[line.type] = counts.get(line.type, 0) + 1
    return list(counts.items())


def disk_line(disk: Facts, upon: Mapping[str, list[Facts]]) -> DiskLine:
    smart = disk["smart"] or {}
    tone, words = _health(disk, smart)
    reasons = tuple((r["severity"], r["message"]) for r in smart.get("reasons", ()))
    tree = tuple(_tree(disk, upon))
    link = disk["link"] or {}
    return DiskLine(
        disk=disk,
        type=type_words(disk),
        link=_link(disk, link),
        link_slowed=bool(link.get("slowed")),
        tone=tone,
        health=words,
        reasons=reasons,
        temperature_tone=_temperature(smart),
        tree=tree,
        purpose=tuple(_purpose(disk, tree)),
    )


def type_words(disk: Facts) -> str:
    names = {"nvme": "NVMe", "ssd": "SSD", "hdd": "HDD", "virtual": _("Virtual"), "optical": _("Optical")}
    return names.get(disk["type"], disk["type"] or _("Disk"))


def _link(disk: Facts, link: Facts) -> str:
    name = link.get("name") or (disk["transport"] or "").upper()
    width = link.get("width")
    return f"{name} ×{width}" if width and width > 1 else name


def _health(disk: Facts, smart: Facts) -> tuple[Tone, str]:
    """The verdict as a badge; a disk without SMART is not unhealthy, and not healthy either."""
    if not smart:
        return Tone.UNKNOWN, _("No SMART")
    state = {
        "standby": _("Asleep"),
        "disabled": _("SMART off"),
        "unsupported": _("No SMART"),
        "unknown_bridge": _("Not readable"),
        "denied": _("Not allowed"),
        "missing": _("No smartctl"),
        "timeout": _("No answer"),
        "truncated": _("Cut off"),
    }.get(smart["state"])
    health = {
        "healthy": (Tone.GOOD, _("Healthy")),
        "warning": (Tone.WARN, _("Warning")),
        "failed": (Tone.BAD, _("Failing")),
    }.get(smart["health"])
    return health if health is not None else (Tone.UNKNOWN, state or _("Unknown"))


def _temperature(smart: Facts) -> str:
    now, warning = smart.get("temperature_celsius"), smart.get("temperature_warning_celsius")
    critical = smart.get("temperature_critical_celsius")
    if now is None:
        return ""
    if critical is not None and now >= critical:
        return "bad"
    return "warn" if warning is not None and now >= warning else ""


def _tree(disk: Facts, upon: Mapping[str, list[Facts]]) -> Iterator[TreeLine]:
    for partition in disk["partitions"]:
        yield _tree_line(partition, 0, _partition_kind(partition))
        yield from _volumes(partition["name"], 1, upon)
    if disk["content"] and not disk["partitions"]:
        yield _tree_line(disk, 0, _("whole disk"))
        yield from _volumes(disk["name"], 1, upon)
    else:
        yield from _volumes(disk["name"], 0, upon)


def _volumes(name: str, depth: int, upon: Mapping[str, list[Facts]]) -> Iterator[TreeLine]:
    if depth > DEEPEST:
        return
    for volume in upon.get(name, ()):
        yield _tree_line(volume, depth, volume["kind"], _volume_trouble(volume))
        for below in {volume["name"], volume["kernel_name"]}:
            yield from _volumes(below, depth + 1, upon)


def _partition_kind(partition: Facts) -> str:
    return partition["type_name"] or _("partition")


def _volume_trouble(volume: Facts) -> str:
    raid, lvm = volume["raid"], volume["lvm"]
    if raid and raid["missing"]:
        return _("%d missing") % raid["missing"]
    if lvm and lvm["health"]:
        return str(lvm["health"])
    broken = [path["disk"] for path in volume["paths"] if path["mapped"] == "failed"]
    return _("path down: %s") % ", ".join(broken) if broken else ""


def _tree_line(part: Facts, depth: int, kind: str, trouble: str = "") -> TreeLine:
    content = part["content"] or {}
    use = part["use"]
    return TreeLine(
        depth=depth,
        name=part["name"],
        kind=kind,
        size_bytes=part["size_bytes"],
        content=content.get("type") or "",
        mount_points=tuple(content.get("mount_points") or ()),
        used_percent=content.get("used_percent"),
        used_bytes=content.get("used_bytes"),
        memberships=tuple(_membership(m) for m in part["memberships"]),
        vms=tuple((vm["name"], vm["running"]) for vm in use["vms"] or ()),
        pools=tuple(use["pools"]),
        trouble=trouble,
    )


def _membership(member: Facts) -> str:
    return " ".join(word for word in (member["kind"], member["name"], member["role"]) if word)


def _purpose(disk: Facts, tree: tuple[TreeLine, ...]) -> Iterator[str]:
    """What the disk is for, in a few words: where it is mounted, what it is part of, who has it."""
    if disk["system"]:
        yield _("system")
    seen: dict[str, None] = {}
    for line in tree:
        seen |= dict.fromkeys(line.mount_points)
    for member in disk["memberships"]:
        seen[_membership(member)] = None
    for line in tree:
        seen |= dict.fromkeys(line.memberships)
    seen |= {_("pool %s") % pool: None for pool in disk["use"]["pools"]}
    yield from list(seen)[:4]
    if disk["unused"]:
        yield _("unused")
    elif disk["unused"] is None and disk["block_device"]:
        yield _("use unknown")
