"""Rebooting a light host: VMs move or stop, the boot ID proves it, what was stopped comes back."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from nodes.engine.claim import expire_all
from nodes.engine.submit import cancel
from nodes.errors import HostError, HostTimeout
from nodes.events import SYSTEM
from nodes.hosts import power
from nodes.hosts.shell import Shell
from nodes.models import Event, Node, Operation, OperationStatus, Scheduling, StepStatus
from nodes.operations import power_steps, reboot
from nodes.operations.base import OperationCancelled
from nodes.operations.power_steps import PowerCommand, PowerSteps
from nodes.operations.run import way_back
from tests.engine.running import in_background, run_queued
from tests.light_nodes import ask, plan_of, steps_of, wait_until
from tests.lighthosts import TinyVm, assert_exactly_once

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_reboot_moves_stops_and_brings_back_as_confirmed(pair, nodes, run_vm, obedient):
    one, two = pair
    moves, comes_back = run_vm("moves"), run_vm("comes-back", kernel=obedient)
    before = one.boot_id
    ask("reboot-node", nodes[0], vm_policy="stop", vm_overrides={"moves": "migrate"}, restart_vms=True)
    (ended,) = run_queued()
    assert ended.status == OperationStatus.SUCCEEDED, ended.error
    assert set(steps_of(ended).values()) == {"succeeded"}
    assert one.power_commands == ["reboot"]
    assert one.boot_id != before
    assert (ended.result["boot_id_before"], ended.result["boot_id"]) == (before, one.boot_id)
    assert ended.result["down_s"] > 0
    assert_exactly_once(pair, moves, on=two)
    assert_exactly_once(pair, comes_back, on=one)
    node = Node.objects.get(pk=nodes[0].pk)
    assert (node.scheduling, node.connection) == (Scheduling.ENABLED, "online")
    assert node.boot_id == one.boot_id
    reasons = Event.objects.filter(node=node, kind="node_offline").values_list("data__reason", flat=True)
    assert list(reasons) == ["rebooting"]


def test_a_host_that_is_back_before_anyone_looks_was_away_since_it_took_the_command(pair, nodes, monkeypatch):
    one, _two = pair
    before = one.boot_id
    look = PowerSteps.gone

    def looks_late(steps: PowerSteps) -> None:
        wait_until(lambda: one.boot_id != before and one.is_on)
        look(steps)

    monkeypatch.setattr(PowerSteps, "gone", looks_late)
    ask("reboot-node", nodes[0])
    (ended,) = run_queued()
    assert ended.status == OperationStatus.SUCCEEDED, ended.error
    assert ended.result["down_s"] >= one.boot_s


def test_a_clock_that_went_backwards_tells_no_time_down(pair, nodes, monkeypatch):
    ask("reboot-node", nodes[0])
    monkeypatch.setattr(power_steps, "_now", lambda: (timezone.now() + timedelta(hours=1)).isoformat())
    (ended,) = run_queued()
    assert ended.status == OperationStatus.SUCCEEDED, ended.error
    assert ended.result["down_s"] is None
    assert ended.steps.get(code="back").message.startswith("Back: another boot ID")


def test_a_reboot_with_running_vms_and_no_word_for_them_is_refused(pair, nodes, run_vm):
    run_vm("web")
    plan = plan_of("reboot-node", nodes[0])
    assert [reason.code for reason in plan.blockers] == ["node_has_running_vms"]


def test_without_restart_a_vm_stays_off_and_a_node_in_maintenance_stays_there(pair, nodes, run_vm, obedient):
    one, _two = pair
    vm = run_vm("web", kernel=obedient)
    Node.objects.filter(pk=nodes[0].pk).update(scheduling=Scheduling.MAINTENANCE, scheduling_reason="mine")
    nodes[0].refresh_from_db()
    ask("reboot-node", nodes[0], vm_policy="stop")
    (ended,) = run_queued()
    assert ended.status == OperationStatus.SUCCEEDED, ended.error
    assert_exactly_once(pair, vm, on=one, state="shut off")
    node = Node.objects.get(pk=nodes[0].pk)
    assert (node.scheduling, node.scheduling_reason) == (Scheduling.MAINTENANCE, "mine")
    assert steps_of(ended)["uncordon"] == "skipped"


def test_a_vm_that_ignores_its_shutdown_keeps_the_host_up_and_the_stopped_ones_come_back(
    pair, nodes, run_vm, obedient
):
    one, _two = pair
    before = len(one.power_commands)
    deaf, stopped = run_vm("deaf"), run_vm("obeys", kernel=obedient)
    ask("reboot-node", nodes[0], vm_policy="stop", restart_vms=True, stop_timeout_s=4)
    (ended,) = run_queued()
    assert (ended.status, ended.error["code"]) == (OperationStatus.FAILED, "vm_steps_failed")
    told = {vm["vm"]: (vm["outcome"], vm.get("code")) for vm in ended.error["vms"]}
    assert told == {"deaf": ("still_running", "vm_did_not_stop"), "obeys": ("started_again", None)}
    assert len(one.power_commands) == before
    for vm in (deaf, stopped):
        assert_exactly_once(pair, vm, on=one)
    assert steps_of(ended)["start:obeys"] == "succeeded"
    assert Node.objects.get(pk=nodes[0].pk).scheduling == Scheduling.ENABLED


def test_a_cancel_before_the_command_starts_the_stopped_vms_again(pair, nodes, run_vm, obedient, monkeypatch):
    monkeypatch.setattr(way_back, "WATCH_S", 2.0)
    one, _two = pair
    before = len(one.power_commands)
    deaf, stopped = run_vm("deaf"), run_vm("obeys", kernel=obedient)
    operation = ask("reboot-node", nodes[0], vm_policy="stop", restart_vms=True, stop_timeout_s=60)
    runner = in_background()
    wait_until(lambda: steps_of(operation)["vm:obeys"] == "succeeded")
    cancel(operation, actor=SYSTEM)
    (ended,) = runner.result()
    assert ended.status == OperationStatus.CANCELLED
    assert len(one.power_commands) == before
    for vm in (deaf, stopped):
        assert_exactly_once(pair, vm, on=one)


@pytest.mark.parametrize("why", ["failure", "cancel"])
def test_killed_while_it_gives_back_a_reboot_ends_as_it_would_have(
    pair, nodes, run_vm, obedient, monkeypatch, why
):
    one, _two = pair
    before = len(one.power_commands)
    vms = [run_vm("obeys", kernel=obedient)] + ([run_vm("deaf")] if why == "failure" else [])
    operation = ask("reboot-node", nodes[0], vm_policy="stop", restart_vms=True, stop_timeout_s=4)
    start = way_back.start_vm

    def then_killed(*arguments: Any, **options: Any) -> None:
        start(*arguments, **options)
        raise Killed

    def cancelled(_steps: PowerSteps) -> None:
        cancel(operation, actor=SYSTEM)
        raise OperationCancelled

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(way_back, "start_vm", then_killed)
        patched.setattr(PowerSteps, "intent", cancelled)
        run_queued()
    expire_all()
    (ended,) = run_queued()
    if why == "failure":
        assert (ended.status, ended.error["code"]) == (OperationStatus.FAILED, "vm_steps_failed")
    else:
        assert ended.status == OperationStatus.CANCELLED, ended.error
    assert len(one.power_commands) == before
    for vm in vms:
        assert_exactly_once(pair, vm, on=one)


def test_what_a_host_that_does_not_come_back_owes_is_named(pair, nodes, run_vm, obedient, monkeypatch):
    one, _two = pair
    run_vm("web", kernel=obedient)
    run_vm("off-for-good", kernel=obedient, memory_mib=16)

    def never(*_arguments: object, **_options: object) -> None:
        raise HostTimeout("The host was not back in time.")

    monkeypatch.setattr(power_steps, "wait_until_back", never)
    ask("reboot-node", nodes[0], vm_policy="stop", restart_vms=True)
    (ended,) = run_queued()
    assert (ended.status, ended.error["detail"]) == (OperationStatus.FAILED, "The host was not back in time.")
    lines = ended.log_entries.filter(level="warning").values_list("message", flat=True)
    assert "These VMs were stopped for the reboot, and stay off: off-for-good, web." in lines
    assert one.wait_on()


def test_a_command_that_may_not_have_arrived_is_not_called_taken(pair, nodes, monkeypatch, settings):
    settings.NODEADMIN_POWER_OFF_S = 1.0
    settings.NODEADMIN_LEASE_S = 2.0
    one, _two = pair
    before = len(one.power_commands)

    def lost_on_the_way(_shell: Shell, _boot_id: str, _until_s: float) -> None:
        raise HostTimeout("Nothing was heard of it.")

    monkeypatch.setattr(reboot, "REBOOT", PowerCommand(lost_on_the_way, comes_back=True))
    ask("reboot-node", nodes[0])
    (ended,) = run_queued()
    assert (ended.status, ended.error["code"]) == (OperationStatus.FAILED, "host_stayed_up")
    assert "whether the command has reached it is not known" in ended.error["detail"]
    assert len(one.power_commands) == before


def test_a_refused_command_fails_with_its_words_and_the_host_goes_on(pair, nodes, run_vm, obedient):
    one, _two = pair
    before = one.boot_id
    vm = run_vm("web", kernel=obedient)
    ask("reboot-node", nodes[0], vm_policy="stop", restart_vms=True)
    one.refuse_power("Operation inhibited by an upgrade\n")
    try:
        (ended,) = run_queued()
    finally:
        one.refuse_power("")
    assert ended.status == OperationStatus.FAILED
    assert "inhibited by an upgrade" in ended.error["detail"]
    assert one.boot_id == before
    assert_exactly_once(pair, vm, on=one)


def test_a_vm_that_appears_after_the_others_have_gone_stops_the_reboot(pair, nodes, run_vm, monkeypatch):
    one, two = pair
    before = len(one.power_commands)
    moves = run_vm("moves")
    late: list[TinyVm] = []
    looked = PowerSteps.intent

    def then_another(steps: PowerSteps) -> None:
        late.append(run_vm("late"))
        looked(steps)

    ask("reboot-node", nodes[0], vm_policy="migrate")
    monkeypatch.setattr(PowerSteps, "intent", then_another)
    (ended,) = run_queued()
    assert (ended.status, ended.error["code"]) == (OperationStatus.FAILED, "plan_changed")
    assert any("late" in change for change in ended.error["changes"])
    assert len(one.power_commands) == before
    assert_exactly_once(pair, moves, on=two)
    assert_exactly_once(pair, late[0], on=one)


def cut_off_at(operation: Operation, code: str) -> None:
    """As if the server had died when the step ``code`` was to begin, and a new one were starting."""
    operation.steps.filter(code=code).update(status=StepStatus.PENDING, started_at=None)
    Operation.objects.filter(pk=operation.pk).update(
        status=OperationStatus.RUNNING, finished_at=None, error=None
    )
    expire_all()


class Killed(BaseException):
    """The process dies here, and nothing that it would still do is done."""


def killed(*_arguments: object) -> None:
    raise Killed


def run_until(monkeypatch: pytest.MonkeyPatch, operation: Operation, method: str) -> None:
    """Run the operation up to ``method`` of its power steps, and leave it as a dead process would."""
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(PowerSteps, method, killed)
        run_queued()
    cut_off_at(operation, method)


def test_down_for_longer_than_the_confirmation_lives_the_server_reboots_nothing(
    pair, nodes, run_vm, monkeypatch, settings
):
    one, two = pair
    before = len(one.power_commands)
    vm = run_vm("web")
    operation = ask("reboot-node", nodes[0], vm_policy="migrate")
    run_until(monkeypatch, operation, "command")
    assert operation.steps.get(code="intent").status == StepStatus.SUCCEEDED
    long_ago = timezone.now() - timedelta(seconds=settings.NODEADMIN_CONFIRMATION_LIFE_S + 1)
    operation.steps.exclude(finished_at=None).update(finished_at=long_ago)
    (ended,) = run_queued()
    assert (ended.status, ended.error["code"]) == (OperationStatus.FAILED, "confirmation_expired")
    assert len(one.power_commands) == before
    assert_exactly_once(pair, vm, on=two)


def test_a_server_that_was_away_for_hours_while_vms_were_stopped_reboots_nothing(
    pair, nodes, run_vm, obedient, monkeypatch, settings
):
    one, _two = pair
    before = len(one.power_commands)
    vm = run_vm("web", kernel=obedient)
    ask("reboot-node", nodes[0], vm_policy="stop", restart_vms=True)
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(PowerSteps, "intent", killed)
        run_queued()
    assert_exactly_once(pair, vm, on=one, state="shut off")
    long_ago = timezone.now() - timedelta(seconds=settings.NODEADMIN_CONFIRMATION_LIFE_S + 1)
    Operation.objects.update(lease_expires_at=long_ago)
    assert expire_all() == 1, "a start does not make a lease younger that is over"
    (ended,) = run_queued()
    assert (ended.status, ended.error["code"]) == (OperationStatus.FAILED, "confirmation_expired")
    assert len(one.power_commands) == before
    assert_exactly_once(pair, vm, on=one)


def test_a_run_that_stood_still_before_its_command_sends_none_after_another_has_decided(
    pair, nodes, run_vm, monkeypatch, settings
):
    settings.NODEADMIN_LEASE_S = 2.0
    one, _two = pair
    before = len(one.power_commands)
    stands, goes_on = threading.Event(), threading.Event()
    errors: list[str] = []

    def stands_still(shell: Shell, boot_id: str, until_s: float) -> None:
        stands.set()
        assert goes_on.wait(60)
        try:
            power.reboot(shell, boot_id, until_s)
        except HostError as error:
            errors.append(error.code)
            raise

    monkeypatch.setattr(reboot, "REBOOT", PowerCommand(stands_still, comes_back=True))
    operation = ask("reboot-node", nodes[0])
    first = in_background()
    assert stands.wait(60)
    wait_until(lambda: Operation.objects.claimable().exists())
    late = run_vm("late")
    (ended,) = run_queued()
    assert (ended.status, ended.error["code"]) == (OperationStatus.FAILED, "plan_changed")
    goes_on.set()
    first.result(60)
    assert errors == ["command_too_late"]
    operation.refresh_from_db()
    assert operation.error["code"] == "plan_changed"
    assert len(one.power_commands) == before
    assert_exactly_once(pair, late, on=one)


def test_a_host_that_has_filled_again_is_not_rebooted_by_a_resumed_operation(
    pair, nodes, run_vm, monkeypatch
):
    one, _two = pair
    before = len(one.power_commands)
    operation = ask("reboot-node", nodes[0], vm_policy="migrate")
    run_until(monkeypatch, operation, "command")
    late = run_vm("late")
    (ended,) = run_queued()
    assert (ended.status, ended.error["code"]) == (OperationStatus.FAILED, "plan_changed")
    assert len(one.power_commands) == before
    assert_exactly_once(pair, late, on=one)


def test_a_host_that_was_restarted_by_somebody_else_is_not_rebooted_once_more(
    pair, nodes, run_vm, monkeypatch
):
    one, _two = pair
    operation = ask("reboot-node", nodes[0], vm_policy="migrate")
    run_until(monkeypatch, operation, "command")
    before = len(one.power_commands)
    one.power_off()
    one.power_on()
    (ended,) = run_queued()
    assert (ended.status, ended.error["code"]) == (OperationStatus.FAILED, "plan_changed")
    assert len(one.power_commands) == before


def test_libvirt_down_blocks_a_reboot_unless_unknown_vms_are_accepted(pair, nodes, run_vm):
    one, _two = pair
    before = one.boot_id
    one.stop_libvirtd()
    blocked = plan_of("reboot-node", nodes[0])
    assert [reason.code for reason in blocked.blockers] == ["vm_state_unknown"]
    ask("reboot-node", nodes[0], accept_unknown_vms=True)
    (ended,) = run_queued()
    assert ended.status == OperationStatus.SUCCEEDED, ended.error
    assert one.boot_id != before
    assert Node.objects.get(pk=nodes[0].pk).scheduling == Scheduling.ENABLED


def test_unknown_vms_that_turn_out_to_run_are_not_shot(pair, nodes, run_vm, monkeypatch):
    one, _two = pair
    before = len(one.power_commands)
    vm = run_vm("web")
    one.stop_libvirtd(keep_socket=True)
    operation = ask("reboot-node", nodes[0], accept_unknown_vms=True)
    one.start_libvirtd()
    (ended,) = run_queued()
    assert (ended.status, ended.error["code"]) == (OperationStatus.FAILED, "plan_changed")
    assert steps_of(operation)["check"] == "failed"
    assert len(one.power_commands) == before
    assert vm.name in str(ended.error)
