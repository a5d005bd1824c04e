"""Drain, return and reboot through the pages, with two hosts between which VMs really move."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.lighthosts import AVAILABLE, LightHost, TinyVm, assert_exactly_once, light_pair

pytestmark = pytest.mark.skipif(not AVAILABLE, reason="needs root and libvirtd")
END_MS = 120_000
MAKE_NODE = """
from django.utils import timezone
from nodes import access
from nodes.models import Credential, Node
from nodes.models.sealed import SecretFor
node = Node.objects.create(
    name={name!r}, uri={uri!r}, node_type="hybrid", connection="online",
    migration_address="127.0.0.1", migration_address_forced=True,
    last_seen_at=timezone.now(), host_key={key!r}, host_key_fingerprint={fingerprint!r},
)
Credential.objects.create(node=node, kind="ssh_key",
    secret=SecretFor(access.binding_of_node(node), {{"private_key": {private!r}}}))
"""


@pytest.fixture(scope="module")
def pair(server: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LightHost, ...]]:
    """Two hosts, ``light1`` and ``light2``, as nodes of the server."""
    with light_pair(tmp_path_factory.mktemp("pair")) as hosts:
        for host in hosts:
            key, sshd = host.sshd.host_key(), host.sshd
            code = MAKE_NODE.format(
                name=host.name,
                uri=f"qemu+ssh://root@{sshd.address}:{sshd.port}/system",
                key=key.to_text(),
                fingerprint=key.fingerprint,
                private=sshd.user_key.read_text(),
            )
            server.manage("shell", "-c", code)
        yield hosts


@pytest.fixture
def window(visit: Any, pair: Any) -> Any:
    opened = visit()
    opened.sign_in()
    return opened


def open_dialog(page: Any, name: str, label: str) -> None:
    page.goto(f"/nodes/{name}/")
    page.click(f"#node-actions >> text={label}")
    page.wait_for_selector("dialog[open] form")


def show_plan(page: Any) -> None:
    page.click("dialog button[name=step]:visible >> nth=0")
    page.wait_for_selector("dialog .plan", timeout=END_MS)


def confirm(page: Any) -> None:
    page.click("dialog [data-confirm]")
    page.wait_for_url("**/operations/**")


def test_vms_leave_come_back_and_stay_while_their_host_reboots(window, pair):
    page, (one, two) = window.page, pair
    vms = [TinyVm("web"), TinyVm("db")]
    for vm in vms:
        one.start_vm(vm)

    open_dialog(page, "light1", "Maintenance")
    page.fill("#id_reason", "a new fan")
    page.check("[name=drain]")
    show_plan(page)
    assert "2 VMs move" in page.inner_text("dialog .plan")
    assert page.locator("dialog .plan-line .plan-target").all_inner_texts() == ["light2", "light2"]
    window.keep("host-drain-plan", whole=False)
    confirm(page)
    page.wait_for_selector(".node-title:has-text('Succeeded')", timeout=END_MS)
    assert "Move web to light2 from light1" in page.inner_text(".work").replace("\n", " ")
    window.keep("host-drain")
    for vm in vms:
        assert_exactly_once(pair, vm, on=two)

    open_dialog(page, "light1", "Enable")
    page.check("[name=return_vms]")
    show_plan(page)
    assert "2 VMs move" in page.inner_text("dialog .plan")
    confirm(page)
    page.wait_for_selector(".node-title:has-text('Succeeded')", timeout=END_MS)
    for vm in vms:
        assert_exactly_once(pair, vm, on=one)

    open_dialog(page, "light1", "Reboot")
    page.check("dialog [name=vm_policy][value=migrate]")
    show_plan(page)
    page.fill("#typed", "light1")
    confirm(page)
    page.wait_for_selector(".node-title:has-text('Succeeded')", timeout=END_MS)
    assert "the host has restarted" in page.inner_text("#body")
    window.keep("host-reboot")
    for vm in vms:
        assert_exactly_once(pair, vm, on=two)
    page.goto("/nodes/light1/")
    page.wait_for_selector("#node-title:has-text('Online')", timeout=END_MS)
    assert window.faults == []


AGAIN = """
from nodes import access
from nodes.models import Credential, Node
from nodes.models.sealed import SecretFor
node = Node.objects.get(name="light2")
credential = node.credential
node.pk, node.uuid, node.name = None, __import__("uuid").uuid4(), "light3"
node.save()
credential.pk, credential.node = None, node
credential.save()
Node.objects.filter(name="light4").delete()
node.pk, node.uuid, node.name, node.scheduling = None, __import__("uuid").uuid4(), "light4", "maintenance"
node.save()
"""


def test_a_target_is_chosen_by_the_keyboard_for_one_vm_and_for_all_and_the_plan_follows(window, server, pair):
    page, one = window.page, pair[0]
    server.manage("shell", "-c", AGAIN)
    vm = TinyVm("chosen")
    one.start_vm(vm)
    try:
        open_dialog(page, "light1", "Reboot")
        page.check("dialog [name=vm_policy][value=migrate]")
        show_plan(page)
        choice = f"#choice-{vm.uuid}"
        labels = page.locator(f"{choice} optgroup option").all_inner_texts()
        # Nodes that other tests have left on this server are among them, each with what keeps VMs from it.
        lights = [label for label in labels if label.startswith("light")]
        assert {label.split(" · ")[0] for label in lights[:2]} == {"light2", "light3"}, labels
        assert all("free" in label for label in lights[:2]), labels
        assert lights[2] == "light4 · is in maintenance"
        assert page.locator(f"{choice} optgroup option[disabled]").count() == len(labels) - 2
        page.focus(choice)
        with page.expect_response("**/service/reboot/") as replanned:
            page.select_option(choice, label=next(label for label in labels if label.startswith("light3")))
        assert replanned.value.ok
        page.wait_for_selector("dialog .plan-target:has-text('light3')")
        assert page.evaluate("document.activeElement.id") == choice[1:]
        page.wait_for_selector("dialog [data-replanned]:has-text('1 VM moves')", state="attached")
        page.click("dialog .plan-targets summary")
        window.keep("targets-light", whole=False)
        page.focus("dialog .target-list li:has-text('light2') input")
        page.keyboard.press("Space")
        page.wait_for_selector("dialog .plan-targets summary:has-text('1 chosen node')")
        # The VM's own target counts for more; without it the chosen one does.
        assert page.inner_text("dialog .plan-target") == "light3"
        page.select_option(choice, "")
        page.wait_for_selector("dialog .plan-target:has-text('light2')")
        assert page.locator("dialog [data-confirm]").count() == 1
        page.emulate_media(color_scheme="dark")
        window.keep("targets-dark", whole=False)
        assert window.faults == []
    finally:
        one.virsh("-q", "destroy", vm.uuid)
