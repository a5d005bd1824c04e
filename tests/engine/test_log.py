"""An operation's own log: who ran it, what each step said, what went wrong; and what the purge lets go."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from nodes.engine.claim import claim, expire_all
from nodes.engine.purge import purge
from nodes.engine.run import OperationRun
from nodes.engine.submit import submit
from nodes.events import SYSTEM
from nodes.models import (
    MigrationSlot,
    Operation,
    OperationLogEntry,
    OperationStatus,
    StepStatus,
    UsedConfirmation,
)
from tests.engine.running import run_queued
from tests.factories import make_node, make_operation

pytestmark = pytest.mark.django_db


def lines(operation: Operation) -> list[tuple[str, str, str]]:
    return list(
        OperationLogEntry.objects.filter(operation=operation).values_list("level", "step_code", "message")
    )


def test_a_run_leaves_its_beginning_its_steps_and_its_end():
    operation = submit("refresh-node", actor=SYSTEM, node=make_node(uri="test:///default"))
    run_queued()
    found = lines(operation)
    assert found[0][:2] == ("info", "")
    assert found[0][2].startswith("Started by ")
    assert ("info", "connect", "Begun.") in found
    assert ("info", "connect", "Done.") in found
    assert any(code == "inventory" and "sources read" in message for _level, code, message in found)
    assert found[-1] == ("info", "", "Done.")


def test_a_failure_is_in_the_log_of_its_step_and_of_the_operation():
    operation = submit("refresh-node", actor=SYSTEM, node=make_node(uri="qemu+ssh://root@127.0.0.1:1/system"))
    (ended,) = run_queued()
    errors = [(code, message) for level, code, message in lines(operation) if level == "error"]
    assert [code for code, _message in errors] == ["connect", ""]
    assert errors[1][1] == ended.message
    assert operation.steps.get(code="connect").data["error"] == ended.error["code"]


def test_a_resumed_run_says_so_as_a_warning():
    operation = submit("refresh-node", actor=SYSTEM, node=make_node(uri="test:///default"))
    claim(operation.pk)
    Operation.objects.filter(pk=operation.pk).update(started_at=timezone.now())
    operation.steps.filter(code="connect").update(status=StepStatus.RUNNING, started_at=timezone.now())
    expire_all()
    run_queued()
    found = lines(operation)
    assert found[0][0] == "warning"
    assert found[0][2].startswith("Resumed by ")
    assert ("info", "connect", "Begun again.") in found


def test_a_step_says_the_same_thing_once_and_progress_not_at_all():
    operation = submit("refresh-node", actor=SYSTEM, node=make_node(uri="test:///default"))
    run = OperationRun(operation, claim(operation.pk))
    with run.step("connect") as step:
        step.report("Dials.", data={"tries": 1})
        for tenth in range(10):
            step.report(progress=tenth / 10)
        step.report("Dials.", data={"tries": 2})
        step.warn("It rings.")
    run.log("By hand.", "warning", step_code="store")
    messages = [message for _level, _code, message in lines(operation)]
    assert messages == ["Begun.", "Dials.", "It rings.", "Done.", "By hand."]
    assert run.data_of("connect") == {"tries": 2}


def test_a_postponed_step_waits_for_its_turn():
    operation = submit("refresh-node", actor=SYSTEM, node=make_node(uri="test:///default"))
    run = OperationRun(operation, claim(operation.pk))
    with run.step("connect") as step:
        step.postpone()
    row = operation.steps.get(code="connect")
    assert (row.status, row.finished_at) == (StepStatus.PENDING, None)
    with run.step("connect") as step:
        assert step.begun_before
        assert not step.done_before


def test_purge_lets_go_of_used_confirmations_after_an_hour_and_of_places_of_ended_operations():
    node = make_node()
    for nonce, age_min in (("old", 61), ("young", 59)):
        UsedConfirmation.objects.create(nonce=nonce)
        moment = timezone.now() - timedelta(minutes=age_min)
        UsedConfirmation.objects.filter(nonce=nonce).update(used_at=moment)
    for number, status in enumerate((OperationStatus.FAILED, OperationStatus.RUNNING)):
        operation = make_operation(node, kind="disable-node", status=status)
        MigrationSlot.objects.create(
            node=node, direction="out", number=number, operation=operation, step_code="vm:x"
        )
    counts = purge()
    assert (counts["used_confirmations"], counts["migration_slots"]) == (1, 1)
    assert UsedConfirmation.objects.get().nonce == "young"
    assert MigrationSlot.objects.get().number == 1
