"""What the monitor writes: the newest figures in one go a tick, the plots' blocks each node in its turn."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from django.db import connection

from nodes.inventory.beat import Beat
from nodes.models import FigureBlock, Heartbeat, Node
from nodes.monitor.points import Point, mean, pack, unpack

MINUTE, HOUR = 60, 3600
MINUTE_SLOTS, HOUR_SLOTS = 61, 25
"""An hour of minutes and a day of hours, and one more of each that is being filled."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One beat as it was heard; ``seen_at`` by our clock, in seconds since the epoch."""

    node_id: int
    seen_at: float
    beat: Beat
    point: Point


@dataclass(frozen=True, slots=True)
class Block:
    """Points of one node's minute. ``number`` counts minutes; each node's begin at a second of its own.

    ``next_number`` is the minute that was heard next: after a gap it may lie in another hour, and the rest of
    this one's will never come.
    """

    node_id: int
    number: int
    points: Sequence[Point]
    next_number: int | None = None

    @property
    def starts_at(self) -> int:
        return self.number * MINUTE - phase_s(self.node_id)

    @property
    def hour(self) -> int:
        """Counts hours; each node's begin at a minute of its own."""
        return _hour_of(self.node_id, self.number)

    @property
    def ends_hour(self) -> bool:
        following = self.number + 1 if self.next_number is None else self.next_number
        return _hour_of(self.node_id, following) != self.hour


@dataclass(slots=True)
class BlockInHand:
    """The block that a node's points go into now."""

    node_id: int
    number: int = -1
    points: list[Point] = field(default_factory=list)

    def offset_s(self, seen_at: float) -> float:
        return seen_at - (self._number(seen_at) * MINUTE - phase_s(self.node_id))

    def add(self, seen_at: float, point: Point) -> Block | None:
        """Add a point; gives the block that is full because a new one begins with it."""
        number = self._number(seen_at)
        full = self.close(number) if number != self.number else None
        self.number = number
        self.points.append(point)
        return full

    def close(self, next_number: int | None = None) -> Block | None:
        """The block as it is, and nothing left in hand."""
        block = Block(self.node_id, self.number, tuple(self.points), next_number) if self.points else None
        self.points.clear()
        return block

    def _number(self, seen_at: float) -> int:
        return int(seen_at + phase_s(self.node_id)) // MINUTE


def phase_s(node_id: int) -> int:
    """By how much a node's minutes begin early: otherwise all nodes would write in the same second."""
    return node_id * 7 % MINUTE


def _hour_of(node_id: int, number: int) -> int:
    return (number + node_id) // 60


def write_newest(readings: Iterable[Reading]) -> int:
    """Update the heartbeats: of each node the newest reading, and how many there were. The rows written."""
    newest: dict[int, Reading] = {}
    counts: dict[int, int] = {}
    for reading in readings:
        newest[reading.node_id] = reading
        counts[reading.node_id] = counts.get(reading.node_id, 0) + 1
    table = connection.ops.quote_name(Heartbeat._meta.db_table)
    statement = (
        f"UPDATE {table} SET seen_at = %s, beats = beats + %s, boot_id = %s, cpu_used_percent = %s, "  # noqa: S608
        "memory_used_bytes = %s, vms_running = %s, vms_total = %s, libvirt_up = %s, point = %s "
        "WHERE node_id = %s"
    )
    rows = [
        (
            _moment(reading.seen_at),
            counts[node_id],
            reading.beat.boot_id,
            _known(reading.point.cpu_used_percent),
            reading.beat.memory_used_bytes,
            reading.beat.vms_running,
            reading.beat.vms_total,
            reading.beat.libvirt_up,
            pack([reading.point]),
            node_id,
        )
        for node_id, reading in newest.items()
    ]
    _each(statement, rows)
    return len(rows)


def copy_to_nodes(readings: Sequence[Reading]) -> None:
    """Copy figures to the nodes' own rows, by which lists are sorted; what is unknown stays as it is."""
    table = connection.ops.quote_name(Node._meta.db_table)
    statement = (
        f"UPDATE {table} SET last_seen_at = %s, cpu_used_percent = COALESCE(%s, cpu_used_percent), "  # noqa: S608
        "memory_used_bytes = COALESCE(%s, memory_used_bytes), "
        "memory_total_bytes = COALESCE(%s, memory_total_bytes), "
        "vm_running_count = COALESCE(%s, vm_running_count), vm_count = COALESCE(%s, vm_count) WHERE id = %s"
    )
    rows = [
        (
            _moment(reading.seen_at),
            _known(reading.point.cpu_used_percent),
            reading.beat.memory_used_bytes,
            reading.beat.memory_total_bytes,
            reading.beat.vms_running,
            reading.beat.vms_total,
            reading.node_id,
        )
        for reading in readings
    ]
    _each(statement, rows)


def write_blocks(blocks: Sequence[Block]) -> None:
    """Keep full blocks in their rings, and the hour of each node whose hour ends with one."""
    begun = _begun(blocks)
    rows = [
        _row(
            block.node_id,
            MINUTE,
            block.number % MINUTE_SLOTS,
            block.starts_at,
            sorted(
                [*begun.get((block.node_id, block.starts_at), ()), *block.points],
                key=lambda point: point.at_s,
            ),
        )
        for block in blocks
    ]
    ended = [block for block in blocks if block.ends_hour]
    _upsert(rows)
    _upsert([_hour(block) for block in ended])


def _begun(blocks: Sequence[Block]) -> dict[tuple[int, int], tuple[Point, ...]]:
    """What is stored already of the same minutes: another monitor had the node when they began."""
    if not blocks:
        return {}
    moments = {block.starts_at for block in blocks}
    rows = FigureBlock.objects.filter(
        node__in={block.node_id for block in blocks},
        span_s=MINUTE,
        starts_at__in=[_moment(moment) for moment in moments],
    )
    return {
        (node_id, int(starts_at.timestamp())): unpack(bytes(points))
        for node_id, starts_at, points in rows.values_list("node_id", "starts_at", "points")
    }


def _hour(last: Block) -> FigureBlock:
    """The hour whose last minute that was heard is ``last``: a point a minute."""
    first = last.hour * 60 - last.node_id
    starts_at = first * MINUTE - phase_s(last.node_id)
    minutes = FigureBlock.objects.filter(
        node=last.node_id,
        span_s=MINUTE,
        starts_at__gte=_moment(starts_at),
        starts_at__lte=_moment(last.starts_at),
    ).order_by("starts_at")
    points = [
        mean(unpack(bytes(data)), begun.timestamp() - starts_at)
        for begun, data in minutes.values_list("starts_at", "points")
    ]
    return _row(last.node_id, HOUR, (last.hour + 1) % HOUR_SLOTS, starts_at, points)


def _row(node_id: int, span_s: int, slot: int, starts_at: float, points: Sequence[Point]) -> FigureBlock:
    return FigureBlock(
        node_id=node_id, span_s=span_s, slot=slot, starts_at=_moment(starts_at), points=pack(points)
    )


def _upsert(rows: Sequence[FigureBlock]) -> None:
    if rows:
        FigureBlock.objects.bulk_create(
            rows,
            update_conflicts=True,
            unique_fields=["node", "span_s", "slot"],
            update_fields=["starts_at", "points"],
        )


def _each(statement: str, rows: Sequence[tuple[Any, ...]]) -> None:
    """One statement for many rows; Django's own bulk update would build one of some thousand cases."""
    if rows:
        with connection.cursor() as cursor:
            cursor.executemany(statement, rows)


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
