"""Nodes out of service and back, in Chromium: dialogs, keyboard, selection, and an operation's page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser.conftest import PHONE

CONTRAST = (Path(__file__).parent / "contrast.js").read_text()
NAMES = ("svc-01", "svc-02", "svc-03")
PLAN_MS = 30_000
MAKE_NODES = """
from django.utils import timezone
from nodes.models import Node
for name in {names!r}:
    Node.objects.get_or_create(
        name=name, defaults=dict(uri="test:///default", connection="online", last_seen_at=timezone.now())
    )
"""
RESTORE = """
from nodes.models import Node
Node.objects.filter(name__in={names!r}).update(scheduling="enabled", scheduling_reason="")
"""


@pytest.fixture(scope="module")
def fleet(server: Any) -> Any:
    """Three nodes with libvirt's test driver behind them: on each a VM called test runs."""
    server.manage("shell", "-c", MAKE_NODES.format(names=NAMES))
    return server


@pytest.fixture
def window(visit: Any, fleet: Any) -> Iterator[Any]:
    opened = visit()
    opened.sign_in()
    yield opened
    fleet.manage("shell", "-c", RESTORE.format(names=NAMES))


def open_dialog(page: Any, name: str, label: str) -> None:
    page.goto(f"/nodes/{name}/")
    page.click(f"#node-actions >> text={label}")
    page.wait_for_selector("dialog[open] form")


def show_plan(page: Any) -> None:
    page.click("dialog button[name=step]:visible >> nth=0")
    page.wait_for_selector("dialog .plan", timeout=PLAN_MS)


def test_a_node_enters_maintenance_and_leaves_it_by_the_keyboard_alone(window):
    page = window.page
    page.goto("/nodes/svc-01/")
    page.focus("#node-actions button:has-text('Maintenance')")
    page.keyboard.press("Enter")
    page.wait_for_selector("dialog[open] form")
    page.keyboard.press("Escape")
    page.wait_for_selector("dialog[open]", state="detached")
    assert page.evaluate("document.activeElement.textContent.trim()") == "Maintenance"
    page.keyboard.press("Enter")
    page.wait_for_selector("dialog[open] form")
    assert page.evaluate("document.activeElement.id") == "dialog-title"
    for _ in range(
        40
    ):  # however often one goes on, the focus stays in the dialog (or with the browser itself)
        page.keyboard.press("Tab")
        assert page.evaluate(
            "document.activeElement === document.body || !!document.activeElement.closest('dialog')"
        )
    page.focus("#id_reason")
    page.keyboard.type("new memory")
    page.keyboard.press("Enter")
    page.wait_for_selector("#node-title:has-text('Maintenance')")
    page.wait_for_selector(".trouble:has-text('new memory'):has-text('by ada')")
    page.click("#node-actions >> text=Enable")
    page.click("dialog button:visible:has-text('Enable')")
    page.wait_for_selector("#node-actions >> text=Maintenance")
    assert page.locator("text=In maintenance").count() == 0
    assert window.faults == []


def test_a_reboot_shows_what_stands_in_its_way_and_then_asks_for_the_name(window):
    page = window.page
    open_dialog(page, "svc-01", "Reboot")
    show_plan(page)
    assert "1 VM stands in the way" in page.inner_text("dialog .plan")
    assert page.evaluate("document.activeElement.id") == "plan-title"
    assert page.locator("dialog [data-confirm]").count() == 0
    page.check("dialog [name=vm_policy][value=stop]")
    page.wait_for_selector("dialog [data-outdated]:visible")
    with page.expect_request("**/service/reboot/") as sent:
        page.click("dialog [data-plan-anew]")
    assert "vm_policy=stop" in sent.value.post_data
    assert "override-" not in sent.value.post_data  # choices that were not made are not sent
    page.wait_for_selector("#typed", timeout=PLAN_MS)
    assert "1 VM is stopped" in page.inner_text("dialog .plan")
    confirm = page.locator("dialog [data-confirm]")
    assert confirm.is_disabled()
    page.fill("#typed", "svc")
    assert confirm.is_disabled()
    page.fill("#typed", "svc-01")
    assert confirm.is_enabled()
    page.check("dialog [name=restart_vms]")
    assert confirm.is_disabled()  # what was agreed to is no longer what would be done
    page.keyboard.press("Escape")
    page.wait_for_selector("dialog[open]", state="detached")
    assert window.faults == []


def test_an_export_is_offered_before_a_node_is_removed(window):
    page = window.page
    open_dialog(page, "svc-02", "Remove")
    with page.expect_download() as download:
        page.click("dialog >> text=Export")
    assert download.value.suggested_filename == "svc-02.json"
    assert '"svc-02"' in Path(download.value.path()).read_text()
    assert window.faults == []


