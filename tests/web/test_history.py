"""The pages of devices across nodes, of changes, and of a disk's past."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from nodes.models import Device, InventoryChange, Node, SmartReading
from nodes.web.pictures import trend
from tests.factories import grant, make_node, make_snapshot

pytestmark = pytest.mark.django_db


@pytest.fixture
def node() -> Node:
    found = make_node("big-01")
    make_snapshot(found, "large")
    return found


@pytest.fixture
def browser(administrator) -> Client:
    client = Client()
    client.force_login(administrator)
    return client


def test_devices_are_found_by_words_kind_and_freedom(browser, node, django_assert_max_num_queries):
    with django_assert_max_num_queries(7):
        page = browser.get(reverse("device-search"), {"kind": "gpu"})
    gpus = Device.objects.filter(kind="gpu")
    assert page.context["listing"].page.paginator.count == gpus.count() > 0
    gpu = gpus.first()
    assert gpu.key in page.content.decode()
    page = browser.get(reverse("device-search"), {"text": f"{gpu.key}"})
    assert [device.key for device, _url, _verdict in page.context["devices"]] == [gpu.key]
    page = browser.get(reverse("device-search"), {"free": "1"})
    assert all(device.free for device, _url, _verdict in page.context["devices"])


@pytest.mark.parametrize(
    "query", ["kind=toaster", "numa_cell=x", "numa_cell=²", "page=0", "order_by=-nothing", "free=yes"]
)
def test_what_the_url_has_wrong_is_ignored(browser, node, query):
    page = browser.get(f"{reverse('device-search')}?{query}")
    assert page.status_code == 200
    assert page.context["listing"].page.paginator.count == Device.objects.count()


def test_htmx_gets_the_list_alone_and_a_file_has_every_row(browser, node):
    part = browser.get(reverse("device-search"), headers={"HX-Request": "true"}).content
    assert b"<html" not in part
    rows = browser.get(reverse("device-search"), {"format": "json"}).json()
    assert len(rows) == Device.objects.count()


def test_devices_of_other_peoples_nodes_are_not_shown(operator, node):
    client = Client()
    client.force_login(operator)
    assert client.get(reverse("device-search")).context["listing"].page.paginator.count == 0
    grant(operator, node, "view_node")
    assert client.get(reverse("device-search")).context["listing"].page.paginator.count > 0


def test_changes_stand_as_a_timeline_with_before_and_after(browser, node):
    now = timezone.now()
    InventoryChange.objects.create(
        node=node,
        observed_at=now,
        section="disks",
        kind="removed",
        path="disks",
        subject="wwn-1",
        label="sdz",
        before={},
    )
    InventoryChange.objects.create(
        node=node,
        observed_at=now - timedelta(hours=1),
        section="net",
        kind="changed",
        path="bonds.active_slave",
        subject="bond0",
        before="eno1",
        after="<script>alert(1)</script>",
    )
    page = browser.get(reverse("node-changes", args=["big-01"]))
    text = page.content.decode()
    assert [len(moment.lines) for moment in page.context["moments"]] == [1, 1]
    assert "Bonds › Active slave" in text
    assert "<script>alert" not in text
    only = browser.get(reverse("node-changes", args=["big-01"]), {"section": "net"})
    assert [line.subject for moment in only.context["moments"] for line in moment.lines] == ["bond0"]


def test_changes_are_told_in_words_and_with_their_units(browser, node, read):
    row = {"node": node, "observed_at": timezone.now()}
    use = {"device": "sdb1", "kind": "mount", "names": ["/srv"], "through": [], "system": False}
    changes = (
        {"section": "summary", "kind": "changed", "path": "memory.total_bytes", "before": 2**34},
        {"section": "summary", "kind": "changed", "path": "cpu.online", "before": [0, 1], "after": []},
        {"section": "pci", "kind": "changed", "path": "iommu_enabled", "before": False, "after": True},
        {"section": "pci", "kind": "added", "path": "devices.current_use", "after": use,
         "subject": '0000:00:1f.2/{"device": "sdb1"}'},
    )  # fmt: skip
    for change in changes:
        InventoryChange.objects.create(**row, **change)
    text = read(browser.get(reverse("node-changes", args=["big-01"]))).text
    assert "Memory › Total 16.0 GiB" in text
    assert "CPU › Online 0, 1 none" in text
    assert "IOMMU enabled No Yes" in text
    assert "Devices › Current use 0000:00:1f.2 Device sdb1, Kind mount, Names /srv, System No" in text
    assert "{" not in text


def test_a_disks_past_is_drawn_where_there_are_two_readings(browser, node):
    reading = SmartReading.objects.filter(node=node, temperature_celsius__isnull=False).first()
    url = reverse("node-disk-history", args=["big-01"])
    assert b"<polyline" not in browser.get(url, {"disk": reading.disk_id}).content
    SmartReading.objects.create(
        node=node,
        disk_id=reading.disk_id,
        observed_at=reading.observed_at - timedelta(days=1),
        health="healthy",
        temperature_celsius=reading.temperature_celsius - 5,
    )
    text = browser.get(url, {"disk": reading.disk_id}).content.decode()
    assert "<polyline" in text
    assert "2 readings" in text
    assert browser.get(url, {"disk": "none such"}).status_code == 200


def test_a_stranger_finds_none_of_it(stranger, node):
    client = Client()
    client.force_login(stranger)
    for name in ("node-changes", "node-disk-history"):
        assert client.get(reverse(name, args=["big-01"])).status_code == 404


def test_a_line_needs_two_points_in_time_and_unknown_values_are_no_points():
    now = timezone.now()
    assert trend.draw("t", "", [(now, 1), (now, 2)]) is None
    assert trend.draw("t", "", [(now, None), (now + timedelta(1), 2)]) is None
    flat = trend.draw("t", "", [(now, 0), (now + timedelta(1), 0), (now + timedelta(2), None)])
    assert (flat.lowest, flat.highest, flat.last) == (0, 0, 0)
    assert flat.last_y == trend.HEIGHT / 2
