"""A node's figures over the last hour (every beat) or the last day (every minute), as columns for a plot."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.utils import timezone

from nodes.models import FigureBlock, Heartbeat
from nodes.monitor.points import FIGURES, Point, mean, unpack
from nodes.monitor.store import HOUR, MINUTE

Moment = tuple[float, Point]


@dataclass(frozen=True, slots=True)
class Series:
    """``times`` in seconds since the epoch, ascending; each figure has as many values, None where unknown."""

    times: Sequence[float]
    figures: Mapping[str, Sequence[float | None]]


def last_hour(node_id: int) -> Series:
    """Every beat; the minute that is being filled shows as its newest point alone."""
    since = timezone.now() - timedelta(seconds=HOUR)
    return _columns(_minutes(node_id, since) + _newest(node_id), gap_s=MINUTE)


def last_day(node_id: int) -> Series:
    """A mean a minute: out of the hours that are full, then out of the minutes since."""
    since = timezone.now() - timedelta(days=1)
    rows = FigureBlock.objects.filter(node=node_id, span_s=HOUR, starts_at__gte=since - timedelta(hours=1))
    moments = [
        (begun.timestamp() + point.at_s, point)
        for begun, data in rows.order_by("starts_at").values_list("starts_at", "points")
        for point in unpack(bytes(data))
    ]
    rest_since = datetime.fromtimestamp(moments[-1][0] + MINUTE / 2, since.tzinfo) if moments else since
    blocks = FigureBlock.objects.filter(node=node_id, span_s=MINUTE, starts_at__gte=rest_since)
    moments += [
        (begun.timestamp(), mean(unpack(bytes(data)), 0.0))
        for begun, data in blocks.order_by("starts_at").values_list("starts_at", "points")
    ]
    return _columns([moment for moment in moments if moment[0] >= since.timestamp()], gap_s=3 * MINUTE)


def _minutes(node_id: int, since: datetime) -> list[Moment]:
    rows = FigureBlock.objects.filter(
        node=node_id, span_s=MINUTE, starts_at__gte=since - timedelta(seconds=MINUTE)
    )
    return [
        (begun.timestamp() + point.at_s, point)
        for begun, data in rows.order_by("starts_at").values_list("starts_at", "points")
        for point in unpack(bytes(data))
        if begun.timestamp() + point.at_s >= since.timestamp()
    ]


def _newest(node_id: int) -> list[Moment]:
    row = Heartbeat.objects.filter(node=node_id).exclude(point=None).exclude(seen_at=None).first()
    if row is None or row.point is None or row.seen_at is None:
        return []
    return [(row.seen_at.timestamp(), point) for point in unpack(bytes(row.point))]


def _columns(moments: Sequence[Moment], *, gap_s: float) -> Series:
    """The columns; a time without beats has a moment of unknown values in it, so that no line crosses it."""
    ordered: list[Moment] = []
    for moment in moments:
        before = ordered[-1][0] if ordered else None
        # The newest beat may be the last of a block as well.
        if before is not None and moment[0] - before <= 0.05:
            continue
        if before is not None and moment[0] - before > gap_s:
            ordered.append((before + gap_s / 2, Point(0.0)))
        ordered.append(moment)
    return Series(
        tuple(round(at, 2) for at, _point in ordered),
        {name: tuple(_known(getattr(point, name)) for _at, point in ordered) for name in FIGURES},
    )


def _known(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 3)
