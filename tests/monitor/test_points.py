"""Points: rates between beats, and their packed form."""

from __future__ import annotations

import math
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from nodes.inventory.beat import Beat
from nodes.monitor.points import FIGURES, Point, mean, pack, point_of, unpack

FIRST = Beat(
    1, "b", uptime_s=100.0, cpu_busy_ticks=1000, cpu_idle_ticks=9000, net_rx_bytes=10_000, disk_read_bytes=512
)
SECOND = replace(
    FIRST, number=2, uptime_s=105.0, cpu_busy_ticks=1100, cpu_idle_ticks=9400, net_rx_bytes=20_000
)


def test_rates_are_taken_between_two_beats_by_the_hosts_own_clock() -> None:
    point = point_of(FIRST, SECOND, 3.0)
    assert point.cpu_used_percent == 20.0
    assert point.net_rx_bytes_per_s == 2000.0
    assert point.disk_read_bytes_per_s == 0.0
    assert math.isnan(point.net_tx_bytes_per_s)


def test_after_a_reboot_or_a_new_loop_rates_are_unknown() -> None:
    for now in (replace(SECOND, boot_id="c"), replace(SECOND, number=0)):
        assert math.isnan(point_of(FIRST, now, 0).cpu_used_percent)


def test_a_counter_that_went_back_gives_no_rate() -> None:
    assert math.isnan(point_of(FIRST, replace(SECOND, net_rx_bytes=5), 0).net_rx_bytes_per_s)


@given(st.lists(st.floats(width=32, allow_nan=False), min_size=12, max_size=12))
def test_packed_points_come_back(values: list[float]) -> None:
    point = Point(1.5, *values)
    assert unpack(pack([point, point])) == (point, point)


@given(st.binary(max_size=300))
def test_any_bytes_are_read(data: bytes) -> None:
    assert len(unpack(data)) == len(data) // 52


def test_the_mean_passes_over_what_is_unknown() -> None:
    points = [Point(0, cpu_used_percent=10.0), Point(5), Point(10, cpu_used_percent=30.0)]
    result = mean(points, 0)
    assert result.cpu_used_percent == 20.0
    assert all(math.isnan(getattr(result, name)) for name in FIGURES[1:])
