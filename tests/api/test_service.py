"""Nodes in and out of service over the API: who may, what is confirmed, and what is refused."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import fields
from typing import Any
from uuid import uuid4

import pytest
from django.core import signing
from django.db.models import Q
from guardian.shortcuts import remove_perm

from nodes import access
from nodes.api.service_answers import PlanAnswer, VmDecisionAnswer
from nodes.engine import service
from nodes.events import SYSTEM
from nodes.models import (
    Connection,
    Event,
    HeldAutostart,
    IdempotencyKey,
    Node,
    Operation,
    OperationStatus,
    Scheduling,
    UsedConfirmation,
    User,
)
from nodes.operations.plans import Plan
from nodes.operations.scheduling import cordon
from nodes.permissions import CHANGE, DELETE, MAINTAIN, POWER, VIEW
from tests.factories import grant, make_credential, make_node, make_operation, make_snapshot

pytestmark = pytest.mark.django_db

NODE = "alpha"
STOP = {"node": NODE, "vm_policy": "stop"}
DRAIN = {**STOP, "drain": True}
CALLS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("disable-node", DRAIN),
    ("enable-node", {"node": NODE, "return_vms": True}),
    ("reboot-node", STOP),
    ("shutdown-node", STOP),
    ("delete-node", {"node": NODE, "force": False}),
)
CONFIRMED = [name for name, _body in CALLS]


def set_running(node: Node, running: bool) -> None:
    """Switch the one VM on or off that libvirt's test driver has."""

    def work(connection: Any) -> None:
        domain = connection.lookupByName("test")
        if bool(domain.isActive()) != running:
            domain.create() if running else domain.destroy()

    access.connect(access.target_for(node)).hypervisor().run(work, what="Setting up")


@pytest.fixture
def node(db: None) -> Iterator[Node]:
    """A node of libvirt's test driver, with its one running VM."""
    row = make_node(NODE, uri="test:///default")
    set_running(row, True)
    yield row
    set_running(row, True)


@pytest.fixture
def idle(node: Node) -> Node:
    """The same with no VM running."""
    set_running(node, False)
    return node


OF_THE_TEST = ("access_granted", "access_withdrawn", "permission_denied")
"""What the test itself gave and took, and what it was refused."""


def unchanged(node: Node) -> bool:
    """Nothing was queued, used up, told or decided."""
    node.refresh_from_db()
    told = Event.objects.filter(Q(node=node) | Q(operation__isnull=False)).exclude(kind__in=OF_THE_TEST)
    rows = (Operation.objects.all(), UsedConfirmation.objects.all(), told)
    return node.scheduling == Scheduling.ENABLED and not any(row.exists() for row in rows)


# -- the plan first --------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "body"), CALLS)
def test_a_call_without_a_token_changes_nothing_and_answers_with_the_plan(
    administrator, api, idle, name, body
):
    response = api(administrator).raw(name, body)
    answer = response.json()
    assert (response.status_code, answer["code"]) == (428, "confirmation_required")
    assert response.headers["Content-Type"] == "application/problem+json"
    assert answer["plan"]["kind"] == name and answer["plan"]["blocked"] is False
    assert answer["confirm_token"] and answer["expires_at"]
    assert unchanged(idle)


@pytest.mark.parametrize(("name", "body"), CALLS)
def test_the_same_call_with_the_token_queues_what_was_shown(administrator, api, idle, name, body):
    call = api(administrator)
    _status, asked = call(name, body)
    status, operation = call(name, body | {"confirm_token": asked["confirm_token"]})
    assert (status, operation["kind"], operation["status"]) == (202, name, "queued")
    row = Operation.objects.get(pk=operation["id"])
    assert Plan.from_dict(row.plan).digest() == asked["plan"]["digest"]
    assert row.requested_by == administrator
    assert Event.objects.filter(kind=f"{name.replace('-', '_')}_requested", operation=row).exists()


