"""What a block device is, the same on each host whatever its path there, and what has no such name."""

from __future__ import annotations

import json
from typing import Any

import pytest

from nodes.inventory.block.identity import BlockIdentity, HostBlockIdentities, read_identities
from nodes.inventory.block.names import iscsi_units, map_name, world_wide_name
from nodes.inventory.document import HostDocument
from tests.inventory.disk_host import PCI, DiskHost

NAA = "naa.60014055a1b2c3d4e5f60718293a4b5c"
OTHER = "naa.60014055ffb2c3d4e5f60718293a4b5d"
VG, LV = "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6", "q1R2s3T4u5V6w7X8y9Z0a1B2c3D4e5F6"
IQN = "iqn.2026-01.org.example:vms"


def session(number: int = 3, unit: int = 1) -> str:
    """Where a disk of an iSCSI session is in sysfs."""
    place = f"{number}:0:0:{unit}"
    return f"/sys/devices/platform/host{number}/session1/target{number}:0:0/{place}/block"


def lun(host: DiskHost, name: str, wwid: str = NAA, *, unit: int = 1, number: int = 3, **row: Any) -> str:
    path = host.block(name, session(number, unit), files={"device/wwid": wwid} if wwid else {}, **row)
    host.links.append(f"/dev/disk/by-path/ip-192.0.2.9:3260-iscsi-{IQN}-lun-{unit} -> ../../{name}")
    return path


def read(host: DiskHost) -> HostBlockIdentities:
    found = read_identities(host.document())
    assert found is not None
    return found


# -- names -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "name"),
    [
        (NAA, NAA),
        ("0x60014055A1B2C3D4E5F60718293A4B5C", NAA),
        ("naa.5000c500a1b2c3d4", "naa.5000c500a1b2c3d4"),
        ("0x5000c500a1b2c3d4", "naa.5000c500a1b2c3d4"),
        ("eui.002538b441b2c3d4", "eui.002538b441b2c3d4"),
        ("eui.8ce38ee20a1b2c3d4e5f60718293a4b5", "eui.8ce38ee20a1b2c3d4e5f60718293a4b5"),
        ("uuid.0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9", "uuid.0a1b2c3d4e5f60718293a4b5c6d7e8f9"),
        ("nvme.1b36-53314242594e5130-51454d55-00000001",) * 2,
    ],
)
def test_world_wide_names_read_alike_whoever_writes_them(told, name):
    assert world_wide_name(told) == name


@pytest.mark.parametrize(
    "told",
    [
        "",
        "t10.ATA     QEMU HARDDISK                           QM00001",
        "naa.0000000000000000",
        "naa.5000000000000001",  # no vendor
        "naa.60000000000000000e00000000010001",  # what every target of tgt calls its first unit
        "naa.60014050000000000000000000000000",  # the vendor's unit number was never set
        "naa.3333333000001f40",  # assigned locally, by scsi_debug
        "naa.6001405aaaa0001",  # cut off
        "eui.0000000000000001",
        "eui.00000000000000000000000000000000",
        "uuid.00000000-0000-0000-0000-000000000000",
        "nvme.1b36-303132333435363738394142-51454d55-00000001",  # serial 0123456789AB
        "nvme.1b36-30303030-51454d55-00000001",
        "nvme.1b36-xyz-51454d55-00000001",
        "0x",
        "naa.",
    ],
)
def test_a_name_that_two_disks_may_have_is_none(told):
    assert world_wide_name(told) is None


def test_a_multipath_map_is_called_as_its_disk():
    assert map_name("mpath-360014055a1b2c3d4e5f60718293a4b5c") == NAA
    assert map_name("mpath-2002538b441b2c3d4") == "eui.002538b441b2c3d4"
    assert map_name("mpath-eui.002538b441b2c3d4") == "eui.002538b441b2c3d4"
    assert map_name("mpath-1ATA     QEMU HARDDISK") is None


def test_iscsi_units_are_told_by_target_and_number_whatever_the_portal():
    paths = {
        f"/dev/disk/by-path/ip-192.0.2.9:3260-iscsi-{IQN}-lun-4": "sda",
        f"/dev/disk/by-path/ip-[fd00::9]:3260-iscsi-{IQN}-lun-4": "sdb",
        f"/dev/disk/by-path/ip-192.0.2.9:3260-iscsi-{IQN}-lun-4-part1": "sda1",
        f"/dev/disk/by-path/ip-192.0.2.9:3260-iscsi-{IQN}-lun-0x0101000000000000": "sdc",
        "/dev/disk/by-path/pci-0000:00:1f.2-ata-1": "sdd",
    }
    assert iscsi_units(paths) == {
        "sda": f"iscsi.{IQN},4",
        "sdb": f"iscsi.{IQN},4",
        "sdc": f"iscsi.{IQN},{0x0101000000000000}",
    }


