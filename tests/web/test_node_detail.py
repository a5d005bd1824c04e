"""A node's page: every tab, for every recorded host, and what it costs."""

from datetime import timedelta

import pytest
from django.urls import reverse
from django.utils import timezone

from nodes.inventory.document import SourceOutput, SourceStatus
from nodes.inventory.registry import SECTIONS
from nodes.models import Operation, SnapshotSection
from nodes.web import plain_facts
from tests.factories import grant, make_node, make_operation, make_snapshot
from tests.inventory.disk_host import PCI, DiskHost
from tests.inventory.documents import host_document, host_names
from tests.web.conftest import HTMX

TABS = [section.slug for section in SECTIONS if section.slug != "summary"]


def address(slug="summary", name="kvm-01"):
    return (
        reverse("node-detail", args=[name])
        if slug == "summary"
        else reverse("node-section", args=[name, slug])
    )


@pytest.mark.parametrize("host", host_names())
@pytest.mark.parametrize("slug", ["summary", *TABS])
def test_every_tab_shows_every_recorded_host(admin_page, read, host, slug):
    make_snapshot(make_node("kvm-01"), host)
    answer = admin_page.get(address(slug))
    page = read(answer)
    assert answer.status_code == 200
    assert page.refused == []
    assert len(page.ids) == len(set(page.ids))
    assert "None" not in page.text.replace("None.", "")


@pytest.mark.parametrize("slug", ["summary", *TABS])
def test_every_tab_shows_a_node_without_an_inventory(admin_page, slug):
    make_node("kvm-01")
    answer = admin_page.get(address(slug))
    assert answer.status_code == 200
    assert "yet" in answer.content.decode()


@pytest.mark.parametrize("slug", ["summary", *TABS])
def test_every_tab_survives_a_section_that_could_not_be_built(admin_page, slug):
    snapshot = make_snapshot(make_node("kvm-01"), "large")
    problem = {"section": slug, "source": "parser", "code": "failed", "message": "It broke."}
    SnapshotSection.objects.filter(snapshot=snapshot, slug=slug).update(facts=None, problems=[problem])
    answer = admin_page.get(address(slug))
    assert answer.status_code == 200
    assert "It broke." in answer.content.decode()


def test_the_tabs_are_those_of_the_registry(admin_page, read):
    make_node("kvm-01")
    links = read(admin_page.get(address())).links
    for section in SECTIONS:
        assert (address(section.slug) in links) == section.tab


def test_a_section_that_is_none_is_not_found(admin_page):
    make_node("kvm-01")
    assert admin_page.get(address("nonsense")).status_code == 404


def test_the_overview_shows_what_the_host_has(admin_page, read):
    make_snapshot(make_node("kvm-01"), "large")
    page = read(admin_page.get(address()))
    for words in (
        "NUMA topology",
        "2 cells",
        "Distance between cell 0 and cell 1: 21",
        "Nested virtualization",
    ):
        assert words in page.text
    assert "Huge pages" in page.text


def test_one_node_may_be_named_by_its_uuid(admin_page):
    node = make_node("kvm-01")
    assert admin_page.get(address(name=str(node.uuid))).status_code == 200


def test_what_is_wrong_stands_on_every_tab(admin_page):
    make_node(
        "kvm-01",
        connection="offline",
        connection_reason="libvirt_down",
        connection_detail="The socket is there, but nobody answers.",
        observed_at=timezone.now() - timedelta(hours=5),
    )
    page = admin_page.get(address()).content.decode()
    assert "libvirt down" in page
    assert "nobody answers" in page
    assert "The inventory is old" in page


def test_figures_of_a_node_that_is_away_are_of_the_past(admin_page, read):
    make_snapshot(make_node("kvm-01"), "large")
    assert "when last seen" not in read(admin_page.get(address())).text
    away = make_node("kvm-02", connection="offline", connection_reason="unreachable")
    make_snapshot(away, "large")
    assert read(admin_page.get(address(name="kvm-02"))).text.count("when last seen") == 4


def test_a_failing_disk_stands_on_every_tab_and_leads_to_the_disks(admin_page, read):
    make_snapshot(make_node("kvm-01"), "large")
    for slug in ("summary", "usb"):
        page = read(admin_page.get(address(slug)))
        assert "Disk ST4000NM0025 is failing" in page.text
        assert address("disks") in page.links


def test_a_disk_that_nobody_could_be_asked_about_is_not_shown_as_unused(admin_page, read):
    document = host_document("large")
    assert "use unknown" not in read_disks(admin_page, read, "kvm-01", document)
    silent = {"libvirt:domains": SourceOutput("libvirt:domains", SourceStatus.TIMEOUT)}
    shown = read_disks(admin_page, read, "kvm-02", document.with_sources(silent))
    assert "use unknown" in shown
    assert "unused" not in shown


