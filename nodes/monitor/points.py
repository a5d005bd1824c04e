"""Points of the plots: what happened between two beats, packed to 52 bytes each."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, fields

from nodes.inventory.beat import Beat

_NAN = float("nan")


@dataclass(frozen=True, slots=True)
class Point:
    """Figures at one moment, ``at_s`` seconds after its block began. Rates are a second; NaN is unknown."""

    at_s: float
    cpu_used_percent: float = _NAN
    memory_used_bytes: float = _NAN
    swap_used_bytes: float = _NAN
    load_1: float = _NAN
    cpu_pressure_percent: float = _NAN
    memory_pressure_percent: float = _NAN
    io_pressure_percent: float = _NAN
    net_rx_bytes_per_s: float = _NAN
    net_tx_bytes_per_s: float = _NAN
    disk_read_bytes_per_s: float = _NAN
    disk_written_bytes_per_s: float = _NAN
    vms_running: float = _NAN


_FORM = struct.Struct(f"<{len(fields(Point))}f")
FIGURES = tuple(field.name for field in fields(Point))[1:]


def point_of(before: Beat | None, now: Beat, at_s: float) -> Point:
    """What ``now`` tells, with rates since ``before``; those are unknown across a reboot or a reset."""
    if before is not None and (before.boot_id != now.boot_id or before.number >= now.number):
        before = None
    seconds = _minus(now.uptime_s, before.uptime_s) if before is not None else _NAN
    return Point(
        at_s=at_s,
        cpu_used_percent=_cpu(before, now),
        memory_used_bytes=_known(now.memory_used_bytes),
        swap_used_bytes=_known(now.swap_used_bytes),
        load_1=_known(now.load_1),
        cpu_pressure_percent=_known(now.cpu_pressure_percent),
        memory_pressure_percent=_known(now.memory_pressure_percent),
        io_pressure_percent=_known(now.io_pressure_percent),
        net_rx_bytes_per_s=_rate(before.net_rx_bytes if before else None, now.net_rx_bytes, seconds),
        net_tx_bytes_per_s=_rate(before.net_tx_bytes if before else None, now.net_tx_bytes, seconds),
        disk_read_bytes_per_s=_rate(before.disk_read_bytes if before else None, now.disk_read_bytes, seconds),
        disk_written_bytes_per_s=_rate(
            before.disk_written_bytes if before else None, now.disk_written_bytes, seconds
        ),
        vms_running=_known(now.vms_running),
    )


def _known(value: float | None) -> float:
    return _NAN if value is None else float(value)


def _minus(now: float | None, before: float | None) -> float:
    return _NAN if now is None or before is None else now - before


def _rate(before: float | None, now: float | None, seconds: float) -> float:
    difference = _minus(now, before)
    return difference / seconds if seconds > 0 and difference >= 0 else _NAN


def _cpu(before: Beat | None, now: Beat) -> float:
    if before is None:
        return _NAN
    busy = _minus(now.cpu_busy_ticks, before.cpu_busy_ticks)
    idle = _minus(now.cpu_idle_ticks, before.cpu_idle_ticks)
    return 100.0 * busy / (busy + idle) if busy >= 0 and idle >= 0 and busy + idle > 0 else _NAN


def pack(points: Iterable[Point]) -> bytes:
    return b"".join(_FORM.pack(*astuple(point)) for point in points)


def unpack(data: bytes) -> tuple[Point, ...]:
    """The points of a block; bytes beyond the last whole one are passed over."""
    whole = len(data) - len(data) % _FORM.size
    return tuple(Point(*values) for values in _FORM.iter_unpack(data[:whole]))


def mean(points: Sequence[Point], at_s: float) -> Point:
    """One point for many: each figure's mean over the points in which it is known."""
    figures = []
    for name in FIGURES:
        known = [value for point in points if not math.isnan(value := getattr(point, name))]
        figures.append(sum(known) / len(known) if known else _NAN)
    return Point(at_s, *figures)
