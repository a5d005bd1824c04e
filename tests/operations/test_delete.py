"""Letting go of a node: its VMs elsewhere, its secrets destroyed, its record kept, its host left as it is."""

from __future__ import annotations

from typing import Any

import pytest

from nodes import access
from nodes.models import Bmc, Credential, Event, MigrationSlot, Node, Operation, OperationStatus
from nodes.models.sealed import SecretFor
from nodes.operations import delete_node, vm_moves
from nodes.operations.plan_run import PlanRun
from tests.engine.running import run_queued
from tests.factories import ANYWHERE, make_operation
from tests.light_nodes import ask, plan_of, steps_of
from tests.lighthosts import TinyVm, assert_exactly_once

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_node_goes_with_its_secrets_and_its_record_stays(pair, nodes, run_vm):
    one, two = pair
    vm, rests = run_vm("web"), TinyVm("rests")
    one.define_vm(rests)
    Bmc.objects.create(
        node=nodes[0],
        url="https://192.0.2.9",
        system_path="/redfish/v1/Systems/1",
        secret=SecretFor(ANYWHERE, {"password": "x"}),
    )
    operation = ask("delete-node", nodes[0], vm_policy="migrate")
    (ended,) = run_queued()
    assert ended.status == OperationStatus.SUCCEEDED, ended.error
    assert not Node.objects.filter(pk=nodes[0].pk).exists()
    assert list(Credential.objects.values_list("node", flat=True)) == [nodes[1].pk]
    assert not Bmc.objects.exists()
    assert ended.node is None
    assert (ended.node_name, steps_of(ended)["remove"]) == ("light1", "succeeded")
    kinds = list(Event.objects.filter(node=None, node_name="light1").values_list("kind", flat=True))
    assert {"node_removed", "delete_node_requested", "delete_node_succeeded"} <= set(kinds)
    assert Operation.objects.get(pk=operation.pk).plan["decisions"]
    # The host is left as it is.
    assert_exactly_once(pair, vm, on=two)
    assert_exactly_once(pair, rests, on=one, state="shut off")
    assert len(access.pool()) == 1


def test_a_node_with_running_vms_is_not_deleted_without_a_word_for_them(pair, nodes, run_vm):
    run_vm("web")
    plan = plan_of("delete-node", nodes[0])
    assert [reason.code for reason in plan.blockers] == ["node_has_running_vms"]


def test_a_vm_that_appears_meanwhile_keeps_the_node(pair, nodes, run_vm, monkeypatch):
    ask("delete-node", nodes[0])
    checked = PlanRun.check

    def then_another(work: PlanRun) -> None:
        checked(work)
        run_vm("late")

    monkeypatch.setattr(PlanRun, "check", then_another)
    (ended,) = run_queued()
    assert (ended.status, ended.error["code"]) == (OperationStatus.FAILED, "plan_changed")
    assert Node.objects.filter(pk=nodes[0].pk).exists()


@pytest.mark.parametrize("taken", ["before", "in between"])
def test_a_node_to_which_a_vm_is_moving_stays(pair, nodes, monkeypatch, taken):
    other = make_operation(nodes[1], kind="disable-node", status=OperationStatus.RUNNING)

    def take() -> bool:
        MigrationSlot.objects.create(
            node=nodes[0], direction="in", number=0, operation=other, step_code="vm:1"
        )
        return False

    ask("delete-node", nodes[0])
    if taken == "before":
        take()
    else:
        monkeypatch.setattr(delete_node, "in_use", lambda _node: take())
    (ended,) = run_queued()
    assert (ended.status, ended.error["code"]) == (OperationStatus.FAILED, "node_busy")
    assert Node.objects.filter(pk=nodes[0].pk).exists()
    assert not Event.objects.filter(kind="node_removed").exists()


def test_a_vm_whose_target_was_removed_stays_and_says_so(pair, nodes, run_vm, monkeypatch):
    vm = run_vm("web")
    operation = ask("disable-node", nodes[0])
    is_here = vm_moves._is_here

    def then_removed(*arguments: Any) -> bool:
        Node.objects.filter(pk=nodes[1].pk).delete()
        return is_here(*arguments)

    monkeypatch.setattr(vm_moves, "_is_here", then_removed)
    (ended,) = run_queued()
    assert (ended.status, ended.error["vms"][0]["code"]) == (OperationStatus.FAILED, "unknown_node")
    assert_exactly_once(pair, vm, on=pair[0])
    assert steps_of(operation)["vm:web"] == "failed"


def test_a_host_that_is_gone_for_good_is_let_go_by_force_alone(pair, nodes, settings):
    one, _two = pair
    settings.NODEADMIN_HOST_TIMEOUT_S = 3.0
    one.power_off()
    try:
        blocked = plan_of("delete-node", nodes[0])
        assert blocked.is_blocked
        assert plan_of("delete-node", nodes[0], force=True).losses
        ask("delete-node", nodes[0], force=True)
        (ended,) = run_queued()
    finally:
        one.power_on()
    assert ended.status == OperationStatus.SUCCEEDED, ended.error
    assert not Node.objects.filter(pk=nodes[0].pk).exists()
    assert Event.objects.get(kind="node_removed").data["forced"] is True