def test_the_plan_names_each_vm_and_what_happens_to_it(administrator, api, node):
    _status, answer = api(administrator)("reboot-node", STOP | {"restart_vms": True})
    (vm,) = answer["plan"]["decisions"]
    assert (vm["vm_name"], vm["state"], vm["action"], vm["restart"]) == ("test", "running", "stop", True)
    assert answer["plan"]["counts"] == {"migrate": 0, "stop": 1, "leave": 0, "blocked": 0}
    assert set(answer["plan"]) == {field.name for field in fields(PlanAnswer)}
    assert set(vm) == {field.name for field in fields(VmDecisionAnswer)}


@pytest.mark.parametrize("name", ["reboot-node", "shutdown-node", "delete-node"])
def test_running_vms_refuse_it_unless_a_policy_says_what_becomes_of_them(administrator, api, node, name):
    status, answer = api(administrator)(name, {"node": NODE})
    assert (status, answer["code"]) == (409, "node_has_running_vms")
    assert answer["plan"]["decisions"][0]["blockers"][0]["code"] == "running_vm"
    assert "confirm_token" not in answer
    assert unchanged(node)


def test_the_last_eligible_node_is_not_drained(administrator, api, node):
    make_node(node_type="storage")
    make_node(connection=Connection.OFFLINE)
    make_node(scheduling=Scheduling.MAINTENANCE)
    status, answer = api(administrator)("disable-node", {"node": NODE, "drain": True})
    assert (status, answer["code"]) == (409, "last_eligible_node")
    assert unchanged(node)


def test_a_local_disk_blocks_a_migration_and_the_plan_says_so(administrator, api, node):
    make_node("beta", uri="test:///default")
    status, answer = api(administrator)("disable-node", {"node": NODE, "drain": True})
    assert (status, answer["code"]) == (409, "plan_blocked")
    assert "test" in answer["detail"] and "local" not in answer["plan"]["blockers"]
    assert answer["plan"]["decisions"][0]["blockers"][0]["code"] == "local_disk"


def test_a_host_that_is_gone_is_deleted_by_force_alone_and_the_loss_is_named(administrator, api, settings):
    settings.NODEADMIN_HOST_TIMEOUT_S = 2.0
    node = make_node(NODE, uri="qemu+ssh://root@127.0.0.1:9/system")
    access.pin(node, None)
    call = api(administrator)
    status, answer = call("delete-node", {"node": NODE})
    assert (status, answer["code"]) == (409, "vm_state_unknown")
    assert "force" in answer["plan"]["blockers"][0]["remedy"]
    status, answer = call("delete-node", {"node": NODE, "force": True})
    assert status == 428 and answer["plan"]["losses"] and answer["plan"]["vms_known"] is False


# -- the token -------------------------------------------------------------------------------------


def token_for(call: Any, name: str = "reboot-node", body: dict[str, Any] = STOP) -> str:
    token: str = call(name, body)[1]["confirm_token"]
    return token


def refused(answer: tuple[int, dict[str, Any]]) -> bool:
    return (answer[0], answer[1]["code"]) == (409, "confirmation_invalid")


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("reboot-node", STOP | {"restart_vms": True}),
        ("reboot-node", STOP | {"stop_timeout_s": 60}),
        ("reboot-node", STOP | {"force_stop": True}),
        ("reboot-node", STOP | {"vm_overrides": {"test": "stop"}}),
        ("shutdown-node", STOP),
        ("reboot-node", STOP | {"node": "beta"}),
    ],
)
def test_a_token_is_refused_for_another_call_or_other_options(administrator, api, node, name, body):
    make_node("beta", uri="test:///default")
    call = api(administrator)
    assert refused(call(name, body | {"confirm_token": token_for(call)}))
    assert unchanged(node)


def test_options_that_are_written_out_are_those_that_hold_anyway(administrator, api, node):
    call = api(administrator)
    token = token_for(call)
    full = STOP | {"stop_timeout_s": 120, "restart_vms": False, "vm_overrides": {}, "confirm_token": token}
    assert call("reboot-node", full)[0] == 202


def test_a_token_of_somebody_else_is_refused(administrator, operator, api, node):
    grant(operator, node, VIEW, POWER)
    token = token_for(api(administrator))
    assert refused(api(operator)("reboot-node", STOP | {"confirm_token": token}))
    assert unchanged(node)


