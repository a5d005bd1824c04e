"""What the endpoints of history and search give (see answers.py)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from nodes.models import Device, InventoryChange


@dataclass(frozen=True, slots=True)
class ChangeAnswer:
    """One difference between two inventories. ``before`` and ``after`` are facts, null for what was not."""

    node: str
    observed_at: datetime
    section: str
    kind: str
    path: str
    subject: str | None
    label: str | None
    before: Any
    after: Any

    @classmethod
    def of(cls, change: InventoryChange) -> ChangeAnswer:
        """The change with ``node`` loaded before."""
        return cls(
            change.node.name,
            change.observed_at,
            change.section,
            change.kind,
            change.path,
            change.subject or None,
            change.label or None,
            change.before,
            change.after,
        )


@dataclass(frozen=True, slots=True)
class DeviceAnswer:
    """A device of some node. ``free``: a VM could have it now (a disk: nothing is on it). Null is unknown."""

    node: str
    section: str
    key: str
    kind: str
    vendor_id: str | None
    device_id: str | None
    vendor: str | None
    model: str | None
    serial: str | None
    driver: str | None
    numa_cell: int | None
    iommu_group: int | None
    passthrough: str | None
    held_by: str | None
    free: bool | None
    size_bytes: int | None
    health: str | None

    @classmethod
    def of(cls, device: Device) -> DeviceAnswer:
        """The device with ``node`` loaded before."""
        texts = ("vendor_id", "device_id", "vendor", "model", "serial", "driver", "passthrough", "held_by")
        values: dict[str, Any] = {name: getattr(device, name) or None for name in (*texts, "health")}
        return cls(
            node=device.node.name,
            section=device.section,
            key=device.key,
            kind=device.kind,
            numa_cell=device.numa_cell,
            iommu_group=device.iommu_group,
            free=device.free,
            size_bytes=device.size_bytes,
            **values,
        )


@dataclass(frozen=True, slots=True)
class ChangePage:
    count: int
    results: list[ChangeAnswer]


@dataclass(frozen=True, slots=True)
class DevicePage:
    count: int
    results: list[DeviceAnswer]


@dataclass(frozen=True, slots=True)
class FiguresAnswer:
    """Columns: ``times`` in seconds since the epoch, and as many values of each figure; null is unknown.

    ``observed_at`` is when the newest beat came.
    """

    node: str
    span: str
    observed_at: datetime | None
    times: list[float]
    figures: dict[str, list[float | None]]
