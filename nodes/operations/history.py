"""What is kept of an inventory beside its snapshot: changes, SMART readings, the index of devices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

from nodes.inventory.build import Inventory
from nodes.inventory.changes import Change
from nodes.inventory.smart_history import SmartPoint, smart_points
from nodes.models import Device, FloodKind, InventoryChange, Node, SmartReading
from nodes.models.event import Severity
from nodes.operations.columns import fitting
from nodes.operations.device_index import devices_of
from nodes.operations.node_state.floods import note as note_flood
from nodes.operations.node_state.floods import record_of_host

MAX_CHANGES = 2000
"""Of one inventory. More than that is another machine rather than a change; the first ones tell that, too."""
MAX_CHANGES_A_DAY = 10_000
"""Of one node. Beyond it they are counted only: a host could otherwise fill the database by itself."""
MAX_READINGS_A_DAY = 2000
"""SMART readings of one node."""

SMART_EVERY = timedelta(days=1)
_POINT_FIELDS = tuple(name for name in SmartPoint.__dataclass_fields__ if name != "disk_id")


def keep_changes(node: Node, changes: tuple[Change, ...], observed_at: datetime) -> bool:
    """The changes as rows, and one event that counts them. False where the node has had too many of them."""
    if not changes:
        return True
    kept = InventoryChange.objects.filter(
        node=node, observed_at__gt=observed_at - timedelta(days=1), observed_at__lte=observed_at
    ).count()
    room = min(MAX_CHANGES, max(0, MAX_CHANGES_A_DAY - kept))
    if not room:
        note_flood(node, FloodKind.CHANGES, len(changes))
        return False
    InventoryChange.objects.bulk_create(
        InventoryChange(
            node=node,
            observed_at=observed_at,
            section=change.section,
            kind=change.kind.value,
            path=change.path[:255],
            subject=change.subject[:255],
            label=(change.label or "")[:255],
            before=change.before,
            after=change.after,
        )
        for change in changes[:room]
    )
    by_section: dict[str, int] = {}
    for change in changes:
        by_section[change.section] = by_section.get(change.section, 0) + 1
    record_of_host(
        "inventory_changed",
        f"{node.name}: {len(changes)} changes in its hardware or configuration",
        node=node,
        data={"count": len(changes), "sections": by_section},
    )
    return True


def keep_smart(node: Node, inventory: Inventory, observed_at: datetime) -> None:
    """A reading a day for each disk, one on each change, and a warning when a disk's health falls."""
    result = inventory.results.get("disks")
    if result is None or result.plain is None:
        return
    names = {disk["id"]: _disk_name(disk) for disk in _disks(result.plain)}
    day = SmartReading.objects.filter(node=node, observed_at__gt=observed_at - timedelta(days=1))
    room = MAX_READINGS_A_DAY - day.count()
    for point in smart_points(result.plain):
        last = SmartReading.objects.filter(node=node, disk_id=point.disk_id[:255]).first()
        before = _point_of(last) if last is not None else None
        due = (
            last is None
            or before is None
            or point.differs(before)
            or observed_at - last.observed_at >= SMART_EVERY
        )
        if due and room > 0:
            room -= 1
            values = {
                name: fitting(SmartReading, name, value)
                for name, value in asdict(point).items()
                if name != "disk_id"
            }
            SmartReading.objects.create(
                node=node, disk_id=point.disk_id[:255], observed_at=observed_at, **values
            )
        if _has_fallen(point, before):
            _warn(node, point, before, names.get(point.disk_id, point.disk_id))


def _has_fallen(point: SmartPoint, before: SmartPoint | None) -> bool:
    """Whether the health is worse than it was; of a disk seen for the first time, than healthy."""
    if before is None:
        return point.health in ("warning", "failed")
    return point.worse_than(before)


def _warn(node: Node, point: SmartPoint, before: SmartPoint | None, name: str) -> None:
    words = "is failing" if point.health == "failed" else "needs a look"
    then = f", was {before.health}" if before is not None else ""
    record_of_host(
        "disk_health_fell",
        f"{node.name}: disk {name} {words}{then}",
        node=node,
        severity=Severity.ERROR if point.health == "failed" else Severity.WARNING,
        data={"disk": point.disk_id, "before": before.health if before else None, "after": point.health},
    )


def _point_of(row: SmartReading) -> SmartPoint:
    values: dict[str, Any] = {name: getattr(row, name) for name in _POINT_FIELDS}
    return SmartPoint(disk_id=row.disk_id, **values)


def _disks(facts: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [disk for disk in facts.get("disks") or [] if isinstance(disk, Mapping) and disk.get("id")]


def _disk_name(disk: Mapping[str, Any]) -> str:
    return " ".join(str(part) for part in (disk.get("name"), disk.get("model"), disk.get("serial")) if part)


def keep_devices(node: Node, inventory: Inventory) -> None:
    """Rewrite the node's rows of the index where they differ. A section that was not read keeps its rows."""
    for section, rows in devices_of(node, inventory).items():
        kept = {row.key: row for row in Device.objects.filter(node=node, section=section)}
        fresh = {row.key: row for row in rows}
        gone = [row.pk for key, row in kept.items() if key not in fresh or not _same(row, fresh[key])]
        new = [row for key, row in fresh.items() if key not in kept or not _same(kept[key], row)]
        if gone:
            Device.objects.filter(pk__in=gone).delete()
        if new:
            Device.objects.bulk_create(new)


_COMPARED = tuple(field.attname for field in Device._meta.concrete_fields if field.name != "id")


def _same(one: Device, two: Device) -> bool:
    return all(getattr(one, name) == getattr(two, name) for name in _COMPARED)
