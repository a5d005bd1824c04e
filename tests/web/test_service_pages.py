"""Dialogs that take a node in and out of service: real plans of libvirt's test driver, consent, refusals."""

from __future__ import annotations

import json
import time
from uuid import uuid4

import pytest
from django.core import signing
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone

from nodes import access
from nodes.hosts import domains
from nodes.hosts.libvirt.autostart import set_autostart
from nodes.models import Bmc, Event, HeldAutostart, Node, Operation, UsedConfirmation
from nodes.operations.plans import Action, Plan, PlanTarget, Reason, VmDecision
from nodes.web import plan_view
from nodes.web.display import target_choice
from tests.factories import grant, make_node, make_operation
from tests.web.conftest import HTMX

pytestmark = pytest.mark.django_db


@pytest.fixture
def node() -> Node:
    """A node with libvirt's test driver behind it: one VM, called test, runs there."""
    return make_node("kvm-01", uri="test:///default")


def address(node, action):
    return reverse("node-service", args=[node.name, action])


def open_dialog(client, node, action, **query):
    return client.get(address(node, action), query, headers=HTMX)


def send(client, node, action, **fields):
    return client.post(address(node, action), fields, headers=HTMX)


def head(client, node):
    response = client.get(reverse("node-detail", args=[node.name]))
    return {button.label: button for button in response.context["page"].actions}


# -- the buttons -----------------------------------------------------------------------------------


def test_the_head_offers_what_the_user_may_do(admin_page, operator_page, operator, node):
    offered = head(admin_page, node)
    assert list(offered) == ["Maintenance", "Reboot", "Shut down", "Remove"]
    assert [label for label, button in offered.items() if button.dangerous] == [
        "Reboot",
        "Shut down",
        "Remove",
    ]
    assert offered["Maintenance"].ends_group
    grant(operator, node, "view_node")
    assert head(operator_page, node) == {}
    grant(operator, node, "maintain_node")
    assert list(head(operator_page, node)) == ["Maintenance"]


def test_a_node_in_maintenance_offers_the_way_back_and_says_why_it_is_there(admin_page, administrator, read):
    node = make_node(
        "kvm-01", scheduling="maintenance", scheduling_reason="disk swap", scheduling_by=administrator,
        scheduling_since=timezone.now(),
    )  # fmt: skip
    assert list(head(admin_page, node))[:2] == ["Enable", "Drain"]
    page = read(admin_page.get(reverse("node-detail", args=[node.name])))
    assert "In maintenance" in page.text
    assert "by ada disk swap" in page.text


def test_power_on_is_offered_where_a_bmc_could_do_it(admin_page):
    node = make_node("kvm-01", connection="offline", connection_reason="powered_off")
    assert "Power on" not in head(admin_page, node)
    Bmc.objects.create(node=node, url="https://192.0.2.9", user="root", certificate_fingerprint="")
    assert "Power on" in head(admin_page, node)
    started = send(admin_page, node, "power-on", step="confirm")
    operation = Operation.objects.get(kind="power-on-node")
    assert started["HX-Redirect"] == reverse("operation-detail", args=[operation.pk])


def test_while_an_operation_has_the_node_the_buttons_rest_and_the_page_leads_there(admin_page, node, read):
    running = make_operation(node, "reboot-node", "running", exclusive=True, subject=f"node:{node.uuid}")
    assert all(button.refused for button in head(admin_page, node).values())
    page = read(admin_page.get(reverse("node-detail", args=[node.name])))
    assert reverse("operation-detail", args=[running.pk]) in page.links


# -- maintenance -----------------------------------------------------------------------------------


def test_maintenance_without_a_drain_needs_no_plan(admin_page, node):
    done = send(admin_page, node, "disable", reason="new memory", step="plan")
    assert (done.status_code, done["HX-Refresh"]) == (204, "true")
    node.refresh_from_db()
    assert (node.scheduling, node.scheduling_reason) == ("maintenance", "new memory")
    assert Event.objects.get(kind="node_disabled").user_name == "ada"
    assert send(admin_page, node, "enable", step="plan")["HX-Refresh"] == "true"
    node.refresh_from_db()
    assert node.scheduling == "enabled"
    assert not Operation.objects.exists()


