"""Claims, leases, fencing, cancelling and resuming: the engine on a real database."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import OperationalError
from django.utils import timezone

from nodes.engine.claim import claim, expire_all, release, renew
from nodes.engine.purge import purge, purge_snapshots
from nodes.engine.run import MOST_CLAIMS, OperationRun, run_operation
from nodes.engine.submit import cancel, retry, submit
from nodes.errors import InvalidInput, NodeBusy
from nodes.events import SYSTEM
from nodes.inventory.document import HostDocument
from nodes.models import Event, Node, Operation, OperationStatus, Snapshot, StepStatus
from nodes.operations.add_node import AddNode
from nodes.operations.base import ClaimLost
from tests.engine.running import run_queued

pytestmark = pytest.mark.django_db


def add(name: str = "test-01") -> Operation:
    params = {"uri": "test:///default", "type": "compute", "labels": {}}
    return submit("add-node", actor=SYSTEM, node_name=name, params=params)


def test_an_operation_is_claimed_once():
    operation = add()
    first = claim(operation.pk)
    assert first is not None
    assert first.token == 1
    assert claim(operation.pk) is None


def test_an_expired_lease_is_taken_over_and_the_former_owner_writes_nothing_more():
    operation = add()
    slow = claim(operation.pk)
    release(slow)
    fast = claim(operation.pk)
    assert fast.token > slow.token
    assert renew([slow]) == [slow]
    assert renew([fast]) == []
    with pytest.raises(ClaimLost), slow.fenced():
        pytest.fail("the block of a lost claim must not run")
    run_operation(OperationRun(Operation.objects.get(pk=operation.pk), slow))
    operation.refresh_from_db()
    assert operation.status == OperationStatus.RUNNING
    assert not Node.objects.exists()


def test_a_claim_lost_in_the_middle_rolls_the_block_back():
    operation = add()
    held = claim(operation.pk)
    with pytest.raises(ClaimLost):
        with held.fenced():
            pass
        release(held)
        claim(operation.pk)
        with held.fenced():
            Node.objects.create(name="ghost", uri="x")
    assert not Node.objects.filter(name="ghost").exists()


def test_at_a_start_all_leases_end():
    operation = add()
    assert claim(operation.pk) is not None
    assert expire_all() == 1
    assert claim(operation.pk) is not None


def test_a_second_run_of_add_node_finds_what_the_first_had_committed():
    operation = add()
    (ended,) = run_queued()
    node = Node.objects.get()
    # As if the process had died after the join's commit and before the end was written.
    Operation.objects.filter(pk=operation.pk).update(status=OperationStatus.RUNNING, finished_at=None)
    operation.steps.filter(code="join").update(status=StepStatus.RUNNING)
    expire_all()
    (again,) = run_queued()
    assert again.status == OperationStatus.SUCCEEDED
    assert again.result == ended.result
    assert Node.objects.get() == node
    assert Snapshot.objects.count() == 1


def test_a_queued_operation_is_cancelled_at_once():
    operation = cancel(add(), actor=SYSTEM)
    assert operation.status == OperationStatus.CANCELLED
    assert run_queued() == []
    with pytest.raises(InvalidInput):
        cancel(operation, actor=SYSTEM)


def test_a_running_operation_is_cancelled_between_steps():
    operation = add()
    held = claim(operation.pk)
    cancel(operation, actor=SYSTEM)
    run_operation(OperationRun(Operation.objects.get(pk=operation.pk), held))
    operation.refresh_from_db()
    assert operation.status == OperationStatus.CANCELLED
    assert set(operation.steps.values_list("status", flat=True)) == {StepStatus.CANCELLED}
    assert not Node.objects.exists()


def test_retry_queues_the_same_work_anew():
    operation = cancel(add(), actor=SYSTEM)
    again = retry(operation, actor=SYSTEM)
    assert again.pk != operation.pk
    (ended,) = run_queued()
    assert (ended.pk, ended.status) == (again.pk, OperationStatus.SUCCEEDED)
    with pytest.raises(InvalidInput):
        retry(ended, actor=SYSTEM)


def test_several_refreshes_at_once_are_one():
    add()
    run_queued()
    node = Node.objects.get()
    one, two = (submit("refresh-node", actor=SYSTEM, node=node) for _ in range(2))
    assert one.pk == two.pk
    (ended,) = run_queued()
    assert ended.status == OperationStatus.SUCCEEDED
    assert submit("refresh-node", actor=SYSTEM, node=node).pk != one.pk


def test_an_exclusive_operation_excludes_another_but_not_a_refresh():
    add()
    run_queued()
    node = Node.objects.get()
    params = {"uri": "test:///default"}
    submit("update-node", actor=SYSTEM, node=node, params=params)
    with pytest.raises(NodeBusy):
        submit("update-node", actor=SYSTEM, node=node, params=params)
    assert submit("refresh-node", actor=SYSTEM, node=node).status == OperationStatus.QUEUED


def test_an_unexpected_error_ends_the_operation_with_a_reference_and_no_traceback():
    operation = add()
    Operation.objects.filter(pk=operation.pk).update(params={"uri": "test:///default"})
    (ended,) = run_queued()
    assert ended.status == OperationStatus.FAILED
    assert ended.error["code"] == "internal_error"
    assert ended.error["reference"] in ended.message
    assert "Traceback" not in str(ended.error)
    assert "KeyError" not in str(ended.error)


def test_an_operation_that_the_database_breaks_off_is_resumed_and_not_failed(monkeypatch):
    operation = add()
    execute = AddNode.execute
    broken = []

    def locked_once(kind, run):
        if not broken:
            broken.append(run)
            with run.step("reach"):
                raise OperationalError("database is locked")
        return execute(kind, run)

    monkeypatch.setattr(AddNode, "execute", locked_once)
    run_operation(OperationRun(operation, claim(operation.pk)))
    operation.refresh_from_db()
    assert operation.status == OperationStatus.RUNNING
    assert operation.steps.get(code="reach").status == StepStatus.RUNNING
    expire_all()
    (ended,) = run_queued()
    assert ended.status == OperationStatus.SUCCEEDED


def test_one_that_the_database_breaks_off_again_and_again_fails(monkeypatch):
    def locked(kind, run):
        raise OperationalError("database is locked")

    monkeypatch.setattr(AddNode, "execute", locked)
    operation = add()
    for _round in range(MOST_CLAIMS):
        run_operation(OperationRun(operation, claim(operation.pk)))
        expire_all()
    operation.refresh_from_db()
    assert (operation.status, operation.error["code"]) == (OperationStatus.FAILED, "internal_error")


def test_purge_keeps_what_is_new_what_changed_and_the_newest(settings):
    settings.NODEADMIN_SNAPSHOTS_KEPT = 2
    node = Node.objects.create(name="n", uri="x")
    blob = HostDocument("2026-01-01T00:00:00Z").to_bytes()
    start = timezone.now() - timedelta(days=1)
    rows = [
        Snapshot.objects.create(
            node=node, observed_at=start + timedelta(minutes=minute), document=blob, changed=minute in (0, 3)
        )
        for minute in range(8)
    ]
    assert purge_snapshots() == 4
    kept = set(Snapshot.objects.values_list("pk", flat=True))
    assert kept == {rows[index].pk for index in (0, 3, 6, 7)}


def test_purge_lets_old_operations_and_events_go(settings):
    old = timezone.now() - timedelta(days=400)
    operation = cancel(add("old"), actor=SYSTEM)
    Operation.objects.filter(pk=operation.pk).update(created_at=old)
    running = add("running")
    Operation.objects.filter(pk=running.pk).update(created_at=old)
    Event.objects.update(created_at=old)
    counts = purge()
    assert counts["operations"] == 1
    assert Operation.objects.get() == running
    assert counts["events"] == 3
