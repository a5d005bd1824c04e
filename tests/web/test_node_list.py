"""The list of nodes: filters, order, pages, exports, and what it costs."""

import csv
import io
import json

import pytest
from django.urls import reverse

from nodes.models import Node
from tests.factories import grant, make_node, make_snapshot
from tests.web.conftest import HTMX


def names(response):
    page = response.content.decode()
    return [node.name for node in Node.objects.order_by("name") if f">{node.name}</a>" in page]


def order(response):
    return [node.name for node in response.context["listing"].page]


def test_an_empty_fleet_says_what_to_do(admin_page, read):
    page = read(admin_page.get(reverse("node-list")))
    assert "No nodes yet" in page.text
    assert reverse("node-add") in page.links


def test_who_sees_nothing_is_told_whom_to_ask(stranger_page):
    make_node("kvm-01")
    assert "Ask an administrator" in stranger_page.get(reverse("node-list")).content.decode()


def test_a_filter_by_status_says_why_a_node_is_not_online(admin_page):
    make_node("kvm-01")
    make_node("kvm-02", connection="offline", connection_reason="unreachable")
    make_node("kvm-03", connection="unknown")
    make_node("kvm-04", scheduling="maintenance", scheduling_reason="disk swap")
    offline = admin_page.get(reverse("node-list"), {"status": "offline"})
    assert names(offline) == ["kvm-02", "kvm-03"]
    assert "Unreachable" in offline.content.decode()
    assert "No contact yet" in offline.content.decode()
    maintenance = admin_page.get(reverse("node-list"), {"status": "maintenance"})
    assert names(maintenance) == ["kvm-04"]
    assert "disk swap" in maintenance.content.decode()


def test_filters_by_type_label_and_letters_of_the_name(admin_page):
    make_node("kvm-01", node_type="hybrid", labels={"rack": "a1"})
    make_node("kvm-02", labels={"rack": "a1", "zone": "north"})
    make_node("storage-3", node_type="storage")
    address = reverse("node-list")
    assert names(admin_page.get(address, {"type": "hybrid"})) == ["kvm-01"]
    assert names(admin_page.get(address, {"label": "rack=a1"})) == ["kvm-01", "kvm-02"]
    assert names(admin_page.get(address, {"label": ["rack=a1", "zone=north"]})) == ["kvm-02"]
    assert names(admin_page.get(address, {"name": "k2"})) == ["kvm-02"]
    assert "No node fits" in admin_page.get(address, {"name": "zzz"}).content.decode()


def test_the_unknown_comes_last_whichever_way_one_sorts(admin_page):
    make_node("busy", cpu_used_percent=90.0)
    make_node("idle", cpu_used_percent=1.0)
    make_node("silent")
    address = reverse("node-list")
    assert order(admin_page.get(address, {"order_by": "cpu_used_percent"})) == ["idle", "busy", "silent"]
    assert order(admin_page.get(address, {"order_by": "-cpu_used_percent"})) == ["busy", "idle", "silent"]


@pytest.mark.parametrize(
    "wrong", [{"order_by": "password"}, {"page": "x"}, {"page": "99"}, {"status": "?"}, {"label": "?"}]
)
def test_what_is_wrong_in_the_address_is_ignored(admin_page, wrong):
    make_node("kvm-01")
    answer = admin_page.get(reverse("node-list"), wrong)
    assert answer.status_code == 200
    assert "kvm-01" in answer.content.decode()


def test_an_unknown_figure_is_no_zero(admin_page):
    make_node("kvm-01")
    page = admin_page.get(reverse("node-list")).content.decode()
    row = page[page.index('id="node-') :]
    assert row.count('class="unknown"') >= 4
    assert "0 %" not in row
    assert "0 B" not in row


