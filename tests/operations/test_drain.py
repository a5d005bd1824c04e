"""Draining a node, and bringing its VMs back, between two light hosts."""

from __future__ import annotations

import time
from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.db import OperationalError
from django.db.models import F
from django.utils import timezone

from nodes import access
from nodes.engine import shared_storage
from nodes.engine.claim import claim, expire_all
from nodes.engine.run import OperationRun, run_operation
from nodes.engine.submit import cancel
from nodes.events import SYSTEM, Actor
from nodes.hosts import domains
from nodes.models import (
    Event,
    MigrationSlot,
    Node,
    Operation,
    OperationLogEntry,
    OperationStatus,
    Scheduling,
    StepStatus,
)
from nodes.operations import vm_moves, vm_steps
from nodes.operations.plan_run import PlanRun
from nodes.operations.plans import Plan
from nodes.operations.scheduling import cordon
from nodes.permissions import MAINTAIN, VIEW
from tests.engine.running import in_background, run_queued
from tests.factories import grant
from tests.light_nodes import ask, light_node, plan_of, steps_of, wait_until
from tests.lighthosts import TinyVm, assert_exactly_once, light_pair

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_drain_moves_every_vm_and_its_return_brings_them_back(pair, nodes, run_vm):
    one, two = pair
    vms = [run_vm(name) for name in ("web", "db", "mail")]
    operation = ask("disable-node", nodes[0], reason="a new fan")
    (ended,) = run_queued()
    assert ended.status == OperationStatus.SUCCEEDED, ended.error
    assert set(steps_of(ended).values()) == {"succeeded"}
    for vm in vms:
        assert_exactly_once(pair, vm, on=two)
    assert ended.result == {"left": []}
    assert not MigrationSlot.objects.exists()
    node = Node.objects.get(pk=nodes[0].pk)
    assert (node.scheduling, node.scheduling_reason) == (Scheduling.MAINTENANCE, "a new fan")
    lines = list(OperationLogEntry.objects.filter(operation=operation).values_list("message", flat=True))
    assert lines[0].startswith("Started by ")
    assert lines[-1] == "Done."
    assert any("It runs on light2" in line for line in lines)

    ask("enable-node", nodes[0], return_vms=True)
    (ended,) = run_queued()
    assert ended.status == OperationStatus.SUCCEEDED, ended.error
    for vm in vms:
        assert_exactly_once(pair, vm, on=one)
        assert ended.steps.get(vm_uuid=vm.uuid).data["known_there"] is False
    node.refresh_from_db()
    assert node.scheduling == Scheduling.ENABLED
    kinds = list(Event.objects.filter(node=node).values_list("kind", flat=True))
    assert {"node_disabled", "node_enabled", "disable_node_succeeded", "enable_node_succeeded"} <= set(kinds)


def test_a_return_names_what_came_back_and_what_did_not(pair, nodes, run_vm, monkeypatch):
    one, two = pair
    comes, goes_off = run_vm("comes"), run_vm("goes-off")
    ask("disable-node", nodes[0])
    run_queued()
    checked = PlanRun.check

    def then_shut_down(work: PlanRun) -> None:
        checked(work)
        two.virsh("-q", "destroy", goes_off.uuid)

    monkeypatch.setattr(PlanRun, "check", then_shut_down)
    nodes[0].refresh_from_db()
    ask("enable-node", nodes[0], return_vms=True)
    (ended,) = run_queued()
    assert ended.status == OperationStatus.SUCCEEDED, ended.error
    assert ended.result == {"returned": ["comes"], "left": ["goes-off"]}
    assert_exactly_once(pair, comes, on=one)
    assert_exactly_once(pair, goes_off, on=two, state="shut off")


def test_what_is_running_stops_only_where_the_plan_says_so(pair, nodes, run_vm, obedient):
    one, two = pair
    moves, stops = run_vm("moves"), run_vm("stops", kernel=obedient)
    rests = TinyVm("rests")
    one.define_vm(rests)
    stays = run_vm("stays")
    ask("disable-node", nodes[0], vm_overrides={"stops": "stop", "stays": "leave"})
    (ended,) = run_queued()
    one.virsh("-q", "undefine", rests.uuid)
    assert ended.status == OperationStatus.SUCCEEDED, ended.error
    assert_exactly_once(pair, moves, on=two)
    assert_exactly_once(pair, stops, on=one, state="shut off")
    assert_exactly_once(pair, stays, on=one)
    assert ended.result == {"left": ["stays"]}


