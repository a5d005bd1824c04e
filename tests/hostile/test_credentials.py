"""A stored secret goes nowhere but where it was given for, whoever asks and by whatever way.

The other end is a real SSH server that writes down what it is offered.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from django.db import connection
from guardian.shortcuts import remove_perm

from nodes import access
from nodes.engine.claim import claim
from nodes.engine.run import OperationRun, run_operation
from nodes.engine.submit import retry
from nodes.errors import CredentialNotForTarget, CredentialUnreadable, NodeAdminError
from nodes.events import Actor
from nodes.hosts.target import HostKey
from nodes.models import Bmc, Credential, JumpHost, Node, Operation, OperationStatus, User
from nodes.models.sealed import SecretFor
from tests.api.conftest import Api
from tests.engine.running import run_queued
from tests.factories import grant, make_credential, make_node, secret_of
from tests.hostile.password_thief import PasswordThief

pytestmark = pytest.mark.django_db
PASSWORD = "the root password of kvm-01"
HOST_KEY = HostKey.parse("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGvR1DBmLSHEPCZWGmDJRUXGZAvBX9BqPWKUJCXnH7iX")


@pytest.fixture
def thief() -> Iterator[PasswordThief]:
    with PasswordThief() as server:
        yield server


@pytest.fixture
def node(operator: User) -> Node:
    """A node that is entered with nodeadmin's own key, and whose address an operator may change."""
    made = make_node("kvm-01", uri="qemu+ssh://root@192.0.2.1/system")
    access.pin(made, HOST_KEY)
    made.save()
    Credential.objects.create(node=made, kind="nodeadmin_key")
    grant(operator, made, "view_node", "change_node")
    return made


def store_password(node: Node) -> None:
    """As an update of the connection does, once it has reached the host."""
    Credential.objects.filter(node=node).delete()
    make_credential(node, password=PASSWORD)


def lured(operator: User, thief: PasswordThief) -> Operation:
    """The operation that takes the node's address to the thief. It fails: the own key opens nothing there."""
    body = {"node": "kvm-01", "uri": thief.uri, "host_key_fingerprint": thief.host_key.fingerprint}
    status, answer = Api(operator)("update-node", body)
    assert status == 202, answer
    (ended,) = run_queued()
    assert (ended.status, ended.error["code"]) == (OperationStatus.FAILED, "authentication_failed")
    assert len(thief.keys) == 1  # its own key may be offered anywhere
    return ended


def run_whatever_was_checked(operation: Operation) -> Operation:
    """Put it back into the queue, past all checks of calls, and run it."""
    Operation.objects.filter(pk=operation.pk).update(status=OperationStatus.QUEUED, finished_at=None)
    held = claim(operation.pk)
    assert held is not None
    run_operation(OperationRun(Operation.objects.get(pk=operation.pk), held))
    return Operation.objects.get(pk=operation.pk)


def test_a_retry_does_not_send_a_password_that_was_stored_meanwhile(operator, thief, node):
    failed = lured(operator, thief)
    store_password(node)
    status, answer = Api(operator)("retry-operation", {"operation": str(failed.pk)})
    run_queued()
    assert thief.passwords == []
    assert (status, answer["code"]) == (422, "credential_not_for_target")
    assert "Give the credential again." in answer["detail"]


def test_a_retry_by_an_administrator_does_not_either(administrator, operator, thief, node):
    failed = lured(operator, thief)
    store_password(node)
    with pytest.raises(CredentialNotForTarget):
        retry(failed, actor=Actor(administrator))
    run_queued()
    assert thief.passwords == []


def test_an_operation_that_passed_every_check_of_a_call_is_refused_where_it_begins(operator, thief, node):
    failed = lured(operator, thief)
    store_password(node)
    before = thief.greeted
    again = run_whatever_was_checked(failed)
    assert (again.status, again.error["code"]) == (OperationStatus.FAILED, "credential_not_for_target")
    assert (thief.passwords, thief.greeted) == ([], before)


def test_the_secret_does_not_open_where_no_rule_is_asked_at_all(operator, thief, node, monkeypatch):
    failed = lured(operator, thief)
    store_password(node)
    monkeypatch.setattr(OperationRun, "check_request", lambda run: None)
    again = run_whatever_was_checked(failed)
    assert again.error["code"] == "credential_not_for_target"
    assert thief.passwords == []