def test_a_token_counts_once(administrator, api, node):
    call = api(administrator)
    token = token_for(call)
    status, operation = call("reboot-node", STOP | {"confirm_token": token})
    assert status == 202
    assert refused(call("reboot-node", STOP | {"confirm_token": token}))
    Operation.objects.filter(pk=operation["id"]).update(status=OperationStatus.FAILED)
    assert refused(call("reboot-node", STOP | {"confirm_token": token}))
    assert Operation.objects.count() == 1


def test_a_token_of_more_than_five_minutes_ago_is_refused(administrator, api, node, monkeypatch):
    call = api(administrator)
    token = token_for(call)
    late = time.time() + 302
    monkeypatch.setattr(signing.time, "time", lambda: late)
    assert refused(call("reboot-node", STOP | {"confirm_token": token}))
    assert unchanged(node)


@pytest.mark.parametrize("token", ["x", "a:b:c", "é", "." * 5000])
def test_what_is_no_token_is_refused(administrator, api, node, token):
    assert refused(api(administrator)("reboot-node", STOP | {"confirm_token": token}))


def test_rights_that_were_withdrawn_meanwhile_count(operator, api, node):
    grant(operator, node, VIEW, POWER)
    call = api(operator)
    token = token_for(call)
    remove_perm(POWER, operator, node)
    assert call("reboot-node", STOP | {"confirm_token": token})[0] == 403
    assert unchanged(node)


def test_a_plan_that_has_changed_is_shown_anew_and_may_be_confirmed_anew(administrator, api, node):
    call = api(administrator)
    token = token_for(call)
    set_running(node, False)
    status, answer = call("reboot-node", STOP | {"confirm_token": token})
    assert (status, answer["code"]) == (409, "plan_changed")
    assert answer["changes"] == ["test: stop → leave"]
    assert answer["plan"]["counts"]["leave"] == 1
    assert unchanged(node)
    assert call("reboot-node", STOP | {"confirm_token": answer["confirm_token"]})[0] == 202


def test_a_plan_that_is_blocked_meanwhile_is_refused_with_its_blockers(administrator, api, idle):
    call = api(administrator)
    body = {"node": NODE}
    token = token_for(call, body=body)
    set_running(idle, True)
    status, answer = call("reboot-node", body | {"confirm_token": token})
    assert (status, answer["code"]) == (409, "node_has_running_vms")
    assert unchanged(idle)


def test_of_two_drains_planned_at_once_the_later_one_is_told_before_it_begins(
    administrator, api, idle, monkeypatch
):
    """Each counts on the other's node: both would be in maintenance, and no node in service any more."""
    call = api(administrator)
    other = make_node("beta", uri="test:///default")
    body = {"node": NODE, "drain": True}
    token = token_for(call, "disable-node", body)
    planned, overtaken = service.plan_for, []

    def overtakes(*arguments: Any, **options: Any) -> Plan:
        plan = planned(*arguments, **options)
        if not overtaken:
            overtaken.append(cordon(other, reason="", actor=SYSTEM))
        return plan

    monkeypatch.setattr(service, "plan_for", overtakes)
    status, answer = call("disable-node", body | {"confirm_token": token})
    assert (status, answer["code"]) == (409, "last_eligible_node")
    idle.refresh_from_db()
    assert idle.scheduling == Scheduling.ENABLED
    assert not Operation.objects.exists() and not UsedConfirmation.objects.exists()


# -- twice -----------------------------------------------------------------------------------------


def test_a_double_click_is_one_operation(administrator, api, node):
    call = api(administrator)
    status, asked = call("reboot-node", STOP, Idempotency_Key="k1")
    assert status == 428 and not IdempotencyKey.objects.exists()
    body = STOP | {"confirm_token": asked["confirm_token"]}
    first = call("reboot-node", body, Idempotency_Key="k1")
    second = call("reboot-node", body, Idempotency_Key="k1")
    assert first[0] == second[0] == 202
    assert first[1]["id"] == second[1]["id"]
    assert Operation.objects.count() == 1