def test_a_vm_that_ignores_its_shutdown_is_left_running_and_the_others_move(pair, nodes, run_vm):
    one, two = pair
    deaf, moves = run_vm("deaf"), run_vm("moves")
    ask("disable-node", nodes[0], vm_overrides={"deaf": "stop"}, stop_timeout_s=2)
    (ended,) = run_queued()
    assert (ended.status, ended.error["code"]) == (OperationStatus.FAILED, "vm_steps_failed")
    assert ended.error["vms"] == [
        {
            "vm": "deaf",
            "uuid": deaf.uuid,
            "code": "vm_did_not_stop",
            "message": ended.steps.get(vm_uuid=deaf.uuid).message,
        }
    ]
    assert ended.error["done"] == ["moves"]
    assert_exactly_once(pair, deaf, on=one)
    assert_exactly_once(pair, moves, on=two)


def test_a_vm_that_ignores_its_shutdown_is_forced_off_where_that_was_confirmed(pair, nodes, run_vm):
    deaf = run_vm("deaf")
    ask("disable-node", nodes[0], vm_policy="stop", stop_timeout_s=2, force_stop=True)
    (ended,) = run_queued()
    assert ended.status == OperationStatus.SUCCEEDED, ended.error
    assert_exactly_once(pair, deaf, on=pair[0], state="shut off")
    step = ended.steps.get(vm_uuid=deaf.uuid)
    assert step.data["forced"] is True
    assert OperationLogEntry.objects.filter(step_code=step.code, level="warning").count() == 1


def test_a_migration_that_does_not_converge_is_aborted_and_the_vm_runs_on(
    pair, nodes, run_vm, restless, settings
):
    settings.NODEADMIN_MIGRATION_TIMEOUT_S = 4.0
    settings.NODEADMIN_MIGRATION_BANDWIDTH_MIB_S = 16
    busy = run_vm("busy", kernel=restless)
    ask("disable-node", nodes[0])
    (ended,) = run_queued()
    assert ended.status == OperationStatus.FAILED
    assert [vm["code"] for vm in ended.error["vms"]] == ["migration_timeout"]
    assert "light1" in ended.error["vms"][0]["message"]
    assert_exactly_once(pair, busy, on=pair[0])
    assert not MigrationSlot.objects.exists()


def test_a_cancel_aborts_the_migration_under_way(pair, nodes, run_vm, restless, settings):
    settings.NODEADMIN_MIGRATION_BANDWIDTH_MIB_S = 16
    busy, waits = run_vm("busy", kernel=restless), [run_vm(f"waits{n}", kernel=restless) for n in (1, 2)]
    operation = ask("disable-node", nodes[0])
    runner = in_background()
    wait_until(lambda: operation.steps.filter(status="running", message__startswith="Moves").count() == 2)
    cancel(operation, actor=SYSTEM)
    (ended,) = runner.result()
    assert ended.status == OperationStatus.CANCELLED
    assert sorted(steps_of(ended).values()) == ["cancelled"] * 4 + ["succeeded"]
    for vm in (busy, *waits):
        assert_exactly_once(pair, vm, on=pair[0])


def test_a_target_that_dies_under_a_migration_leaves_the_vm_where_it_was(
    pair, nodes, run_vm, restless, settings
):
    one, two = pair
    settings.NODEADMIN_MIGRATION_BANDWIDTH_MIB_S = 16
    settings.NODEADMIN_SETTLE_S = 3.0
    busy = run_vm("busy", kernel=restless)
    operation = ask("disable-node", nodes[0])
    runner = in_background()
    wait_until(lambda: operation.steps.filter(status="running", progress__gt=0).exists())
    two.power_off()
    (ended,) = runner.result()
    assert ended.status == OperationStatus.FAILED
    assert [vm["code"] for vm in ended.error["vms"]] == ["vm_state_unknown"]
    two.power_on()
    assert_exactly_once(pair, busy, on=one)


def test_the_plan_is_made_again_before_the_first_step(pair, nodes, run_vm):
    known = run_vm("known")
    operation = ask("disable-node", nodes[0])
    late = run_vm("late")
    (ended,) = run_queued()
    assert (ended.status, ended.error["code"]) == (OperationStatus.FAILED, "plan_changed")
    assert any("late" in change for change in ended.error["changes"])
    assert steps_of(operation)["check"] == "failed"
    for vm in (known, late):
        assert_exactly_once(pair, vm, on=pair[0])


def test_a_node_that_was_cordoned_since_takes_nothing_more(pair, nodes, run_vm, monkeypatch):
    vm = run_vm("web")
    ask("disable-node", nodes[0])
    checked = PlanRun.check

    def then_cordoned(work: PlanRun) -> None:
        checked(work)
        cordon(nodes[1], reason="", actor=SYSTEM)

    monkeypatch.setattr(PlanRun, "check", then_cordoned)
    (ended,) = run_queued()
    assert [row["code"] for row in ended.error["vms"]] == ["plan_changed"]
    assert_exactly_once(pair, vm, on=pair[0])


