"""The page of one operation: its moves, proof, plan and log; and what runs, in the frame."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.urls import reverse
from django.utils import timezone

from nodes.models import InventoryChange, OperationStep
from nodes.operations.plans import Action, Plan, VmDecision
from tests.factories import grant, make_node, make_operation, make_steps
from tests.web.conftest import HTMX

pytestmark = pytest.mark.django_db

VM = "00000000-0000-4000-8000-000000000001"


@pytest.fixture
def node():
    return make_node("kvm-01")


def show(client, operation, **options):
    return client.get(reverse("operation-detail", args=[operation.pk]), **options)


def add_step(operation, position, **fields):
    now = timezone.now()
    values = {"code": f"code-{position}", "title": "Migrate", "started_at": now - timedelta(seconds=5)}
    return OperationStep.objects.create(operation=operation, position=position, **values | fields)


def a_plan(node, **fields):
    rows = (VmDecision(VM, "web-1", "running", Action.MIGRATE, "kvm-02", "x", **fields),)
    return Plan("reboot-node", "kvm-01", str(node.uuid), {"vm_policy": "migrate"}, rows).to_dict()


def test_a_move_shows_its_way_speed_and_remaining_time(admin_page, node, read):
    operation = make_operation(node, "reboot-node", "running", plan=a_plan(node))
    data = {"speed_bytes_s": 256 * 1024**2, "remaining_bytes": 1024**3}
    move = {"status": "running", "vm_uuid": VM, "vm_name": "web-1", "target": "kvm-02", "progress": 0.5}
    add_step(operation, 0, title="Migrate", data=data, **move)
    add_step(operation, 1, title="Move web-1 to kvm-02", **move)
    page = read(show(admin_page, operation))
    assert "Migrate web-1 kvm-01 kvm-02" in page.text
    assert "Move web-1 to kvm-02 from kvm-01" in page.text
    assert "256.0 MiB /s 1.0 GiB to go about 4.0 s" in page.text
    assert "0 / 2" in page.text


@pytest.mark.parametrize(
    "data", [{}, {"speed_bytes_s": 0, "remaining_bytes": 5}, {"speed_bytes_s": "fast"}, []]
)
def test_a_move_that_tells_nothing_yet_is_shown_all_the_same(admin_page, node, data):
    operation = make_operation(node, "reboot-node", "running")
    add_step(operation, 0, status="running", vm_name="web-1", target="kvm-02", data=data)
    assert show(admin_page, operation).status_code == 200


def test_a_reboot_is_proved_by_its_boot_ids_and_says_what_changed(admin_page, node, read):
    operation = make_operation(node, "reboot-node", "succeeded")
    add_step(operation, 0, status="succeeded", title="Intent", data={"boot_id": "aaaa-1"})
    facts = {"boot_id_before": "aaaa-1", "boot_id": "bbbb-2", "down_s": 71.0}
    add_step(operation, 1, status="succeeded", title="The host returns", data=facts)
    change = {"node": node, "section": "summary", "kind": "changed", "path": "kernel_release"}
    InventoryChange.objects.create(
        observed_at=operation.started_at + timedelta(seconds=1), before="6.1.0-27", after="6.1.0-28", **change
    )
    InventoryChange.objects.create(
        observed_at=operation.started_at - timedelta(days=1), before="5.10", after="6.1.0-27", **change
    )
    page = read(show(admin_page, operation))
    for words in ("aaaa-1", "bbbb-2", "the host has restarted", "1 min 11 s", "6.1.0-28"):
        assert words in page.text
    assert "5.10" not in page.text


def test_a_reboot_without_an_inventory_after_it_does_not_say_that_nothing_changed(admin_page, node, read):
    operation = make_operation(node, "reboot-node", "failed")
    step = add_step(operation, 0, status="cancelled", title="Take the inventory", code="inventory")
    assert "What changed in the inventory" not in read(show(admin_page, operation)).text
    step.status = "succeeded"
    step.save()
    assert "the hardware is what it was before" in read(show(admin_page, operation)).text


def test_a_shutdown_is_proved_by_its_evidence(admin_page, node, read):
    operation = make_operation(node, "shutdown-node", "succeeded")
    facts = {"off": True, "accepted_at": "2026-03-01T10:00:00+00:00", "silent_s": 30, "bmc": "Off"}
    add_step(operation, 0, status="succeeded", title="The host is off", data=facts)
    page = read(show(admin_page, operation))
    for words in ("Proof", "2026-03-01 10:00:00", "nothing answered for 30 s", "Its BMC says: Off"):
        assert words in page.text
    assert "What changed in the inventory" not in page.text


def test_a_host_that_is_up_again_is_not_proved_to_be_off(admin_page, node, read):
    operation = make_operation(node, "shutdown-node", "succeeded")
    add_step(operation, 0, status="succeeded", title="The host is off", data={"off": False})
    assert "Proof" not in read(show(admin_page, operation)).text


def test_there_is_no_proof_before_there_is_one(admin_page, node, read):
    operation = make_operation(node, "reboot-node", "running")
    add_step(operation, 0, status="succeeded", title="Intent", data={"boot_id": "aaaa-1"})
    assert "Proof" not in read(show(admin_page, operation)).text


def test_the_plan_that_was_confirmed_stays_readable(admin_page, node, read):
    operation = make_operation(node, "reboot-node", "failed", plan=a_plan(node), message="It broke.")
    page = read(show(admin_page, operation))
    assert "The plan that was confirmed 1 VM moves" in page.text
    assert "Reboot kvm-01 : 1 VM moves" in page.text
    assert not any(name.startswith("override-") for name in page.inputs)


def test_the_log_is_part_of_the_page_and_not_of_what_is_read_again(admin_page, node, read):
    operation = make_operation(node, "reboot-node", "running")
    assert f'data-operation-log="{operation.pk}"' in show(admin_page, operation).content.decode()
    assert "data-operation-log" not in show(admin_page, operation, headers=HTMX).content.decode()
    assert read(show(admin_page, operation)).refused == []


def test_cancel_and_retry_are_for_who_could_have_asked_for_it(operator_page, operator, node, read):
    running = make_operation(node, "reboot-node", "running")
    failed = make_operation(node, "reboot-node", "failed")
    grant(operator, node, "view_node", "maintain_node")
    for operation in (running, failed):
        page = show(operator_page, operation).content.decode()
        assert reverse("operation-cancel", args=[operation.pk]) not in page
        assert "?retry=" not in page
    grant(operator, node, "power_node")
    assert reverse("operation-cancel", args=[running.pk]) in show(operator_page, running).content.decode()
    assert "?retry=" in show(operator_page, failed).content.decode()


def test_it_costs_the_same_for_one_step_and_for_sixty(admin_page, node, django_assert_num_queries):
    operation = make_operation(node, "reboot-node", "succeeded")
    make_steps(operation, ("Check", "succeeded", ""))
    show(admin_page, operation)
    # Session, user, permissions, the operation, its steps, what changed, and what runs.
    with django_assert_num_queries(7):
        show(admin_page, operation)
    for position in range(1, 60):
        add_step(operation, position, status="succeeded")
    with django_assert_num_queries(7):
        show(admin_page, operation)


def test_the_frame_shows_how_far_what_runs_is(admin_page, node):
    first, second = make_operation(node, status="running"), make_operation(node, status="running")
    make_steps(first, ("a", "succeeded", ""), ("b", "running", ""))
    make_steps(second, ("a", "skipped", ""), ("b", "pending", ""))
    part = admin_page.get(reverse("running"), headers=HTMX).content.decode()
    assert "2</span> operations" in part
    assert "50 %" in part


def test_operations_are_filtered_by_a_part_of_the_nodes_name_and_by_who_asked(admin_page, node):
    mine = make_operation(node, requested_by_name="otto")
    make_operation(make_node("store-9"))

    def found(**query):
        response = admin_page.get(reverse("operation-list"), query)
        return [row.operation for row in response.context["operations"]]

    assert found(user="otto") == [mine]
    assert found(node="vm-0") == [mine]
    assert len(found()) == 2


def test_what_waits_says_behind_how_many_and_can_be_cancelled(admin_page, node):
    make_operation(node, "refresh-node", "running")
    for _ in range(3):
        make_operation(node, "refresh-node", "queued")
    last = make_operation(node, "refresh-node", "queued")
    text = show(admin_page, last).content.decode()
    assert "3 operations ahead" in text
    assert reverse("operation-cancel", args=[last.pk]) in text
    listed = admin_page.get(reverse("operation-list")).content.decode()
    assert "3 operations ahead" in listed and "1 operation ahead" in listed
    assert "Next to start, after the running operation" in listed