def test_a_drain_shows_its_plan_first_and_keeps_what_was_typed(admin_page, node, read):
    make_node("kvm-02", uri="test:///default")
    shown = send(admin_page, node, "disable", reason="new memory", drain="on", vm_policy="stop", step="plan")
    page = read(shown)
    assert page.inputs["reason"] == "new memory"
    assert "1 VM is stopped" in page.text
    assert shown.context["token"]
    assert Node.objects.filter(scheduling="enabled").count() == 2
    done = send(
        admin_page, node, "disable", reason="new memory", drain="on", vm_policy="stop",
        step="confirm", confirm_token=shown.context["token"],
    )  # fmt: skip
    operation = Operation.objects.get()
    assert done["HX-Redirect"] == reverse("operation-detail", args=[operation.pk])
    assert (operation.kind, operation.plan["counts"]["stop"]) == ("disable-node", 1)
    node.refresh_from_db()
    assert node.scheduling_reason == "new memory"


# -- reboot, shutdown, removal ---------------------------------------------------------------------


@pytest.mark.parametrize("action", ["reboot", "shutdown", "delete"])
def test_a_running_vm_stands_in_the_way_where_the_policy_is_to_refuse(admin_page, node, action, read):
    shown = send(admin_page, node, action, vm_policy="refuse", step="plan")
    page = read(shown)
    assert shown.status_code == 200
    assert "1 VM stands in the way" in page.text
    assert "test" in page.text
    assert shown.context["token"] == ""
    assert "confirm_token" not in page.inputs
    assert "typed" not in page.inputs
    assert not Operation.objects.exists()


def test_a_reboot_is_asked_for_by_the_nodes_name(admin_page, node, read):
    options = {"vm_policy": "stop", "stop_timeout_s": "60", "restart_vms": "on"}
    shown = send(admin_page, node, "reboot", step="plan", **options)
    assert "1 VM is stopped" in read(shown).text
    assert "Stop, start again" in read(shown).text
    token = shown.context["token"]
    wrong = send(admin_page, node, "reboot", step="confirm", confirm_token=token, typed="kvm", **options)
    page = read(wrong)
    assert wrong.status_code == 422
    assert "Nothing has been done" in page.text
    assert (page.inputs["typed"], page.inputs["stop_timeout_s"]) == ("kvm", "60")
    assert not Operation.objects.exists()
    done = send(
        admin_page, node, "reboot", step="confirm", typed="kvm-01",
        confirm_token=wrong.context["token"], **options,
    )  # fmt: skip
    operation = Operation.objects.get()
    assert done["HX-Redirect"] == reverse("operation-detail", args=[operation.pk])
    assert operation.params["stop_timeout_s"] == 60
    assert operation.params["restart_vms"] is True
    assert operation.requested_by_name == "ada"


def test_a_single_vm_is_decided_on_in_the_plans_table(admin_page, node):
    uuid = send(admin_page, node, "reboot", step="plan").context["shown"].lines[0].vm.vm_uuid
    wanted = {f"override-{uuid}": "stop", "step": "plan"}
    shown = send(admin_page, node, "reboot", **wanted)
    line = shown.context["shown"].lines[0]
    assert (line.vm.action, line.choice) == (Action.STOP, "stop")
    assert f'name="override-{uuid}"' in shown.content.decode()
    done = send(
        admin_page, node, "reboot", step="confirm", typed="kvm-01",
        confirm_token=shown.context["token"], **{f"override-{uuid}": "stop"},
    )  # fmt: skip
    assert done.status_code == 204
    assert Operation.objects.get().params["vm_overrides"] == {uuid: "stop"}


