"""Monitors share nodes, and take over those of one that is gone."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from nodes.models import Heartbeat, MonitorProcess
from nodes.monitor.claims import LeaseLost, Membership
from tests.factories import make_node

pytestmark = pytest.mark.django_db


@pytest.fixture
def fleet() -> None:
    for _ in range(10):
        make_node()


def joined() -> Membership:
    membership = Membership(lease_s=8.0)
    membership.join()
    return membership


def test_one_monitor_has_all_nodes(fleet: None) -> None:
    assert len(joined().balance()) == 10


def test_a_second_one_gets_its_share_and_no_node_is_in_two_hands(fleet: None) -> None:
    first = joined()
    first.balance()
    second = joined()
    assert second.balance() == frozenset()
    held = first.balance()
    taken = second.balance()
    assert (len(held), len(taken), held & taken) == (5, 5, frozenset())


def test_the_nodes_of_a_dead_one_are_taken_over(fleet: None) -> None:
    first, second = joined(), joined()
    first.balance()
    second.balance()
    MonitorProcess.objects.filter(pk=first.id).update(lease_expires_at=timezone.now() - timedelta(seconds=1))
    assert len(second.balance()) == 10
    with pytest.raises(LeaseLost):
        first.renew()


def test_who_was_ended_writes_nothing_any_more(fleet: None) -> None:
    first, second = joined(), joined()
    first.balance()
    MonitorProcess.objects.filter(pk=first.id).update(lease_expires_at=timezone.now() - timedelta(seconds=1))
    second.balance()
    with pytest.raises(LeaseLost), first.fenced():
        Heartbeat.objects.update(beats=99)
    assert not Heartbeat.objects.filter(beats=99).exists()


def test_who_leaves_gives_all_back_at_once(fleet: None) -> None:
    first, second = joined(), joined()
    first.balance()
    first.leave()
    assert len(second.balance()) == 10


def test_a_monitor_that_stands_still_while_it_writes_is_cut_off_with_its_lease(fleet: None) -> None:
    with joined().fenced(), connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SHOW idle_in_transaction_session_timeout")
            assert cursor.fetchone() == ("8s",)
