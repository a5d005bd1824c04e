"""What a light host's libvirt starts by itself at boot: held while the node is in maintenance, never lost."""

from __future__ import annotations

import pytest

from nodes.engine.claim import expire_all
from nodes.engine.service import enable_node
from nodes.engine.submit import cancel, submit
from nodes.events import SYSTEM, Actor
from nodes.models import (
    Event,
    HeldAutostart,
    MaintenanceBaseline,
    Node,
    Operation,
    OperationStatus,
    Scheduling,
)
from nodes.operations import plan_run
from nodes.operations.plan_run import PlanRun
from nodes.operations.power_steps import PowerSteps
from nodes.operations.run import autostart
from nodes.operations.scheduling import cordon
from tests.engine.running import run_queued
from tests.light_nodes import ask, plan_of, steps_of, wait_until
from tests.lighthosts import LightHost, TinyVm
from tests.operations.test_reboot import Killed

pytestmark = pytest.mark.django_db(transaction=True)


def marked(host: LightHost) -> list[str]:
    """The VMs that the host's libvirt starts with it."""
    return host.virsh("list", "--all", "--name", "--autostart").split()


def held() -> list[tuple[str, bool]]:
    """What is on record, and whether it is to be put back."""
    return [(row.vm_name, row.due_at is not None) for row in HeldAutostart.objects.all()]


def events(kind: str) -> int:
    return Event.objects.filter(kind=kind).count()


def in_maintenance(node: Node) -> None:
    cordon(node, reason="a fan", actor=SYSTEM)


def refresh(node: Node) -> Operation:
    submit("refresh-node", actor=SYSTEM, node=Node.objects.get(pk=node.pk))
    return run_queued()[-1]


@pytest.fixture
def rests(pair, run_vm) -> TinyVm:
    """A VM that its owner has switched off, with autostart."""
    vm = TinyVm("rests", memory_mib=16)
    pair[0].define_vm(vm)
    pair[0].virsh("autostart", vm.uuid)
    return vm


def test_in_maintenance_no_vm_starts_with_the_host_and_leaving_it_puts_every_mark_back(
    pair, nodes, rests, run_vm, administrator
):
    one, _two = pair
    vm = run_vm("runs", memory_mib=16)
    one.virsh("autostart", vm.uuid)
    in_maintenance(nodes[0])
    plan = plan_of("reboot-node", nodes[0], vm_policy="stop", force_stop=True, stop_timeout_s=1)
    assert {vm.vm_name: (vm.autostart, vm.hold_autostart) for vm in plan.decisions} == {
        "rests": (True, True),
        "runs": (True, True),
    }
    assert all("Autostart is held" in " ".join(vm.notes) for vm in plan.decisions)
    ask("reboot-node", nodes[0], plan=plan, **plan.options)
    (ended,) = run_queued()
    assert ended.status == OperationStatus.SUCCEEDED, ended.error
    assert [one.vm_state(each) for each in (rests, vm)] == ["shut off", "shut off"]
    assert (marked(one), held()) == ([], [("rests", False), ("runs", False)])
    assert (events("autostart_held"), events("vm_runs_in_maintenance")) == (1, 0)

    # A second reboot in the same maintenance knows whose mark is held.
    again = plan_of("reboot-node", nodes[0])
    assert [(vm.autostart, vm.hold_autostart) for vm in again.decisions] == [(True, True)] * 2
    # The owner of one has set it again meanwhile, the other is gone.
    one.virsh("autostart", rests.uuid)
    one.virsh("undefine", vm.uuid)
    enable_node(Actor(administrator), Node.objects.get(pk=nodes[0].pk), {})
    assert held() == [("rests", True), ("runs", True)]
    (refreshed,) = run_queued()
    assert (refreshed.kind, refreshed.status) == ("refresh-node", OperationStatus.SUCCEEDED)
    assert (marked(one), held()) == (["rests"], [])
    assert (events("autostart_put_back"), events("autostart_not_put_back")) == (1, 1)


