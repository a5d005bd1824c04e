"""What was confirmed holds for a while only; once it has been found to be over, it is over for good."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest
from django.utils import timezone

from nodes.engine.claim import claim, expire_all, renew
from nodes.engine.submit import submit
from nodes.events import SYSTEM
from nodes.hosts import power
from nodes.models import Operation, OperationStatus, OperationStep, StepStatus
from nodes.operations import plan_run
from nodes.operations.power_steps import PowerSteps
from nodes.operations.run.way_back import WayBack
from tests.engine.running import run_queued
from tests.factories import make_node
from tests.light_nodes import ask
from tests.lighthosts import assert_exactly_once
from tests.operations.test_reboot import Killed, killed, run_until

pytestmark = pytest.mark.django_db(transaction=True)


def run_killed(monkeypatch: pytest.MonkeyPatch, where: object, method: str) -> None:
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(where, method, killed)
        run_queued()


def nobody_for(seconds: float) -> None:
    """As if the server had died with its lease, and another one started so much later."""
    Operation.objects.update(lease_expires_at=timezone.now() - timedelta(seconds=seconds))
    expire_all()


def assert_expired(operation: Operation) -> None:
    ended = Operation.objects.get(pk=operation.pk)
    assert ended.status == OperationStatus.FAILED
    assert ended.error["code"] == "confirmation_expired", ended.error


def test_what_was_found_to_be_expired_stays_so_though_the_server_dies_again(
    pair, nodes, run_vm, obedient, monkeypatch, settings
):
    one, _two = pair
    before = len(one.power_commands)
    vm = run_vm("web", kernel=obedient)
    operation = ask("reboot-node", nodes[0], vm_policy="stop", restart_vms=True)
    run_killed(monkeypatch, PowerSteps, "intent")
    nobody_for(settings.NODEADMIN_CONFIRMATION_LIFE_S + 1)
    run_killed(monkeypatch, WayBack, "_undo")
    for _crash in range(2):
        nobody_for(1)
        run_killed(monkeypatch, WayBack, "_undo")
    nobody_for(1)
    run_queued()
    assert_expired(operation)
    assert len(one.power_commands) == before
    assert_exactly_once(pair, vm, on=one)


def test_times_without_a_server_add_up(pair, nodes, run_vm, obedient, monkeypatch, settings):
    one, _two = pair
    before = len(one.power_commands)
    vm = run_vm("web", kernel=obedient)
    operation = ask("reboot-node", nodes[0], vm_policy="stop", restart_vms=True)
    run_killed(monkeypatch, PowerSteps, "intent")
    nobody_for(settings.NODEADMIN_CONFIRMATION_LIFE_S * 0.6)
    run_killed(monkeypatch, PowerSteps, "intent")
    nobody_for(settings.NODEADMIN_CONFIRMATION_LIFE_S * 0.6)
    run_queued()
    assert_expired(operation)
    assert len(one.power_commands) == before
    assert_exactly_once(pair, vm, on=one)


def test_a_server_that_slept_between_two_vms_stops_no_other(
    pair, nodes, run_vm, obedient, monkeypatch, settings
):
    one, _two = pair
    settings.NODEADMIN_MIGRATIONS_OUT = 1
    vms = [run_vm(name, kernel=obedient) for name in ("web", "mail")]
    operation = ask("reboot-node", nodes[0], vm_policy="stop", restart_vms=True)
    stop_vm, begun = plan_run.stop_vm, []

    def sleeps_after(run, vm, *arguments, **options):
        begun.append(vm.vm_name)
        stop_vm(run, vm, *arguments, **options)
        life_s = settings.NODEADMIN_CONFIRMATION_LIFE_S + 1
        Operation.objects.update(lease_expires_at=timezone.now() - timedelta(seconds=life_s))

    monkeypatch.setattr(plan_run, "stop_vm", sleeps_after)
    run_queued()
    assert_expired(operation)
    assert len(begun) == 1
    for vm in vms:
        assert_exactly_once(pair, vm, on=one)


def test_vms_that_are_started_again_make_no_confirmation_fresh(
    pair, nodes, run_vm, obedient, monkeypatch, settings
):
    one, _two = pair
    before = len(one.power_commands)
    vm = run_vm("web", kernel=obedient)
    operation = ask("reboot-node", nodes[0], vm_policy="stop", restart_vms=True)
    run_until(monkeypatch, operation, "command")
    long_ago = timezone.now() - timedelta(seconds=settings.NODEADMIN_CONFIRMATION_LIFE_S + 1)
    operation.steps.exclude(finished_at=None).update(finished_at=long_ago)
    # As by a run that gave back what it could, and died.
    operation.steps.filter(code__startswith="start:").update(
        status=StepStatus.SKIPPED, finished_at=timezone.now()
    )
    if one.vm_state(vm) == "running":
        one.virsh("-q", "destroy", vm.uuid)
    run_queued()
    assert_expired(operation)
    assert len(one.power_commands) == before


def test_the_hosts_own_clock_ends_an_intent_whatever_ours_says(pair, nodes, monkeypatch, settings):
    one, _two = pair
    before = len(one.power_commands)
    operation = ask("reboot-node", nodes[0])
    run_until(monkeypatch, operation, "command")
    intent = OperationStep.objects.get(operation=operation, code="intent")
    intent.data["uptime_s"] -= settings.NODEADMIN_CONFIRMATION_LIFE_S + 1
    intent.save()
    run_queued()
    assert_expired(operation)
    assert len(one.power_commands) == before


def test_after_a_clock_was_set_back_nothing_is_rebooted(pair, nodes, monkeypatch):
    one, _two = pair
    before = len(one.power_commands)
    operation = ask("reboot-node", nodes[0])
    run_killed(monkeypatch, PowerSteps, "intent")
    nobody_for(-7200)
    run_queued()
    assert_expired(operation)
    assert len(one.power_commands) == before


def test_a_command_that_comes_too_late_is_decided_upon_and_sent_again(pair, nodes, monkeypatch):
    one, _two = pair
    before = len(one.power_commands)
    # The first is the intent's.
    uptime_s, told = power.uptime_s, [0.0, 0.0, time.clock_gettime(time.CLOCK_BOOTTIME)]
    monkeypatch.setattr(power, "uptime_s", lambda shell: told.pop() if told else uptime_s(shell))
    operation = ask("reboot-node", nodes[0])
    (ended,) = run_queued()
    assert ended.status == OperationStatus.SUCCEEDED, ended.error
    assert len(one.power_commands) == before + 1
    assert operation.log_entries.filter(step_code="command", message__contains="late").count() == 1


def test_a_lease_that_was_over_before_its_process_went_on_counts_too():
    node = make_node("node-01", uri="test:///default")
    operation = submit("refresh-node", actor=SYSTEM, node=node)
    held = claim(operation.pk)
    assert held is not None
    assert renew([held]) == []
    operation.refresh_from_db()
    assert operation.unattended_s == 0
    Operation.objects.update(lease_expires_at=timezone.now() - timedelta(seconds=100))
    assert renew([held]) == []
    operation.refresh_from_db()
    assert 99 < operation.unattended_s < 160
