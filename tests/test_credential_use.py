"""Who has opened a node's secrets: people by events, nodeadmin itself by counts."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, date, datetime, timedelta

import pytest
from django.db import DatabaseError, transaction
from django.utils import timezone

from nodes import access, credential_use
from nodes.engine.purge import purge
from nodes.engine.submit import submit
from nodes.events import SYSTEM, Actor
from nodes.hosts.target import HostKey
from nodes.models import ApiToken, Credential, CredentialUse, Event, JumpHost, Node
from nodes.models.event import Via
from nodes.models.sealed import SecretFor
from tests.api.conftest import Api
from tests.engine.running import run_queued
from tests.factories import make_credential, make_node

pytestmark = pytest.mark.django_db
HOST_KEY = HostKey.parse("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGvR1DBmLSHEPCZWGmDJRUXGZAvBX9BqPWKUJCXnH7iX")


@pytest.fixture(autouse=True)
def _nothing_counted_before(db: None) -> None:
    credential_use.flush()
    CredentialUse.objects.all().delete()


def closed_node(name: str) -> Node:
    """A node behind a port at which nothing listens, with a stored password."""
    node = make_node(name, uri="qemu+ssh://root@127.0.0.1:1/system")
    access.pin(node, HOST_KEY)
    node.save()
    make_credential(node, password="hunter2hunter2")
    return node


def openings() -> list[Event]:
    return list(Event.objects.filter(kind="credential_opened").order_by("pk"))


def test_a_request_of_a_person_leaves_one_event_that_says_who_and_for_what(administrator):
    node = closed_node("kvm-01")
    status, _answer = Api(administrator)("describe-node-logs", {"node": "kvm-01"})
    assert status == 502
    (event,) = openings()
    assert (event.node, event.user, event.via, event.token_name) == (node, administrator, Via.API, "test")
    assert event.data == {"kind": "password", "purpose": "describe-node-logs"}
    assert "hunter2" not in f"{event.message} {event.data}"
    credential_use.flush()
    assert not CredentialUse.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_calls_that_repeat_themselves_leave_one_event_and_a_count(administrator, monkeypatch):
    closed_node("kvm-01")
    closed_node("kvm-02")
    calls = Api(administrator)
    for _time in range(3):
        calls("describe-node-logs", {"node": "kvm-01"})
    assert len(openings()) == 1
    credential_use.flush()
    assert list(CredentialUse.objects.values_list("node__name", "count")) == [("kvm-01", 2)]
    calls("list-log-sources", {"node": "kvm-01"})
    calls("describe-node-logs", {"node": "kvm-02"})
    other = Api(None)
    _row, text = ApiToken.make(administrator, "other", timezone.now() + timedelta(hours=1), read_only=False)
    other.headers["Authorization"] = f"Bearer {text}"
    other("describe-node-logs", {"node": "kvm-01"})
    found = [(event.node_name, event.token_name, event.data["purpose"]) for event in openings()[1:]]
    assert found == [
        ("kvm-01", "test", "list-log-sources"),
        ("kvm-02", "test", "describe-node-logs"),
        ("kvm-01", "other", "describe-node-logs"),
    ]
    monkeypatch.setattr(credential_use, "REPEATED_S", 0.0)
    calls("describe-node-logs", {"node": "kvm-01"})
    assert len(openings()) == 5


@pytest.mark.django_db(transaction=True)
def test_the_login_of_a_jump_host_is_told_once_too_and_then_counted_for_the_node(administrator, behind):
    calls = Api(administrator)
    for _time in range(3):
        calls("describe-node-logs", {"node": "kvm-01"})
    assert [event.data["kind"] for event in openings() if event.target_name == "bastion"] == ["password"]
    credential_use.flush()
    assert ("jump_host", 2) in CredentialUse.objects.values_list("kind", "count")
    calls("list-log-sources", {"node": "kvm-01"})
    assert len([event for event in openings() if event.target_name == "bastion"]) == 2


@pytest.mark.django_db(transaction=True)
def test_an_event_that_was_rolled_back_counts_for_nothing(administrator):
    node = closed_node("kvm-01")
    actor = Actor(administrator, "192.0.2.1", Via.API, "test")
    for _time in range(2):
        with suppress(InterruptedError), transaction.atomic():
            with credential_use.asked_by(credential_use.Request(lambda: actor, lambda: "describe-node-logs")):
                access.target_for(node)
            assert len(openings()) == 1
            raise InterruptedError
    assert openings() == []


def test_an_operation_of_a_person_leaves_one_event_however_often_it_opens_the_secret(administrator):
    closed_node("kvm-01")
    assert Api(administrator)("refresh-node", {"node": "kvm-01"})[0] == 202
    (ended,) = run_queued()
    (event,) = openings()
    assert (event.operation, event.user_name, event.data["purpose"]) == (ended, "ada", "refresh-node")


@pytest.fixture
def behind(db: None) -> Node:
    """A node with a password, a sudo password, and a jump host that has a password of its own."""
    node = closed_node("kvm-01")
    row = Credential.objects.get(node=node)
    row.sudo_secret = SecretFor(access.binding_of_node(node), {"sudo_password": "hunter2hunter2"})
    row.save()
    jump = JumpHost(name="bastion", host="127.0.0.1", port=1, user="jump", credential_kind="password")
    jump.host_key, jump.host_key_fingerprint = HOST_KEY.to_text(), HOST_KEY.fingerprint
    jump.secret = SecretFor(access.binding_of_jump_host(jump), {"password": "hunter2hunter2"})
    jump.save()
    node.jump_host = jump
    node.save()
    return node


def test_every_secret_that_a_person_has_opened_is_named(administrator, behind):
    for _round in range(2):
        assert Api(administrator)("refresh-node", {"node": "kvm-01"})[0] == 202
        (ended,) = run_queued()
        found = {(row.data["kind"], row.target_name, row.operation) for row in openings()}
        assert found == {
            ("password", "bastion", ended),
            ("password", "", ended),
            ("sudo_password", "", ended),
        }
        assert len(openings()) == 3
        assert "hunter2" not in f"{list(Event.objects.values())}"
        Event.objects.all().delete()


def test_a_jump_hosts_credential_that_nobody_asked_for_is_counted_for_the_node(behind):
    access.targets_for([behind])
    access.target_for(behind)
    credential_use.flush()
    counts = CredentialUse.objects.values_list("kind", "count")
    assert set(counts) == {("password", 2), ("sudo_password", 2), ("jump_host", 2)}
    assert openings() == []


def test_a_secret_that_is_given_for_a_new_host_is_noted_under_its_name(administrator):
    body = {
        "name": "kvm-09",
        "uri": "qemu+ssh://root@127.0.0.1:1/system",
        "host_key_fingerprint": HOST_KEY.fingerprint,
        "credential": {"kind": "password", "password": "hunter2hunter2"},
    }
    assert Api(administrator)("add-node", body)[0] == 202
    run_queued()
    assert openings() == []  # the host did not answer, and the secret stayed sealed


def test_what_nobody_asked_for_is_counted_a_node_kind_and_day(administrator):
    one, two = closed_node("kvm-01"), closed_node("kvm-02")
    submit("refresh-node", actor=SYSTEM, node=one)
    run_queued()
    access.targets_for([one, two])
    credential_use.flush()
    access.target_for(two)
    access.target_for(two)
    credential_use.flush()
    today = datetime.now(UTC).date()
    found = set(CredentialUse.objects.values_list("node__name", "kind", "day", "count"))
    assert found == {("kvm-01", "password", today, 2), ("kvm-02", "password", today, 3)}
    assert openings() == []


def test_counting_writes_nothing_until_a_minute_is_over(django_assert_num_queries, monkeypatch):
    nodes = [closed_node(f"kvm-{number}") for number in range(40)]
    with django_assert_num_queries(1):
        access.targets_for(nodes)
    with django_assert_num_queries(5):  # two savepoints, the nodes, rows that are missing, the counts
        credential_use.flush()
    assert CredentialUse.objects.filter(count=1).count() == 40


def test_a_database_that_is_away_loses_no_count_and_a_removed_node_stops_none(monkeypatch):
    one, two = closed_node("kvm-01"), closed_node("kvm-02")
    access.targets_for([one, two])

    def away(counted: object) -> None:
        raise DatabaseError("database is locked")

    with monkeypatch.context() as patched:
        patched.setattr(credential_use, "_write", away)
        credential_use.flush()
    two.delete()
    credential_use.flush()
    assert list(CredentialUse.objects.values_list("node__name", "count")) == [("kvm-01", 1)]


def test_old_counts_go_with_old_events():
    node = closed_node("kvm-01")
    CredentialUse.objects.create(node=node, kind="password", day=date(2001, 1, 1), count=3)
    assert purge()["credential_uses"] == 1
