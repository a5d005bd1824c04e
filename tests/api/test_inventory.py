"""Describe endpoints, changes and the search for devices, on recorded hosts."""

from __future__ import annotations

import copy
import json
from dataclasses import replace

import pytest
from django.conf import settings

from nodes.inventory.build import Inventory, build
from nodes.inventory.document import SourceOutput, SourceStatus
from nodes.inventory.registry import SECTIONS
from nodes.models import Device, Event, InventoryChange, Node, NodeUserObjectPermission, SmartReading
from nodes.operations.snapshots import Taken, store_snapshot
from tests.inventory.documents import host_document

pytestmark = pytest.mark.django_db
LATER = "2026-02-01T00:10:00Z"


def take(node: Node, name: str, observed_at: str = "2026-02-01T00:00:00Z", edit=None) -> None:
    document = replace(host_document(name), observed_at=observed_at)
    inventory = build(document)
    if edit is not None:
        results = dict(inventory.results)
        for slug, change in edit.items():
            plain = copy.deepcopy(results[slug].plain)
            change(plain)
            results[slug] = replace(results[slug], plain=plain)
        inventory = Inventory(observed_at, results)
    store_snapshot(node, Taken(document, inventory, 0.1))


@pytest.fixture
def large(administrator) -> Node:
    node = Node.objects.create(name="big-01", uri="qemu+ssh://root@big-01/system")
    take(node, "large")
    return node


@pytest.mark.parametrize("slug", [section.slug for section in SECTIONS])
def test_every_section_is_described_with_its_age_and_problems(administrator, large, api, slug):
    status, body = api(administrator)(f"describe-node-{slug}", {"node": "big-01"})
    assert status == 200
    assert body["facts"]
    assert body["stale"] is True
    assert body["age_s"] > 0
    assert isinstance(body["problems"], list)


def test_a_node_without_inventory_has_null_facts_and_is_stale(administrator, api):
    Node.objects.create(name="new", uri="qemu:///system")
    status, body = api(administrator)("describe-node-summary", {"node": "new"})
    assert (status, body["facts"], body["stale"], body["age_s"]) == (200, None, True, None)


def test_pci_devices_are_filtered_by_kind_group_and_verdict(administrator, large, api):
    call = api(administrator)
    everything = call("describe-node-pci", {"node": "big-01"})[1]["facts"]["devices"]
    gpus = call("describe-node-pci", {"node": "big-01", "kind": "gpu"})[1]["facts"]["devices"]
    assert gpus
    assert {device["kind"] for device in gpus} == {"gpu"}
    blocked = call("describe-node-pci", {"node": "big-01", "passthrough": "blocked"})[1]["facts"]["devices"]
    assert {device["passthrough"]["verdict"] for device in blocked} == {"blocked"}
    assert 0 < len(blocked) < len(everything)
    group = gpus[0]["iommu_group"]
    answer = call("describe-node-pci", {"node": "big-01", "iommu_group": group})[1]["facts"]
    assert {device["iommu_group"] for device in answer["devices"]} == {group}
    assert [found["number"] for found in answer["iommu_groups"]] == [group]
    status, body = call("describe-node-pci", {"node": "big-01", "kind": "toaster"})
    assert (status, body["errors"][0]["field"]) == (400, "kind")


def test_one_kind_of_network_interface_leaves_the_other_lists_empty(administrator, large, api):
    facts = api(administrator)("describe-node-net", {"node": "big-01", "kind": "bond"})[1]["facts"]
    assert facts["bonds"]
    assert facts["nics"] == facts["bridges"] == facts["vm_ports"] == []


def test_devices_are_found_across_nodes_by_word_kind_vendor_and_freedom(administrator, large, api):
    Node.objects.create(name="empty", uri="qemu:///system")
    call = api(administrator)
    everything = call("search-devices")[1]
    assert everything["count"] == Device.objects.count() > 80
    gpus = call("search-devices", {"kind": "gpu"})[1]["results"]
    assert gpus
    assert all(device["node"] == "big-01" for device in gpus)
    vendor = gpus[0]["vendor_id"]
    by_id = call("search-devices", {"kind": "gpu", "vendor": vendor})[1]
    assert by_id["count"] == len([d for d in gpus if d["vendor_id"] == vendor])
    words = call("search-devices", {"text": f"BIG-01 {gpus[0]['key']}"})[1]
    assert [device["key"] for device in words["results"]] == [gpus[0]["key"]]
    free = call("search-devices", {"free": True, "page_size": 500})[1]["results"]
    assert all(device["free"] is True and device["passthrough"] != "blocked" for device in free)
    assert call("search-devices", {"text": "no such thing"})[1]["count"] == 0


