"""Each refusal of a power command, by when it is noticed: no VM was touched, or everything is as it was."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from nodes.engine.claim import expire_all
from nodes.engine.submit import cancel, submit
from nodes.errors import HostTimeout
from nodes.events import SYSTEM
from nodes.models import Event, Node, Operation, OperationStatus, Scheduling
from nodes.operations import power_steps, reboot, vm_steps
from nodes.operations.plan_run import PlanRun
from nodes.operations.power_steps import PowerCommand, PowerSteps
from nodes.operations.run import way_back
from nodes.operations.run.way_back import WayBack
from nodes.operations.scheduling import cordon
from tests.engine.running import run_queued
from tests.light_nodes import ask, plan_of, steps_of
from tests.lighthosts import LightHost, TinyVm, assert_exactly_once
from tests.operations.conftest import Pair
from tests.operations.test_reboot import Killed, killed

pytestmark = pytest.mark.django_db(transaction=True)
SOAK = os.environ.get("NODEADMIN_SOAK") == "1"
KINDS = ("reboot-node", "shutdown-node")
BACKUP = ("Backup", "a restore is running")


@pytest.fixture(autouse=True)
def quick(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(vm_steps, "LOOK_S", 0.1)
    monkeypatch.setattr(power_steps, "LOOK_S", 0.2)
    monkeypatch.setattr(way_back, "WATCH_S", 3.0)
    yield
    free(pair[0])


Refusal = tuple[Callable[[LightHost], None], str]
TOLD: dict[str, Refusal] = {
    "an inhibitor": (lambda host: host.inhibit(BACKUP), "shutdown_inhibited"),
    "a scheduled shutdown": (lambda host: host.schedule_shutdown("poweroff"), "shutdown_already_scheduled"),
    "a boot ID that cannot be read": (
        lambda host: host.mutilate_boot_id("*** Welcome"),
        "boot_id_unreadable",
    ),
}
"""What the host says beforehand, and its code."""


def assert_as_before(node: Node, host: LightHost, commands: int, *vms: TinyVm) -> None:
    assert Node.objects.get(pk=node.pk).scheduling == Scheduling.ENABLED
    assert len(host.power_commands) == commands
    for vm in vms:
        assert_exactly_once((host,), vm, on=host)


def free(host: LightHost) -> None:
    """Nothing refuses any more."""
    host.inhibit()
    host.schedule_shutdown("")
    host.refuse_power("")
    host.mutilate_boot_id(None)


def test_what_the_host_says_beforehand_blocks_the_plan(pair, nodes) -> None:
    for kind in KINDS:
        for refusal, (make, code) in TOLD.items():
            make(pair[0])
            plan = plan_of(kind, nodes[0], vm_policy="stop")
            assert [reason.code for reason in plan.blockers] == [code], refusal
            assert all(reason.remedy for reason in plan.blockers)
            free(pair[0])


def test_what_comes_after_the_confirmation_is_seen_before_the_first_vm_is_touched(
    pair, nodes, run_vm
) -> None:
    one, _two = pair
    before, vm = len(one.power_commands), run_vm("web")
    for refusal, (make, _code) in TOLD.items():
        operation = ask("reboot-node", nodes[0], vm_policy="stop")
        make(one)
        (ended,) = run_queued()
        assert (ended.status, ended.error["code"]) == (OperationStatus.FAILED, "plan_changed"), refusal
        assert steps_of(operation)["check"] == "failed"
        assert "way_back" not in steps_of(operation)
        free(one)
    assert_as_before(nodes[0], one, before, vm)


def interrupted(monkeypatch: pytest.MonkeyPatch, make: Callable[[], None]) -> None:
    """Have ``make`` happen once the VMs are stopped, right before the host is asked again."""
    intent = PowerSteps.intent

    def late(steps: PowerSteps) -> None:
        make()
        intent(steps)

    monkeypatch.setattr(PowerSteps, "intent", late)


LATE = (*TOLD, "the command is refused", "a cancel", "an error of ours")
WALKED = [(kind, refusal) for refusal in LATE for kind in KINDS]
IN_TURN = [(KINDS[number % 2], refusal) for number, refusal in enumerate(LATE)]


# Kinds and refusals in turn; script/soak kill takes each of one with each of the other.
@pytest.mark.parametrize(("kind", "refusal"), WALKED if SOAK else IN_TURN)
def test_whatever_refuses_once_vms_are_stopped_everything_is_put_back(
    pair, nodes, run_vm, obedient, monkeypatch, kind: str, refusal: str
) -> None:
    one, two = pair
    before = len(one.power_commands)
    moves, stops = run_vm("moves"), run_vm("stops", kernel=obedient)
    operation = ask(kind, nodes[0], vm_policy="stop", vm_overrides={"moves": "migrate"})
    if refusal in TOLD:
        make, code = TOLD[refusal]
        interrupted(monkeypatch, lambda: make(one))
    else:
        makes = {
            "the command is refused": (lambda: one.refuse_power("Refused: no.\n"), "power_refused"),
            "a cancel": (lambda: cancel(operation, actor=SYSTEM), ""),
            "an error of ours": (lambda: 1 // 0, "internal_error"),
        }
        act, code = makes[refusal]
        interrupted(monkeypatch, act)
    (ended,) = run_queued()
    assert ended.status == (OperationStatus.FAILED if code else OperationStatus.CANCELLED), ended.error
    assert (ended.error or {}).get("code", "") == code
    assert Node.objects.get(pk=nodes[0].pk).scheduling == Scheduling.ENABLED
    assert len(one.power_commands) == before
    assert_exactly_once(pair, stops, on=one)
    assert_exactly_once(pair, moves, on=two)
    assert steps_of(operation)["way_back"] == "succeeded"
    if code != "internal_error":
        told = (ended.error or ended.result)["vms"]
        assert [(row["vm"], row["uuid"], row["outcome"]) for row in told] == [
            ("moves", moves.uuid, "migrated"),
            ("stops", stops.uuid, "started_again"),
        ]
        assert (ended.error or ended.result)["scheduling"] == "enabled"
        assert "Started again: stops. Migrated, and left there: moves (light2)." in ended.message


@pytest.mark.parametrize("kind", KINDS if SOAK else KINDS[1:])
def test_vms_stay_off_after_a_refusal_where_that_was_asked_for(
    pair, nodes, run_vm, obedient, kind: str
) -> None:
    one, _two = pair
    vm = run_vm("web", kernel=obedient)
    ask(kind, nodes[0], vm_policy="stop", keep_stopped_on_refusal=True)
    one.refuse_power("Refused: no.\n")
    (ended,) = run_queued()
    assert_exactly_once(pair, vm, on=one, state="shut off")
    assert [row["outcome"] for row in ended.error["vms"]] == ["left_off"]
    assert "Left off: web." in ended.error["detail"]
    assert Node.objects.get(pk=nodes[0].pk).scheduling == Scheduling.ENABLED


def test_a_node_that_was_in_maintenance_is_so_after_a_refusal(pair, nodes, run_vm, obedient) -> None:
    Node.objects.filter(pk=nodes[0].pk).update(scheduling=Scheduling.MAINTENANCE, scheduling_reason="mine")
    nodes[0].refresh_from_db()
    vm = run_vm("web", kernel=obedient)
    ask("reboot-node", nodes[0], vm_policy="stop")
    pair[0].refuse_power("Refused: no.\n")
    (ended,) = run_queued()
    node = Node.objects.get(pk=nodes[0].pk)
    assert (node.scheduling, node.scheduling_reason) == (Scheduling.MAINTENANCE, "mine")
    assert ended.error["scheduling"] == "maintenance"
    assert_exactly_once(pair, vm, on=pair[0])


def test_a_vm_that_cannot_be_started_again_is_named_with_why_and_the_others_run(
    pair, nodes, run_vm, obedient, monkeypatch
) -> None:
    one, _two = pair
    good, gone = run_vm("good", kernel=obedient), run_vm("gone", kernel=obedient)
    ask("shutdown-node", nodes[0], vm_policy="stop")
    interrupted(monkeypatch, lambda: (one.virsh("-q", "undefine", gone.uuid), one.inhibit(BACKUP)))
    (ended,) = run_queued()
    told = {row["vm"]: row for row in ended.error["vms"]}
    assert told["gone"]["outcome"] == "start_failed"
    assert "no longer known to libvirt" in told["gone"]["message"]
    assert_exactly_once(pair, good, on=one)


def test_a_guest_that_goes_off_right_after_a_cancel_is_started_again(
    pair, nodes, run_vm, obedient, monkeypatch
) -> None:
    vm = run_vm("web", kernel=obedient)
    operation = ask("reboot-node", nodes[0], vm_policy="stop")
    shut_down = vm_steps.domains.shut_down

    def cancelled_first(*arguments: Any) -> bool:
        done = shut_down(*arguments)
        cancel(operation, actor=SYSTEM)
        return done

    monkeypatch.setattr(vm_steps.domains, "shut_down", cancelled_first)
    (ended,) = run_queued()
    assert ended.status == OperationStatus.CANCELLED
    assert_exactly_once(pair, vm, on=pair[0])
    assert [row["outcome"] for row in ended.result["vms"]] == ["started_again"]


def test_a_run_that_has_turned_back_goes_forward_no_more_though_the_cause_is_gone(
    pair, nodes, run_vm, obedient, monkeypatch
) -> None:
    one, _two = pair
    before = len(one.power_commands)
    vm = run_vm("web", kernel=obedient)
    ask("reboot-node", nodes[0], vm_policy="stop")
    one.refuse_power("Refused: no.\n")
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(WayBack, "_undo", killed)
        run_queued()
    assert_exactly_once(pair, vm, on=one, state="shut off")
    one.refuse_power("")
    expire_all()
    (ended,) = run_queued()
    assert (ended.status, ended.error["code"]) == (OperationStatus.FAILED, "power_refused")
    assert "Refused: no." in ended.error["detail"]
    assert_as_before(nodes[0], one, before, vm)


@pytest.mark.parametrize("kind", KINDS if SOAK else KINDS[:1])
def test_inhibitors_that_were_confirmed_are_ignored_and_the_host_goes_down(pair, nodes, kind: str) -> None:
    one, _two = pair
    boot_id = one.boot_id
    one.inhibit(BACKUP)
    plan = plan_of(kind, nodes[0], ignore_inhibitors=True)
    assert [row.who for row in plan.ignored_inhibitors] == ["Backup"]
    ask(kind, nodes[0], plan=plan, ignore_inhibitors=True)
    (ended,) = run_queued()
    assert ended.status == OperationStatus.SUCCEEDED, ended.error
    if kind == "shutdown-node":
        one.power_on()
    assert one.boot_id != boot_id


def test_an_inhibitor_that_nobody_has_confirmed_is_not_ignored(
    pair, nodes, run_vm, obedient, monkeypatch
) -> None:
    one, _two = pair
    before, vm = len(one.power_commands), run_vm("web", kernel=obedient)
    one.inhibit(BACKUP)
    ask("reboot-node", nodes[0], vm_policy="stop", ignore_inhibitors=True)
    interrupted(monkeypatch, lambda: one.inhibit(BACKUP, ("Upgrade", "packages")))
    (ended,) = run_queued()
    assert ended.error["code"] == "shutdown_inhibited"
    assert "Upgrade" in ended.error["detail"]
    assert "Backup" not in ended.error["detail"]
    assert_as_before(nodes[0], one, before, vm)


def test_a_host_that_takes_the_command_and_goes_on_gets_its_vms_back(
    pair, nodes, run_vm, obedient, settings
) -> None:
    settings.NODEADMIN_POWER_OFF_S = 2.0
    one, _two = pair
    vm = run_vm("web", kernel=obedient)
    ask("reboot-node", nodes[0], vm_policy="stop")
    with one.systemctl_that("case $1 in reboot) exit 0;; *) echo running;; esac"):
        (ended,) = run_queued()
    assert (ended.status, ended.error["code"]) == (OperationStatus.FAILED, "host_stayed_up")
    assert [row["outcome"] for row in ended.error["vms"]] == ["started_again"]
    assert_as_before(nodes[0], one, len(one.power_commands), vm)
    assert Node.objects.get(pk=nodes[0].pk).connection == "online"


@pytest.mark.parametrize(("kind", "waits"), [("reboot-node", "gone"), ("shutdown-node", "off")])
def test_a_host_whose_boot_id_becomes_unreadable_has_neither_gone_down_nor_come_back(
    pair, nodes, settings, kind: str, waits: str
) -> None:
    settings.NODEADMIN_POWER_OFF_S = 2.0
    one, _two = pair
    operation = ask(kind, nodes[0])
    garble = f"printf '*** Welcome\\n' >{one.folder}/boot_id"
    with one.systemctl_that(f"case $1 in reboot|poweroff) {garble};; *) echo running;; esac"):
        (ended,) = run_queued()
    assert (ended.status, ended.error["code"]) == (OperationStatus.FAILED, "host_stayed_up")
    assert "gone_at" not in operation.steps.get(code=waits).data
    assert one.is_on


def test_vms_that_stay_off_with_a_host_that_does_not_come_back_are_told_one_by_one(
    pair, nodes, run_vm, obedient, monkeypatch
) -> None:
    def never(*_arguments: object, **_options: object) -> None:
        raise HostTimeout("The host was not back in time.")

    monkeypatch.setattr(power_steps, "wait_until_back", never)
    run_vm("web", kernel=obedient)
    ask("reboot-node", nodes[0], vm_policy="stop")
    (ended,) = run_queued()
    assert [(row["vm"], row["outcome"]) for row in ended.error["vms"]] == [("web", "left_off")]
    assert pair[0].wait_on()


def test_a_package_manager_is_a_warning_in_the_plan_and_in_the_log_where_it_begins_later(pair, nodes) -> None:
    one, _two = pair
    with one.installing_packages() as pid:
        plan = plan_of("shutdown-node", nodes[0])
    assert not plan.is_blocked
    assert f"(process {pid}) holds /var/lib/dpkg/lock-frontend" in plan.notes[0]
    operation = ask("reboot-node", nodes[0])
    with one.installing_packages() as pid:
        (ended,) = run_queued()
    assert ended.status == OperationStatus.SUCCEEDED, ended.error
    (line,) = operation.log_entries.filter(step_code="check", level="warning")
    assert f"(process {pid})" in line.message


def test_an_operation_that_has_taken_nothing_needs_no_way_back(pair, nodes, monkeypatch) -> None:
    operation: Operation = ask("reboot-node", nodes[0])
    monkeypatch.setattr(PlanRun, "check", lambda _work: 1 // 0)
    (ended,) = run_queued()
    assert ended.error["code"] == "internal_error"
    assert "way_back" not in steps_of(operation)


def test_an_error_of_ours_with_one_vm_keeps_neither_another_off_nor_the_node_in_maintenance(
    pair, nodes, run_vm, obedient, monkeypatch, settings
) -> None:
    settings.NODEADMIN_MIGRATIONS_OUT = 1
    one, _two = pair
    bad, good = run_vm("bad", kernel=obedient), run_vm("good", kernel=obedient)
    ask("reboot-node", nodes[0], vm_policy="stop")
    start = vm_steps.domains.start

    def not_the_bad_one(hypervisor: Any, uuid: str) -> None:
        if uuid == bad.uuid:
            raise ZeroDivisionError
        start(hypervisor, uuid)

    monkeypatch.setattr(vm_steps.domains, "start", not_the_bad_one)
    one.refuse_power("Refused: no.\n")
    (ended,) = run_queued()
    assert (ended.status, ended.error["code"]) == (OperationStatus.FAILED, "power_refused")
    assert [(row["vm"], row["outcome"]) for row in ended.error["vms"]] == [
        ("bad", "start_failed"),
        ("good", "started_again"),
    ]
    assert_exactly_once(pair, good, on=one)
    assert Node.objects.get(pk=nodes[0].pk).scheduling == Scheduling.ENABLED


def test_a_vm_that_the_way_back_starts_in_maintenance_is_no_event_though_an_inventory_saw_it_off(
    pair, nodes, run_vm, obedient, monkeypatch
) -> None:
    def refresh() -> None:
        submit("refresh-node", actor=SYSTEM, node=Node.objects.get(pk=nodes[0].pk))
        assert run_queued()[-1].status == OperationStatus.SUCCEEDED

    one, _two = pair
    vm = run_vm("web", kernel=obedient)
    cordon(nodes[0], reason="a fan", actor=SYSTEM)
    refresh()
    ask("reboot-node", nodes[0], vm_policy="stop")
    interrupted(monkeypatch, lambda: (refresh(), one.inhibit(BACKUP)))
    started = WayBack._start_vms

    def then_refreshed(way: WayBack, step: Any) -> None:
        started(way, step)
        refresh()

    monkeypatch.setattr(WayBack, "_start_vms", then_refreshed)
    (*_refreshes, ended) = run_queued()
    assert ended.error["code"] == "shutdown_inhibited"
    assert_exactly_once(pair, vm, on=one)
    assert not Event.objects.filter(kind="vm_runs_in_maintenance").exists()


def test_a_resumed_run_that_cannot_tell_whether_the_host_went_down_names_the_vms_that_are_off(
    pair, nodes, run_vm, obedient, monkeypatch, settings
) -> None:
    one, _two = pair
    vm = run_vm("web", kernel=obedient)
    ask("reboot-node", nodes[0], vm_policy="stop")
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(reboot, "REBOOT", PowerCommand(killed, comes_back=True))
        run_queued()
    expire_all()
    settings.NODEADMIN_REBOOT_S = 1.0
    one.power_off()
    try:
        (ended,) = run_queued()
    finally:
        one.power_on()
    assert ended.error["code"] == "host_stayed_away"
    assert [(row["vm"], row["outcome"]) for row in ended.error["vms"]] == [("web", "left_off")]
    assert one.vm_state(vm) == "shut off"
