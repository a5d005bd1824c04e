"""Who may write what of a node: the monitor that has it, and no other."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from nodes.inventory.beat import Beat
from nodes.models import Connection, Event, FigureBlock, Heartbeat, MonitorProcess, Node
from nodes.monitor.claims import Membership
from nodes.monitor.evidence import State
from nodes.monitor.points import Point, unpack
from nodes.monitor.store import Block, Reading
from nodes.monitor.writer import Batch, CutOffTurn, Finding, Rebooted, StillUp, Writer
from tests.factories import make_node

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def mine() -> Membership:
    membership = Membership(lease_s=60.0)
    membership.join()
    return membership


@pytest.fixture
def other() -> MonitorProcess:
    membership = Membership(lease_s=60.0)
    membership.join()
    return MonitorProcess.objects.get(pk=membership.id)


@pytest.fixture
def lost() -> list[str]:
    return []


@pytest.fixture
def writer(mine: Membership, lost: list[str]) -> Iterator[Writer]:
    writing = Writer(mine, lambda: lost.append("lost"))
    yield writing
    writing.close(10)


def node_of(owner: MonitorProcess | None, **fields: object) -> Node:
    node = make_node(**fields)
    Heartbeat.objects.create(node=node, owner=owner, boot_id="before")
    return node


def everything_about(node: Node) -> tuple[Batch | Finding | Rebooted, ...]:
    reading = Reading(node.pk, time.time(), Beat(1, "now", memory_used_bytes=5), Point(0.0))
    return (
        Batch([reading], [reading], [Block(node.pk, 30_000_000, [Point(1.0)])]),
        Finding(node.pk, State(False, "unreachable", "no answer"), quiet=False),
        Rebooted(node.pk, "before", "now"),
    )


def test_of_a_node_that_another_monitor_has_only_old_points_are_written(
    writer: Writer, other: MonitorProcess
) -> None:
    node = node_of(other)
    memory = node.memory_used_bytes
    for work in everything_about(node):
        writer.put(work)
    writer.close(10)
    node.refresh_from_db()
    heartbeat = Heartbeat.objects.get(node=node)
    assert (heartbeat.beats, heartbeat.boot_id, heartbeat.seen_at) == (0, "before", None)
    assert (node.connection, node.memory_used_bytes) == (Connection.ONLINE, memory)
    assert not Event.objects.exists()
    assert FigureBlock.objects.filter(node=node, span_s=60).count() == 1


def test_of_an_own_node_all_of_it_is_written(writer: Writer, mine: Membership) -> None:
    node = node_of(MonitorProcess.objects.get(pk=mine.id))
    for work in everything_about(node):
        writer.put(work)
    writer.close(10)
    node.refresh_from_db()
    assert Heartbeat.objects.get(node=node).beats == 1
    assert (node.connection, node.memory_used_bytes) == (Connection.OFFLINE, 5)


def test_who_was_ended_says_nothing_of_the_fleet_either(
    writer: Writer, mine: Membership, lost: list[str]
) -> None:
    MonitorProcess.objects.filter(pk=mine.id).delete()
    writer.put(CutOffTurn(True, 9, 10))
    writer.close(10)
    assert lost == ["lost"]
    assert not Event.objects.exists()


def test_what_one_monitor_found_it_may_take_back_and_what_an_inventory_found_it_may_not(
    writer: Writer, mine: Membership
) -> None:
    me = MonitorProcess.objects.get(pk=mine.id)
    failing = {"connection": Connection.OFFLINE, "connection_reason": "probe_failing"}
    own, found = node_of(me, **failing), node_of(me, **failing)
    writer.put(Finding(own.pk, State(True), quiet=False, own="probe_failing"))
    writer.put(Finding(found.pk, State(True), quiet=False))
    writer.put(StillUp(found.pk))
    writer.close(10)
    assert Node.objects.get(pk=own.pk).connection == Connection.ONLINE
    assert Node.objects.get(pk=found.pk).connection_reason == "probe_failing"


def test_points_of_two_monitors_stand_in_order_whichever_is_written_first(writer: Writer) -> None:
    node = node_of(None)
    for at_s in (40.0, 5.0):
        writer.put(Batch([], [], [Block(node.pk, 30_000_000, [Point(at_s)])]))
    writer.close(10)
    points = unpack(bytes(FigureBlock.objects.get(span_s=60).points))
    assert [point.at_s for point in points] == [5.0, 40.0]
