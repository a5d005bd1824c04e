"""What a reboot owes to the VMs that were stopped for it, when who asked for it may do so no more."""

from __future__ import annotations

import pytest
from guardian.shortcuts import remove_perm

from nodes.engine.claim import expire_all
from nodes.models import Node, OperationStatus, Scheduling
from nodes.operations import reboot
from nodes.operations.power_steps import PowerCommand, PowerSteps
from nodes.permissions import MAINTAIN, POWER, VIEW
from tests.engine.running import run_queued
from tests.factories import grant
from tests.light_nodes import ask
from tests.lighthosts import assert_exactly_once
from tests.operations.test_reboot import Killed, killed

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize("died_at", ["intent", "back"])
def test_rights_withdrawn_while_the_server_is_away_leave_no_vm_off(
    pair, nodes, run_vm, obedient, operator, monkeypatch, died_at
):
    one, _two = pair
    before = len(one.power_commands)
    vm = run_vm("web", kernel=obedient)
    grant(operator, nodes[0], VIEW, MAINTAIN, POWER)
    ask("reboot-node", nodes[0], operator, vm_policy="stop", restart_vms=True)
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(PowerSteps, died_at, killed)
        run_queued()
    remove_perm(POWER, operator, nodes[0])
    expire_all()
    (ended,) = run_queued()
    assert_exactly_once(pair, vm, on=one)
    scheduling = Node.objects.get(pk=nodes[0].pk).scheduling
    if died_at == "intent":
        assert (ended.status, ended.error["code"]) == (OperationStatus.FAILED, "permission_denied")
        assert (len(one.power_commands), scheduling) == (before, Scheduling.ENABLED)
    else:
        assert ended.status == OperationStatus.SUCCEEDED, ended.error
        assert (len(one.power_commands), scheduling) == (before + 1, Scheduling.ENABLED)


def test_a_command_that_never_left_is_not_sent_by_a_later_run_without_the_right(
    pair, nodes, run_vm, obedient, operator, monkeypatch
):
    one, _two = pair
    before = len(one.power_commands)
    vm = run_vm("web", kernel=obedient)
    grant(operator, nodes[0], VIEW, MAINTAIN, POWER)
    operation = ask("reboot-node", nodes[0], operator, vm_policy="stop")
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(reboot, "REBOOT", PowerCommand(killed, comes_back=True))
        run_queued()
    assert operation.steps.get(code="command").data["sent_at"]
    remove_perm(POWER, operator, nodes[0])
    expire_all()
    (ended,) = run_queued()
    assert (ended.status, ended.error["code"]) == (OperationStatus.FAILED, "permission_denied")
    assert len(one.power_commands) == before
    assert_exactly_once(pair, vm, on=one)
    assert Node.objects.get(pk=nodes[0].pk).scheduling == Scheduling.ENABLED