def test_targets_are_chosen_in_the_plan_for_all_vms_and_for_one(admin_page, node, read):
    here = make_node("kvm-02", uri="test:///default")
    make_node("kvm-03", uri="test:///default", scheduling="maintenance")
    shown = send(admin_page, node, "reboot", vm_policy="migrate", step="plan")
    rows = shown.context["targets"]
    assert [(row.name, row.offered) for row in rows] == [("kvm-02", False), ("kvm-03", False)]
    assert "has no address for migrations" in read(shown).text
    assert "is in maintenance" in read(shown).text
    line = shown.context["shown"].lines[0]
    (move, _other) = line.targets
    assert (move.value, move.offered) == (f"migrate:{here.uuid}", False)
    chosen = send(
        admin_page, node, "reboot", vm_policy="migrate", step="plan", targets=[str(here.uuid)],
        **{f"override-{line.vm.vm_uuid}": move.value},
    )  # fmt: skip
    plan = chosen.context["shown"].plan
    assert plan.options["targets"] == [str(here.uuid)]
    assert plan.options["vm_overrides"] == {line.vm.vm_uuid: {"action": "migrate", "target": str(here.uuid)}}
    # What was chosen stays chosen, and can be given up, though it fits no longer.
    assert [row.offered for row in chosen.context["targets"]] == [True, False]
    assert chosen.context["shown"].lines[0].choice == move.value
    assert "VMs may move to 1 chosen node" in read(chosen).text


def test_a_choice_within_the_plan_leaves_the_focus_where_it_is(admin_page, node):
    asked = {"vm_policy": "stop", "step": "plan"}
    by_button = admin_page.post(address(node, "reboot"), asked, headers=HTMX)
    by_choice = admin_page.post(
        address(node, "reboot"), asked, headers={**HTMX, "HX-Trigger": "plan-choices"}
    )
    for mark in ("data-focus", "autofocus"):
        assert mark in by_button.content.decode()
        assert mark not in by_choice.content.decode()


def test_a_target_that_does_not_exist_is_refused_in_the_dialog(admin_page, node, read):
    wrong = send(admin_page, node, "reboot", vm_policy="migrate", step="plan", targets=["no-such-node"])
    assert wrong.status_code == 422
    assert "There is no node “no-such-node”" in read(wrong).text


def test_a_retry_keeps_the_targets_that_were_chosen(admin_page, node):
    there = make_node("kvm-02", uri="test:///default")
    failed = make_operation(
        node, "reboot-node", "failed", params={"vm_policy": "migrate", "targets": [str(there.uuid)]}
    )
    opened = open_dialog(admin_page, node, "reboot", retry=str(failed.pk))
    assert f'<input type="hidden" name="targets" value="{there.uuid}">' in opened.content.decode()


def test_of_a_very_large_plan_each_vm_is_offered_the_targets_with_most_room():
    targets = tuple(PlanTarget(f"t-{n:03}", f"kvm-{n:03}", n << 30) for n in range(200))
    decisions = tuple(VmDecision(f"u-{n}", f"vm-{n}", "running", Action.LEAVE) for n in range(300))
    plan = Plan("disable-node", "kvm-a", "n-a", {}, decisions, targets=targets)
    few = target_choice.target_options(plan, "u-1", "migrate:t-001")
    assert [option.value for option in few[:2]] == ["migrate:t-199", "migrate:t-198"]
    assert few[-1].value == "migrate:t-001" and len(few) == 4000 // 300 + 1


def test_a_confirmation_that_has_expired_shows_the_plan_again(admin_page, node, read, monkeypatch):
    shown = send(admin_page, node, "shutdown", vm_policy="stop", step="plan")
    later = time.time() + 302
    monkeypatch.setattr(signing.time, "time", lambda: later)
    fields = {"vm_policy": "stop", "step": "confirm", "typed": "kvm-01"}
    again = send(admin_page, node, "shutdown", confirm_token=shown.context["token"], **fields)
    assert again.status_code == 422
    assert "older than five minutes" in read(again).text
    assert not Operation.objects.exists()
    done = send(admin_page, node, "shutdown", confirm_token=again.context["token"], **fields)
    assert done.status_code == 204
    assert UsedConfirmation.objects.count() == 1


