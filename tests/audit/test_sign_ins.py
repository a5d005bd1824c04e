"""People who sign in, fail to, are locked out, sign out, and are denied something: each is an entry, and a
flood of them is a counted one."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from nodes.audit import counted
from nodes.audit.counted import count, tell_ended
from nodes.errors import PermissionDenied
from nodes.events import Actor
from nodes.models import ApiToken, CountedEntry, Event
from nodes.models.event import Via
from nodes.realtime.access import Caller
from nodes.realtime.logs import LogConsumer
from tests.factories import grant, make_node, make_user

pytestmark = pytest.mark.django_db
PASSWORD = "correct horse battery"


def sign_in(name: str, password: str, address: str = "192.0.2.7") -> Client:
    client = Client(REMOTE_ADDR=address, raise_request_exception=False)
    client.post(reverse("login"), {"username": name, "password": password})
    return client


def entries(kind: str) -> list[Event]:
    return list(Event.objects.filter(kind=kind).order_by("pk"))


def later() -> None:
    """As if all windows were over."""
    moment = timezone.now() - timedelta(seconds=1)
    CountedEntry.objects.update(until=moment)


def test_signing_in_and_out_say_who_and_from_where():
    make_user("ada")
    client = sign_in("ada", PASSWORD)
    client.post(reverse("logout"))
    for kind in ("signed_in", "signed_out"):
        [entry] = entries(kind)
        assert (entry.user_name, entry.source_ip, entry.via) == ("ada", "192.0.2.7", "page")
        assert entry.category == "audit"


def test_a_failed_sign_in_is_told_at_once_and_its_repetitions_counted():
    ada = make_user("ada")
    for _round in range(4):
        sign_in("ada", "wrong")
    [first] = entries("sign_in_failed")
    assert (first.user, first.source_ip, first.target_id) == (None, "192.0.2.7", str(ada.pk))
    later()
    assert tell_ended() == 1
    _first, counted_one = entries("sign_in_failed")
    assert counted_one.data["count"] == 3
    assert "3 times" in counted_one.message
    assert not CountedEntry.objects.exists()


def test_one_more_after_the_window_is_told_at_once_with_what_was_counted():
    make_user("ada")
    sign_in("ada", "wrong")
    sign_in("ada", "wrong")
    later()
    sign_in("ada", "wrong")
    assert [entry.data.get("count") for entry in entries("sign_in_failed")] == [None, 1, None]


def test_another_name_and_another_address_are_counted_apart():
    make_user("ada")
    make_user("otto")
    for name, address in (("ada", "192.0.2.7"), ("otto", "192.0.2.7"), ("ada", "192.0.2.8")):
        sign_in(name, "wrong", address)
        sign_in(name, "wrong", address)
    assert len(entries("sign_in_failed")) == 3


def test_what_was_typed_as_an_unknown_name_is_in_no_entry():
    for number in range(5):
        sign_in(f"hunter{number}-in-the-wrong-field", "x")
    [entry] = entries("sign_in_failed")
    assert "hunter" not in f"{entry.message}{entry.data}{entry.target_name}"
    assert "hunter" not in str(CountedEntry.objects.values_list())


def test_addresses_of_one_ipv6_network_are_one():
    make_user("ada")
    for number in range(6):
        sign_in("ada", "wrong", f"2001:db8::{number:x}")
    sign_in("ada", "wrong", "2001:db8:0:1::1")
    assert len(entries("sign_in_failed")) == 2


def test_an_attack_from_very_many_addresses_does_not_fill_the_log(monkeypatch, settings):
    settings.NODEADMIN_LOGIN_FAILURES = 100  # later than that nobody looks at the passwords
    monkeypatch.setattr(counted, "MOST_KEYS", 5)
    make_user("ada")
    for number in range(20):
        sign_in("ada", "wrong", f"198.51.100.{number}")
    told = entries("sign_in_failed")
    assert len(told) == 6
    assert "so many addresses" in told[-1].message
    later()
    tell_ended()
    assert entries("sign_in_failed")[-1].data["count"] == 14


def test_a_lock_out_is_an_entry(settings):
    make_user("ada")
    for _round in range(settings.NODEADMIN_LOGIN_FAILURES + 5):
        sign_in("ada", "wrong")
    [paused] = entries("sign_in_paused")
    assert (paused.severity, paused.target_name) == ("warning", "ada")
    assert len(entries("sign_in_failed")) == 1


@pytest.mark.parametrize(
    ("call", "permission"),
    [
        ("reboot-node", "power_node"),
        ("shutdown-node", "power_node"),
        ("delete-node", "delete_node"),
        ("disable-node", "maintain_node"),
        ("update-node", "change_node"),
    ],
)
def test_a_denied_action_over_the_api_says_which_on_what_and_with_which_token(
    operator, api, call, permission
):
    node = make_node("kvm-09")
    grant(operator, node, "view_node")
    body = {"node": "kvm-09", "notes": "x"} if call == "update-node" else {"node": "kvm-09"}
    client = api(operator)
    for _round in range(3):
        assert client(call, body)[0] == 403
    [entry] = entries("permission_denied")
    assert (entry.user_name, entry.node, entry.via, entry.token_name) == ("otto", node, "api", "test")
    assert entry.data == {"action": call, "permission": permission}
    later()
    tell_ended()
    assert entries("permission_denied")[-1].data["count"] == 2


def test_a_denied_action_on_a_page_is_an_entry(operator):
    node = make_node("kvm-09")
    grant(operator, node, "view_node")
    client = Client(raise_request_exception=False)
    client.force_login(operator)
    assert client.get(reverse("node-service", args=["kvm-09", "reboot"])).status_code == 403
    [entry] = entries("permission_denied")
    assert (entry.via, entry.node, entry.data["permission"]) == ("page", node, "power_node")


def test_looking_at_pages_that_offer_less_denies_nothing(operator):
    node = make_node("kvm-09")
    grant(operator, node, "view_node")
    client = Client(raise_request_exception=False)
    client.force_login(operator)
    for name in ("dashboard", "node-list", "operation-list", "event-list", "settings"):
        assert client.get(reverse(name)).status_code == 200
    assert client.get(reverse("node-detail", args=["kvm-09"])).status_code == 200
    assert not entries("permission_denied")


def test_a_token_for_reading_only_that_is_refused_is_an_entry(administrator, api):
    make_node("kvm-09")
    assert api(administrator, read_only=True)("reboot-node", {"node": "kvm-09"})[0] == 403
    [entry] = entries("permission_denied")
    assert (entry.user_name, entry.token_name, entry.data["action"]) == ("ada", "test", "reboot-node")


def test_a_token_that_is_none_is_counted_by_address():
    client = Client(REMOTE_ADDR="192.0.2.7")
    for number in range(3):
        headers = {"Authorization": f"Bearer na_{number}"}
        client.post("/api/list-nodes", "{}", content_type="application/json", headers=headers)
    [entry] = entries("token_refused")
    assert (entry.source_ip, entry.via) == ("192.0.2.7", "api")
    assert "na_0" not in str(entry.__dict__)


@pytest.mark.parametrize("read_only", [False, True])
def test_live_logs_that_are_denied_are_an_entry(operator, read_only):
    node = make_node("kvm-09")
    grant(operator, node, "view_node")
    _token, text = ApiToken.make(operator, "ci", timezone.now() + timedelta(hours=1), read_only=read_only)
    socket = LogConsumer()
    socket._caller, socket._name = Caller(token=text, address="192.0.2.7"), "kvm-09"
    for _round in range(2):
        with pytest.raises(PermissionDenied):
            socket._rights()
    [entry] = entries("permission_denied")
    assert (entry.user_name, entry.source_ip, entry.via) == ("otto", "192.0.2.7", "api")
    assert entry.token_name == "ci"
    if not read_only:  # which is refused for what it is, whatever the node
        assert (entry.node, entry.data["permission"]) == (node, "view_node_logs")


def test_a_form_that_has_expired_is_no_denied_action(administrator):
    client = Client(enforce_csrf_checks=True, raise_request_exception=False)
    client.force_login(administrator)
    assert client.post(reverse("logout")).status_code == 403
    assert not entries("permission_denied")


@pytest.mark.django_db(transaction=True)
def test_failures_at_the_same_moment_are_all_counted():
    def work() -> None:
        try:
            count("tried", "Tried.", key=("x",), actor=Actor(source_ip="192.0.2.7", via=Via.PAGE))
        finally:
            connection.close()

    threads: list[Any] = [threading.Thread(target=work) for _number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(entries("tried")) == 1
    assert CountedEntry.objects.get().count == 11
