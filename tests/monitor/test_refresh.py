"""When inventories are due, and that they never come in a crowd."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from django.utils import timezone

from nodes.engine.submit import submit
from nodes.events import Actor
from nodes.inventory.beat import Beat
from nodes.models import Node, Operation
from nodes.monitor.evidence import Evidence, State, Timing
from nodes.monitor.refresh import LONGEST, comes_in_maintenance, due, first_refresh, pace, submit_refreshes
from nodes.monitor.store import BlockInHand
from nodes.monitor.watch import NodeFacts, Watched
from tests.factories import make_node, make_user

FACTS = NodeFacts(1, "n", "qemu:///system", "", None, "online", "", None, "", "", None)


def watched(state: State, refresh_at: float = 0.0, facts: NodeFacts = FACTS) -> Watched:
    return Watched(facts, Evidence(Timing(), state=state), BlockInHand(1), refresh_at=refresh_at)


def test_a_fresh_inventory_is_due_when_it_is_as_old_as_the_interval() -> None:
    observed_at = timezone.now() - timedelta(seconds=600)
    assert first_refresh(observed_at, 1000.0, 900.0) == pytest.approx(1300.0, abs=1)


def test_old_ones_and_missing_ones_are_spread_over_a_tenth_of_the_interval() -> None:
    moments = {first_refresh(None, 0.0, 900.0) for _ in range(50)}
    assert len(moments) > 40 and min(moments) >= 0 and max(moments) <= 90


def test_no_interval_is_never() -> None:
    assert first_refresh(None, 0.0, 0.0) == float("inf")


def test_only_nodes_that_answer_are_due_and_each_once_an_interval() -> None:
    node = watched(State(True))
    assert due([node, watched(State(False, "unreachable")), watched(State())], 10.0, 900.0) == [1]
    assert due([node], 11.0, 900.0) == []
    assert 855 <= node.refresh_at - 10.0 <= 945


def test_a_node_that_an_operation_holds_offline_is_not_due() -> None:
    rebooting = replace(FACTS, connection="offline", reason="rebooting")
    assert due([watched(State(True), facts=rebooting)], 10.0, 900.0) == []


@pytest.mark.django_db
def test_beyond_a_crowd_the_rest_waits() -> None:
    ids = [make_node().pk for _ in range(5)]
    assert submit_refreshes(ids, crowd=3) == ids[3:]
    assert Operation.objects.count() == 3
    Node.objects.all().delete()
    assert submit_refreshes(ids[:1]) == []


def test_a_beat_without_libvirt_makes_no_node_due() -> None:
    node = watched(State(True))
    node.evidence.start(0)
    node.evidence.greeted(0)
    node.evidence.opened(0)
    node.evidence.heard(1, Beat(1, "b", libvirt_up=False))
    assert due([node], 10.0, 900.0) == []


def test_a_host_that_fails_is_asked_sooner_at_first_and_then_ever_more_seldom() -> None:
    paces = [pace(replace(FACTS, inventory_failures=failures)) for failures in range(8)]
    assert paces[0] == 1.0
    assert paces[1:6] == sorted(set(paces[1:6])), "each wait is longer than the one before"
    assert paces[1] < 1.0 < paces[5] == paces[7] == LONGEST
    node = watched(State(True), facts=replace(FACTS, inventory_failures=4))
    assert due([node], 0.0, 900.0) == [1]
    assert 1368 <= node.refresh_at <= 1512


@pytest.mark.django_db
def test_refreshes_of_people_leave_the_crowd_of_the_automatic_ones_as_it_is() -> None:
    for _ in range(3):
        submit("refresh-node", actor=Actor(make_user()), node=make_node())
    assert submit_refreshes([make_node().pk], crowd=1) == []


@pytest.mark.parametrize(
    ("scheduling", "before", "after", "asks"),
    [
        ("maintenance", 1, 2, True),
        ("maintenance", 2, 1, False),
        ("maintenance", 2, 2, False),
        ("maintenance", None, 2, False),
        ("maintenance", 2, None, False),
        ("enabled", 1, 2, False),
    ],
)
def test_a_vm_that_comes_to_a_node_in_maintenance_asks_for_an_inventory(
    scheduling, before, after, asks
) -> None:
    beats = (Beat(1, "b", vms_running=before), Beat(2, "b", vms_running=after))
    assert comes_in_maintenance(replace(FACTS, scheduling=scheduling), *beats) is asks


def test_the_first_beat_that_a_monitor_hears_tells_of_no_change() -> None:
    in_maintenance = replace(FACTS, scheduling="maintenance")
    assert not comes_in_maintenance(in_maintenance, None, Beat(1, "b", vms_running=3))


@pytest.mark.django_db
def test_hosts_that_fail_take_no_more_than_half_of_a_crowd_from_the_others() -> None:
    failing = [make_node(inventory_failures=3).pk for _ in range(6)]
    well = [make_node().pk for _ in range(3)]
    assert submit_refreshes(failing, crowd=4) == failing[2:]
    assert submit_refreshes([*failing[2:], *well], crowd=4) == [*failing[2:], well[2]]