def test_the_token_is_no_part_of_what_the_key_stands_for(administrator, api, node):
    call = api(administrator)
    body = STOP | {"confirm_token": token_for(call)}
    first = call("reboot-node", body, Idempotency_Key="k1")
    again = call("reboot-node", STOP | {"confirm_token": "another"}, Idempotency_Key="k1")
    assert (first[0], again[0]) == (202, 202) and first[1]["id"] == again[1]["id"]
    other = call("reboot-node", body | {"restart_vms": True}, Idempotency_Key="k1")
    assert (other[0], other[1]["code"]) == (422, "idempotency_key_reused")


def test_a_busy_node_says_so_before_any_host_is_asked(administrator, api, node):
    call = api(administrator)
    assert call("reboot-node", STOP | {"confirm_token": token_for(call)})[0] == 202
    Node.objects.update(uri="qemu+ssh://root@192.0.2.1/system")
    started = time.monotonic()
    for name, body in (*CALLS, ("disable-node", {"node": NODE}), ("enable-node", {"node": NODE})):
        status, answer = call(name, body)
        assert (status, answer["code"], answer["retryable"]) == (409, "node_busy", True), name
    assert time.monotonic() - started < 2
    Node.objects.update(uri="test:///default")


# -- who -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "body"), [*CALLS, ("export-node", {"node": NODE})])
def test_for_a_stranger_the_node_does_not_exist(stranger, api, node, name, body):
    status, answer = api(stranger)(name, body | ({"confirm_token": "x"} if name in CONFIRMED else {}))
    assert (status, answer["code"]) == (404, "unknown_node")


@pytest.mark.parametrize(
    ("name", "body", "permission"),
    [
        ("disable-node", {"node": NODE}, MAINTAIN),
        ("disable-node", DRAIN, MAINTAIN),
        ("enable-node", {"node": NODE}, MAINTAIN),
        ("enable-node", {"node": NODE, "return_vms": True}, MAINTAIN),
        ("reboot-node", STOP, POWER),
        ("shutdown-node", STOP, POWER),
        ("delete-node", {"node": NODE}, DELETE),
    ],
)
def test_each_call_needs_its_own_permission_and_no_other(operator, api, idle, name, body, permission):
    grant(operator, idle, VIEW, *({MAINTAIN, POWER, DELETE, CHANGE} - {permission}))
    status, answer = api(operator)(name, body)
    assert (status, answer["code"]) == (403, "permission_denied")
    assert permission in answer["detail"]
    assert "plan" not in answer
    grant(operator, idle, permission)
    again = User.objects.get(pk=operator.pk)
    assert api(again)(name, body)[0] in (200, 428)


def test_a_token_for_reading_may_export_and_nothing_else(administrator, api, node):
    call = api(administrator, read_only=True)
    assert call("export-node", {"node": NODE})[0] == 200
    for name, body in CALLS:
        assert call(name, body)[0] == 403


# -- at once ---------------------------------------------------------------------------------------


def test_a_node_is_disabled_at_once_with_who_why_and_since_when(operator, api, node):
    grant(operator, node, VIEW, MAINTAIN)
    status, answer = api(operator)("disable-node", {"node": NODE, "reason": "A fan is to be replaced."})
    assert (status, answer["status"]) == (200, "maintenance")
    assert answer["scheduling"]["state"] == "maintenance"
    assert answer["scheduling"]["reason"] == "A fan is to be replaced."
    assert answer["scheduling"]["by"] == "otto" and answer["scheduling"]["since"]
    event = Event.objects.get(kind="node_disabled")
    assert (event.user_name, event.node) == ("otto", node)
    assert not Operation.objects.exists()


def test_disabling_twice_is_one_event_and_a_new_reason_is_taken_over(administrator, api, node):
    call = api(administrator)
    call("disable-node", {"node": NODE, "reason": "fan"})
    assert call("disable-node", {"node": NODE})[1]["scheduling"]["reason"] == "fan"
    assert Event.objects.filter(kind="node_disabled").count() == 1
    assert call("disable-node", {"node": NODE, "reason": "memory"})[1]["scheduling"]["reason"] == "memory"


