"""From the first call to the proof: an administrator and an operator move real VMs over the API."""

from __future__ import annotations

from typing import Any

import pytest

from nodes.models import Node, OperationStatus, Scheduling
from nodes.permissions import DELETE, MAINTAIN, VIEW
from tests.api.conftest import Api
from tests.engine.running import run_queued
from tests.factories import grant
from tests.lighthosts import assert_exactly_once

pytestmark = pytest.mark.django_db(transaction=True)


def confirmed(call: Api, name: str, body: dict[str, Any]) -> dict[str, Any]:
    """Plan, confirm, run; gives the plan."""
    status, asked = call(name, body)
    assert status == 428, asked
    status, operation = call(name, body | {"confirm_token": asked["confirm_token"]})
    assert status == 202, operation
    (ended,) = run_queued()
    assert ended.status == OperationStatus.SUCCEEDED, ended.error
    return asked["plan"]


def test_there_and_back_and_gone(pair, nodes, run_vm, operator):
    one, two = pair
    web = run_vm("web")
    for node in nodes:
        grant(operator, node, VIEW, MAINTAIN, DELETE)
    call = Api(operator)

    plan = confirmed(call, "disable-node", {"node": "light1", "drain": True, "reason": "fan"})
    assert [(vm["vm_name"], vm["target"]) for vm in plan["decisions"]] == [("web", "light2")]
    assert_exactly_once(pair, web, on=two)

    plan = confirmed(call, "enable-node", {"node": "light1", "return_vms": True})
    assert [(vm["source"], vm["target"]) for vm in plan["decisions"]] == [("light2", "light1")]
    assert_exactly_once(pair, web, on=one)
    assert Node.objects.get(name="light1").scheduling == Scheduling.ENABLED

    assert call("delete-node", {"node": "light1"})[1]["code"] == "node_has_running_vms"
    confirmed(call, "delete-node", {"node": "light1", "vm_policy": "migrate"})
    assert_exactly_once(pair, web, on=two)
    assert not Node.objects.filter(name="light1").exists()
    status, answer = call("disable-node", {"node": "light2", "drain": True})
    assert (status, answer["code"]) == (409, "last_eligible_node")


def test_a_vm_that_starts_between_confirmation_and_run_is_not_touched(pair, nodes, run_vm, administrator):
    web = run_vm("web")
    call = Api(administrator)
    body = {"node": "light1", "drain": True}
    token = call("disable-node", body)[1]["confirm_token"]
    assert call("disable-node", body | {"confirm_token": token})[0] == 202
    late = run_vm("late")
    (ended,) = run_queued()
    assert (ended.status, ended.error["code"]) == (OperationStatus.FAILED, "plan_changed")
    for vm in (web, late):
        assert_exactly_once(pair, vm, on=pair[0])

    retried = {"operation": str(ended.pk)}
    status, asked = call("retry-operation", retried)
    assert status == 428 and asked["plan"]["counts"]["migrate"] == 2
    assert call("retry-operation", retried | {"confirm_token": asked["confirm_token"]})[0] == 202
    (ended,) = run_queued()
    assert ended.status == OperationStatus.SUCCEEDED, ended.error
    for vm in (web, late):
        assert_exactly_once(pair, vm, on=pair[1])