def test_no_address_user_or_host_key_but_its_own_opens_a_stored_secret(node):
    store_password(node)
    login = access.Login.of_node(node)
    assert login.target().credential is not None
    for changes in (
        {"uri": replace(login.uri, host="192.0.2.2")},
        {"uri": replace(login.uri, port=2222)},
        {"uri": replace(login.uri, user="admin")},
        {"host_key": None},
        {"host_key": HostKey.from_blob(HOST_KEY.blob[:-1] + b"x")},
    ):
        with pytest.raises(CredentialNotForTarget):
            replace(login, **changes).target()


@pytest.mark.parametrize("column", ["uri", "host_key"])
def test_who_can_write_to_the_database_moves_no_secret_by_it(node, thief, column):
    """Neither by the columns beside the secret nor by carrying it to another row."""
    store_password(node)
    values = {"uri": thief.uri, "host_key": thief.host_key.to_text()}
    Node.objects.filter(pk=node.pk).update(**{column: values[column]})
    for reach in (
        lambda: access.connect(access.target_for(node)),
        lambda: access.connect_once(access.target_for(node)),
    ):
        with pytest.raises(CredentialNotForTarget):
            reach()
    assert isinstance(access.targets_for([node])[node.pk], CredentialNotForTarget)
    other = make_node("kvm-02", uri=thief.uri, host_key=thief.host_key.to_text())
    Credential.objects.create(node=other, kind="password")
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE nodes_credential SET secret = (SELECT secret FROM nodes_credential WHERE node_id = %s) "
            "WHERE node_id = %s",
            [node.pk, other.pk],
        )
    with pytest.raises(CredentialNotForTarget):
        access.connect(access.target_for(other))
    assert thief.passwords == []


def jump_host_at(thief: PasswordThief, **fields: str) -> JumpHost:
    """A jump host with a stored password, at whose address the thief has come to stand."""
    row = JumpHost(name="bastion", host="127.0.0.1", port=thief.port, user="root", credential_kind="password")
    row.host_key, row.host_key_fingerprint = HOST_KEY.to_text(), HOST_KEY.fingerprint
    row.secret = SecretFor(access.binding_of_jump_host(row), {"password": PASSWORD})
    row.save()
    JumpHost.objects.update(**fields)
    return JumpHost.objects.get()


def test_the_secret_of_a_jump_host_goes_to_the_key_that_is_pinned_and_not_to_the_one_that_is_shown(thief):
    """They are two columns, of which one alone was written."""
    row = jump_host_at(thief, host_key=thief.host_key.to_text())
    with pytest.raises(CredentialNotForTarget):
        access.connect_once(access.jump_target(row).target)
    assert thief.passwords == []


@pytest.mark.parametrize("column", ["host_key", "host_key_fingerprint"])
def test_a_new_secret_of_a_jump_host_does_not_take_one_column_for_the_confirmed_key(
    administrator, thief, column
):
    values = {"host_key": thief.host_key.to_text(), "host_key_fingerprint": thief.host_key.fingerprint}
    jump_host_at(thief, **{column: values[column]})
    given = {"jump_host": "bastion", "credential": {"kind": "password", "password": PASSWORD}}
    status, answer = Api(administrator)("update-jump-host", given)
    assert thief.passwords == []
    assert (status, answer["code"]) == (422, "host_key_required")
    assert JumpHost.objects.get().host_key != values["host_key"] or column == "host_key"


@pytest.mark.parametrize("column", ["host_key", "host_key_fingerprint"])
def test_a_new_secret_of_a_node_does_not_either(operator, thief, node, column):
    values = {"host_key": thief.host_key.to_text(), "host_key_fingerprint": thief.host_key.fingerprint}
    Node.objects.update(uri=thief.uri)
    Node.objects.update(**{column: values[column]})
    given = {"node": "kvm-01", "credential": {"kind": "password", "password": PASSWORD}}
    status, answer = Api(operator)("update-node", given)
    run_queued()
    assert thief.passwords == []
    assert (status, answer["code"]) == (422, "host_key_required")


def test_a_secret_in_the_place_of_the_own_key_is_not_offered_to_everybody(node):
    store_password(node)
    pair = access.own_key_pair()
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE nodes_ownkeypair SET secret = (SELECT secret FROM nodes_credential WHERE node_id = %s) "
            "WHERE id = %s",
            [node.pk, pair.pk],
        )
    Credential.objects.update(kind="nodeadmin_key")
    with pytest.raises(CredentialUnreadable):
        access.target_for(node)