def test_a_node_is_enabled_at_once_and_the_reason_is_gone(administrator, api, node):
    call = api(administrator)
    call("disable-node", {"node": NODE, "reason": "fan"})
    status, answer = call("enable-node", {"node": NODE})
    assert (status, answer["status"], answer["scheduling"]["reason"]) == (200, "online", "")
    call("enable-node", {"node": NODE})
    assert Event.objects.filter(kind="node_enabled").count() == 1


def test_the_answer_says_what_maintenance_means_and_whose_autostart_is_held(administrator, api, node):
    held = HeldAutostart.objects.create(node=node, vm_uuid=uuid4(), vm_name="web")
    call = api(administrator)
    answer = call("disable-node", {"node": NODE})[1]
    assert answer["scheduling"]["meaning"].endswith("(virsh, virt-manager) are not held back by it.")
    (row,) = answer["held_autostart"]
    assert (row["vm"], row["vm_uuid"], row["due_at"]) == ("web", str(held.vm_uuid), None)
    answer = call("enable-node", {"node": NODE})[1]
    assert answer["scheduling"]["meaning"] is None
    # Enabled, it is owed from now on; the refresh that puts it back is asked for.
    assert answer["held_autostart"][0]["due_at"] is not None
    assert Operation.objects.unfinished().filter(node=node, kind="refresh-node").count() == 1
    assert call("describe-node", {"node": NODE})[1]["held_autostart"] == answer["held_autostart"]


@pytest.mark.parametrize("name", ["reboot-node", "shutdown-node"])
def test_holding_autostart_is_an_option_and_each_vm_says_what_becomes_of_it(administrator, api, idle, name):
    call = api(administrator)
    plan = call(name, {"node": NODE, "hold_autostart": None})[1]["plan"]
    assert plan["options"]["hold_autostart"] is None
    assert [(vm["autostart"], vm["hold_autostart"]) for vm in plan["decisions"]] == [(False, False)]
    assert call(name, {"node": NODE, "hold_autostart": "yes"})[0] == 400
    token = call(name, {"node": NODE, "hold_autostart": True})[1]["confirm_token"]
    status, answer = call(name, {"node": NODE, "hold_autostart": False, "confirm_token": token})
    assert (status, answer["code"]) == (409, "confirmation_invalid")


def test_a_drain_closes_the_node_as_it_is_asked_for(administrator, api, node):
    call = api(administrator)
    body = DRAIN | {"reason": "fan"}
    token = token_for(call, "disable-node", body)
    assert unchanged(node)
    assert call("disable-node", body | {"confirm_token": token})[0] == 202
    node.refresh_from_db()
    assert (node.scheduling, node.scheduling_reason) == (Scheduling.MAINTENANCE, "fan")


def test_a_drain_that_is_refused_leaves_the_node_open(administrator, api, node, monkeypatch):
    call = api(administrator)
    token = token_for(call, "disable-node", DRAIN)
    # Somebody else's operation comes in between the look and the submission.
    from nodes.engine import service

    def late(_node: Node) -> None:
        make_operation(node, "reboot-node", OperationStatus.QUEUED, subject=f"node:{node.uuid}")

    monkeypatch.setattr(service, "_refuse_busy", late)
    status, answer = call("disable-node", DRAIN | {"confirm_token": token})
    assert (status, answer["code"]) == (409, "node_busy")
    node.refresh_from_db()
    assert node.scheduling == Scheduling.ENABLED
    assert not UsedConfirmation.objects.exists()


# -- again -----------------------------------------------------------------------------------------


def failed(node: Node, kind: str = "reboot-node", **params: Any) -> Operation:
    params = {"vm_policy": "stop", **params}
    plan = Plan(kind, node.name, str(node.uuid), params).to_dict()
    return make_operation(node, kind, OperationStatus.FAILED, params=params, plan=plan)