def test_the_use_of_a_disk_that_only_its_controller_sees_is_no_question(admin_page, read):
    disks = DiskHost()
    path = f"{PCI}/0000:02:00.0/host0/target0:2:0/0:2:0:0/block"
    disks.block("sda", path, files={"device/vendor": "LSI", "device/model": "MR9361"}, fstype="xfs")
    disks.files.append("/sys/class/scsi_host/host0/proc_name:megaraid_sas")
    disks.smart("/dev/bus/0 -d megaraid,8", {"model_name": "X", "smart_status": {"passed": True}})
    shown = read_disks(admin_page, read, "kvm-01", disks.document())
    assert "megaraid,8" in shown
    assert "use unknown" not in shown
    assert "not all that could use it could be asked" not in shown
    assert "Only its controller sees this disk" in shown


def read_disks(admin_page, read, name, document):
    make_snapshot(make_node(name), document)
    return read(admin_page.get(address("disks", name))).text


def test_a_refresh_shows_its_progress_in_place_and_then_the_new_figures(admin_page):
    node = make_node("kvm-01")
    make_snapshot(node)
    answer = admin_page.post(reverse("node-refresh", args=["kvm-01"]), headers=HTMX)
    operation = Operation.objects.get()
    assert operation.kind == "refresh-node"
    assert "Refreshing" in answer.content.decode()
    poll = reverse("node-observed", args=["kvm-01"])
    assert poll in answer.content.decode()
    waiting = admin_page.get(poll, {"operation": operation.pk}, headers=HTMX)
    assert "Refreshing" in waiting.content.decode()
    assert "HX-Trigger" not in waiting
    Operation.objects.update(status="failed", finished_at=timezone.now())
    ended = admin_page.get(poll, {"operation": operation.pk}, headers=HTMX)
    assert ended["HX-Trigger"] == "inventory-refreshed"
    assert "The refresh failed" in ended.content.decode()
    assert "hx-trigger" not in ended.content.decode()


@pytest.mark.parametrize("wrong", ["", "x", "0b6ad36c-56e9-4ba1-8c6c-2c0f1f0a8b53"])
def test_the_age_line_of_an_unknown_refresh_stops_asking(admin_page, wrong):
    make_node("kvm-01")
    answer = admin_page.get(reverse("node-observed", args=["kvm-01"]), {"operation": wrong}, headers=HTMX)
    assert answer.status_code == 200
    assert "every 1s" not in answer.content.decode()


@pytest.mark.parametrize("slug", ["summary", *TABS])
def test_a_tab_costs_a_fixed_number_of_queries(admin_page, slug, django_assert_num_queries):
    make_snapshot(make_node("kvm-01"), "large")
    admin_page.get(address(slug))
    # Session, user, permissions, node, problems, disks that fail, refresh under way, facts, what
    # runs, and what is held.
    with django_assert_num_queries(9 if slug == "disks" else 10):
        admin_page.get(address(slug))


def test_a_tab_costs_an_operator_one_query_more(operator_page, operator, django_assert_num_queries):
    node = make_node("kvm-01")
    make_snapshot(node, "large")
    grant(operator, node, "view_node")
    with django_assert_num_queries(11):
        assert operator_page.get(address()).status_code == 200


def test_its_operations_and_events_are_its_own(admin_page, read):
    node, other = make_node("kvm-01"), make_node("kvm-02")
    make_operation(node)
    make_operation(other)
    page = read(admin_page.get(reverse("node-operations", args=["kvm-01"])))
    assert "Refresh the inventory of kvm-01" in page.text
    assert "kvm-02" not in page.text
    assert "Nothing has happened" in read(admin_page.get(reverse("node-events", args=["kvm-01"]))).text


def test_facts_without_a_template_become_terms_tables_and_blocks():
    facts = {
        "kind": "x",
        "memory_total_bytes": 2048,
        "devices": [
            {"name": "a", "size_bytes": 1, "spare": None},
            {"name": "b", "size_bytes": None, "spare": None},
        ],
        "inner": {"speed_mbps": 1000, "labels": ["p", "q"]},
        "empty": {},
        "nothing": None,
    }
    block = plain_facts.to_block("GPU", facts)
    assert [(name, value.kind) for name, value in block.terms] == [
        ("Kind", "text"),
        ("Memory total", "bytes"),
        ("Nothing", "text"),
    ]
    assert block.tables[0].heads == ("Name", "Size")
    assert block.tables[0].rows[1][1].value is None
    assert [inner.title for inner in block.blocks] == ["Inner"]


@pytest.mark.parametrize("host", host_names())
def test_every_section_could_also_show_as_a_plain_table(rf, host):
    from django.template.loader import render_to_string

    from nodes.inventory.build import build
    from tests.inventory.documents import host_document

    for slug, result in build(host_document(host)).results.items():
        shown = plain_facts.to_block("", result.plain)
        html = render_to_string("nodes/inventory/_plain.html", {"shown": shown, "page": None})
        assert "table" in html or "dl" in html, slug
