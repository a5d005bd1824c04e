"""What is kept of the beats, and that it never grows."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from nodes.inventory.beat import Beat
from nodes.models import FigureBlock, Heartbeat, Node
from nodes.monitor.points import Point, unpack
from nodes.monitor.store import (
    HOUR,
    HOUR_SLOTS,
    MINUTE,
    MINUTE_SLOTS,
    Block,
    BlockInHand,
    Reading,
    copy_to_nodes,
    phase_s,
    write_blocks,
    write_newest,
)
from tests.factories import make_node

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC).timestamp()


def reading(node: Node, at: float, **figures: float) -> Reading:
    beat = Beat(1, "boot", memory_used_bytes=5, vms_running=2, libvirt_up=True)
    return Reading(node.pk, at, beat, Point(0.0, **figures))


def test_the_newest_of_many_readings_is_kept_and_all_are_counted() -> None:
    node = make_node()
    Heartbeat.objects.create(node=node)
    write_newest([reading(node, NOW, cpu_used_percent=10.0), reading(node, NOW + 5, cpu_used_percent=20.0)])
    heartbeat = Heartbeat.objects.get()
    assert (heartbeat.beats, heartbeat.cpu_used_percent) == (2, 20.0)
    assert heartbeat.seen_at == datetime.fromtimestamp(NOW + 5, UTC)


def test_many_nodes_are_one_statement() -> None:
    nodes = [make_node() for _ in range(20)]
    Heartbeat.objects.bulk_create(Heartbeat(node=node) for node in nodes)
    with CaptureQueriesContext(
        connection,
    ) as queries:
        write_newest([reading(node, NOW) for node in nodes])
    assert len(queries) == 1
    assert Heartbeat.objects.filter(beats=1).count() == 20


def test_what_a_beat_does_not_tell_stays_on_the_node() -> None:
    node = make_node(cpu_used_percent=33.0, vm_count=7)
    copy_to_nodes([reading(node, NOW)])
    node.refresh_from_db()
    assert (node.cpu_used_percent, node.vm_count, node.vm_running_count) == (33.0, 7, 2)


def test_a_minute_of_points_becomes_one_block() -> None:
    hand = BlockInHand(node_id=3)
    full = [hand.add(NOW + second, Point(hand.offset_s(NOW + second))) for second in range(0, 125, 5)]
    blocks = [block for block in full if block is not None]
    assert len(blocks) == 2
    assert all(0 <= point.at_s < MINUTE for block in blocks for point in block.points)
    assert [later.number - earlier.number for earlier, later in pairwise(blocks)] == [1]


def test_two_days_of_blocks_take_a_day_of_rows_and_the_hours_hold_every_minute() -> None:
    node = make_node()
    first = int(NOW) // MINUTE
    minutes = 26 * 60
    for number in range(first, first + minutes):
        write_blocks([Block(node.pk, number, [Point(0.0, cpu_used_percent=float(number % 60))])])
    assert FigureBlock.objects.filter(span_s=MINUTE).count() == MINUTE_SLOTS
    assert FigureBlock.objects.filter(span_s=HOUR).count() == HOUR_SLOTS
    hour = FigureBlock.objects.filter(span_s=HOUR).order_by("-starts_at").first()
    assert hour is not None
    points = unpack(bytes(hour.points))
    assert len(points) == 60
    assert [later.at_s - earlier.at_s for earlier, later in pairwise(points)] == [60.0] * 59


def test_an_hour_whose_end_was_not_heard_is_kept_for_the_day() -> None:
    node = make_node()
    hand = BlockInHand(node.pk)
    first_of_hour = 60 * int(NOW // HOUR) - node.pk
    heard = [*range(first_of_hour + 5, first_of_hour + 20), *range(first_of_hour + 100, first_of_hour + 170)]
    for number in heard:
        block = hand.add(number * MINUTE - phase_s(node.pk), Point(0.0, cpu_used_percent=50.0))
        write_blocks([block] if block is not None else [])
    hours = FigureBlock.objects.filter(span_s=HOUR).order_by("starts_at")
    assert [len(unpack(bytes(hour.points))) for hour in hours] == [15, 20]
    at_s = [point.at_s for point in unpack(bytes(hours[0].points))]
    assert at_s == [60.0 * number for number in range(5, 20)]


def test_a_minute_that_two_monitors_shared_holds_the_points_of_both() -> None:
    node = make_node()
    number = int(NOW) // MINUTE
    write_blocks([Block(node.pk, number, [Point(1.0), Point(6.0)])])
    write_blocks([Block(node.pk, number, [Point(30.0)])])
    assert [point.at_s for point in unpack(bytes(FigureBlock.objects.get(span_s=MINUTE).points))] == [
        1.0,
        6.0,
        30.0,
    ]