def test_a_selection_goes_into_maintenance_with_one_reason(window):
    page = window.page
    page.goto("/nodes/?name=svc")
    page.wait_for_selector("#list >> text=svc-03")
    page.check("[aria-label='Select svc-01']")
    page.locator("[aria-label='Select svc-03']").click(modifiers=["Shift"])
    page.wait_for_selector("#bulk:has-text('3 nodes selected')")
    page.uncheck("[aria-label='Select svc-02']")
    # The list is read anew every few seconds: the selection stays.
    page.evaluate("document.body.dispatchEvent(new CustomEvent('fleet-changed'))")
    page.wait_for_timeout(1500)
    assert page.is_checked("[aria-label='Select svc-03']")
    assert not page.is_checked("[aria-label='Select svc-02']")
    page.click("#bulk >> text=Maintenance")
    page.fill("#bulk-reason", "new racks")
    page.keyboard.press("Enter")
    page.wait_for_selector(".bulk-outcomes")
    assert page.locator(".bulk-outcome").all_inner_texts() == [
        "svc-01\nIn maintenance",
        "svc-03\nIn maintenance",
    ]
    page.keyboard.press("Escape")
    page.wait_for_selector("#list tr:has-text('svc-01'):has-text('new racks')")
    assert "Maintenance" not in page.inner_text("#list tr:has-text('svc-02')")
    assert page.locator("#bulk:visible").count() == 0
    assert window.faults == []


def test_an_operation_is_watched_to_its_end_with_its_log(window):
    page = window.page
    page.goto("/nodes/svc-02/")
    open_dialog(page, "svc-02", "Maintenance")
    page.fill("#id_reason", "to be emptied")
    page.check("[name=drain]")
    page.check("dialog [name=vm_policy][value=stop]")
    show_plan(page)
    assert page.input_value("#id_reason") == "to be emptied"
    page.click("dialog [data-confirm]")
    page.wait_for_url("**/operations/**")
    page.wait_for_selector(".node-title:has-text('Succeeded')", timeout=PLAN_MS)
    page.wait_for_selector("#log .tag:has-text('Ended')")
    page.wait_for_selector("#log .log-row")
    lines = page.locator("#log .log-row").count()
    word = page.locator("#log .log-row .log-text").first.inner_text().split()[0]
    window.keep("operation-drain")
    assert "The plan that was confirmed" in page.inner_text("#body")
    page.fill("#log [data-keyword]", "no such words")
    page.keyboard.press("Enter")
    page.wait_for_selector("#log .log-note:has-text('No line fits.')")
    assert "keyword=no+such+words" in page.url
    page.fill("#log [data-keyword]", word)
    page.keyboard.press("Enter")
    page.wait_for_selector("#log .log-row mark")
    page.click("#log .log-row >> nth=0")
    page.wait_for_selector("#log [data-detail]:visible")
    with page.expect_download() as download:
        page.click("#log [data-download=json]")
    assert 0 < len(Path(download.value.path()).read_text().splitlines()) <= lines
    page.reload()
    assert page.input_value("#log [data-keyword]") == word
    assert window.faults == []


def test_the_record_is_filtered_while_one_types(window):
    page = window.page
    page.goto("/nodes/svc-03/")
    page.click("#node-actions >> text=Maintenance")
    page.click("dialog button[name=step]:visible >> nth=0")
    page.wait_for_selector("#node-title:has-text('Maintenance')")
    page.goto("/events/")
    page.wait_for_selector("#list >> text=svc-03 entered maintenance")
    page.fill("#event-node", "svc-02")
    page.wait_for_selector("#list >> text=svc-03 entered maintenance", state="detached")
    page.fill("#event-node", "svc-03")
    page.wait_for_selector("#list >> text=svc-03 entered maintenance")
    page.fill("#event-user", "nobody")
    page.wait_for_selector("text=No event fits these filters")
    page.fill("#event-user", "ada")
    page.wait_for_selector("#list >> text=svc-03 entered maintenance")
    page.select_option("#event-kind", "node_disabled")
    page.fill("#event-until", "2020-01-01")
    page.wait_for_selector("text=No event fits these filters")
    for part in ("node=svc-03", "user=ada", "kind=node_disabled", "until=2020-01-01"):
        assert part in page.url
    page.goto("/operations/")
    page.fill("#operation-node", "no-such-node")
    page.wait_for_selector("text=No operation fits these filters")
    assert window.faults == []


@pytest.mark.parametrize(("theme", "size"), [("light", None), ("dark", None), ("light", PHONE)])
def test_every_dialog_is_well_in_both_themes_and_on_a_phone(visit, fleet, theme, size):
    window = visit(theme=theme, **({"size": size} if size else {}))
    window.sign_in()
    page, kind = window.page, "phone" if size else theme
    faint = {}
    for label in ("Maintenance", "Reboot", "Shut down", "Remove"):
        open_dialog(page, "svc-01", label)
        if label != "Maintenance":
            show_plan(page)
        window.keep(f"dialog-{label.replace(' ', '-').lower()}-{kind}", whole=False)
        faint[label] = page.evaluate(CONTRAST)
        box = page.locator("dialog[open]").bounding_box()
        view = page.viewport_size
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= view["width"]
        assert box["y"] + box["height"] <= view["height"]
    assert {label: texts for label, texts in faint.items() if texts} == {}
    assert window.faults == []