def test_a_retry_of_what_was_confirmed_is_planned_and_confirmed_anew(administrator, api, node):
    old = failed(node, restart_vms=True)
    call = api(administrator)
    status, asked = call("retry-operation", {"operation": str(old.pk)})
    assert (status, asked["code"]) == (428, "confirmation_required")
    assert asked["plan"]["options"]["restart_vms"] is True
    assert Operation.objects.count() == 1
    body = {"operation": str(old.pk), "confirm_token": asked["confirm_token"]}
    status, operation = call("retry-operation", body)
    assert (status, operation["kind"]) == (202, "reboot-node")
    assert Operation.objects.get(pk=operation["id"]).params["restart_vms"] is True


def test_the_token_of_a_retry_holds_for_that_operation_alone(administrator, api, node):
    one, two = failed(node), failed(node)
    call = api(administrator)
    token = call("retry-operation", {"operation": str(one.pk)})[1]["confirm_token"]
    assert refused(call("retry-operation", {"operation": str(two.pk), "confirm_token": token}))
    assert refused(call("reboot-node", STOP | {"confirm_token": token}))


def test_a_retry_does_not_stumble_over_wishes_for_vms_that_have_gone(administrator, api, node):
    old = failed(node, vm_overrides={"moved-away": "stop"})
    assert api(administrator)("retry-operation", {"operation": str(old.pk)})[0] == 428


def test_a_retry_needs_the_right_that_the_operation_needed(operator, api, node):
    grant(operator, node, VIEW, MAINTAIN)
    assert api(operator)("retry-operation", {"operation": str(failed(node).pk)})[0] == 403


