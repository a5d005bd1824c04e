"""The product on real hosts: a lab host added through the API shows what the lab was built with."""

from __future__ import annotations

from typing import Any

import pytest

from nodes.models import Node, OperationStatus
from tests.api.conftest import Api
from tests.engine.running import run_queued
from tests.lab.host import LabHost
from tests.patience import slowness

pytestmark = [pytest.mark.django_db, pytest.mark.lab]


def add(api: Api, host: LabHost, *, user: str = "root", **changes: Any) -> Any:
    body = {
        "name": f"lab-{host.name}",
        "uri": host.uri(user),
        "host_key_fingerprint": host.fingerprints["ssh-ed25519"],
        "credential": {"kind": "ssh_key", "private_key": host.private_key.read_text()},
    }
    status, answer = api("add-node", body | changes)
    assert status == 202, answer
    (ended,) = run_queued()
    return ended


@pytest.fixture
def api(administrator: Any, settings: Any) -> Api:
    slow = slowness()
    settings.NODEADMIN_HOST_TIMEOUT_S *= slow
    settings.NODEADMIN_PROBE_TIMEOUT_S *= slow
    return Api(administrator)


def facts(api: Api, slug: str, node: str) -> dict[str, Any]:
    status, body = api(f"describe-node-{slug}", {"node": node})
    assert status == 200
    assert body["facts"] is not None, body["problems"]
    return body["facts"]


def test_the_rich_host_is_what_the_lab_was_built_with(api, lab_rich):
    ended = add(api, lab_rich)
    assert ended.status == OperationStatus.SUCCEEDED, ended.error
    summary = facts(api, "summary", "lab-rich")
    assert [cell["id"] for cell in summary["numa"]["cells"]] == [0, 1]
    assert summary["numa"]["distances"] == [[10, 21], [21, 10]]
    pages = {size["size_bytes"]: size["total"] for size in summary["memory"]["huge_pages"]["sizes"]}
    assert pages[2 << 20] == 64
    features = {feature["code"]: feature["state"] for feature in summary["virtualization"]["features"]}
    assert features["iommu"] == "on", features
    assert features["nested"] == "on", features
    threads = int(lab_rich.run("nproc --all").stdout)
    assert summary["cpu"]["threads"] == threads
    total = int(lab_rich.run("awk '/^MemTotal/ {print $2}' /proc/meminfo").stdout) * 1024
    assert summary["memory"]["total_bytes"] == total
    node = Node.objects.get()
    assert node.boot_id == lab_rich.boot_id()


def test_virtual_functions_stand_under_their_physical_one_with_their_groups(api, lab_rich):
    add(api, lab_rich)
    devices = {device["address"]: device for device in facts(api, "pci", "lab-rich")["devices"]}
    (physical,) = [d for d in devices.values() if (d["physical_function"] or {}).get("configured_vfs")]
    functions = physical["physical_function"]["virtual_functions"]
    assert len(functions) == 2
    for address in functions:
        assert devices[address]["virtual_function"]["physical_function"] == physical["address"]
        group = lab_rich.run(f"basename $(readlink /sys/bus/pci/devices/{address}/iommu_group)").stdout
        assert devices[address]["iommu_group"] == int(group)


def test_disks_of_every_transport_are_told_apart_and_show_their_smart(api, lab_rich):
    add(api, lab_rich)
    disks = facts(api, "disks", "lab-rich")["disks"]
    transports = {disk["transport"] for disk in disks}
    assert {"sata", "nvme", "usb"} <= transports
    # QEMU's SAS disk tells no health, and smartctl says so; that it was asked behind the controller shows.
    (behind_raid,) = [
        disk for disk in disks if "megaraid" in ((disk["smart"] or {}).get("device_type") or "")
    ]
    assert behind_raid["transport"] != "sata"
    assert behind_raid["smart"]["state"] == "unsupported"
    assert behind_raid["smart"]["health"] == "unknown"
    sata = {disk["type"] for disk in disks if disk["transport"] == "sata"}
    assert sata == {"hdd", "ssd"}
    nvme = next(disk for disk in disks if disk["transport"] == "nvme")
    assert nvme["smart"]["temperature_celsius"] is not None
    assert any(disk["system"] for disk in disks)


CABLES = {"52:54:00:4c:01:01": "bond_first", "52:54:00:4c:01:11": "bond_second"}


def test_the_other_slave_is_active_after_the_first_lost_its_cable(api, lab_rich):
    add(api, lab_rich)
    (bond,) = facts(api, "net", "lab-rich")["bonds"]
    (first,) = [slave for slave in bond["slaves"] if slave["active"]]
    other = next(slave["name"] for slave in bond["slaves"] if not slave["active"])
    active = "/sys/class/net/bond0/bonding/active_slave"
    lab_rich.set_link(CABLES[first["permanent_mac"]], up=False)
    try:
        lab_rich.run(
            f"for i in $(seq 60); do grep -q {other} {active} && exit; sleep 1; done; exit 1", timeout_s=120
        )
        api("refresh-node", {"node": "lab-rich"})
        run_queued()
    finally:
        lab_rich.set_link(CABLES[first["permanent_mac"]], up=True)
    (bond,) = facts(api, "net", "lab-rich")["bonds"]
    assert bond["active_slave"] == other
    changes = api("list-inventory-changes", {"node": "lab-rich", "section": "net"})[1]["results"]
    assert any("active_slave" in change["path"] for change in changes)


