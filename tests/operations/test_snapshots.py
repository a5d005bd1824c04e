"""Inventories as they are stored: what is told of what a failing source hid meanwhile."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nodes.inventory.build import build
from nodes.inventory.document import HostDocument, SourceOutput, SourceStatus
from nodes.models import InventoryChange, Node
from nodes.operations.snapshots import Taken, store_snapshot
from tests.factories import make_node
from tests.inventory.disk_host import PCI, DiskHost

pytestmark = pytest.mark.django_db
READ = {"model_name": "X", "smart_status": {"passed": True}, "form_factor": {"name": "3.5 inches"}}
SILENT = SourceStatus.TIMEOUT


def store(node: Node, *documents: HostDocument) -> list[tuple[str, str, str]]:
    """Stores them in turn; gives all that was told of the disks."""
    for minute, document in enumerate(documents):
        made = replace(document, observed_at=f"2026-02-01T00:{minute:02}:00Z")
        store_snapshot(node, Taken(made, build(made), 0.1))
    found = InventoryChange.objects.filter(node=node, section="disks").order_by("pk")
    return [(change.kind, change.path, change.subject) for change in found]


def without(document: HostDocument, *names: str) -> HostDocument:
    """``document`` with sources that gave no answer in time."""
    return document.with_sources({name: SourceOutput(name, SILENT) for name in names})


def sata(host: DiskHost, name: str, port: int) -> None:
    host.sata(name, port, files={"device/wwid": f"naa.5000c500a1b2c3d{port}"})


def test_a_problem_that_is_always_there_hides_no_disk_that_went() -> None:
    def host(*names: str) -> HostDocument:
        made = DiskHost()
        path = f"{PCI}/0000:02:00.0/host3/target3:1:0/3:1:0:0/block"
        made.block("sda", path, files={"device/vendor": "HP", "device/model": "LOGICAL VOLUME"})
        made.files.append("/sys/class/scsi_host/host3/proc_name:hpsa")
        made.texts["disk-smart"] = ""
        for port, name in enumerate(names, 5):
            sata(made, name, port)
        return made.document()

    both, one = host("sdb", "sdc"), host("sdb")
    assert "not_listed" in {problem.code for problem in build(both).problems}
    told = store(make_node(), both, without(one, "disk-smart"), one)
    assert told == [("removed", "disks", "wwn-0x5000c500a1b2c3d6")]


def test_a_disk_that_sleeps_on_after_a_source_failed_has_not_changed() -> None:
    def host(state: SourceStatus, text: object) -> HostDocument:
        made = DiskHost()
        sata(made, "sda", 1)
        made.smart("/dev/sda", text, state)
        return made.document()

    asleep = {"smartctl": {"exit_status": 2}, "power_mode": {"ata_value": 0}}
    awake = host(SourceStatus.OK, READ)
    sleeping = host(SourceStatus.OK, asleep)
    assert build(awake).results["disks"].plain["disks"][0]["form_factor"] is not None
    assert build(sleeping).results["disks"].plain["disks"][0]["form_factor"] is None
    assert store(make_node(), awake, sleeping, without(sleeping, "disk-lsblk"), sleeping) == []
