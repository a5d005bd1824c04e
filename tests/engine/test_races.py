"""What happens at once: nodes that go, logins that change and inventories that arrive while others run."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import timedelta

import pytest
from django.db import InterfaceError
from django.utils import timezone

from nodes import access
from nodes.engine import runner as runners
from nodes.engine import submit as submitting
from nodes.engine.claim import claim
from nodes.engine.embedded import EmbeddedRunner
from nodes.engine.run import OperationRun, run_operation
from nodes.engine.runner import Runner
from nodes.engine.submit import cancel, retry, submit
from nodes.errors import CredentialNotForTarget, UnknownNode
from nodes.events import SYSTEM, Actor
from nodes.inventory.build import build
from nodes.inventory.document import HostDocument
from nodes.models import (
    Connection,
    Credential,
    Event,
    InventoryChange,
    Node,
    Operation,
    OperationStatus,
    StepStatus,
)
from nodes.operations import snapshots
from nodes.operations.snapshots import Before, Taken, store_snapshot
from tests.engine.running import run_queued
from tests.factories import make_credential, make_node, make_operation, make_snapshot, make_user
from tests.inventory.documents import host_document
from tests.light_nodes import wait_until

pytestmark = pytest.mark.django_db


def running(operation: Operation) -> OperationRun:
    held = claim(operation.pk)
    assert held is not None
    return OperationRun(Operation.objects.select_related("node").get(pk=operation.pk), held)


def test_the_cancelling_of_a_queued_operation_is_on_record_with_who_did_it_and_ends_its_steps():
    user = make_user()
    operation = submit(
        "add-node", actor=SYSTEM, node_name="n", params={"uri": "test:///default", "type": "compute"}
    )
    cancel(operation, actor=Actor(user, "192.0.2.7"))
    event = Event.objects.get(kind="add_node_cancelled")
    assert (event.user, event.source_ip, event.operation) == (user, "192.0.2.7", operation)
    assert set(operation.steps.values_list("status", flat=True)) == {StepStatus.CANCELLED}


def test_the_wish_to_cancel_a_running_operation_is_on_record_too():
    user = make_user()
    operation = submit(
        "add-node", actor=SYSTEM, node_name="n", params={"uri": "test:///default", "type": "compute"}
    )
    claim(operation.pk)
    cancel(operation, actor=Actor(user))
    assert Event.objects.get(kind="add_node_cancel_requested").user == user


def test_a_refresh_of_a_node_that_is_gone_cannot_be_retried():
    node = make_node(uri="test:///default")
    operation = make_operation(node, status=OperationStatus.FAILED)
    node.delete()
    operation.refresh_from_db()
    with pytest.raises(UnknownNode):
        retry(operation, actor=SYSTEM)


def test_a_node_removed_before_its_refresh_began_ends_it_with_a_word_for_that():
    node = make_node(uri="test:///default")
    submit("refresh-node", actor=SYSTEM, node=node)
    node.delete()
    (ended,) = run_queued()
    assert (ended.status, ended.error["code"]) == (OperationStatus.FAILED, "unknown_node")


@pytest.mark.parametrize("uri", ["test:///default", "test:///nowhere.xml"])
def test_a_node_removed_while_it_is_read_ends_the_refresh_with_a_word_for_that(uri):
    node = make_node(uri=uri)
    run = running(submit("refresh-node", actor=SYSTEM, node=node))
    node.delete()
    run_operation(run)
    operation = Operation.objects.get()
    assert (operation.status, operation.error["code"]) == (OperationStatus.FAILED, "unknown_node")


@pytest.mark.django_db(transaction=True)
def test_asking_for_a_refresh_of_a_node_that_has_just_gone_says_so():
    node = make_node()
    Node.objects.filter(pk=node.pk).delete()
    with pytest.raises(UnknownNode):
        submit("refresh-node", actor=SYSTEM, node=node)


def test_a_refresh_that_ends_while_another_is_asked_for_is_followed_by_that_one(monkeypatch):
    node = make_node(uri="test:///default")
    first = submit("refresh-node", actor=SYSTEM, node=node)
    looked = submitting._in_the_way

    def ends_before_one_looks(*arguments):
        Operation.objects.filter(pk=first.pk).update(status=OperationStatus.SUCCEEDED)
        return looked(*arguments)

    monkeypatch.setattr(submitting, "_in_the_way", ends_before_one_looks)
    second = submit("refresh-node", actor=SYSTEM, node=node)
    assert second.pk != first.pk
    assert second.status == OperationStatus.QUEUED


def test_a_login_is_read_as_it_is_now_and_not_as_the_row_was():
    node = make_node(uri="qemu+ssh://root@192.0.2.1/system")
    make_credential(node, "password", password="old")
    Node.objects.filter(pk=node.pk).update(uri="qemu+ssh://root@192.0.2.2/system")
    login = access.Login.of_node(node)
    assert login.uri.host == "192.0.2.2"
    with pytest.raises(CredentialNotForTarget):
        login.target()


def test_the_failure_of_a_login_that_was_replaced_meanwhile_takes_no_node_offline(monkeypatch):
    node = make_node(uri="test:///nowhere.xml")
    run = running(submit("refresh-node", actor=SYSTEM, node=node))
    connect = access.connect

    def replaced_meanwhile(target):
        Node.objects.filter(pk=node.pk).update(uri="test:///default")
        connection = connect(target)
        connection.close()
        connection.hypervisor()  # raises: what the old login leads to is gone
        return connection

    monkeypatch.setattr(access, "connect", replaced_meanwhile)
    run_operation(run)
    assert Operation.objects.get().error["code"] == "host_unreachable"
    node.refresh_from_db()
    assert node.connection == Connection.ONLINE


def test_two_inventories_that_arrive_at_once_tell_a_change_once():
    node = make_node()
    make_snapshot(node, "two-socket")
    other = Node.objects.get(pk=node.pk)
    document = replace(host_document("arm-server"), observed_at=timezone.now().isoformat())
    taken = Taken(document, build(document), 0.1)
    _snapshot, first = store_snapshot(node, taken)
    _snapshot, second = store_snapshot(other, taken)
    assert first
    assert not second
    assert InventoryChange.objects.count() == len(first)


def test_what_an_inventory_was_to_be_compared_with_counts_only_where_it_still_is_the_newest():
    node = make_node()
    old = make_snapshot(node, "two-socket")
    before = Before(old.pk, build(old.host_document()))
    document = replace(host_document("arm-server"), observed_at=timezone.now().isoformat())
    taken = Taken(document, build(document), 0.1, document.to_bytes(), before)
    _snapshot, first = store_snapshot(Node.objects.get(pk=node.pk), taken)
    _snapshot, second = store_snapshot(node, taken)
    assert first
    assert not second


def test_no_document_is_parsed_while_an_inventory_is_stored(monkeypatch):
    node = make_node()
    old = make_snapshot(node, "two-socket")
    document = replace(old.host_document(), observed_at=timezone.now().isoformat())
    before = Before(old.pk, build(document))
    taken = Taken(document, build(document), 0.1, document.to_bytes(), before)

    def refuse(*_anything):
        raise AssertionError("a document is parsed under the database's lock")

    monkeypatch.setattr(snapshots, "build", refuse)
    monkeypatch.setattr(HostDocument, "to_bytes", refuse)
    snapshot, _changes = store_snapshot(node, taken)
    assert snapshot.host_document() == document


def test_a_secret_that_no_key_opens_stops_its_own_operation_and_neither_lists_nor_the_engine(settings):
    node = make_node(uri="qemu+ssh://root@192.0.2.1/system")
    make_credential(node, "password", password="hunter2hunter2")
    submit("refresh-node", actor=SYSTEM, node=node)
    settings.NODEADMIN_SEAL_KEYS = "b3RoZXIta2V5LW90aGVyLWtleS1vdGhlci1rZXktMTI="
    assert "hunter2" not in repr(list(Credential.objects.values_list("secret", flat=True)))
    (ended,) = run_queued()
    assert ended.error["code"] == "credential_unreadable"
    node.refresh_from_db()
    assert "NODEADMIN_SEAL_KEYS" in node.connection_detail


@pytest.mark.django_db(transaction=True)
def test_what_hangs_as_a_runner_stops_is_taken_over_after_a_lease_and_what_ended_at_once(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(runners, "STOP_WAIT_S", 0.3)
    hangs = submit("refresh-node", actor=SYSTEM, node=make_node("hangs", uri="test:///default"))
    breaks_off = submit("refresh-node", actor=SYSTEM, node=make_node("breaks-off", uri="test:///default"))
    begun, over = threading.Semaphore(0), threading.Event()

    def stands(run: OperationRun) -> None:
        begun.release()
        (over if run.operation.pk == hangs.pk else run.lost).wait(60)
        run.check_cancelled()

    monkeypatch.setattr(runners, "run_operation", stands)
    runner = EmbeddedRunner(tmp_path)
    runner.start()
    assert begun.acquire(timeout=30) and begun.acquire(timeout=30)
    runner.stop()
    claimable = set(Operation.objects.claimable().values_list("pk", flat=True))
    over.set()
    assert claimable == {breaks_off.pk}
    hangs.refresh_from_db()
    assert (hangs.status, hangs.claim_token) == (OperationStatus.RUNNING, 2)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("error", [InterfaceError("connection already closed"), RuntimeError("unforeseen")])
def test_a_runner_outlives_whatever_goes_wrong_in_a_sweep_and_a_renewal(
    tmp_path, monkeypatch, settings, error
):
    settings.NODEADMIN_LEASE_S = 2.0
    failed: set[str] = set()

    def fails_once(name: str) -> None:
        real = getattr(Runner, name)

        def fails(runner: Runner) -> None:
            if name not in failed:
                failed.add(name)
                raise error
            real(runner)

        monkeypatch.setattr(Runner, name, fails)

    for name in ("_sweep", "_renew"):
        fails_once(name)
    operation = submit("refresh-node", actor=SYSTEM, node=make_node(uri="test:///default"))
    runner = EmbeddedRunner(tmp_path)
    runner.start()
    try:
        wait_until(lambda: Operation.objects.get(pk=operation.pk).is_finished)
        wait_until(lambda: failed == {"_sweep", "_renew"})
        assert all(thread.is_alive() for thread in runner._loops)
    finally:
        runner.stop()
    assert Operation.objects.get(pk=operation.pk).status == OperationStatus.SUCCEEDED


def test_the_runner_never_takes_an_operation_over_from_itself(tmp_path):
    runner = EmbeddedRunner(tmp_path)
    operation = submit("refresh-node", actor=SYSTEM, node=make_node(uri="test:///default"))
    held = claim(operation.pk)
    runner._runs[operation.pk] = (held, OperationRun(operation, held))
    # As after a pause of the whole process that outlasted the lease.
    Operation.objects.update(lease_expires_at=timezone.now() - timedelta(minutes=5))
    runner._sweep()
    operation.refresh_from_db()
    assert operation.claim_token == held.token