def test_a_node_that_leaves_maintenance_again_lets_vms_start_and_the_plan_says_so(pair, nodes, rests):
    one, _two = pair
    plan = plan_of("reboot-node", nodes[0])
    assert [(vm.autostart, vm.hold_autostart) for vm in plan.decisions] == [(True, False)]
    assert "libvirt starts it once the host is up again." in " ".join(plan.decisions[0].notes)
    one.virsh("autostart", "--disable", rests.uuid)
    assert plan_of("reboot-node", nodes[0]).digest() != plan.digest()
    one.virsh("autostart", rests.uuid)
    ask("reboot-node", nodes[0])
    (ended,) = run_queued()
    assert ended.status == OperationStatus.SUCCEEDED, ended.error
    wait_until(lambda: one.vm_state(rests) == "running")
    assert (held(), events("vm_runs_in_maintenance")) == ([], 0)
    assert Node.objects.get(pk=nodes[0].pk).scheduling == Scheduling.ENABLED


def test_held_for_one_reboot_as_was_asked_for_the_mark_is_back_when_the_node_is_enabled(pair, nodes, rests):
    one, _two = pair
    ask("reboot-node", nodes[0], hold_autostart=True)
    (ended,) = run_queued()
    assert ended.status == OperationStatus.SUCCEEDED, ended.error
    assert steps_of(ended)["autostart-back"] == "succeeded"
    assert one.vm_state(rests) == "shut off"
    assert (marked(one), held()) == (["rests"], [])


def test_left_alone_as_was_asked_for_a_vm_starts_in_maintenance_and_is_no_event(pair, nodes, rests):
    one, _two = pair
    in_maintenance(nodes[0])
    plan = plan_of("reboot-node", nodes[0], hold_autostart=False)
    assert "also in maintenance" in " ".join(plan.decisions[0].notes)
    ask("reboot-node", nodes[0], hold_autostart=False)
    (ended,) = run_queued()
    assert ended.status == OperationStatus.SUCCEEDED, ended.error
    wait_until(lambda: one.vm_state(rests) == "running")
    refresh(nodes[0])
    assert events("vm_runs_in_maintenance") == 0


def test_a_host_that_restarts_by_itself_in_maintenance_brings_up_vms_which_are_told_once(pair, nodes, rests):
    one, _two = pair
    in_maintenance(nodes[0])
    refresh(nodes[0])
    one.power_off()
    one.power_on()
    wait_until(lambda: one.vm_state(rests) == "running")
    for _again in range(2):
        assert refresh(nodes[0]).status == OperationStatus.SUCCEEDED
        told = Event.objects.get(kind="vm_runs_in_maintenance")
    assert (told.data["vm"], told.severity, told.node) == ("rests", "warning", nodes[0])
    # It ends and is started again, by whomever: another occurrence.
    one.virsh("destroy", rests.uuid)
    refresh(nodes[0])
    one.virsh("start", rests.uuid)
    refresh(nodes[0])
    assert events("vm_runs_in_maintenance") == 2


@pytest.mark.parametrize("kind", ["reboot-node", "shutdown-node"])
def test_a_refused_power_command_puts_the_marks_back(pair, nodes, rests, kind):
    one, _two = pair
    in_maintenance(nodes[0])
    one.refuse_power("Operation inhibited by someone")
    try:
        ask(kind, nodes[0])
        (ended,) = run_queued()
    finally:
        one.refuse_power("")
    assert ended.status == OperationStatus.FAILED
    assert steps_of(ended)["autostart"] == "succeeded"
    assert (marked(one), held()) == (["rests"], [])
    assert not MaintenanceBaseline.objects.exists()


def test_a_reboot_cancelled_before_the_command_puts_the_marks_back(pair, nodes, rests, monkeypatch):
    in_maintenance(nodes[0])
    operation = ask("reboot-node", nodes[0])
    monkeypatch.setattr(PowerSteps, "intent", lambda power: cancel(power.run.operation, actor=SYSTEM))
    monkeypatch.setattr(PowerSteps, "command", lambda power, what: power.run.check_cancelled())
    (ended,) = run_queued()
    assert (ended.pk, ended.status) == (operation.pk, OperationStatus.CANCELLED)
    assert (marked(pair[0]), held()) == (["rests"], [])