def test_a_plugged_and_a_pulled_device_are_changes(api, lab_rich):
    add(api, lab_rich)
    lab_rich.plug("usb-mouse", "hotmouse", bus="usb.0")
    try:
        lab_rich.run(
            "for i in 1 2 3 4 5 6 7 8; do lsusb | grep -c -i mouse && break; sleep 1; done", check=False
        )
        api("refresh-node", {"node": "lab-rich"})
        run_queued()
        added = api("list-inventory-changes", {"node": "lab-rich", "section": "usb", "kind": "added"})[1]
        assert any("mouse" in str(change["after"]).lower() for change in added["results"]), added
    finally:
        lab_rich.unplug("hotmouse")


def test_a_removed_disk_is_a_change_and_an_event_after_the_next_refresh(api, lab_rich):
    size = 8 << 20
    with lab_rich.monitor() as monitor:
        monitor.execute("blockdev-add", **{"driver": "null-co", "node-name": "hotdrive", "size": size})
    lab_rich.plug("usb-storage", "hotdisk", bus="usb.0", drive="hotdrive", serial="LABHOT1")
    wait = "for i in $(seq 20); do [ $(lsblk -dno TRAN | grep -c usb) = {} ] && exit 0; sleep 1; done; exit 1"
    try:
        lab_rich.run(wait.format(2))
        add(api, lab_rich)
    finally:
        lab_rich.unplug("hotdisk")
    lab_rich.run(wait.format(1))
    with lab_rich.monitor() as monitor:
        monitor.execute("blockdev-del", **{"node-name": "hotdrive"})
    api("refresh-node", {"node": "lab-rich"})
    run_queued()
    removed = api("list-inventory-changes", {"node": "lab-rich", "section": "disks", "kind": "removed"})[1]
    assert [change["before"]["serial"] for change in removed["results"]] == ["LABHOT1"]
    events = api("list-events", {"node": "lab-rich", "kind": "inventory_changed"})[1]
    assert events["results"][0]["data"]["sections"]["disks"] == 1


def test_the_usb_tree_has_the_hub_and_what_hangs_on_it(api, lab_rich):
    add(api, lab_rich)
    devices = facts(api, "usb", "lab-rich")["devices"]
    (hub,) = [device for device in devices if device["is_hub"] and not device["is_root_hub"]]
    assert any(device["parent"] == hub["name"] for device in devices)


def test_a_host_without_smartctl_and_lspci_joins_and_says_what_is_missing(api, lab_plain):
    with lab_plain.without_tools("smartctl", "lspci"):
        ended = add(api, lab_plain)
    assert ended.status == OperationStatus.SUCCEEDED, ended.error
    problems = api("describe-node", {"node": "lab-plain"})[1]["problems"]
    assert any(p["section"] == "disks" and "smartctl" in p["message"] for p in problems), problems


def test_a_user_of_libvirts_group_joins_and_what_root_alone_reads_is_denied_and_named(api, lab_plain):
    ended = add(api, lab_plain, user="virt")
    assert ended.status == OperationStatus.SUCCEEDED, ended.error
    rights = ended.steps.get(code="rights")
    assert rights.message
    problems = api("describe-node", {"node": "lab-plain"})[1]["problems"]
    assert any(problem["code"] == "denied" for problem in problems)


def test_a_user_with_sudo_reads_all_that_root_does(api, lab_plain):
    ended = add(api, lab_plain, user="ops")
    assert ended.status == OperationStatus.SUCCEEDED, ended.error
    problems = api("describe-node", {"node": "lab-plain"})[1]["problems"]
    assert not [problem for problem in problems if problem["code"] == "denied"], problems


def test_a_user_with_no_rights_is_refused_at_libvirt_with_the_remedy(api, lab_plain):
    ended = add(api, lab_plain, user="limited")
    assert ended.error["code"] == "insufficient_rights_on_host"
    assert "libvirt" in ended.error["remedy"]
    assert not Node.objects.exists()


def test_a_frozen_host_times_out_and_is_offline_by_name(api, lab_plain, settings):
    add(api, lab_plain)
    settings.NODEADMIN_HOST_TIMEOUT_S = 4.0
    settings.NODEADMIN_PROBE_TIMEOUT_S = 8.0
    lab_plain.freeze()
    api("refresh-node", {"node": "lab-plain"})
    (ended,) = run_queued()
    assert ended.status == OperationStatus.FAILED
    assert ended.error["code"] in ("timeout", "host_unreachable")
    assert Node.objects.get().connection == "offline"
    lab_plain.thaw()
