"""describe-node-figures: what the monitor kept, as columns, and only for who may see the node."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import pairwise

import pytest

from nodes.models import Heartbeat, User
from nodes.monitor.points import Point, pack
from nodes.monitor.store import Block, write_blocks
from tests.factories import make_node

pytestmark = pytest.mark.django_db


def test_the_last_hour_has_every_beat_and_the_last_day_every_minute(
    administrator: User, api: Callable[..., Callable[..., tuple[int, dict]]]
) -> None:
    node = make_node("kvm-01")
    now = time.time()
    this_minute = int(now) // 60
    for number in range(this_minute - 90, this_minute - 1):
        points = [Point(float(at), cpu_used_percent=50.0) for at in range(0, 60, 5)]
        write_blocks([Block(node.pk, number, points)])
    newest = pack([Point(1.0, cpu_used_percent=99.0)])
    Heartbeat.objects.create(node=node, seen_at=datetime.fromtimestamp(now, UTC), point=newest)
    status, hour = api(administrator)("describe-node-figures", {"node": "kvm-01"})
    assert status == 200
    assert 690 <= len(hour["times"]) <= 722
    assert hour["times"] == sorted(hour["times"])
    assert hour["figures"]["cpu_used_percent"][-1] == 99.0
    assert set(hour["figures"]["net_rx_bytes_per_s"]) == {None}
    status, day = api(administrator)("describe-node-figures", {"node": "kvm-01", "span": "day"})
    assert status == 200
    assert 85 <= len(day["times"]) <= 90
    assert min(later - earlier for earlier, later in pairwise(day["times"])) == 60.0


def test_who_may_not_see_the_node_gets_404(
    stranger: User, api: Callable[..., Callable[..., tuple[int, dict]]]
) -> None:
    make_node("kvm-01")
    assert api(stranger)("describe-node-figures", {"node": "kvm-01"})[0] == 404


def test_a_node_that_never_beat_has_empty_columns(
    administrator: User, api: Callable[..., Callable[..., tuple[int, dict]]]
) -> None:
    make_node("kvm-01")
    status, body = api(administrator)("describe-node-figures", {"node": "kvm-01"})
    assert (status, body["times"], body["observed_at"]) == (200, [], None)


def test_a_time_without_beats_is_a_gap_and_no_line(
    administrator: User, api: Callable[..., Callable[..., tuple[int, dict]]]
) -> None:
    node = make_node("kvm-01")
    this_minute = int(time.time()) // 60
    for number in (this_minute - 30, this_minute - 10):
        write_blocks([Block(node.pk, number, [Point(0.0, cpu_used_percent=50.0)])])
    _status, body = api(administrator)("describe-node-figures", {"node": "kvm-01"})
    assert body["figures"]["cpu_used_percent"] == [50.0, None, 50.0]