def test_who_may_not_maintain_the_target_moves_nothing_there(pair, nodes, run_vm, operator):
    run_vm("web")
    grant(operator, nodes[0], VIEW, MAINTAIN)
    plan = plan_of("disable-node", nodes[0], operator)
    assert [reason.code for reason in plan.decisions[0].blockers] == ["no_target_permission"]
    grant(operator, nodes[1], VIEW, MAINTAIN)
    ask("disable-node", nodes[0], operator)
    operator.nodeuserobjectpermission_set.filter(content_object=nodes[1]).delete()
    (ended,) = run_queued()
    assert (ended.status, ended.error["code"]) == (OperationStatus.FAILED, "plan_changed")


def test_a_vm_that_was_shut_down_meanwhile_stays_as_it_is(pair, nodes, run_vm, monkeypatch):
    one, _two = pair
    vm = run_vm("web")
    ask("disable-node", nodes[0])
    checked = PlanRun.check

    def then_shut_down(work: PlanRun) -> None:
        checked(work)
        one.virsh("-q", "destroy", vm.uuid)

    monkeypatch.setattr(PlanRun, "check", then_shut_down)
    (ended,) = run_queued()
    assert ended.status == OperationStatus.SUCCEEDED, ended.error
    assert ended.steps.get(vm_uuid=vm.uuid).status == StepStatus.SKIPPED
    assert_exactly_once(pair, vm, on=one, state="shut off")


def test_a_vm_that_is_shut_down_on_its_way_stays_as_it_is_and_is_not_called_lost(
    pair, nodes, run_vm, restless, settings
):
    settings.NODEADMIN_MIGRATION_BANDWIDTH_MIB_S = 16
    one, _two = pair
    vm = run_vm("busy", kernel=restless)
    operation = ask("disable-node", nodes[0])
    runner = in_background()
    wait_until(lambda: bool(operation.steps.get(vm_uuid=vm.uuid).data.get("remaining_bytes")))
    one.virsh("-q", "destroy", vm.uuid)
    (ended,) = runner.result()
    assert ended.status == OperationStatus.SUCCEEDED, ended.error
    assert steps_of(ended)["vm:busy"] == "skipped"
    assert_exactly_once(pair, vm, on=one, state="shut off")


def test_a_vm_that_was_shut_down_while_the_server_was_away_is_not_called_lost(
    pair, nodes, run_vm, monkeypatch
):
    one, _two = pair
    vm = run_vm("web")
    operation = ask("disable-node", nodes[0])

    def dies(*_arguments: object, **_options: object) -> None:
        raise OperationalError("the process dies here")

    with monkeypatch.context() as patched:
        patched.setattr(vm_moves, "_is_here", dies)
        run_operation(OperationRun(operation, claim(operation.pk)))
    assert steps_of(operation)["vm:web"] == "running"
    one.virsh("-q", "destroy", vm.uuid)
    expire_all()
    (ended,) = run_queued()
    assert ended.status == OperationStatus.SUCCEEDED, ended.error
    assert steps_of(ended)["vm:web"] == "skipped"
    assert_exactly_once(pair, vm, on=one, state="shut off")


def test_a_guest_that_an_earlier_run_may_not_have_asked_gets_its_time_before_it_is_forced(
    pair, nodes, run_vm, obedient, monkeypatch
):
    vm = run_vm("web", kernel=obedient)
    operation = ask("disable-node", nodes[0], vm_policy="stop", stop_timeout_s=30, force_stop=True)

    def dies(*_arguments: object, **_options: object) -> None:
        raise OperationalError("the process dies here")

    with monkeypatch.context() as patched:
        patched.setattr(domains, "shut_down", dies)
        run_operation(OperationRun(operation, claim(operation.pk)))
    step = operation.steps.get(vm_uuid=vm.uuid)
    step.data["asked_at"] = (timezone.now() - timedelta(minutes=10)).isoformat()
    step.save()
    expire_all()
    (ended,) = run_queued()
    assert ended.status == OperationStatus.SUCCEEDED, ended.error
    assert_exactly_once(pair, vm, on=pair[0], state="shut off")
    assert "forced" not in ended.steps.get(vm_uuid=vm.uuid).data


def test_who_has_lost_the_claim_over_a_pause_asks_no_guest_any_more(pair, nodes, run_vm, monkeypatch):
    vm = run_vm("deaf")
    operation = ask("disable-node", nodes[0], vm_policy="stop", stop_timeout_s=60)
    asked: list[str] = []

    def pauses(_seconds: float) -> None:
        Operation.objects.update(claim_token=F("claim_token") + 1)

    monkeypatch.setattr(vm_steps, "ASK_AGAIN_S", 0.0)
    monkeypatch.setattr(vm_steps, "time", SimpleNamespace(monotonic=time.monotonic, sleep=pauses))
    monkeypatch.setattr(domains, "shut_down", lambda _hypervisor, uuid: asked.append(uuid))
    run_operation(OperationRun(operation, claim(operation.pk)))
    assert asked == [vm.uuid]
    assert_exactly_once(pair, vm, on=pair[0])