def test_what_one_may_not_see_is_not_found(operator, large, api):
    call = api(operator)
    assert call("search-devices")[1]["count"] == 0
    assert call("list-inventory-changes")[1]["count"] == 0
    from guardian.shortcuts import assign_perm

    assign_perm("view_node", operator, large)
    assert NodeUserObjectPermission.objects.count() == 1
    assert api(operator)("search-devices")[1]["count"] == Device.objects.count()


def test_the_same_inventory_twice_is_no_change_and_rewrites_no_device(administrator, large):
    before = set(Device.objects.values_list("pk", flat=True))
    take(large, "large", LATER)
    assert not InventoryChange.objects.exists()
    assert set(Device.objects.values_list("pk", flat=True)) == before


def test_a_disk_that_went_is_a_change_with_what_it_was(administrator, large, api):
    gone = {}

    def remove(facts):
        gone.update(facts["disks"].pop())

    take(large, "large", LATER, {"disks": remove})
    rows = api(administrator)("list-inventory-changes", {"node": "big-01", "kind": "removed"})[1]["results"]
    assert [row["section"] for row in rows] == ["disks"]
    assert rows[0]["subject"] == gone["id"]
    assert (rows[0]["before"]["size_bytes"], rows[0]["after"]) == (gone["size_bytes"], None)
    assert not Device.objects.filter(section="disks", key=gone["id"]).exists()
    assert Event.objects.filter(kind="inventory_changed", node=large).count() == 1


def test_a_pool_that_went_while_libvirt_was_silent_is_a_change_once_it_answers(administrator, large):
    document = replace(host_document("large"), observed_at=LATER)
    pools = json.loads(document.text("libvirt:pools"))
    gone = f"libvirt:pool:{pools[0]['uuid']}"
    silent = {"libvirt:pools": SourceOutput("libvirt:pools", SourceStatus.TIMEOUT)}
    silent[gone] = SourceOutput(gone, SourceStatus.TIMEOUT)
    mute = document.with_sources(silent)
    left = {name: output for name, output in document.sources.items() if name != gone}
    left["libvirt:pools"] = replace(left["libvirt:pools"], stdout=json.dumps(pools[1:]))
    long = [mute] * (settings.NODEADMIN_SNAPSHOTS_KEPT + 2)
    for made in (*long, replace(document, sources=left)):
        store_snapshot(large, Taken(made, build(made), 0.1))
    found = InventoryChange.objects.filter(node=large, section="pools", path="pools")
    assert [(change.kind, change.label) for change in found] == [("removed", pools[0]["name"])]


def test_smart_is_kept_daily_on_change_and_a_fall_in_health_warns(administrator, large):
    points = SmartReading.objects.count()
    assert points > 10
    take(large, "large", LATER)
    assert SmartReading.objects.count() == points, "ten minutes later and alike: no further row"
    name = {}

    def fail(facts):
        disk = next(d for d in facts["disks"] if d["smart"] and d["smart"]["health"] == "healthy")
        disk["smart"]["health"] = "failed"
        name.update(disk)

    Event.objects.all().delete()
    take(large, "large", "2026-02-01T00:20:00Z", {"disks": fail})
    assert SmartReading.objects.count() == points + 1
    event = Event.objects.get(kind="disk_health_fell")
    assert event.severity == "error"
    assert name["name"] in event.message
    take(large, "large", "2026-02-03T00:20:00Z")
    assert SmartReading.objects.count() == 2 * points + 1


def test_search_and_lists_ask_the_database_a_bounded_number_of_times(
    administrator, large, api, django_assert_max_num_queries
):
    call = api(administrator)
    with django_assert_max_num_queries(5):
        call("search-devices", {"page_size": 500})
    with django_assert_max_num_queries(5):
        call("list-inventory-changes")
    with django_assert_max_num_queries(4):
        call("describe-node-pci", {"node": "big-01"})
    with django_assert_max_num_queries(5):
        call("list-nodes")
