"""The product on real hosts: a lab host added through the API shows what the lab was built with."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
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


def test_the_rich_host_is_what_the_lab_was_built_with(api, lab_rich, subtests):
    ended = add(api, lab_rich)
    assert ended.status == OperationStatus.SUCCEEDED, ended.error
    with subtests.test("cells, huge pages, processors and virtualization are counted"):
        summary_is_whole(facts(api, "summary", "lab-rich"), lab_rich)
    with subtests.test("virtual functions stand under their physical one with their groups"):
        functions_are_in_groups(facts(api, "pci", "lab-rich")["devices"], lab_rich)
    with subtests.test("disks of every transport are told apart and show their SMART"):
        disks_are_told_apart(facts(api, "disks", "lab-rich")["disks"])
    with subtests.test("the USB tree has the hub and what hangs on it"):
        devices = facts(api, "usb", "lab-rich")["devices"]
        (hub,) = [device for device in devices if device["is_hub"] and not device["is_root_hub"]]
        assert any(device["parent"] == hub["name"] for device in devices)


def summary_is_whole(summary: dict[str, Any], host: LabHost) -> None:
    assert [cell["id"] for cell in summary["numa"]["cells"]] == [0, 1]
    assert summary["numa"]["distances"] == [[10, 21], [21, 10]]
    pages = {size["size_bytes"]: size["total"] for size in summary["memory"]["huge_pages"]["sizes"]}
    assert pages[2 << 20] == 64
    features = {feature["code"]: feature["state"] for feature in summary["virtualization"]["features"]}
    assert features["iommu"] == "on", features
    assert features["nested"] == "on", features
    threads = int(host.run("nproc --all").stdout)
    assert summary["cpu"]["threads"] == threads
    total = int(host.run("awk '/^MemTotal/ {print $2}' /proc/meminfo").stdout) * 1024
    assert summary["memory"]["total_bytes"] == total
    assert Node.objects.get().boot_id == host.boot_id()


def functions_are_in_groups(listed: list[dict[str, Any]], host: LabHost) -> None:
    devices = {device["address"]: device for device in listed}
    (physical,) = [d for d in devices.values() if (d["physical_function"] or {}).get("configured_vfs")]
    functions = physical["physical_function"]["virtual_functions"]
    assert len(functions) == 2
    for address in functions:
        assert devices[address]["virtual_function"]["physical_function"] == physical["address"]
        group = host.run(f"basename $(readlink /sys/bus/pci/devices/{address}/iommu_group)").stdout
        assert devices[address]["iommu_group"] == int(group)


def disks_are_told_apart(disks: list[dict[str, Any]]) -> None:
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
USB_DISKS = (
    "for i in $(seq 20); do [ $(lsblk -dno TRAN | grep -c usb) = {} ] && exit 0; sleep 1; done; exit 1"
)


@contextlib.contextmanager
def without_active_slave(host: LabHost, bond: dict[str, Any]) -> Iterator[str]:
    """The bond while the slave that was active has lost its cable; gives the other, which is active then."""
    (first,) = [slave for slave in bond["slaves"] if slave["active"]]
    other = next(slave["name"] for slave in bond["slaves"] if not slave["active"])
    active = "/sys/class/net/bond0/bonding/active_slave"
    host.set_link(CABLES[first["permanent_mac"]], up=False)
    try:
        host.run(
            f"for i in $(seq 60); do grep -q {other} {active} && exit; sleep 1; done; exit 1", timeout_s=120
        )
        yield str(other)
    finally:
        host.set_link(CABLES[first["permanent_mac"]], up=True)


@contextlib.contextmanager
def plugged_disk(host: LabHost) -> Iterator[None]:
    """The host with a further USB disk, LABHOT1, that is pulled at the end."""
    with host.monitor() as monitor:
        monitor.execute("blockdev-add", **{"driver": "null-co", "node-name": "hotdrive", "size": 8 << 20})
    host.plug("usb-storage", "hotdisk", bus="usb.0", drive="hotdrive", serial="LABHOT1")
    try:
        host.run(USB_DISKS.format(2))
        yield
    finally:
        host.unplug("hotdisk")
    host.run(USB_DISKS.format(1))
    with host.monitor() as monitor:
        monitor.execute("blockdev-del", **{"node-name": "hotdrive"})


@contextlib.contextmanager
def plugged_mouse(host: LabHost) -> Iterator[None]:
    host.plug("usb-mouse", "hotmouse", bus="usb.0")
    try:
        host.run("for i in 1 2 3 4 5 6 7 8; do lsusb | grep -c -i mouse && break; sleep 1; done", check=False)
        yield
    finally:
        host.unplug("hotmouse")


def test_what_was_plugged_pulled_and_cut_off_are_changes_after_the_next_refresh(api, lab_rich, subtests):
    with plugged_disk(lab_rich):
        add(api, lab_rich)
    (bond,) = facts(api, "net", "lab-rich")["bonds"]
    with without_active_slave(lab_rich, bond) as other, plugged_mouse(lab_rich):
        api("refresh-node", {"node": "lab-rich"})
        run_queued()

    def changes(section: str, **chosen: str) -> list[dict[str, Any]]:
        asked = {"node": "lab-rich", "section": section, **chosen}
        return list(api("list-inventory-changes", asked)[1]["results"])

    with subtests.test("the other slave is active after the first lost its cable"):
        (bond,) = facts(api, "net", "lab-rich")["bonds"]
        assert bond["active_slave"] == other
        assert any("active_slave" in change["path"] for change in changes("net"))
    with subtests.test("a plugged device is a change"):
        added = changes("usb", kind="added")
        assert any("mouse" in str(change["after"]).lower() for change in added), added
    with subtests.test("a pulled disk is a change and an event"):
        removed = changes("disks", kind="removed")
        assert [change["before"]["serial"] for change in removed] == ["LABHOT1"]
        events = api("list-events", {"node": "lab-rich", "kind": "inventory_changed"})[1]
        assert events["results"][0]["data"]["sections"]["disks"] == 1


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
