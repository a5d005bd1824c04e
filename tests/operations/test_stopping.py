"""VMs that are to stop and whose guests do not run, so that they cannot be asked to."""

from __future__ import annotations

import pytest

from nodes.hosts import domains
from nodes.models import OperationStatus
from nodes.operations.vm_steps import hypervisor_of
from tests.engine.running import in_background, run_queued
from tests.light_nodes import ask, steps_of, wait_until
from tests.lighthosts import assert_exactly_once

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def paused(pair, run_vm, obedient):
    vm = run_vm("still", kernel=obedient)
    pair[0].virsh("suspend", vm.uuid)
    return vm


def test_a_paused_vm_cannot_be_asked_to_shut_down_and_keeps_its_host_up(pair, nodes, paused):
    before = len(pair[0].power_commands)
    operation = ask("reboot-node", nodes[0], vm_policy="stop", restart_vms=True, stop_timeout_s=2)
    (ended,) = run_queued()
    assert ended.status == OperationStatus.FAILED
    assert [row["code"] for row in ended.error["vms"]] == ["vm_did_not_stop"], ended.error
    assert "guest does not run" in ended.error["detail"]
    # Nothing was asked of it, so nothing may come of that either.
    assert steps_of(operation)["start:still"] == "cancelled"
    assert len(pair[0].power_commands) == before
    assert_exactly_once(pair, paused, on=pair[0], state="paused")


def test_a_paused_vm_is_forced_off_where_that_was_confirmed_and_comes_back(pair, nodes, paused):
    options = {"vm_policy": "stop", "restart_vms": True, "stop_timeout_s": 2, "force_stop": True}
    operation = ask("reboot-node", nodes[0], **options)
    (ended,) = run_queued()
    assert ended.status == OperationStatus.SUCCEEDED, ended.error
    assert operation.steps.get(vm_name="still", code__startswith="vm:").data["forced"] is True
    assert_exactly_once(pair, paused, on=pair[0])


def test_a_vm_that_goes_on_while_it_is_waited_for_is_asked_then(pair, nodes, paused):
    operation = ask("reboot-node", nodes[0], vm_policy="stop", restart_vms=True, stop_timeout_s=60)
    running = in_background()
    wait_until(lambda: operation.log_entries.filter(message__contains="cannot be asked").exists())
    pair[0].virsh("resume", paused.uuid)
    (ended,) = running.result(120)
    assert ended.status == OperationStatus.SUCCEEDED, ended.error
    assert "forced" not in operation.steps.get(vm_name="still", code__startswith="vm:").data
    assert_exactly_once(pair, paused, on=pair[0])


def test_who_is_off_or_unknown_needs_not_be_asked(pair, nodes, paused):
    hypervisor = hypervisor_of(nodes[0])
    assert domains.shut_down(hypervisor, paused.uuid) is False
    pair[0].virsh("destroy", paused.uuid)
    assert domains.shut_down(hypervisor, paused.uuid) is True
    assert domains.shut_down(hypervisor, "00000000-0000-4000-8000-000000000000") is True