def test_figures_of_a_host_that_is_not_online_do_not_pass_as_those_of_now(admin_page):
    figures = {"cpu_used_percent": 40.0, "memory_total_bytes": 100, "memory_used_bytes": 50}
    make_node("on", **figures)
    assert "when last seen" not in admin_page.get(reverse("node-list")).content.decode()
    make_node("off", connection="offline", connection_reason="unreachable", **figures)
    text = admin_page.get(reverse("node-list")).content.decode()
    assert text.count('class="is-past"') == 1
    assert "CPU when last seen 40 %" in text
    assert "Memory when last seen 50 %" in text


def test_htmx_gets_the_list_alone(admin_page):
    make_node("kvm-01")
    whole = admin_page.get(reverse("node-list")).content.decode()
    part = admin_page.get(reverse("node-list"), headers=HTMX)
    assert "<html" in whole
    assert part.content.decode().lstrip().startswith('<div id="list"')
    assert "HX-Request" in part["Vary"]


def test_pages_of_fifty(admin_page):
    for number in range(53):
        make_node(f"kvm-{number:02d}")
    first = admin_page.get(reverse("node-list"))
    second = admin_page.get(reverse("node-list"), {"page": 2})
    assert len(order(first)) == 50
    assert order(second) == ["kvm-50", "kvm-51", "kvm-52"]
    assert "51–53" in second.content.decode()


def test_exports_carry_exact_figures_of_what_is_filtered(admin_page):
    node = make_node("kvm-01", labels={"rack": "a1"})
    make_snapshot(node)
    make_node("other", node_type="storage")
    answer = admin_page.get(reverse("node-list"), {"type": "compute", "format": "csv"})
    rows = list(csv.DictReader(io.StringIO(answer.content.decode())))
    assert answer["Content-Type"].startswith("text/csv")
    assert "attachment" in answer["Content-Disposition"]
    assert [row["name"] for row in rows] == ["kvm-01"]
    assert int(rows[0]["memory_total_bytes"]) == Node.objects.get(name="kvm-01").memory_total_bytes
    assert rows[0]["cpu_used_percent"] == ""
    whole = json.loads(admin_page.get(reverse("node-list"), {"format": "json"}).content)
    assert [row["name"] for row in whole] == ["kvm-01", "other"]
    assert whole[0]["labels"] == {"rack": "a1"}
    assert whole[1]["memory_total_bytes"] is None


def test_a_spreadsheet_runs_nothing_of_an_export(admin_page):
    make_node("kvm-01", scheduling="maintenance", labels={}, host_model="=cmd()|'/c calc'!A0")
    text = admin_page.get(reverse("node-list"), {"format": "csv"}).content.decode()
    assert "'=cmd()" in text
    assert ",=cmd()" not in text


def test_the_list_costs_the_same_however_long_it_is(admin_page, django_assert_num_queries):
    for number in range(3):
        make_node(f"kvm-{number:02d}")
    admin_page.get(reverse("node-list"))
    # Session, user, permissions, census, count, page, and what runs.
    with django_assert_num_queries(7):
        admin_page.get(reverse("node-list"))
    for number in range(3, 60):
        make_node(f"kvm-{number:02d}")
    with django_assert_num_queries(7):
        admin_page.get(reverse("node-list"))


def test_it_costs_an_operator_no_more(operator_page, operator, django_assert_num_queries):
    for number in range(20):
        grant(operator, make_node(f"kvm-{number:02d}"), "view_node")
    with django_assert_num_queries(7):
        assert len(order(operator_page.get(reverse("node-list")))) == 20


def test_the_search_box_finds_by_letters(admin_page, read):
    make_node("kvm-01")
    make_node("kvm-02")
    page = read(admin_page.get(reverse("search"), {"q": "k2"}, headers=HTMX))
    assert page.links == [reverse("node-detail", args=["kvm-02"])]
    assert read(admin_page.get(reverse("search"), {"q": ""}, headers=HTMX)).text == ""
    assert "No node matches" in read(admin_page.get(reverse("search"), {"q": "zz"}, headers=HTMX)).text
