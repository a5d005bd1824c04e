"""What is denied is told of who, from where, how and on which nodes; nobody hides it by being denied more."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from nodes.audit import counted, requests
from nodes.audit.counted import tell_ended
from nodes.audit.requests import Denial, tell_denials, tell_refusal
from nodes.events import Actor
from nodes.models import CountedEntry, Event, Node, User
from nodes.models.event import Via
from nodes.permissions import POWER, VIEW, VIEW_LOGS
from tests.api.conftest import Api
from tests.factories import make_node, make_user

pytestmark = pytest.mark.django_db
ACTION = "reboot-node"


def denied(
    user: User, *nodes: Node, permission: str = POWER, address: str = "192.0.2.7", token: str = ""
) -> None:
    actor = Actor(user, address, Via.API if token else Via.PAGE, token)
    tell_denials([Denial(user, permission, node) for node in nodes], actor, ACTION)


def who() -> list[tuple[str, str | None, str, str]]:
    rows = Event.objects.filter(kind="permission_denied").order_by("pk")
    return list(rows.values_list("user_name", "source_ip", "via", "token_name"))


def test_the_same_from_elsewhere_or_with_another_token_is_an_entry_of_its_own():
    otto, node = make_user("otto"), make_node()
    denied(otto, node)
    denied(otto, node, address="198.51.100.4", token="stolen")
    denied(otto, node, address="198.51.100.4", token="other")
    assert who() == [
        ("otto", "192.0.2.7", "page", ""),
        ("otto", "198.51.100.4", "api", "stolen"),
        ("otto", "198.51.100.4", "api", "other"),
    ]
    for address in ("192.0.2.7", "198.51.100.4"):
        tell_refusal(Actor(otto, address, Via.ADMIN), "user-change")
    assert who()[3:] == [("otto", "192.0.2.7", "admin", ""), ("otto", "198.51.100.4", "admin", "")]


def test_many_denials_of_one_user_hide_neither_anothers_nor_their_own_of_another_kind(monkeypatch):
    monkeypatch.setattr(counted, "MOST_KEYS", 5)
    eve, otto, node = make_user("eve"), make_user("otto"), make_node()
    for number in range(20):
        denied(eve, node, permission=VIEW_LOGS, address=f"198.51.100.{number}")
    assert len(who()) == 6
    crowd = Event.objects.filter(kind="permission_denied").latest("pk")
    assert (crowd.user, crowd.source_ip, crowd.node, crowd.data) == (
        eve,
        None,
        None,
        {"permission": VIEW_LOGS},
    )
    denied(eve, node)
    denied(otto, node)
    assert who()[6:] == [("eve", "192.0.2.7", "page", ""), ("otto", "192.0.2.7", "page", "")]
    CountedEntry.objects.update(until=timezone.now() - timedelta(seconds=1))
    tell_ended()
    assert Event.objects.get(kind="permission_denied", data__count=14).user == eve


def test_of_a_bulk_action_every_node_is_named():
    otto = make_user("otto")
    nodes = [make_node() for _number in range(requests.MOST_DENIALS + 30)]
    denied(otto, *nodes)
    rows = Event.objects.filter(kind="permission_denied")
    assert rows.count() == requests.MOST_DENIALS + 1
    rest = rows.get(node=None)
    assert (rest.data["node_count"], rest.data["permission"]) == (30, POWER)
    named = {*rows.exclude(node=None).values_list("node_name", flat=True), *rest.data["nodes"]}
    assert named == {node.name for node in nodes}


def test_a_node_that_they_may_not_see_is_named_to_the_auditors_alone():
    otto, node = make_user("otto"), make_node("hidden")
    answers = [Api(otto)("reboot-node", {"node": name}) for name in ("hidden", "nowhere")]
    assert {status for status, _body in answers} == {404}
    [entry] = Event.objects.filter(kind="permission_denied")
    assert (entry.node, entry.user, entry.data) == (
        node,
        otto,
        {"action": ACTION, "permission": VIEW},
    )