def test_options_that_were_changed_after_the_plan_are_not_carried_out(admin_page, node):
    shown = send(admin_page, node, "reboot", vm_policy="stop", step="plan")
    changed = send(
        admin_page, node, "reboot", vm_policy="stop", force_stop="on", step="confirm",
        typed="kvm-01", confirm_token=shown.context["token"],
    )  # fmt: skip
    assert changed.status_code == 422
    assert changed.context["shown"] is not None
    assert not Operation.objects.exists()


def test_a_world_that_changed_is_shown_with_the_difference_marked(admin_page, node, read):
    shown = send(admin_page, node, "reboot", vm_policy="stop", step="plan")
    line = shown.context["shown"].lines[0]
    hypervisor = access.connect(access.target_for(node)).hypervisor()
    domains.force_off(hypervisor, line.vm.vm_uuid)
    try:
        fields = {"vm_policy": "stop", "step": "confirm", "typed": "kvm-01"}
        fields |= {"confirm_token": shown.context["token"], "seen": shown.context["seen"]}
        again = send(admin_page, node, "reboot", **fields)
        page = read(again)
        assert again.context["shown"].lines[0].was == "Stop"
        assert "was: Stop" in page.text
        assert "The plan has changed since it was shown" in page.text
        assert not Operation.objects.exists()
        fields |= {"confirm_token": again.context["token"]}
        assert send(admin_page, node, "reboot", **fields).status_code == 204
    finally:
        domains.start(hypervisor, line.vm.vm_uuid)


def test_a_host_that_cannot_be_read_is_said_in_the_dialog(admin_page, read):
    node = make_node("kvm-09", uri="qemu+ssh://root@127.0.0.1:1/system", host_key_fingerprint="SHA256:x")
    shown = send(admin_page, node, "reboot", vm_policy="migrate", step="plan")
    assert "confirm_token" not in read(shown).inputs
    assert shown["Content-Type"].startswith("text/html")
    assert "HX-Retarget" not in shown
    assert 'id="service-form"' in shown.content.decode()


def test_a_busy_node_refuses_in_place(admin_page, node, read):
    make_operation(node, "shutdown-node", "running", exclusive=True, subject=f"node:{node.uuid}")
    refused = send(admin_page, node, "reboot", vm_policy="stop", step="plan")
    assert refused.status_code == 422
    assert "Another operation is changing this node." in read(refused).text


@pytest.mark.parametrize(
    ("action", "fields", "place"),
    [
        ("reboot", {"stop_timeout_s": "soon"}, "stop_timeout_s"),
        ("reboot", {"stop_timeout_s": "0"}, "stop_timeout_s"),
        ("delete", {"vm_policy": "stop"}, "vm_policy"),
        ("disable", {"reason": "x" * 501}, "reason"),
    ],
)
def test_what_a_field_has_wrong_stands_beside_it(admin_page, node, action, fields, place):
    refused = send(admin_page, node, action, step="plan", **fields)
    assert refused.status_code == 422
    assert place in refused.context["form"].errors
    assert not Operation.objects.exists()


@pytest.mark.parametrize("seen", ["", "{", "[]", '{"a": 1}', '{"a": {"action": 5}}', "x" * 500_000])
def test_what_comes_back_of_the_plan_that_was_shown_is_not_trusted(admin_page, node, seen):
    shown = send(admin_page, node, "reboot", vm_policy="stop", step="plan", seen=seen)
    assert shown.status_code == 200


# -- who may ---------------------------------------------------------------------------------------


def test_dialogs_are_for_who_may_do_it_to_nodes_they_may_see(operator_page, operator, admin_page, node):
    assert open_dialog(operator_page, node, "reboot").status_code == 404
    grant(operator, node, "view_node", "maintain_node")
    assert open_dialog(operator_page, node, "disable").status_code == 200
    for action in ("reboot", "shutdown", "delete", "power-on"):
        assert open_dialog(operator_page, node, action).status_code == 403
        assert send(operator_page, node, action, step="plan").status_code == 403
    assert open_dialog(admin_page, node, "explode").status_code == 404