def test_what_an_earlier_reboot_holds_is_not_put_back_by_a_later_one_that_fails(pair, nodes, rests):
    one, _two = pair
    in_maintenance(nodes[0])
    one.virsh("autostart", "--disable", rests.uuid)
    HeldAutostart.objects.create(node=nodes[0], vm_uuid=rests.uuid, vm_name="rests")
    one.refuse_power("no")
    try:
        ask("reboot-node", nodes[0])
        (ended,) = run_queued()
    finally:
        one.refuse_power("")
    assert ended.status == OperationStatus.FAILED
    assert (marked(one), held()) == ([], [("rests", False)])


def test_enabled_while_libvirt_is_down_the_mark_waits_for_it(pair, nodes, rests, administrator):
    one, _two = pair
    in_maintenance(nodes[0])
    one.virsh("autostart", "--disable", rests.uuid)
    HeldAutostart.objects.create(node=nodes[0], vm_uuid=rests.uuid, vm_name="rests")
    one.stop_libvirtd()
    enable_node(Actor(administrator), Node.objects.get(pk=nodes[0].pk), {})
    run_queued()
    assert held() == [("rests", True)]
    one.start_libvirtd()
    refresh(nodes[0])
    assert (marked(one), held(), one.vm_state(rests)) == (["rests"], [], "shut off")


def test_enabling_with_the_return_of_vms_puts_the_marks_back_itself(pair, nodes, rests):
    one, _two = pair
    in_maintenance(nodes[0])
    one.virsh("autostart", "--disable", rests.uuid)
    HeldAutostart.objects.create(node=nodes[0], vm_uuid=rests.uuid, vm_name="rests")
    assert "is put back" in " ".join(plan_of("enable-node", nodes[0]).notes)
    ask("enable-node", nodes[0])
    (ended,) = run_queued()
    assert (ended.status, steps_of(ended)["autostart-back"]) == (OperationStatus.SUCCEEDED, "succeeded")
    assert (marked(one), held()) == (["rests"], [])


def test_a_node_is_not_deleted_while_a_mark_cannot_be_put_back(pair, nodes, rests, monkeypatch):
    one, _two = pair
    in_maintenance(nodes[0])
    one.virsh("autostart", "--disable", rests.uuid)
    HeldAutostart.objects.create(node=nodes[0], vm_uuid=rests.uuid, vm_name="rests")
    ask("delete-node", nodes[0])
    checked = PlanRun.check
    with monkeypatch.context() as patched:
        patched.setattr(PlanRun, "check", lambda work: (checked(work), one.stop_libvirtd()))
        ended = run_queued()[0]
    one.start_libvirtd()
    assert (ended.status, ended.error["code"]) == (OperationStatus.FAILED, "autostart_held")
    assert Node.objects.filter(pk=nodes[0].pk).exists()
    ask("delete-node", Node.objects.get(pk=nodes[0].pk))
    (ended,) = run_queued()
    assert ended.status == OperationStatus.SUCCEEDED, ended.error
    assert (marked(one), held()) == (["rests"], [])


def test_a_held_vm_that_was_started_by_hand_takes_its_mark_along_when_it_moves(pair, nodes, run_vm):
    _one, two = pair
    vm = run_vm("moves", memory_mib=16)
    in_maintenance(nodes[0])
    HeldAutostart.objects.create(node=nodes[0], vm_uuid=vm.uuid, vm_name="moves")
    ask("disable-node", nodes[0])
    (ended,) = run_queued()
    assert ended.status == OperationStatus.SUCCEEDED, ended.error
    assert (marked(two), held()) == (["moves"], [])