# -- input -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "body", "field"),
    [
        ("reboot-node", {"vm_policy": "leave"}, "vm_policy"),
        ("delete-node", {"vm_policy": "stop"}, "vm_policy"),
        ("shutdown-node", {"restart_vms": True}, "restart_vms"),
        ("reboot-node", {"stop_timeout_s": 0}, "stop_timeout_s"),
        ("reboot-node", {"stop_timeout_s": "120"}, "stop_timeout_s"),
        ("reboot-node", {"force_stop": "yes"}, "force_stop"),
        ("reboot-node", {"vm_overrides": ["test"]}, "vm_overrides"),
        (
            "reboot-node",
            {"vm_overrides": {"test": {"action": "stop", "target": "beta"}}},
            "vm_overrides.test.action",
        ),
        ("reboot-node", {"vm_overrides": {"test": {"action": "migrate"}}}, "vm_overrides.test.target"),
        (
            "delete-node",
            {"vm_overrides": {"test": {"action": "migrate", "target": "no"}}},
            "vm_overrides.test.target",
        ),
        ("delete-node", {"vm_overrides": {"test": "stop"}}, "vm_overrides.test"),
        ("reboot-node", {"targets": ["no-such-node"]}, "targets.0"),
        ("reboot-node", {"targets": [NODE]}, "targets.0"),
        ("reboot-node", {"targets": "beta"}, "targets"),
        ("reboot-node", {"targets": ["beta"] * 257}, "targets"),
        ("disable-node", {"targets": ["beta"]}, "targets"),
        ("reboot-node", {"vm_overrides": {"test": "leave"}}, "vm_overrides.test"),
        ("reboot-node", {"vm_overrides": {"nobody": "stop"}}, "vm_overrides.nobody"),
        ("disable-node", {"vm_policy": "stop"}, "vm_policy"),
        ("disable-node", {"vm_overrides": {}}, "vm_overrides"),
        ("disable-node", {"reason": "x" * 501}, "reason"),
        ("enable-node", {"return_vms": 1}, "return_vms"),
        ("reboot-node", {"confirm_token": 7}, "confirm_token"),
        ("export-node", {"raw": True}, "raw"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(administrator, api, node, name, body, field):
    status, answer = api(administrator)(name, {"node": NODE, **body})
    assert (status, answer["code"]) == (400, "invalid_input")
    assert answer["errors"][0]["field"] == field
    assert unchanged(node)


def test_targets_are_part_of_what_is_confirmed_by_the_node_and_not_by_its_name(administrator, api, node):
    beta = make_node("beta", uri="test:///default")
    make_node("gamma", uri="test:///default")
    call = api(administrator)
    body = STOP | {"targets": ["beta"], "vm_overrides": {"test": "stop"}}
    status, answer = call("reboot-node", body)
    assert (status, answer["plan"]["options"]["targets"]) == (428, [str(beta.uuid)])
    token = {"confirm_token": answer["confirm_token"]}
    assert refused(call("reboot-node", body | token | {"targets": ["gamma"]}))
    assert refused(call("reboot-node", STOP | token | {"vm_overrides": {"test": "stop"}}))
    Node.objects.filter(pk=beta.pk).update(name="delta")
    assert call("reboot-node", body | token | {"targets": [str(beta.uuid)]})[0] == 202
    operation = Operation.objects.get(kind="reboot-node")
    assert operation.params["targets"] == [str(beta.uuid)]
    assert operation.plan["targets"] == []  # of the moment, and not kept


def test_a_plan_tells_each_target_with_its_room_and_what_keeps_vms_from_it(administrator, api, node):
    make_node("beta", uri="test:///default")
    make_node("gamma", uri="test:///default", scheduling=Scheduling.MAINTENANCE)
    body = {"node": NODE, "drain": True, "vm_overrides": {"test": {"action": "migrate", "target": "beta"}}}
    status, answer = api(administrator)("disable-node", body)
    assert (status, answer["code"]) == (409, "plan_blocked")
    plan = answer["plan"]
    beta, gamma = plan["targets"]
    assert (beta["name"], beta["asked"], beta["obstacles"][0]["code"]) == ("beta", True, "migration_network")
    assert (gamma["name"], gamma["asked"], gamma["obstacles"][0]["code"]) == (
        "gamma",
        False,
        "target_in_maintenance",
    )
    assert (plan["targets_asked"], plan["targets_eligible"]) == (1, 1)


def test_a_target_that_one_may_see_and_not_maintain_is_refused_and_a_hidden_one_is_unknown(
    operator, api, node
):
    seen, hidden = make_node("beta"), make_node("gamma")
    grant(operator, node, VIEW, POWER)
    grant(operator, seen, VIEW)
    call = api(operator)
    status, answer = call("reboot-node", STOP | {"targets": ["beta"]})
    assert (status, answer["code"]) == (403, "permission_denied")
    for name in ("gamma", str(hidden.uuid)):
        status, answer = call("reboot-node", STOP | {"targets": [name]})
        assert (status, answer["errors"][0]["field"]) == (400, "targets.0")


def test_a_retry_does_not_stumble_over_targets_that_have_gone(administrator, api, node):
    old = failed(node, targets=["6695eb01-f6a4-8304-79aa-97f2502e193a"])
    assert api(administrator)("retry-operation", {"operation": str(old.pk)})[0] == 428


def test_vms_may_be_named_by_name_or_uuid(administrator, api, node):
    for name in ("test", "6695eb01-f6a4-8304-79aa-97f2502e193f"):
        body = {"node": NODE, "vm_overrides": {name: "stop"}}
        status, answer = api(administrator)("reboot-node", body)
        assert (status, answer["plan"]["counts"]["stop"]) == (428, 1)


# -- export ----------------------------------------------------------------------------------------


def test_an_export_has_configuration_and_inventory_and_no_secret(operator, api, node):
    grant(operator, node, VIEW)
    make_snapshot(node)
    make_credential(node, "password", password="hunter2-hunter2")
    response = api(operator).raw("export-node", {"node": NODE})
    assert response.status_code == 200
    assert response.headers["Content-Disposition"] == 'attachment; filename="alpha.json"'
    answer = response.json()
    assert answer["node"]["name"] == NODE and answer["node"]["credential_kind"] == "password"
    assert {"summary", "pci", "usb", "net", "disks"} <= set(answer["inventory"])
    assert answer["inventory"]["summary"]["facts"]["cpu"]
    assert "hunter2" not in json.dumps(answer)


def test_plans_cost_the_same_queries_however_many_nodes_there_are(
    administrator, api, node, django_assert_max_num_queries
):
    call = api(administrator)
    call("reboot-node", STOP)
    for number in range(10):
        make_operation(make_node(f"other-{number}", connection=Connection.OFFLINE), "disable-node")
    with django_assert_max_num_queries(16):
        assert call("reboot-node", STOP | {"vm_policy": "migrate"})[0] == 409