def test_a_dialog_is_what_the_security_policy_allows_and_names_its_controls(admin_page, node, read):
    for action in ("disable", "enable", "reboot", "shutdown", "delete", "power-on"):
        page = read(open_dialog(admin_page, node, action))
        assert page.refused == []
        assert page.ids.count("dialog-title") == 1
        assert "csrfmiddlewaretoken" in page.inputs
    assert 'data-export="kvm-01"' in open_dialog(admin_page, node, "delete").content.decode()


def test_a_retry_opens_the_dialog_with_what_was_asked_for(admin_page, node, read):
    params = {"vm_policy": "migrate", "stop_timeout_s": 33, "force_stop": True}
    failed = make_operation(node, "reboot-node", "failed", params=params)
    page = admin_page.get(reverse("operation-detail", args=[failed.pk])).content.decode()
    assert f"{address(node, 'reboot')}?retry={failed.pk}" in page
    form = open_dialog(admin_page, node, "reboot", retry=str(failed.pk)).context["form"]
    assert (form["vm_policy"].value(), form["stop_timeout_s"].value(), form["force_stop"].value()) == (
        "migrate", 33, True,
    )  # fmt: skip
    assert open_dialog(admin_page, node, "shutdown", retry="x").status_code == 200


def test_a_dialog_costs_few_queries(admin_page, node, django_assert_num_queries):
    open_dialog(admin_page, node, "reboot")
    # Session, user, permissions, the node.
    with django_assert_num_queries(4):
        open_dialog(admin_page, node, "reboot")


# -- plans in words --------------------------------------------------------------------------------


def plan(*actions: Action, **fields) -> Plan:
    rows = tuple(
        VmDecision(f"u{number}", f"vm-{number}", "running", action, "kvm-02" * (action == "migrate"))
        for number, action in enumerate(actions)
    )
    return Plan("reboot-node", "kvm-01", "n", {}, rows, **fields)


@pytest.mark.parametrize(
    ("actions", "words"),
    [
        (
            (Action.MIGRATE,) * 12 + (Action.STOP, Action.BLOCKED),
            "12 VMs move, 1 is stopped, 1 stands in the way",
        ),
        ((Action.STOP, Action.STOP), "2 VMs are stopped"),
        ((Action.LEAVE,), "1 VM stays as it is"),
        ((), "No VM is touched"),
    ],
)
def test_a_plan_is_counted_in_words(actions, words):
    assert plan_view.headline(plan(*actions)) == words


def test_vms_that_could_not_be_read_are_not_none():
    assert plan_view.headline(plan(vms_known=False)) == "The VMs could not be read"


def test_what_stands_in_the_way_comes_first_and_what_is_gone_is_named():
    before = json.loads(json.dumps(plan_view.digest_of(plan(Action.MIGRATE, Action.STOP, Action.STOP))))
    now = plan(Action.MIGRATE, Action.BLOCKED)
    shown = plan_view.show(now, before=before)
    assert [line.vm.vm_name for line in shown.lines] == ["vm-1", "vm-0"]
    assert [line.was for line in shown.lines] == ["Stop", ""]
    assert shown.gone == ("vm-2",)
    assert shown.blocked


def test_a_reason_of_many_vms_is_told_once_and_their_lines_refer_to_it():
    many = Reason("network_not_on_target", "No suitable target. kvm-02: has no bridge.", "Set it up.")
    own = Reason("local_disk", "Disk vda is on this host alone.", "Stop the VM.")
    rows = [
        VmDecision(
            f"u{number}", f"vm-{number}", "running", Action.BLOCKED, blockers=(many,), notes=("Slow.",)
        )
        for number in range(12)
    ]
    rows.append(VmDecision("u99", "vm-99", "running", Action.BLOCKED, blockers=(many, own)))
    shown = plan_view.show(Plan("reboot-node", "kvm-01", "n", {}, tuple(rows)))
    (reason,), (note,) = shown.reasons, shown.notes
    assert (reason.count, note.count, len(reason.more)) == (13, 12, 5)
    assert {line.common for line in shown.lines} == {(1,)}
    assert [line.reasons for line in shown.lines if line.reasons] == [(own,)]
    page = render_to_string("operations/_plan.html", {"shown": shown})
    assert page.count("has no bridge") == 1 == page.count("Set it up.") == page.count("Slow.")
    assert page.count("Reason 1 above") == 13 and "13 VMs: vm-0," in page
    assert "5 more" in page and "vm-11, vm-99" in page


