"""SMART over time: one point to store, and last known values for disks that sleep.

Both work on plain facts, as snapshots store them, and touch nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from nodes.inventory.jsontext import branch, items
from nodes.inventory.smart_tree import whole, words

_UNANSWERED = frozenset({"standby", "timeout", "truncated"})
_NOT_ASKED = frozenset({"failed", "denied", "missing", "empty", "unreadable"})
"""States in which a disk's last values are no longer shown; who it is stays as it was told."""
_KEPT_AS_NOW = frozenset({"state", "exit_status", "exit_bits", "messages", "values_observed_at"})
_IDENTITY = ("type", "rotation_rpm", "form_factor", "interface", "vendor", "model", "serial", "wwn")
_SETTINGS = ("logical_sector_bytes", "physical_sector_bytes")
_OF_A_PLACE = ("path-", "name-")
"""Identifiers of whatever disk is there."""
_TELLING = (
    *("wear_used_percent", "reallocated_sectors", "pending_sectors", "uncorrectable_sectors"),
    "media_errors",
)
_HEALTH = ("unknown", "healthy", "warning", "failed")


@dataclass(frozen=True, slots=True)
class SmartPoint:
    """What is kept of a disk's SMART at one moment, under the disk's stable ``disk_id``.

    °C, percent, hours; counts of sectors and errors since the disk was made. None where the disk does not
    tell.
    """

    disk_id: str
    health: str
    temperature_celsius: int | None
    wear_used_percent: int | None
    power_on_hours: int | None
    reallocated_sectors: int | None
    pending_sectors: int | None
    uncorrectable_sectors: int | None
    media_errors: int | None
    written_bytes: int | None

    def differs(self, other: SmartPoint) -> bool:
        """Whether something worth a point of its own changed: not temperature, hours or amounts of data.

        That a value could not be read this time is nothing of the kind.
        """
        if self.health != other.health:
            return True
        pairs = ((getattr(self, name), getattr(other, name)) for name in _TELLING)
        return any(now is not None and now != then for now, then in pairs)

    def worse_than(self, other: SmartPoint) -> bool:
        """Whether the health fell from ``other``'s. Becoming unknown is no fall."""
        now, then = _HEALTH.index(self.health), _HEALTH.index(other.health)
        return now > max(then, _HEALTH.index("healthy"))


def smart_point(disk: Mapping[str, Any]) -> SmartPoint | None:
    """The point of one disk of the section's plain facts; None where it gave no values of its own now."""
    smart, disk_id = branch(disk, "smart"), words(branch(disk, "id"))
    if disk_id is None or branch(smart, "state") != "read" or branch(smart, "values_observed_at"):
        return None
    health = words(branch(smart, "health"))

    def number(name: str, low: int = 0) -> int | None:
        return whole(branch(smart, name), low)

    return SmartPoint(
        disk_id=disk_id,
        health=health if health in _HEALTH else "unknown",
        temperature_celsius=number("temperature_celsius", -100),
        wear_used_percent=number("wear_used_percent"),
        power_on_hours=number("power_on_hours"),
        reallocated_sectors=number("reallocated_sectors"),
        pending_sectors=number("pending_sectors"),
        uncorrectable_sectors=number("uncorrectable_sectors"),
        media_errors=number("media_errors"),
        written_bytes=number("written_bytes"),
    )


def smart_points(facts: Mapping[str, Any]) -> Iterator[SmartPoint]:
    """The points of all disks in the plain facts of the section ``disks``."""
    for disk in items(facts, "disks"):
        point = smart_point(disk) if isinstance(disk, Mapping) else None
        if point is not None:
            yield point


def carry_over(previous: Mapping[str, Any], previous_at: str, current: Mapping[str, Any]) -> dict[str, Any]:
    """``current`` with the last known SMART values of disks that sleep or did not answer in time.

    ``previous`` and ``current`` are plain facts of the section ``disks``, ``previous_at`` is when the older
    ones were observed (RFC 3339). A carried disk keeps its present ``state``, has the older values and
    ``health`` with the reasons of both, and says in ``values_observed_at`` when these were read, however many
    inventories ago. Neither argument is changed.
    """
    known = {words(branch(disk, "id")): disk for disk in items(previous, "disks")}
    disks = [
        _carried(known.get(words(branch(disk, "id"))), previous_at, disk) for disk in items(current, "disks")
    ]
    return {**current, "disks": disks}


def _carried(older: Any, older_at: str, disk: Any) -> Any:
    smart, before = branch(disk, "smart"), branch(older, "smart")
    if not isinstance(smart, Mapping) or not isinstance(before, Mapping):
        return disk
    has_values = before.get("state") == "read" or before.get("values_observed_at")
    if smart.get("state") in _NOT_ASKED:
        of_a_place = (words(branch(disk, "id")) or "").startswith(_OF_A_PLACE)
        return disk if of_a_place else _with_identity(older, disk)
    if smart.get("state") not in _UNANSWERED or not has_values:
        return disk
    now = {name: smart[name] for name in _KEPT_AS_NOW if name in smart}
    why = [reason for reason in items(before, "reasons") if branch(reason, "code") not in _UNANSWERED]
    merged = {**before, **now, "values_observed_at": before.get("values_observed_at") or older_at}
    merged["reasons"] = [*items(smart, "reasons"), *why]
    link, was = branch(disk, "link"), branch(older, "link")
    if not isinstance(link, Mapping) or (link.get("speed_mbps") is None and isinstance(was, Mapping)):
        link = was
    return _with_identity(older, {**disk, "smart": merged, "link": link})


def _with_identity(older: Mapping[str, Any], disk: Mapping[str, Any]) -> dict[str, Any]:
    """``disk`` as SMART once told who it is; the kernel knows that only in part.

    What may be another by now is the kernel's to say: the firmware, of which it may show a part, the size of
    sectors, and the speed of the link. Only the highest speed is the disk's own.
    """
    known = {name: older[name] for name in _IDENTITY if older.get(name) is not None}
    known |= {name: older[name] for name in _SETTINGS if name in older and disk.get(name) is None}
    firmware, before = words(disk.get("firmware")), words(older.get("firmware"))
    if before is not None and (firmware is None or firmware in before):
        known["firmware"] = before
    return {**disk, **known, "link": _with_highest_speed(branch(older, "link"), disk.get("link"))}


def _with_highest_speed(older: Any, link: Any) -> Any:
    if not isinstance(older, Mapping):
        return link
    if not isinstance(link, Mapping):
        return {**older, "speed_mbps": None, "width": None, "slowed": None}
    now, most = link.get("speed_mbps"), older.get("max_speed_mbps")
    if link.get("name") not in ("SATA", "SAS") or link.get("name") != older.get("name") or most is None:
        return link
    return {**link, "max_speed_mbps": most, "slowed": None if now is None else now < most}