@pytest.mark.parametrize("lost", [False, True])
def test_a_mark_that_an_operation_holds_meanwhile_is_not_set_by_a_refresh(
    pair, nodes, rests, monkeypatch, lost
):
    """A refresh that is late sets a mark which an operation has just taken off, and takes it off again."""
    one, _two = pair
    row = HeldAutostart.objects.create(node=nodes[0], vm_uuid=rests.uuid, vm_name="rests")
    HeldAutostart.objects.release()
    set_it = autostart.set_autostart

    def then_held_again(hypervisor, uuid, wanted, **options):
        if wanted:
            HeldAutostart.objects.filter(pk=row.pk).update(due_at=None)
            if lost:
                Operation.objects.update(claim_token=99, status=OperationStatus.FAILED)
        return set_it(hypervisor, uuid, wanted, **options)

    monkeypatch.setattr(autostart, "set_autostart", then_held_again)
    assert refresh(nodes[0]).status == (OperationStatus.FAILED if lost else OperationStatus.SUCCEEDED)
    assert (marked(one), held()) == ([], [("rests", False)])


def test_a_service_of_the_host_that_starts_vms_is_told_where_it_does(pair, nodes):
    one, _two = pair
    notes = " ".join(plan_of("reboot-node", nodes[0]).notes)
    assert "libvirt-guests" not in notes
    one.enable_unit("libvirt-guests.service", "ON_BOOT=ignore\n  ON_BOOT='start'  # as it was\n")
    try:
        assert "libvirt-guests is enabled" in " ".join(plan_of("shutdown-node", nodes[0]).notes)
        assert "libvirt-guests" not in " ".join(plan_of("disable-node", nodes[0]).notes)
    finally:
        one.enable_unit("libvirt-guests.service", None)


def test_the_mark_of_a_vm_that_has_moved_is_not_lost_with_a_drain_that_is_cancelled_then(
    pair, nodes, run_vm, monkeypatch, settings, administrator
):
    settings.NODEADMIN_MIGRATIONS_OUT = 1
    one, two = pair
    vm = run_vm("moves", memory_mib=16)
    run_vm("stays", memory_mib=16)
    in_maintenance(nodes[0])
    HeldAutostart.objects.create(node=nodes[0], vm_uuid=vm.uuid, vm_name="moves")
    operation = ask("disable-node", nodes[0])
    move_vm = plan_run.move_vm

    def then_cancelled(*arguments):
        move_vm(*arguments)
        cancel(operation, actor=SYSTEM)

    monkeypatch.setattr(plan_run, "move_vm", then_cancelled)
    assert run_queued()[0].status == OperationStatus.CANCELLED
    assert [row.node for row in HeldAutostart.objects.all()] in ([], [nodes[1]])
    enable_node(Actor(administrator), Node.objects.get(pk=nodes[0].pk), {})
    run_queued()
    assert (one.vm_state(vm), marked(two), held()) == (None, ["moves"], [])
    assert events("autostart_not_put_back") == 0


def test_killed_once_the_last_mark_is_back_the_step_of_the_next_run_ends_as_done(
    pair, nodes, rests, monkeypatch
):
    one, _two = pair
    in_maintenance(nodes[0])
    one.virsh("autostart", "--disable", rests.uuid)
    HeldAutostart.objects.create(node=nodes[0], vm_uuid=rests.uuid, vm_name="rests")
    ask("enable-node", nodes[0])
    restore = autostart._restore

    def then_killed(*arguments):
        restore(*arguments)
        raise Killed

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(autostart, "_restore", then_killed)
        run_queued()
    assert (marked(one), held()) == (["rests"], [])
    expire_all()
    (ended,) = run_queued()
    assert (ended.status, steps_of(ended)["autostart-back"]) == (OperationStatus.SUCCEEDED, "succeeded")


def test_a_run_that_stood_still_takes_no_mark_off_that_another_has_put_back(pair, nodes, rests, monkeypatch):
    one, _two = pair
    in_maintenance(nodes[0])
    operation = ask("reboot-node", nodes[0])
    set_it = autostart.set_autostart

    def late(hypervisor, uuid, wanted, **options):
        if not wanted:
            # Another run has taken over, and the operation has ended since.
            Operation.objects.filter(pk=operation.pk).update(claim_token=99, status=OperationStatus.FAILED)
            HeldAutostart.objects.all().delete()
        return set_it(hypervisor, uuid, wanted, **options)

    monkeypatch.setattr(autostart, "set_autostart", late)
    run_queued()
    assert (marked(one), held()) == (["rests"], [])