def test_a_reason_of_one_vm_stays_in_its_line():
    one = Reason("local_disk", "Disk vda is on this host alone.", "Stop the VM.")
    rows = (VmDecision("u1", "vm-1", "running", Action.BLOCKED, blockers=(one,)),)
    shown = plan_view.show(Plan("reboot-node", "kvm-01", "n", {}, rows))
    assert (shown.reasons, shown.lines[0].reasons, shown.lines[0].common) == ((), (one,), ())


def test_a_blocker_of_the_node_itself_blocks_without_any_vm():
    shown = plan_view.show(plan(blockers=(Reason("last_eligible_node", "No other node.", "Add one."),)))
    assert (shown.blocked, shown.tone) == (True, "bad")


def test_a_refresh_greys_out_no_button_and_says_what_it_waits_for(admin_page, node):
    make_operation(make_node("other"), "refresh-node", "queued")
    refresh = make_operation(node, "refresh-node", "queued", subject=f"refresh:{node.uuid}")
    page = admin_page.get(reverse("node-detail", args=[node.name])).content.decode()
    head = page[page.index('id="observed"') : page.index('class="node-line"')]
    assert head.count("<button") >= 4
    assert " disabled" not in head
    assert "1 operation ahead" in head
    assert reverse("operation-detail", args=[refresh.pk]) in head


# -- autostart, and what maintenance means ---------------------------------------------------------

MEANS = (
    "nodeadmin places nothing on the node any more. Other libvirt clients (virsh, virt-manager) are not held "
    "back by it."
)


@pytest.mark.parametrize("action", ["disable", "reboot", "shutdown"])
def test_a_dialog_that_leads_into_maintenance_says_what_that_means(admin_page, node, read, action):
    assert MEANS in read(open_dialog(admin_page, node, action)).text


def test_the_page_of_a_node_in_maintenance_says_what_that_means_and_what_is_held(admin_page, node, read):
    page = read(admin_page.get(reverse("node-detail", args=[node.name])))
    assert MEANS not in page.text and "Autostart" not in page.text
    Node.objects.update(scheduling="maintenance")
    for name in ("web", "db"):
        HeldAutostart.objects.create(node=node, vm_uuid=uuid4(), vm_name=name)
    page = read(admin_page.get(reverse("node-detail", args=[node.name])))
    assert MEANS in page.text
    assert "Autostart is held db, web" in page.text
    Node.objects.update(scheduling="enabled")
    page = read(admin_page.get(reverse("node-detail", args=[node.name])))
    assert "Autostart is still to be put back db, web" in page.text


@pytest.mark.parametrize(
    ("chosen", "words"),
    [
        ("", "autostart held"),
        ("hold", "autostart held"),
        ("start", "libvirt starts it once the host is up again, also in maintenance."),
    ],
)
def test_what_becomes_of_autostart_is_chosen_and_shown_for_each_vm(admin_page, node, read, chosen, words):
    with_autostart(node)
    page = read(send(admin_page, node, "shutdown", step="plan", vm_policy="stop", hold_autostart=chosen))
    assert words in page.text


def test_asking_once_more_keeps_what_was_chosen_for_autostart(admin_page, node, read):
    for asked, chosen in ((True, "hold"), (False, "start"), (None, "")):
        earlier = make_operation(
            node, kind="reboot-node", status="failed", params={"hold_autostart": asked, "vm_policy": "stop"}
        )
        form = open_dialog(admin_page, node, "reboot", retry=str(earlier.pk)).context["form"]
        assert form["hold_autostart"].value() == chosen


def with_autostart(node: Node) -> None:
    """The one VM of libvirt's test driver gets the mark."""
    connection = access.connect(access.target_for(node))
    (vm,) = domains.list_domains(connection.hypervisor())
    set_autostart(connection.hypervisor(), vm.uuid, True)
