"""list-events: its filters, who sees which entries, and what each says."""

from __future__ import annotations

from uuid import UUID

import pytest

from nodes.events import Actor, Target, record
from nodes.models import Event
from nodes.models.event import Via
from tests.factories import make_node

pytestmark = pytest.mark.django_db


@pytest.fixture
def call(administrator, api):
    client = api(administrator)
    Event.objects.all().delete()
    node = make_node("kvm-01")
    data = {"before": {"is_staff": False}, "after": {"is_staff": True}}
    actor = Actor(administrator, "192.0.2.7", Via.API, "ci")
    record("user_changed", "x", actor=actor, target=Target("user", "9", "eve"), data=data, severity="warning")
    record("host_rebooted", "x", node=node)
    Event.objects.filter(kind="user_changed").update(number=7, operation_ref=str(UUID(int=7)))
    return client


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ({}, {"user_changed", "host_rebooted"}),
        ({"category": "audit"}, {"user_changed"}),
        ({"category": "host"}, {"host_rebooted"}),
        ({"via": "api", "token": "ci"}, {"user_changed"}),
        ({"target_type": "user", "target": "eve"}, {"user_changed"}),
        ({"source_ip": "192.0.2.7"}, {"user_changed"}),
        ({"severity": "warning"}, {"user_changed"}),
        ({"number_from": 7, "number_to": 7}, {"user_changed"}),
        ({"number_from": 8}, set()),
        ({"node": "kvm-01"}, {"host_rebooted"}),
        ({"operation": str(UUID(int=7))}, {"user_changed"}),
        ({"operation": str(UUID(int=8))}, set()),
        ({"user": "ada", "kind": "user_changed"}, {"user_changed"}),
    ],
)
def test_filters(call, body, found):
    status, answer = call("list-events", body)
    assert status == 200
    assert {row["kind"] for row in answer["results"]} == found


def test_an_entry_says_who_how_whom_and_what_was_before_and_after(call):
    [row] = call("list-events", {"category": "audit"})[1]["results"]
    assert (row["number"], row["user"], row["source_ip"], row["via"], row["token"]) == (
        *(7, "ada", "192.0.2.7"),
        *("api", "ci"),
    )
    assert row["operation"] == str(UUID(int=7))  # of one that is purged, too
    assert row["target"] == {"type": "user", "id": "9", "name": "eve"}
    assert row["data"] == {"before": {"is_staff": False}, "after": {"is_staff": True}}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"category": "people"}, "category"),
        ({"source_ip": "a host"}, "source_ip"),
        ({"number_from": 0}, "number_from"),
        ({"number_to": 10**30}, "number_to"),
        ({"via": "fax"}, "via"),
        ({"severity": 3}, "severity"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(call, body, field):
    status, answer = call("list-events", body)
    assert (status, answer["errors"][0]["field"]) == (400, field)


def test_entries_that_concern_no_node_are_not_for_everybody(call, stranger, api):
    client = api(stranger)
    kinds = {row["kind"] for row in client("list-events", {})[1]["results"]}
    assert "user_changed" not in kinds


def test_entries_come_in_the_order_of_their_numbers(call):
    """Of one moment as well, and where a later one ended first."""
    [first] = Event.objects.filter(number=7)
    for number in (9, 8):
        row = record("signed_in", "x", category="audit")
        Event.objects.filter(pk=row.pk).update(number=number, created_at=first.created_at)
    pages = [
        call("list-events", {"category": "audit", "page": page, "page_size": 1})[1] for page in (1, 2, 3)
    ]
    assert [page["results"][0]["number"] for page in pages] == [9, 8, 7]