def test_a_vm_that_has_left_meanwhile_is_not_called_off(pair, nodes, run_vm, monkeypatch):
    one, _two = pair
    vm = run_vm("web")
    ask("disable-node", nodes[0], vm_policy="stop")
    checked = PlanRun.check

    def then_leaves(work: PlanRun) -> None:
        checked(work)
        one.remove_vms(vm)

    monkeypatch.setattr(PlanRun, "check", then_leaves)
    (ended,) = run_queued()
    assert ended.status == OperationStatus.SUCCEEDED, ended.error
    step = ended.steps.get(vm_uuid=vm.uuid)
    assert (step.status, step.message) == (StepStatus.SKIPPED, "It is no longer on this host.")


def test_a_new_vm_found_at_a_resume_asks_for_a_new_plan(pair, nodes, run_vm, monkeypatch):
    known = run_vm("known")
    operation = ask("disable-node", nodes[0])

    def dies(*_arguments: object, **_options: object) -> None:
        raise OperationalError("the process dies here")

    with monkeypatch.context() as patched:
        patched.setattr(PlanRun, "deal_with_vms", dies)
        run_operation(OperationRun(operation, claim(operation.pk)))
    late = run_vm("late")
    expire_all()
    (ended,) = run_queued()
    assert (ended.status, ended.error["code"]) == (OperationStatus.FAILED, "plan_changed")
    for vm in (known, late):
        assert_exactly_once(pair, vm, on=pair[0])


@pytest.mark.parametrize("side", [0, 1], ids=["source", "target"])
def test_a_connection_cut_in_the_middle_of_a_migration_leaves_the_vm_in_one_place(
    pair, nodes, run_vm, restless, settings, side
):
    settings.NODEADMIN_MIGRATION_BANDWIDTH_MIB_S = 16
    busy = run_vm("busy", kernel=restless)
    operation = ask("disable-node", nodes[0])
    runner = in_background()
    wait_until(lambda: operation.steps.filter(status="running", progress__gt=0).exists())
    pair[side].sshd.drop_connections()
    (ended,) = runner.result()
    assert ended.status == OperationStatus.FAILED
    assert "It runs on light1 as before." in ended.error["vms"][0]["message"]
    assert_exactly_once(pair, busy, on=pair[0])


def test_two_drains_at_once_fill_one_node_two_vms_at_a_time(tmp_path, transactional_db):
    with light_pair(tmp_path, count=3) as hosts:
        emptied, filled = hosts[:2], hosts[2]
        vms = [TinyVm(f"{host.name}-{number}") for host in emptied for number in (1, 2)]
        for number, vm in enumerate(vms):
            emptied[number // 2].start_vm(vm)
        rows = [light_node(host) for host in hosts]
        for row in rows[:2]:
            cordon(row, reason="", actor=SYSTEM)
        operations = [ask("disable-node", row) for row in rows[:2]]
        for operation in operations:
            assert {vm["target"] for vm in operation.plan["decisions"]} == {filled.name}
        runners = [in_background() for _operation in operations]
        most = 0
        while not all(runner.done() for runner in runners):
            most = max(most, MigrationSlot.objects.filter(node=rows[2], direction="in").count())
            time.sleep(0.05)
        access.close_pool()
        assert [ended.status for runner in runners for ended in runner.result()] == ["succeeded"] * 2
        assert most == 2
        for vm in vms:
            assert_exactly_once(hosts, vm, on=filled)
        assert OperationLogEntry.objects.filter(message__startswith="Waits for a place").exists()


def test_a_vm_on_storage_declared_shared_is_drained_though_libvirt_does_not_know_it_to_be(
    pair, nodes, run_vm, tmp_path, administrator
):
    image = tmp_path / "disk.img"
    image.write_bytes(b"\0" * (1 << 20))
    image.chmod(0o666)
    tmp_path.chmod(0o755)
    disk = f"<disk type='file' device='disk'><source file='{image}'/><target dev='vda' bus='virtio'/></disk>"
    vm = run_vm("db", devices=disk)
    shared_storage.declare(Actor(administrator), kind="path", name=str(tmp_path), nodes=nodes)
    ask("disable-node", nodes[0])
    (ended,) = run_queued()
    assert ended.status == OperationStatus.SUCCEEDED, ended.error
    assert_exactly_once(pair, vm, on=pair[1])
    (planned,) = Plan.from_dict(ended.plan).decisions
    assert any("does not know" in note for note in planned.notes)
