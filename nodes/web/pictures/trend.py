"""A small plot of one figure over time, as a server-rendered line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

WIDTH, HEIGHT, PAD = 220.0, 44.0, 4.0


@dataclass(frozen=True, slots=True)
class Trend:
    """``points`` is an SVG polyline's; ``last_x`` and ``last_y`` mark the newest value."""

    title: str
    unit: str
    points: str
    last_x: float
    last_y: float
    first: float
    last: float
    lowest: float
    highest: float
    since: datetime
    width: float = WIDTH
    height: float = HEIGHT


def draw(title: str, unit: str, values: Sequence[tuple[datetime, float | None]]) -> Trend | None:
    """The line through the known values, oldest first; None where there are fewer than two of them.

    Two at one time are one.

    A figure that never changed is a line in the middle: the scale is that of the values, and stands beside.
    """
    known = [(at, float(value)) for at, value in values if value is not None]
    if len(known) < 2 or known[0][0] == known[-1][0]:
        return None
    begin, span = known[0][0], (known[-1][0] - known[0][0]).total_seconds()
    lowest, highest = min(value for _at, value in known), max(value for _at, value in known)
    places = [
        (
            PAD + (WIDTH - 2 * PAD) * (at - begin).total_seconds() / span,
            HEIGHT / 2
            if highest == lowest
            else HEIGHT - PAD - (HEIGHT - 2 * PAD) * (value - lowest) / (highest - lowest),
        )
        for at, value in known
    ]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    return Trend(title, unit, line, *places[-1], known[0][1], known[-1][1], lowest, highest, begin)
