"""What hosts do never hides what people did: on the page, in list-events, and in what retention keeps."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from nodes.audit.retention import purge_events
from nodes.events import Actor, acting, record
from nodes.models import Event, HostFlood, Node, User
from nodes.models.event import Via
from nodes.operations.node_state.floods import EVENTS_AN_HOUR, record_of_host
from tests.factories import grant, make_node

pytestmark = pytest.mark.django_db
MANY = 100_000
PEOPLE = 60


@pytest.fixture
def flooded(administrator: User) -> Node:
    """A node on which a person did something sixty times, and whose host has sent 100,000 events since."""
    node = make_node("kvm-01")
    Event.objects.all().delete()
    for number in range(PEOPLE):
        record("node_updated", f"{number}", node=node, actor=Actor(administrator, via=Via.PAGE))
    sent = (
        Event(kind="host_rebooted", node=node, node_name="kvm-01", message=f"{number}")
        for number in range(MANY)
    )
    Event.objects.bulk_create(sent, batch_size=2000)
    return node


def shown(client: Client, page: int) -> list[str]:
    response = client.get("/audit-log/", {"page": page})
    return [event.message for event in response.context["listing"].page]


def test_events_of_hosts_push_no_entry_of_people_out(flooded, administrator, operator, api: Any, settings):
    grant(operator, flooded, "view_node")
    Event.objects.filter(kind="access_granted").delete()
    expected = [str(number) for number in reversed(range(PEOPLE))]
    for user in (administrator, operator):
        client = Client()
        client.force_login(user)
        Event.objects.exclude(kind__in=("node_updated", "host_rebooted")).delete()
        assert [*shown(client, 1), *shown(client, 2)] == expected
        body = {"category": "audit", "kind": "node_updated", "page_size": PEOPLE}
        status, answer = api(user)("list-events", body)
        assert (status, answer["count"]) == (200, PEOPLE)
        assert [row["message"] for row in answer["results"]] == expected
    purge_events()
    assert Event.objects.filter(category="host").count() == settings.NODEADMIN_EVENTS_PER_NODE
    assert Event.objects.filter(kind="node_updated").count() == PEOPLE


def test_what_a_host_does_while_somebody_acts_is_not_their_deed_and_has_its_limit(administrator):
    """An inventory that somebody asks for brings the host's events to light."""
    node = make_node("kvm-01")
    Event.objects.all().delete()
    with acting(Actor(administrator, "192.0.2.7", Via.API, "ci")):
        for number in range(EVENTS_AN_HOUR + 10):
            record_of_host("inventory_changed", f"{number}", node=node)
    rows = Event.objects.all()
    assert set(rows.values_list("category", "user", "via", "token_name")) == {("host", None, "system", "")}
    assert rows.filter(kind="inventory_changed").count() == EVENTS_AN_HOUR
    assert rows.filter(kind="host_flood").count() == 1
    assert HostFlood.objects.get().count == 10
