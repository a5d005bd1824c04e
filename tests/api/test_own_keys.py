"""nodeadmin's own key over the API: who may, what is confirmed, and who lacks the new one."""

from __future__ import annotations

import pytest

from nodes import access
from nodes.events import SYSTEM
from nodes.models import Credential, Event, JumpHost, KeyState, Operation, OwnKeyPair
from nodes.operations import own_keys
from nodes.operations.own_keys import make_next
from tests.api.test_jump_hosts import make_jump_host
from tests.factories import make_credential, make_node, make_user

pytestmark = pytest.mark.django_db
CALLS = ("list-own-keys", "describe-own-key", "rotate-own-key", "retire-own-key")


@pytest.fixture
def holders():
    """A node with the current key, one with a password, and a jump host with the current key."""
    pair = access.own_key_pair()
    Credential.objects.create(node=make_node("kvm-01"), kind="nodeadmin_key", own_key=pair)
    make_credential(make_node("kvm-02"), password="x")
    make_jump_host(own_key=pair)
    return pair


@pytest.mark.parametrize("call", CALLS)
def test_they_need_the_permission_to_manage_ssh(operator, stranger, api, call):
    for user in (operator, stranger):
        status, answer = api(user)(call)
        assert (status, answer["code"]) == (403, "permission_denied")
    assert not Operation.objects.exists()


def test_the_key_is_shown_with_the_line_that_hosts_get_and_never_its_secret(administrator, api, holders):
    status, answer = api(administrator)("list-own-keys")
    (row,) = answer["results"]
    assert (status, row["state"], row["node_count"], row["jump_host_count"]) == (200, "current", 1, 1)
    assert row["authorized_keys_line"].startswith("restrict,port-forwarding")
    assert row["public_key"] in row["authorized_keys_line"]
    assert "PRIVATE" not in str(answer)


def test_a_rotation_is_planned_confirmed_once_and_bound_to_who_asked(administrator, api, holders):
    call = api(administrator)
    status, asked = call("rotate-own-key")
    assert (status, asked["code"]) == (428, "confirmation_required")
    assert (asked["plan"]["nodes"], asked["plan"]["jump_hosts"]) == (["kvm-01"], ["bastion"])
    token = {"confirm_token": asked["confirm_token"]}
    other = make_user("eve", is_superuser=True)
    assert api(other)("rotate-own-key", token)[1]["code"] == "confirmation_invalid"
    status, operation = call("rotate-own-key", token)
    assert status == 202, operation
    assert [step["target"] for step in operation["steps"]] == [None, "bastion", "kvm-01", None]
    assert call("rotate-own-key")[1]["code"] == "node_busy"
    Operation.objects.update(status="failed")
    assert call("rotate-own-key", token)[1]["code"] == "confirmation_invalid"
    status, answer = call("retry-operation", {"operation": operation["id"]})
    assert (status, answer["code"]) == (400, "invalid_input")
    assert "rotate-own-key" in answer["remedy"]
    assert Event.objects.filter(kind="rotate_own_key_requested", user=administrator).count() == 1


def test_a_host_that_came_meanwhile_asks_for_another_confirmation(administrator, api, holders):
    call = api(administrator)
    asked = call("rotate-own-key")[1]
    Credential.objects.create(node=make_node("kvm-03"), kind="nodeadmin_key", own_key=holders)
    status, answer = call("rotate-own-key", {"confirm_token": asked["confirm_token"]})
    assert (status, answer["code"]) == (409, "plan_changed")
    assert answer["plan"]["nodes"] == ["kvm-01", "kvm-03"]
    assert call("rotate-own-key", {"confirm_token": answer["confirm_token"]})[0] == 202


def test_the_old_key_is_kept_while_somebody_lacks_the_new_one_unless_forced(administrator, api, holders):
    call = api(administrator)
    assert call("retire-own-key")[1]["code"] == "invalid_input"
    new = make_next(SYSTEM, None)
    assert new.pk != holders.pk
    make_node("kvm-04")
    status, answer = call("describe-own-key", {"lacking": True})
    assert (answer["count"], answer["lacking_count"]) == (2, 2)
    assert [(row["kind"], row["name"]) for row in answer["results"]] == [
        ("jump_host", "bastion"),
        ("node", "kvm-01"),
    ]
    page = call("describe-own-key", {"page": 2, "page_size": 1})[1]
    assert [row["name"] for row in page["results"]] == ["kvm-01"]
    status, answer = call("retire-own-key")
    assert (status, answer["code"], answer["lacking_count"]) == (409, "own_key_needed", 2)
    asked = call("retire-own-key", {"force": True})[1]
    assert asked["code"] == "confirmation_required"
    token = {"confirm_token": asked["confirm_token"]}
    assert call("retire-own-key", token)[1]["code"] == "own_key_needed", "the token is for the forced call"
    status, answer = call("retire-own-key", {"force": True} | token)
    assert (status, answer["lacking"]) == (200, ["bastion", "kvm-01"])
    assert OwnKeyPair.objects.get().state == KeyState.CURRENT
    event = Event.objects.get(kind="own_key_retired")
    assert event.data["forced"] and event.data["lacking"] == ["bastion", "kvm-01"]
    assert Credential.objects.get(node__name="kvm-01").own_key is None


def test_a_new_node_gets_the_new_key_while_the_old_one_is_being_replaced(holders):
    new = make_next(SYSTEM, None)
    assert access.own_key_pair() == new
    keys = access.OwnKeys()
    known_old, unknown = keys.credential(holders.pk), keys.credential(None)
    assert known_old.private_key == unknown.alternatives[0], "the other one is tried after it"
    assert unknown.private_key == known_old.alternatives[0]


def test_pages_of_holders_take_as_many_queries_however_many_there_are(
    administrator, api, holders, django_assert_max_num_queries
):
    for number in range(5):
        Credential.objects.create(node=make_node(f"more-{number}"), kind="nodeadmin_key", own_key=holders)
    call = api(administrator)
    call("describe-own-key")
    with django_assert_max_num_queries(11):
        assert call("describe-own-key")[1]["count"] == 7


def test_a_host_that_came_while_the_old_key_was_being_retired_keeps_it(
    administrator, api, holders, monkeypatch
):
    make_next(SYSTEM, None)
    Credential.objects.all().delete()
    JumpHost.objects.all().delete()
    call, drop = api(administrator), own_keys.drop_old

    def somebody_was_faster(*args, **options):
        Credential.objects.create(node=make_node("kvm-09"), kind="nodeadmin_key", own_key=holders)
        return drop(*args, **options)

    monkeypatch.setattr(own_keys, "drop_old", somebody_was_faster)
    for force, code in ((False, "own_key_needed"), (True, "plan_changed")):
        asked = call("retire-own-key", {"force": force})[1]
        answer = call("retire-own-key", {"force": force, "confirm_token": asked["confirm_token"]})[1]
        assert answer["code"] == code
        assert own_keys.retiring() == holders
