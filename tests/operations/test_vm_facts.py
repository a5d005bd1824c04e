"""What holds a VM on its host: its devices, disks and jobs, by its description and the host's storage."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest

from nodes.hosts.domains import DomainFacts
from nodes.inventory.mounts import read_mounts
from nodes.inventory.pools import Pool
from nodes.operations.plan.host_state import HostState
from nodes.operations.plan.vm_state import VmState
from nodes.operations.storage import HostStorage
from nodes.operations.vm_facts import planned_vm
from nodes.operations.world import PlannedVm

UUID = "5f3c9a52-6f0e-4b5e-9d53-0c6b1f6b8a11"
MOUNTS = read_mounts(
    [
        "21 1 8:1 / / rw - ext4 /dev/sda1 rw",
        "40 21 0:44 / /srv/images rw - nfs4 nas:/images rw",
        "41 21 8:3 / /srv/images/local rw - xfs /dev/sdb1 rw",
    ]
)


def pool(name: str, kind: str, *, path: str | None = None, active: bool = True) -> Pool:
    unknown = dict.fromkeys(field.name for field in fields(Pool))
    told = {
        "uuid": name,
        "name": name,
        "type": kind,
        "state": "running",
        "active": active,
        "target_path": path,
    }
    return Pool(**unknown | told)


POOLS = (
    pool("nfs", "netfs", path="/var/lib/nfs"),
    pool("default", "dir", path="/var/lib/libvirt/images"),
    pool("mounted", "dir", path="/srv/images/vms"),
    pool("ceph", "rbd"),
    pool("lvm", "logical", path="/dev/vg0"),
)
HOST = HostStorage({row.name: row for row in POOLS}, MOUNTS)


def domain(devices: str = "", *, os: str = "", **fields: Any) -> DomainFacts:
    xml = f"""<domain type='kvm' id='1'><name>web</name><uuid>{UUID}</uuid><memory unit='MiB'>512</memory>
      <vcpu>2</vcpu><os><type arch='x86_64' machine='q35'>hvm</type>{os}</os>
      <devices>{devices}</devices></domain>"""
    values: dict[str, Any] = {
        "uuid": UUID,
        "name": "web",
        "state": "running",
        "reason": "booted",
        "active": True,
        "persistent": True,
        "managed_save": False,
        "memory_max_bytes": 512 << 20,
        "vcpus": 2,
        "xml": xml,
        "job": None,
        "block_jobs": (),
        "snapshots": 0,
    }
    return DomainFacts(**values | fields)


def disk(source: str, kind: str = "file", *, device: str = "disk", more: str = "") -> str:
    return f"<disk type='{kind}' device='{device}'><source {source}/><target dev='vda'/>{more}</disk>"


def planned(facts: DomainFacts, storage: HostStorage = HOST) -> PlannedVm:
    return planned_vm(VmState.of(facts), HostState("u-1", "kvm-1", storage=storage))


def held(facts: DomainFacts, storage: HostStorage = HOST) -> list[str]:
    return [reason.code for reason in planned(facts, storage).held]


@pytest.mark.parametrize(
    "devices",
    [
        "",
        disk("protocol='rbd' name='vms/web'", "network"),
        disk("protocol='iscsi' name='iqn.2026-01.org.example:web/1'", "network"),
        disk("file='/srv/images/web.qcow2'"),
        disk("pool='nfs' volume='web'", "volume"),
        disk("pool='ceph' volume='web'", "volume"),
        disk("pool='mounted' volume='web'", "volume"),
        "<disk type='file' device='cdrom'><target dev='sda'/></disk>",
        "<interface type='bridge'><source bridge='br0'/></interface>",
        "<hostdev mode='subsystem' type='usb'><source missing='yes'><vendor id='0x1234'/></source></hostdev>",
    ],
)
def test_without_storage_or_on_shared_storage_nothing_holds_a_vm(devices):
    assert held(domain(devices)) == []


@pytest.mark.parametrize(
    ("devices", "code"),
    [
        (disk("file='/var/lib/libvirt/images/web.qcow2'"), "local_disk"),
        (disk("file='/srv/images/local/web.qcow2'"), "local_disk"),
        (disk("dev='/dev/vg0/web'", "block"), "local_disk"),
        (disk("dir='/srv/images'", "dir"), "local_disk"),
        (disk("file='/iso/debian.iso'", device="cdrom", more="<readonly/>"), "local_disk"),
        (
            disk(
                "file='/srv/images/top.qcow2'",
                more="<backingStore type='file'><source file='/local/base.qcow2'/></backingStore>",
            ),
            "local_disk",
        ),
        (disk("pool='default' volume='web'", "volume"), "non_shared_pool"),
        (disk("pool='lvm' volume='web'", "volume"), "non_shared_pool"),
        (disk("pool='unheard-of' volume='web'", "volume"), "non_shared_pool"),
        ("<filesystem type='mount'><source dir='/srv'/><target dir='srv'/></filesystem>", "local_disk"),
        (
            "<hostdev mode='subsystem' type='pci'><source><address domain='0' bus='0x3b' slot='0'"
            " function='0'/></source></hostdev>",
            "device_passthrough",
        ),
        (
            "<hostdev mode='subsystem' type='mdev' model='vfio-pci'><source><address"
            " uuid='c2177883-f1bb-47f0-914d-32a22e3a8804'/></source></hostdev>",
            "device_passthrough",
        ),
        (
            "<hostdev mode='subsystem' type='usb'><source><vendor id='0x0951'/><product id='0x1666'/>"
            "</source></hostdev>",
            "device_passthrough",
        ),
        (
            "<interface type='hostdev'><source><address type='pci' domain='0' bus='0x3b' slot='2'"
            " function='0'/></source></interface>",
            "device_passthrough",
        ),
        ("<tpm model='tpm-tis'><backend type='passthrough'/></tpm>", "device_passthrough"),
    ],
)
def test_what_is_on_one_host_alone_holds_a_vm_there(devices, code):
    assert held(domain(devices)) == [code]


def test_every_reason_is_given_not_just_the_first():
    devices = disk("file='/a.img'") + disk("dev='/dev/sdz'", "block")
    assert held(domain(devices, block_jobs=("vda",))) == ["local_disk", "local_disk", "snapshot_or_block_job"]


def test_storage_that_could_not_be_read_is_not_taken_for_shared():
    unknown = HostStorage(None, None)
    assert held(domain(disk("file='/srv/images/web.qcow2'")), unknown) == ["local_disk"]
    assert held(domain(disk("pool='nfs' volume='web'", "volume")), unknown) == ["non_shared_pool"]


def test_a_medium_in_a_drive_says_to_eject_it():
    (reason,) = planned(domain(disk("file='/iso/a.iso'", device="cdrom"))).held
    assert "Eject" in reason.remedy


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"job": "migration_out"}, "migration_under_way"),
        ({"job": "migration_in"}, "migration_under_way"),
        ({"state": "paused", "reason": "migration"}, "migration_under_way"),
        ({"job": "backup"}, "job_running"),
        ({"job": "save"}, "job_running"),
        ({"job": "snapshot"}, "snapshot_or_block_job"),
        ({"state": None, "reason": None, "problems": ("Its QEMU does not answer.",)}, "vm_state_unknown"),
    ],
)
def test_what_is_under_way_with_a_vm_keeps_hands_off_it(fields, code):
    assert [reason.code for reason in planned(domain(**fields)).busy] == [code]


def test_a_vm_whose_description_cannot_be_read_stays():
    assert held(domain(xml=None)) == ["vm_state_unknown"]
    assert held(domain(xml="<not xml")) == ["vm_state_unknown"]


def test_a_crashed_vm_is_not_migrated():
    assert held(domain(state="crashed", reason="panicked")) == ["vm_not_running"]


def test_snapshots_hold_a_vm_as_libvirt_migrates_none_that_has_any():
    assert held(domain(snapshots=3)) == ["snapshot_or_block_job"]


def test_of_a_vm_that_is_off_nothing_is_asked():
    vm = planned(domain(disk("file='/a.img'"), state="shutoff", active=False))
    assert (vm.held, vm.busy, vm.active) == ((), (), False)


def test_what_matters_without_being_in_the_way_is_noted():
    notes = planned(domain(state="paused", persistent=False)).notes
    expected = ["paused", "transient"]
    assert [word for word in expected if any(word in note for note in notes)] == expected


def test_its_size_is_read_off_its_description_where_libvirt_does_not_tell():
    vm = planned(domain(memory_max_bytes=None, vcpus=None))
    assert (vm.memory_bytes, vm.vcpus) == (512 << 20, 2)


@pytest.mark.parametrize(("action", "anew"), [("restart", True), ("destroy", False)])
def test_a_vm_that_is_started_again_after_it_has_shut_down_is_known(action, anew):
    facts = domain()
    xml = facts.xml.replace("<devices>", f"<on_poweroff>{action}</on_poweroff><devices>")
    assert planned(replace(facts, xml=xml)).starts_anew is anew
