"""From the login over the wizard to a node's page: in Chromium, against the real server."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.browser.conftest import PHONE

CONTRAST = (Path(__file__).parent / "contrast.js").read_text()
JOIN_MS = 60_000
NAME = "kvm-01"
PAGES = (
    ("dashboard", "/"),
    ("nodes", "/nodes/"),
    ("overview", f"/nodes/{NAME}/"),
    ("pci", f"/nodes/{NAME}/pci/"),
    ("pci-groups", f"/nodes/{NAME}/pci/?view=groups"),
    ("usb", f"/nodes/{NAME}/usb/"),
    ("network", f"/nodes/{NAME}/net/"),
    ("disks", f"/nodes/{NAME}/disks/"),
    ("vms", f"/nodes/{NAME}/vms/"),
    ("node-operations", f"/nodes/{NAME}/operations/"),
    ("node-settings", f"/nodes/{NAME}/settings/"),
    ("add-node", "/add-node/"),
    ("operations", "/operations/"),
    ("events", "/events/"),
    ("settings", "/settings/"),
    ("tokens", "/settings/tokens/"),
)


@pytest.fixture(scope="module")
def joined(browser, server, host):
    """The host as a node, added by the wizard; gives the window in which that was done."""
    from tests.browser.conftest import Visit

    window = Visit(browser, server)
    window.sign_in()
    add_by_wizard(window, host)
    yield window
    window.context.close()


def add_by_wizard(window, host):
    page, sshd = window.page, host.sshd
    page.goto("/add-node/")
    page.fill("#id_uri", f"qemu+ssh://root@127.0.0.1:{sshd.port}/system?no_verify=1")
    page.wait_for_selector("#uri-check:has-text('no_verify')")
    page.fill("#id_uri", f"qemu+ssh://root@127.0.0.1:{sshd.port}/system")
    page.wait_for_selector(f"#uri-check:has-text('port {sshd.port}, as root')")
    page.fill("#id_name", NAME)
    page.fill("#id_labels", "rack=a1, zone=north")

    page.click("text=Scan the host key")
    page.wait_for_selector("#host-keys .fingerprint")
    assert sshd.host_key().fingerprint in page.inner_text("#host-keys")
    assert "ssh-keygen -lf" in page.inner_text("#host-keys")

    # A key that the host does not know: the step that failed is named, and what was typed stays.
    page.click("text=nodeadmin's own key")
    page.click("#add-submit")
    page.wait_for_selector("#checks .notice-bad", timeout=JOIN_MS)
    assert "Authenticate" in page.inner_text("#checks .work-failed")
    assert page.input_value("#id_name") == NAME
    assert page.is_checked("[name=fingerprint]")

    page.click("b:text('SSH key')")
    page.fill("#id_private_key", sshd.user_key.read_text())
    page.click("#add-submit")
    page.wait_for_selector(f"text={NAME} is a node now.", timeout=JOIN_MS)
    window.keep("wizard-light")
    assert "PRIVATE KEY" not in page.inner_html("#checks")
    assert page.input_value("#id_private_key") == ""


def test_the_wizard_leads_to_the_nodes_own_figures(joined, host):
    page = joined.page
    page.click(f"text=Open {NAME}")
    page.wait_for_url(f"**/nodes/{NAME}/")
    assert page.inner_text("h1") == NAME
    assert "Online" in page.inner_text(".node-title")
    threads = int(host.virsh("nodeinfo").partition("CPU(s):")[2].split()[0])
    assert f"{threads} threads" in page.inner_text(".use:has-text('CPU')")
    assert page.locator("svg.numa .numa-cell").count() >= 1
    assert joined.faults == []


def test_a_refresh_brings_new_figures_without_a_reload(joined):
    page = joined.page
    page.goto(f"/nodes/{NAME}/")
    before = page.get_attribute("#observed time", "datetime")
    page.evaluate("window.stayed = true")
    page.click("#observed button")
    page.wait_for_function(
        "before => { const time = document.querySelector('#observed time');"
        " return time && time.getAttribute('datetime') !== before"
        " && !document.querySelector('#observed button').disabled; }",
        arg=before,
        timeout=JOIN_MS,
    )
    assert page.evaluate("window.stayed") is True
    assert joined.faults == []


def test_beats_draw_the_plots_and_keep_the_figures_current(joined):
    page = joined.page
    page.goto(f"/nodes/{NAME}/")
    page.wait_for_selector("#plots .uplot canvas")
    cpu = "document.querySelector('[data-figure=cpu-0]').textContent"
    page.wait_for_function(f"() => /^\\d+ %$/.test({cpu})")
    page.goto("/nodes/")
    seen = page.get_attribute("#list time[data-ago]", "datetime")
    page.wait_for_function(
        "seen => document.querySelector('#list time[data-ago]').dateTime !== seen", arg=seen
    )
    assert joined.faults == []


def test_a_status_that_changes_shows_without_a_reload(joined, host):
    page = joined.page
    page.goto("/nodes/")
    page.wait_for_selector("html[data-live]")
    page.evaluate("window.stayed = true")
    host.stop_libvirtd()
    try:
        page.wait_for_selector("#list .status-cell:has-text('libvirt down')", timeout=15_000)
        page.goto(f"/nodes/{NAME}/")
        page.wait_for_selector("#node-title:has-text('libvirt down')")
        page.wait_for_selector("html[data-live]")
        page.evaluate("window.stayed = true")
    finally:
        host.start_libvirtd()
    page.wait_for_selector("#node-title:has-text('Online')", timeout=15_000)
    assert page.evaluate("window.stayed") is True
    assert joined.faults == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_page_is_well_in_both_themes(joined, visit, theme):
    window = visit(theme=theme)
    window.sign_in()
    faint = {}
    for name, address in PAGES:
        assert window.page.goto(address).status == 200, address
        assert window.page.evaluate("document.documentElement.dataset.bsTheme") == theme
        window.page.wait_for_timeout(200)
        window.keep(f"{name}-{theme}")
        faint[address] = window.page.evaluate(CONTRAST)
        assert window.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), address
    assert {address: texts for address, texts in faint.items() if texts} == {}
    assert window.faults == []


def test_every_page_fits_a_phone(joined, visit):
    window = visit(size=PHONE)
    window.sign_in()
    for name, address in PAGES:
        window.page.goto(address)
        window.page.wait_for_timeout(150)
        window.keep(f"{name}-phone")
        assert window.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), address
    window.page.click("[data-drawer-open]")
    window.page.wait_for_timeout(250)
    window.page.click("#navigation >> text=Nodes")
    window.page.wait_for_url("**/nodes/")
    assert window.faults == []


def test_the_list_filters_while_one_types_and_the_address_keeps_it(joined):
    page = joined.page
    page.goto("/nodes/")
    page.fill("#name-filter", "zzz")
    page.wait_for_selector("text=No node fits these filters")
    assert "name=zzz" in page.url
    assert page.evaluate("document.activeElement.id") == "name-filter"
    page.fill("#name-filter", "k1")
    page.wait_for_selector(f"#list >> text={NAME}")
    page.click("thead >> text=Memory")
    page.wait_for_selector("th[aria-sort=descending]")
    assert "order_by=-memory_used_percent" in page.url
    page.click("#list .chip:has-text('Offline')")
    page.wait_for_selector("text=No node fits these filters")
    page.go_back()
    page.wait_for_selector(f"#list >> text={NAME}")
    assert joined.faults == []


def test_a_table_filters_sorts_and_remembers(joined):
    page = joined.page
    page.goto(f"/nodes/{NAME}/pci/")
    rows = page.locator("[data-table=pci] tbody tr:visible")
    whole = rows.count()
    assert whole > 0
    page.fill("[data-table=pci] [data-table-filter]", "no such device")
    assert rows.count() == 0
    page.fill("[data-table=pci] [data-table-filter]", "")
    page.click("[data-table=pci] th:has-text('Address') button")
    first = page.locator("[data-table=pci] tbody tr td").first.inner_text()
    page.click("[data-table=pci] th:has-text('Address') button")
    assert "pci.order=-0" in page.url
    page.reload()
    assert page.locator("th[aria-sort=descending]").inner_text().startswith("Address")
    assert rows.count() == whole
    if whole > 1:
        assert page.locator("[data-table=pci] tbody tr td").first.inner_text() != first
    with page.expect_download() as download:
        page.click("[data-table-export=csv]")
    assert download.value.suggested_filename == f"{NAME}-pci.csv"
    assert len(Path(download.value.path()).read_text().splitlines()) >= whole


def test_a_form_that_is_refused_leads_to_what_is_wrong_in_it(visit):
    window = visit()
    window.sign_in()
    page = window.page
    page.goto("/add-node/")
    page.fill("#id_uri", "qemu+ssh://root@127.0.0.1:1/system")
    page.fill("#id_name", "kvm-09")
    page.click("text=Scan the host key")
    page.wait_for_selector("#host-keys .notice-bad")
    focused = "document.activeElement.textContent.trim()"
    page.wait_for_function(f"() => {focused} === 'Scan the host key'")
    page.focus("#add-submit")
    page.keyboard.press("Enter")
    page.wait_for_selector("#error-fingerprint .field-error")
    page.wait_for_function(f"() => {focused} === 'Scan the host key'")
    assert window.faults == []


READ_ANEW = "document.body.dispatchEvent(new CustomEvent('inventory-refreshed'))"


def test_what_was_opened_typed_and_sorted_stays_while_the_tab_is_read_anew(joined):
    page = joined.page
    page.goto(f"/nodes/{NAME}/pci/")
    page.click("[data-table=pci] th:has-text('Address') button")
    page.click("[data-table=pci] th:has-text('Address') button")
    rows = page.locator("[data-table=pci] tbody tr:visible")
    last = rows.first.locator("td").first.inner_text().split()[0]
    page.fill("[data-table=pci] [data-table-filter]", last)
    opener = rows.first.locator("summary")
    if opener.count():
        opener.click()
    opened = page.locator("details.verdict[open]").count()
    page.focus("[data-table=pci] th:has-text('Device') button")
    with page.expect_response("**/pci/**"):
        page.evaluate(READ_ANEW)
    page.wait_for_function("() => !document.documentElement.hasAttribute('data-busy')")
    assert page.input_value("[data-table=pci] [data-table-filter]") == last
    assert [row.split()[0] for row in rows.all_inner_texts()] == [last]
    assert page.inner_text("[data-table-count]").startswith("1 of ")
    assert page.locator("th[aria-sort=descending]").inner_text().startswith("Address")
    assert page.locator("details.verdict[open]").count() == opened
    assert page.evaluate("document.activeElement.textContent") == "Device"

    page.goto(f"/nodes/{NAME}/")
    page.click("details.numa-table > summary")
    with page.expect_response(f"**/nodes/{NAME}/"):
        page.evaluate(READ_ANEW)
    page.wait_for_function("() => !document.documentElement.hasAttribute('data-busy')")
    assert page.locator("details.numa-table[open]").count() == 1
    assert joined.faults == []


def test_the_keyboard_is_enough(joined):
    page = joined.page
    page.goto("/events/")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "search"
    page.keyboard.type("k1")
    page.wait_for_selector("#search-results a")
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.textContent").strip().startswith(NAME)
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/nodes/{NAME}/")
    page.keyboard.press("/")
    page.keyboard.type("k1")
    page.wait_for_selector("#search-results a")
    page.keyboard.press("Escape")
    page.wait_for_selector("#search-results a", state="detached")


def test_the_chosen_theme_is_there_before_anything_is_painted(visit):
    window = visit(theme="light")
    window.sign_in()
    page = window.page
    for choice in ("light", "dark"):
        page.click("[data-theme-switch]")
        assert page.evaluate("document.documentElement.dataset.themeChoice") == choice
    page.add_init_script(
        "addEventListener('DOMContentLoaded', () => {"
        " window.atStart = document.documentElement.dataset.bsTheme; });"
    )
    page.reload()
    assert page.evaluate("window.atStart") == "dark"
    page.click("[data-theme-switch]")
    assert page.evaluate("document.documentElement.dataset.bsTheme") == "light"
    assert window.faults == []


def test_a_token_is_copied_and_works(joined, server):
    import urllib.request

    page = joined.page
    page.goto("/settings/tokens/")
    page.fill("[name=name]", "backup")
    page.click("text=Make token")
    token = page.inner_text("#new-token")
    joined.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.click(".made .copy")
    page.wait_for_selector(".made .copy.is-done")
    assert page.evaluate("navigator.clipboard.readText()") == token
    request = urllib.request.Request(
        f"{server.url}/api/list-nodes",
        data=b"{}",
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=20) as answer:
        assert re.search(rf'"name":\s*"{NAME}"', answer.read().decode())
    page.click("table >> text=Revoke")
    page.wait_for_selector("dialog[open] >> text=can no longer sign in")
    page.keyboard.press("Escape")
    assert page.locator("dialog[open]").count() == 0
    page.click("table >> text=Revoke")
    page.click("dialog[open] >> button:has-text('Revoke')")
    page.wait_for_selector("text=no longer works")
    assert joined.faults == []