# -- devices ---------------------------------------------------------------------------------------


def multipath_host() -> DiskHost:
    host = DiskHost()
    lun(host, "sdq", number=3)
    lun(host, "sdr", number=4)
    uuid = "mpath-360014055a1b2c3d4e5f60718293a4b5c"
    host.volume("dm-7", ["sdq", "sdr"], known_as="vmstore", uuid=uuid)
    host.links.append("/dev/disk/by-id/wwn-0x60014055a1b2c3d4e5f60718293a4b5c -> ../../dm-7")
    return host


def plain_host() -> DiskHost:
    host = DiskHost()
    host.sata("sda")
    lun(host, "sdb")
    host.links.append("/dev/disk/by-id/wwn-0x60014055a1b2c3d4e5f60718293a4b5c -> ../../sdb")
    return host


def test_one_disk_is_the_same_by_every_path_on_two_hosts():
    many, one = read(multipath_host()), read(plain_host())
    by_id = "/dev/disk/by-id/wwn-0x60014055a1b2c3d4e5f60718293a4b5c"
    known = {many.at(path) for path in ("/dev/mapper/vmstore", "/dev/dm-7", "/dev/sdq", "/dev/sdr", by_id)}
    known |= {one.at(path) for path in ("/dev/sdb", by_id, "/dev/../dev/sdb")}
    assert known == {BlockIdentity(frozenset({NAA}))}
    assert many.preferred[BlockIdentity(frozenset({NAA}))] == "/dev/mapper/vmstore"
    assert one.preferred[BlockIdentity(frozenset({NAA}))] == by_id


def test_a_partition_is_the_same_one_of_the_same_disk():
    one, other = DiskHost(), multipath_host()
    path = lun(one, "sdb")
    one.partition("sdb", 2, path)
    uuid = "part2-mpath-360014055a1b2c3d4e5f60718293a4b5c"
    other.volume("dm-8", ["dm-7"], known_as="vmstore-part2", uuid=uuid)
    assert read(one).at("/dev/sdb2") == read(other).at("/dev/mapper/vmstore-part2")
    assert read(one).at("/dev/sdb2") not in (read(one).at("/dev/sdb"), None)


@pytest.mark.parametrize("wwid", ["", "naa.60000000000000000e00000000010001", "t10.IET     00010001"])
def test_a_disk_of_no_name_to_rely_on_is_its_iscsi_target_and_unit(wwid):
    one, other, next_unit = DiskHost(), DiskHost(), DiskHost()
    lun(one, "sda", wwid)
    lun(other, "sdx", wwid, number=9)
    lun(next_unit, "sda", wwid, unit=2)
    assert (
        read(one).at("/dev/sda") == read(other).at("/dev/sdx") == BlockIdentity(frozenset({f"iscsi.{IQN},1"}))
    )
    assert read(next_unit).at("/dev/sda") != read(one).at("/dev/sda")


def test_the_same_target_and_unit_with_another_world_wide_name_is_another_disk():
    one, other = DiskHost(), DiskHost()
    lun(one, "sda", NAA)
    lun(other, "sda", OTHER)
    assert read(one).at("/dev/sda") != read(other).at("/dev/sda")


def test_what_one_host_alone_can_hold_has_no_identity():
    host = DiskHost()
    host.sata("sda", files={"device/wwid": NAA})
    host.block("sdb", f"{PCI}/usb1/1-2/host7/target7:0:0/7:0:0:0/block", files={"device/wwid": NAA})
    pcie = "/sys/devices/pci0000:00/0000:00:04.0/nvme/nvme0"
    host.block("nvme0n1", pcie, files={"wwid": "eui.002538b441b2c3d4"})
    host.files.append("/sys/class/nvme/nvme0/transport:pcie")
    host.block("vda", "/sys/devices/pci0000:00/0000:00:05.0/virtio2/block")
    host.volume("md0", ["sda", "sdb"])
    found = read(host)
    assert found.identities == {}
    assert found.has("/dev/sda") and not found.has("/dev/sdz")


def test_an_nvme_namespace_over_a_fabric_is_named_by_itself():
    host = DiskHost()
    fabric = "/sys/devices/virtual/nvme-fabrics/ctl/nvme4"
    host.block("nvme4n1", fabric, files={"wwid": "uuid.0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9"})
    host.files.append("/sys/class/nvme/nvme4/transport:tcp")
    assert str(read(host).at("/dev/nvme4n1")) == "uuid.0a1b2c3d4e5f60718293a4b5c6d7e8f9"