def test_what_an_operation_carries_goes_to_the_address_alone_that_it_was_given_with(operator, thief, node):
    body = {"node": "kvm-01", "credential": {"kind": "password", "password": PASSWORD}}
    assert Api(operator)("update-node", body)[0] == 202
    operation = Operation.objects.get()
    operation.params |= {"uri": thief.uri, "fingerprint": thief.host_key.fingerprint}
    Operation.objects.filter(pk=operation.pk).update(params=operation.params)
    (ended,) = run_queued()
    assert (ended.status, ended.error["code"]) == (OperationStatus.FAILED, "credential_not_for_target")
    assert thief.passwords == []


def test_the_password_of_a_bmc_goes_to_its_address_and_certificate_alone(node):
    row = Bmc(node=node, url="https://192.0.2.9", system_path="/1", user="admin")
    binding = access.bmc_binding(access.parse_bmc_url(row.url), "admin", "")
    row.secret = SecretFor(binding, {"password": PASSWORD})
    row.save()
    assert access.bmc_target(node).password == PASSWORD
    for changes in (
        {"url": "https://192.0.2.66"},
        {"url": "https://192.0.2.9:8443"},
        {"user": "root"},
        {"certificate_fingerprint": "ab" * 32},
    ):
        Bmc.objects.update(url="https://192.0.2.9", user="admin", certificate_fingerprint="")
        Bmc.objects.update(**changes)
        with pytest.raises(CredentialNotForTarget):
            access.bmc_target(node)


# -- the neighbours --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"uri": "qemu+ssh://admin@192.0.2.1/system"},
        {"host_key_fingerprint": "SHA256:" + "A" * 43},
    ],
    ids=["another user", "another host key"],
)
def test_a_stored_secret_is_asked_for_again_and_the_own_key_is_not(operator, node, change):
    call = Api(operator)
    status, operation = call("update-node", {"node": "kvm-01"} | change)
    assert status == 202
    call("cancel-operation", {"operation": operation["id"]})
    store_password(node)
    status, answer = call("update-node", {"node": "kvm-01"} | change)
    assert (status, answer["code"]) == (422, "credential_not_for_target")
    given = {"credential": {"kind": "password", "password": PASSWORD}}
    assert call("update-node", {"node": "kvm-01"} | change | given)[0] == 202


def test_a_retry_asks_again_whether_this_machine_may_be_entered(administrator, operator, node):
    """It was asked for while the node was this machine, by somebody who may change the node alone."""
    Node.objects.filter(pk=node.pk).update(uri="qemu:///system", host_key="", host_key_fingerprint="")
    assert Api(operator)("update-node", {"node": "kvm-01", "uri": "qemu:///system"})[0] == 202
    asked = Operation.objects.get()
    Api(operator)("cancel-operation", {"operation": str(asked.pk)})
    Node.objects.filter(pk=node.pk).update(
        uri="qemu+ssh://root@192.0.2.1/system",
        host_key=HOST_KEY.to_text(),
        host_key_fingerprint=HOST_KEY.fingerprint,
    )
    status, answer = Api(operator)("retry-operation", {"operation": str(asked.pk)})
    assert (status, answer["code"]) == (403, "permission_denied")
    assert run_whatever_was_checked(asked).error["code"] == "permission_denied"


def test_a_retry_of_an_addition_asks_for_the_name_again(administrator, node):
    body = {"name": "kvm-02", "uri": "test:///default"}
    assert Api(administrator)("add-node", body)[0] == 202
    asked = Operation.objects.get()
    Api(administrator)("cancel-operation", {"operation": str(asked.pk)})
    make_node("kvm-02")
    asked.refresh_from_db()
    with pytest.raises(NodeAdminError) as refused:
        retry(asked, actor=Actor(administrator))
    assert refused.value.code == "node_exists"
    assert run_whatever_was_checked(asked).error["code"] == "node_exists"


def test_who_may_no_longer_change_the_node_has_nothing_retried(administrator, operator, node, thief):
    failed = lured(operator, thief)
    remove_perm("change_node", operator, node)
    assert Api(operator)("retry-operation", {"operation": str(failed.pk)})[0] == 403
    assert run_whatever_was_checked(failed).error["code"] == "permission_denied"


def test_what_is_stored_still_opens_for_the_node_it_was_stored_for(node):
    store_password(node)
    assert secret_of(node) == {"password": PASSWORD}
    with pytest.raises(TypeError):
        Credential.objects.filter(node=node).update(secret={"password": PASSWORD})