def test_a_map_whose_paths_lead_to_different_disks_is_none():
    host = DiskHost()
    lun(host, "sdq", NAA)
    lun(host, "sdr", OTHER, number=4)
    host.volume("dm-7", ["sdq", "sdr"], known_as="odd", uuid="mpath-360014055a1b2c3d4e5f60718293a4b5c")
    assert read(host).at("/dev/mapper/odd") is None


# -- LVM -------------------------------------------------------------------------------------------


def lvm_report(*disks: str, uuid: str = VG) -> str:
    dashed = "-".join((uuid[:6], *(uuid[i : i + 4] for i in range(6, 26, 4)), uuid[26:]))
    row = {"vg": [{"vg_name": "vms", "vg_uuid": dashed}], "pv": [], "lv": []}
    row["pv"] = [{"pv_name": disk, "vg_name": "vms", "pv_uuid": disk} for disk in disks]
    return json.dumps({"report": [row]})


def lvm_host(disk: str = "sdb", wwid: str = NAA, *, report: bool = True) -> DiskHost:
    host = DiskHost()
    lun(host, disk, wwid)
    host.volume("dm-0", [disk], known_as="vms-web--1", uuid=f"LVM-{VG}{LV}")
    if report:
        host.texts["disk-lvm"] = lvm_report(f"/dev/{disk}")
    return host


def test_a_logical_volume_is_the_same_on_the_same_disks_alone():
    one, other = read(lvm_host("sdb")), read(lvm_host("sdk"))
    cloned = read(lvm_host("sdb", OTHER))
    assert one.at("/dev/vms/web-1") == other.at("/dev/mapper/vms-web--1") is not None
    assert one.at("/dev/vms/web-1") != cloned.at("/dev/vms/web-1")


@pytest.mark.parametrize(("here", "there"), [(True, True), (True, False), (False, False)])
def test_a_volume_group_is_told_by_its_report_or_by_its_active_volumes(here, there):
    one, other = read(lvm_host(report=here)).groups["vms"], read(lvm_host("sdk", report=there)).groups["vms"]
    assert one.same(other) and other.same(one)
    assert not one.same(read(lvm_host(wwid=OTHER, report=there)).groups["vms"])


def test_a_group_with_a_disk_of_one_host_alone_is_not_shared():
    host = lvm_host()
    host.sata("sda")
    host.texts["disk-lvm"] = lvm_report("/dev/sdb", "/dev/sda")
    assert read(host).groups == {}


def test_volumes_that_two_hosts_must_not_open_have_no_identity():
    host = lvm_host()
    pool = "z" * 32
    host.volume("dm-1", ["sdb"], known_as="vms-thin_tdata", uuid=f"LVM-{VG}{pool}-tdata")
    host.volume("dm-2", ["dm-1"], known_as="vms-thin-tpool", uuid=f"LVM-{VG}{pool}-tpool")
    host.volume("dm-3", ["dm-2"], known_as="vms-guest", uuid=f"LVM-{VG}{'g' * 32}")
    for number, part in enumerate(("rimage", "rmeta"), 4):
        uuid = f"LVM-{VG}{part[1] * 32}"
        host.volume(f"dm-{number}", ["sdb"], known_as=f"vms-mirror_{part}_0", uuid=uuid)
    host.volume("dm-6", ["dm-4", "dm-5"], known_as="vms-mirror", uuid=f"LVM-{VG}{'w' * 32}")
    assert read(host).at("/dev/mapper/vms-guest") is None
    assert read(host).at("/dev/mapper/vms-mirror") is None
    assert read(host).at("/dev/vms/web-1") is not None


# -- damage ----------------------------------------------------------------------------------------


def test_a_host_whose_kernel_was_not_read_is_told_from_one_without_disks():
    assert read_identities(HostDocument("", {})) is None


def test_a_ring_of_devices_ends():
    host = DiskHost()
    host.volume("dm-0", ["dm-1"], known_as="a", uuid=f"LVM-{VG}{LV}")
    host.volume("dm-1", ["dm-0"], known_as="b", uuid=f"LVM-{VG}{LV[::-1]}")
    assert read(host).identities == {}


def test_a_volume_of_a_pool_is_traced_to_its_disk():
    host = DiskHost()
    lun(host, "sdb")
    host.pool("san", "iscsi", f"<source><device path='{IQN}'/></source>")
    assert read(host).of_volume("san", "unit:0:0:1") == BlockIdentity(frozenset({NAA}))
    assert read(host).of_volume("san", "unit:0:0:2") is None
