"""Whether a target has the storage that a VM's disks lie on, and what holds a VM on its host."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from nodes.inventory.block.identity import read_identities
from nodes.inventory.mounts import read_mounts
from nodes.inventory.pools import Pool, PoolSource
from nodes.operations.plan.constraints import storage_source
from nodes.operations.plan.disk_paths import moved_paths
from nodes.operations.plan.held_storage import held_by_disks
from nodes.operations.plan.host_state import HostState
from nodes.operations.storage import DeclaredShare, HostStorage
from tests.inventory.disk_host import DiskHost
from tests.inventory.test_block_identity import (
    IQN,
    LV,
    NAA,
    OTHER,
    VG,
    lun,
    lvm_host,
    lvm_report,
    multipath_host,
)
from tests.operations.plan.constraints.states import codes, disk, found, source, target, vm

MOUNTS = read_mounts(
    [
        "21 1 8:1 / / rw - ext4 /dev/sda1 rw",
        "40 21 0:44 / /srv/images rw - nfs4 nas:/images rw",
    ]
)
BY_ID = "/dev/disk/by-id/wwn-0x60014055a1b2c3d4e5f60718293a4b5c"


def pool(
    name: str,
    kind: str,
    /,
    *,
    path: str | None = None,
    active: bool = True,
    hosts: tuple[str, ...] = (),
    **origin: Any,
) -> Pool:
    unknown = dict.fromkeys(field.name for field in fields(Pool))
    told = {"uuid": name, "name": name, "type": kind, "active": active, "target_path": path}
    made_of = {"devices": (), "directory": None, "name": None, "format": None, "adapter": None}
    return Pool(
        **unknown | told | {"source": PoolSource(**made_of | {"hosts": hosts, "initiator": None} | origin)}
    )


def storage(*pools: Pool) -> HostStorage:
    return HostStorage({row.name: row for row in pools}, MOUNTS)


NFS = pool("nfs", "netfs", path="/var/lib/nfs", hosts=("nas",), directory="/vms")
HOST = storage(NFS)
ON_NFS = disk("pool='nfs' volume='web'", "volume")


def blocks(host: DiskHost | None) -> dict[str, Any]:
    return {"blocks": read_identities(host.document())} if host is not None else {}


def judged(devices: str, here: HostState, there: HostState) -> list[str]:
    return codes(found(storage_source.check, vm(devices), here, there))


def missing(devices: str, there: HostStorage, here: HostStorage = HOST) -> list[str]:
    return judged(devices, source(storage=here), target(storage=there))


def held(devices: str, here: HostState) -> list[str]:
    return [reason.code for reason in held_by_disks(vm(devices).xml.disks, here)]


# -- files and network pools -----------------------------------------------------------------------


def test_a_target_with_the_same_pools_and_mounts_lacks_nothing():
    assert missing(ON_NFS + disk("file='/srv/images/web.qcow2'"), HOST) == []


@pytest.mark.parametrize(
    ("devices", "there"),
    [
        (ON_NFS, HostStorage({}, MOUNTS)),
        (ON_NFS, storage(pool("nfs", "netfs", active=False, hosts=("nas",), directory="/vms"))),
        (ON_NFS, storage(pool("nfs", "dir"))),
        (ON_NFS, HostStorage(None, MOUNTS)),
        (disk("file='/srv/images/web.qcow2'"), HostStorage({}, MOUNTS[:1])),
        (disk("file='/srv/images/web.qcow2'"), HostStorage({}, None)),
        (
            disk("file='/srv/images/web.qcow2'"),
            HostStorage({}, read_mounts(["9 1 0:4 / /srv/images rw - nfs4 other:/images rw"])),
        ),
        (
            # The same export, but the path leads to another file of it.
            disk("file='/srv/images/web.qcow2'"),
            HostStorage({}, read_mounts(["9 1 0:4 / /srv rw - nfs4 nas:/images rw"])),
        ),
    ],
)
def test_a_target_without_the_storage_is_told_from_one_that_has_it(devices, there):
    assert missing(devices, there) == ["storage_not_on_target"]


SAME, DIFFERENT = [], ["storage_not_on_target"]


@pytest.mark.parametrize(
    ("here", "there", "expected"),
    [
        (NFS, pool("nfs", "netfs", path="/mnt/elsewhere", hosts=("NAS.",), directory="/vms/"), SAME),
        (NFS, pool("nfs", "netfs", hosts=("nas",), directory="/other"), DIFFERENT),
        (NFS, pool("nfs", "netfs", hosts=("nas2",), directory="/vms"), DIFFERENT),
        (NFS, pool("nfs", "netfs"), DIFFERENT),
        (
            pool("nfs", "rbd", name="vms", hosts=("mon1:6789", "mon2")),
            pool("nfs", "rbd", name="vms", hosts=("mon2:6789", "mon3")),
            SAME,
        ),
        (
            pool("nfs", "rbd", name="vms", hosts=("mon1",)),
            pool("nfs", "rbd", name="vms", hosts=("mon9",)),
            DIFFERENT,
        ),
        (
            pool("nfs", "rbd", name="vms", hosts=("mon1",)),
            pool("nfs", "rbd", name="test", hosts=("mon1",)),
            DIFFERENT,
        ),
        (
            pool("nfs", "gluster", name="gv0", directory="/", hosts=("g1",)),
            pool("nfs", "gluster", name="gv0", hosts=("g1", "g2")),
            SAME,
        ),
        (
            pool("nfs", "gluster", name="gv0", directory="/a", hosts=("g1",)),
            pool("nfs", "gluster", name="gv0", directory="/b", hosts=("g1",)),
            DIFFERENT,
        ),
        (
            pool("nfs", "iscsi-direct", devices=(IQN,), hosts=("192.0.2.9:3260",)),
            pool("nfs", "iscsi-direct", devices=(IQN,), hosts=("192.0.2.9",)),
            SAME,
        ),
        (
            pool("nfs", "iscsi", devices=(IQN,), hosts=("192.0.2.9",)),
            pool("nfs", "iscsi", devices=(f"{IQN}2",), hosts=("192.0.2.9",)),
            DIFFERENT,
        ),
    ],
)
def test_pools_of_one_name_are_judged_by_their_source(here, there, expected):
    assert missing(ON_NFS, storage(there), storage(here)) == expected


def test_a_pool_that_is_a_directory_is_judged_by_what_is_mounted():
    here = storage(pool("nfs", "dir", path="/srv/images/vms"))
    assert missing(ON_NFS, here, here) == []
    assert missing(ON_NFS, storage(pool("nfs", "dir", path="/srv/images/old")), here) == DIFFERENT
    assert missing(ON_NFS, storage(pool("nfs", "dir", path="/var/images/vms")), here) == DIFFERENT


# -- block devices ---------------------------------------------------------------------------------


def san_host(name: str = "sdb", wwid: str = NAA, *, by_id: bool = True) -> DiskHost:
    host = DiskHost()
    host.sata("sda")
    lun(host, name, wwid)
    if by_id:
        host.links.append(f"/dev/disk/by-id/wwn-0x{wwid[4:]} -> ../../{name}")
    return host


@pytest.mark.parametrize(
    "path", [BY_ID, "/dev/sdb", f"/dev/disk/by-path/ip-192.0.2.9:3260-iscsi-{IQN}-lun-1"]
)
@pytest.mark.parametrize("there", [multipath_host(), san_host("sdb"), san_host("sdk")])
def test_a_disk_that_both_hosts_have_is_shared_by_whatever_path(path, there):
    here, other = source(**blocks(san_host())), target(**blocks(there))
    machine = vm(disk(f"dev='{path}'", "block"))
    assert held(disk(f"dev='{path}'", "block"), here) == []
    assert codes(found(storage_source.check, machine, here, other)) == []
    opened = moved_paths(machine, here, other).get(path, path)
    assert other.blocks.at(opened) == here.blocks.at(path)
    assert opened.startswith(("/dev/disk/by-", "/dev/mapper/"))


def test_a_path_that_is_another_disk_on_the_target_is_never_opened_there():
    here, other = source(**blocks(san_host("sdb"))), target(**blocks(san_host("sdb", OTHER)))
    assert judged(disk("dev='/dev/sdb'", "block"), here, other) == DIFFERENT
    there = san_host("sdk")
    lun(there, "sdb", OTHER, number=7)
    machine, other = vm(disk("dev='/dev/sdb'", "block")), target(**blocks(there))
    assert moved_paths(machine, here, other) == {"/dev/sdb": BY_ID}
    findings = found(storage_source.check, machine, here, other)
    assert findings.reasons == () and BY_ID in findings.notes[0]


def test_multipath_maps_whose_short_names_differ_between_hosts_are_told_apart():
    def maps(**disks: str) -> DiskHost:
        host = DiskHost()
        for number, (name, wwid) in enumerate(disks.items(), 3):
            lun(host, f"sd{number}", wwid, number=number)
            host.volume(f"dm-{number}", [f"sd{number}"], known_as=name, uuid=f"mpath-3{wwid[4:]}")
        return host

    machine = vm(disk("dev='/dev/mapper/mpatha'", "block"))
    here = source(**blocks(maps(mpatha=NAA, mpathb=OTHER)))
    swapped = target(**blocks(maps(mpatha=OTHER, mpathb=NAA)))
    assert codes(found(storage_source.check, machine, here, swapped)) == []
    assert moved_paths(machine, here, swapped) == {"/dev/mapper/mpatha": "/dev/mapper/mpathb"}
    without = target(**blocks(maps(mpatha=OTHER)))
    assert codes(found(storage_source.check, machine, here, without)) == DIFFERENT
    assert moved_paths(machine, here, without) == {}


def test_a_disk_without_a_steady_path_on_the_target_is_not_opened_by_chance():
    bare = san_host("sdk", by_id=False)
    bare.links = [link for link in bare.links if "by-path" not in link]
    here, other = source(**blocks(san_host())), target(**blocks(bare))
    (reason,) = found(storage_source.check, vm(disk("dev='/dev/sdb'", "block")), here, other).reasons
    assert reason.code == "storage_not_on_target" and "/dev/sdk" in reason.message


@pytest.mark.parametrize("there", [DiskHost(), san_host(wwid=OTHER), None])
def test_a_target_without_the_disk_or_that_did_not_tell_takes_no_vm(there):
    here, other = source(**blocks(san_host())), target(**blocks(there))
    assert judged(disk(f"dev='{BY_ID}'", "block"), here, other) == DIFFERENT


def test_a_local_disk_and_one_of_a_made_up_name_hold_their_vm():
    host = san_host(wwid="naa.5000000000000001", by_id=False)
    host.links = [link for link in host.links if "by-path" not in link]
    here = source(**blocks(host))
    assert held(disk("dev='/dev/sda'", "block"), here) == ["local_disk"]
    assert held(disk("dev='/dev/sdb'", "block"), here) == ["local_disk"]
    assert held(disk("dev='/dev/sdz'", "block"), here) == ["local_disk"]
    assert held(disk("dev='/dev/sdb'", "block"), source()) == ["local_disk"]


def test_every_file_below_an_overlay_on_a_shared_disk_counts():
    below = "<backingStore type='file'><source file='/var/lib/base.qcow2'/></backingStore>"
    overlay = disk(f"dev='{BY_ID}'", "block", more=below)
    assert held(overlay, source(storage=HOST, **blocks(san_host()))) == ["local_disk"]
    shared = overlay.replace("/var/lib/base.qcow2", "/srv/images/base.qcow2")
    here = source(storage=HOST, **blocks(san_host()))
    assert held(shared, here) == []
    assert (
        judged(shared, here, target(storage=HostStorage({}, MOUNTS[:1]), **blocks(san_host()))) == DIFFERENT
    )


# -- volume groups and pools of disks --------------------------------------------------------------

ON_LVM = disk("pool='vg' volume='web-1'", "volume")
LVM_POOL = storage(pool("vg", "logical", path="/dev/vms", name="vms"))


@pytest.mark.parametrize(
    ("there", "expected"),
    [
        (lvm_host("sdk"), SAME),
        (lvm_host(report=False), SAME),
        (lvm_host(wwid=OTHER), DIFFERENT),
        (san_host(), DIFFERENT),
        (None, DIFFERENT),
    ],
)
def test_a_logical_pool_is_shared_where_its_group_lies_on_the_same_disks(there, expected):
    here = source(storage=LVM_POOL, **blocks(lvm_host()))
    assert held(ON_LVM, here) == []
    assert judged(ON_LVM, here, target(storage=LVM_POOL, **blocks(there))) == expected


def test_a_volume_that_is_not_active_on_the_target_says_how_to_activate_it():
    there = DiskHost()
    lun(there, "sdb")
    there.texts["disk-lvm"] = lvm_report("/dev/sdb")
    other = target(storage=LVM_POOL, **blocks(there))
    here = source(storage=LVM_POOL, **blocks(lvm_host()))
    for devices in (ON_LVM, disk("dev='/dev/vms/web-1'", "block")):
        (reason,) = found(storage_source.check, vm(devices), here, other).reasons
        assert "lvchange -ay" in reason.remedy


def test_groups_of_one_name_on_local_disks_hold_their_vms():
    host = DiskHost()
    host.sata("sda")
    host.volume("dm-0", ["sda"], known_as="vms-web--1", uuid=f"LVM-{VG}{LV}")
    host.texts["disk-lvm"] = lvm_report("/dev/sda")
    here = source(storage=LVM_POOL, **blocks(host))
    assert held(ON_LVM, here) == ["non_shared_pool"]
    assert held(disk("dev='/dev/vms/web-1'", "block"), here) == ["local_disk"]


def unit_host(name: str, wwid: str, kind: str) -> tuple[HostStorage, DiskHost]:
    host = san_host(name, wwid)
    xml = "<adapter type='scsi_host' name='host3'/>" if kind == "scsi" else f"<device path='{IQN}'/>"
    host.pool("san", kind, f"<source>{xml}</source><target><path>/dev/disk/by-path</path></target>")
    return storage(pool("san", kind, devices=(IQN,), hosts=("192.0.2.9",))), host


@pytest.mark.parametrize("kind", ["scsi", "iscsi"])
def test_a_pool_of_whole_disks_is_judged_by_the_disk_that_a_volume_is(kind):
    devices = disk("pool='san' volume='unit:0:0:1'", "volume")
    known, host = unit_host("sdb", NAA, kind)
    here = source(storage=known, **blocks(host))
    for wwid, expected in ((NAA, SAME), (OTHER, DIFFERENT)):
        there, other = unit_host("sdm", wwid, kind)
        assert judged(devices, here, target(storage=there, **blocks(other))) == expected


def test_a_volume_of_a_multipath_pool_is_judged_by_its_disk():
    known = storage(pool("san", "mpath", path="/dev/mapper"))
    devices = disk("pool='san' volume='dm-7'", "volume")
    here, there, bare = multipath_host(), multipath_host(), san_host()
    for host in (here, there, bare):
        host.pool("san", "mpath", "<target><path>/dev/mapper</path></target>")
    mine = source(storage=known, **blocks(here))
    assert judged(devices, mine, target(storage=known, **blocks(there))) == SAME
    assert judged(devices, mine, target(storage=known, **blocks(bare))) == DIFFERENT


# -- what was declared -----------------------------------------------------------------------------


def share(kind: str, name: str, number: int = 1) -> dict[str, Any]:
    return {"declared": (DeclaredShare(number, kind, name, "anna"),)}


@pytest.mark.parametrize(
    ("devices", "declared"),
    [
        (disk("file='/data/vms/web.qcow2'"), share("path", "/data/vms")),
        (disk("file='/data/vms/web.qcow2'"), share("path", "/data/vms/")),
        (disk("dev='/dev/drbd0'", "block"), share("path", "/dev/drbd0")),
        (disk("pool='local' volume='web'", "volume"), share("pool", "local")),
        (disk("file='/var/lib/local/web.qcow2'"), share("pool", "local")),
        (disk("pool='local' volume='web'", "volume"), share("path", "/var/lib")),
        (disk("dev='/dev/vms/web-1'", "block"), share("volume_group", "vms")),
        (disk("dev='/dev/mapper/vms-web--1'", "block"), share("volume_group", "vms")),
        (disk("pool='vg' volume='web-1'", "volume"), share("volume_group", "vms")),
    ],
)
def test_storage_that_was_declared_shared_holds_no_vm_and_says_who_did(devices, declared):
    known = storage(
        pool("local", "dir", path="/var/lib/local"), pool("vg", "logical", path="/dev/vms", name="vms")
    )
    here, there = source(storage=known, **declared), target(storage=known, **declared)
    assert held(devices, here) == []
    findings = found(storage_source.check, vm(devices), here, there)
    assert findings.reasons == () and "declared shared by anna" in findings.notes[0]
    undeclared = target(storage=known)
    another = target(storage=known, **share(declared["declared"][0].kind, declared["declared"][0].name, 2))
    assert judged(devices, here, undeclared) == judged(devices, here, another) == DIFFERENT
    assert held(devices, source(storage=known)) != []


@pytest.mark.parametrize(
    "devices",
    [
        disk("file='/data/vms2/web.qcow2'"),
        disk("file='/data/vms/../local/web.qcow2'"),
        disk("file='/data'"),
        disk(
            "file='/data/vms/top.qcow2'",
            more="<backingStore type='file'><source file='/local/base.qcow2'/></backingStore>",
        ),
    ],
)
def test_a_declared_path_ends_at_a_component_and_covers_the_whole_chain(devices):
    assert held(devices, source(storage=HOST, **share("path", "/data/vms"))) == ["local_disk"]


def test_a_declared_pool_has_to_run_on_the_target():
    known, declared = storage(pool("local", "dir", path="/var/lib/local")), share("pool", "local")
    devices = disk("pool='local' volume='web'", "volume")
    assert judged(devices, source(storage=known, **declared), target(storage=HOST, **declared)) == DIFFERENT


def test_what_both_hosts_were_found_to_share_needs_no_declaration_of_the_target():
    here = source(storage=HOST, **share("path", "/srv/images"))
    assert judged(disk("file='/srv/images/web.qcow2'"), here, target(storage=HOST)) == []


# -- called alike, and another storage ---------------------------------------------------------------


def test_a_pool_of_one_name_in_another_directory_of_declared_storage_is_another_pool():
    devices, declared = disk("pool='local' volume='web'", "volume"), share("path", "/srv/shared")
    here = source(storage=storage(pool("local", "dir", path="/srv/shared/a")), **declared)
    for path, expected in (("/srv/shared/a", SAME), ("/srv/shared/b", DIFFERENT)):
        there = target(storage=storage(pool("local", "dir", path=path)), **declared)
        assert judged(devices, here, there) == expected


def test_a_path_at_another_place_in_a_declared_pool_is_another_file():
    devices, declared = disk("file='/srv/vms/a/web.qcow2'"), share("pool", "local")
    here = source(storage=storage(pool("local", "dir", path="/srv/vms/a")), **declared)
    for path, expected in (("/srv/vms/a", SAME), ("/srv/vms", DIFFERENT)):
        there = target(storage=storage(pool("local", "dir", path=path)), **declared)
        assert judged(devices, here, there) == expected


def test_a_pool_that_is_known_by_its_declaration_alone_goes_to_no_node_outside_of_it():
    devices = disk("pool='local' volume='web'", "volume")
    here = source(storage=HostStorage(None, MOUNTS), **share("pool", "local"))
    assert held(devices, here) == []
    there = storage(pool("local", "dir", path="/var/lib/local"))
    assert judged(devices, here, target(storage=there)) == DIFFERENT
    assert judged(devices, here, target(storage=there, **share("pool", "local"))) == SAME


def test_the_backing_files_of_a_volume_count_as_those_of_a_file_do():
    def on_nfs(path: str) -> str:
        below = f"<backingStore type='file'><source file='{path}'/></backingStore>"
        return disk("pool='nfs' volume='web'", "volume", more=below)

    assert held(on_nfs("/var/lib/base.qcow2"), source(storage=HOST)) == ["local_disk"]
    assert missing(on_nfs("/srv/images/base.qcow2"), HOST) == SAME
    assert missing(on_nfs("/srv/images/base.qcow2"), HostStorage({"nfs": NFS}, MOUNTS[:1])) == DIFFERENT


@pytest.mark.parametrize(
    ("kind", "of"),
    [
        ("nfs4", "localhost:/images"),
        ("nfs", "127.0.0.1:/images"),
        ("nfs4", "[::1]:/images"),
        ("cifs", "//localhost/images"),
        ("virtiofs", "images"),
        ("9p", "images"),
    ],
)
def test_a_file_system_that_every_host_calls_alike_is_shared_by_declaration_alone(kind, of):
    known = HostStorage({}, read_mounts([f"40 21 0:44 / /srv/images rw - {kind} {of} rw"]))
    devices = disk("file='/srv/images/web.qcow2'")
    assert missing(devices, known, known) == DIFFERENT
    declared = share("path", "/srv/images")
    assert judged(devices, source(storage=known, **declared), target(storage=known, **declared)) == SAME


def test_a_network_pool_of_each_host_itself_is_not_taken_for_one():
    own = storage(pool("nfs", "netfs", path="/var/lib/nfs", hosts=("localhost",), directory="/vms"))
    assert missing(ON_NFS, own, own) == DIFFERENT


def test_another_directory_of_the_same_file_system_on_the_same_mount_point_is_another_storage():
    def bound(directory: str) -> HostStorage:
        return HostStorage({}, read_mounts([f"40 21 0:44 {directory} /srv/images rw - ceph mon:/ rw"]))

    devices = disk("file='/srv/images/web.qcow2'")
    assert missing(devices, bound("/a"), bound("/a")) == SAME
    assert missing(devices, bound("/b"), bound("/a")) == DIFFERENT


def test_a_declaration_counts_for_nothing_where_the_disks_have_different_names():
    devices, declared = disk("dev='/dev/sdb'", "block"), share("path", "/dev/sdb")
    here = source(storage=HOST, **blocks(san_host("sdb", NAA)), **declared)
    for wwid, expected in ((NAA, SAME), (OTHER, DIFFERENT)):
        there = target(storage=HOST, **blocks(san_host("sdb", wwid)), **declared)
        assert judged(devices, here, there) == expected
    assert judged(devices, here, target(storage=HOST, **declared)) == SAME, "nothing speaks against it"


def test_a_cluster_file_system_on_a_disk_of_the_target_alone_is_another_one():
    mounts = read_mounts(["40 21 8:16 / /srv/images rw - ocfs2 /dev/sdb rw"])
    devices, known = disk("file='/srv/images/web.qcow2'"), HostStorage({}, mounts)
    alone = DiskHost()
    alone.sata("sda")
    alone.sata("sdb")
    here = source(storage=known, **blocks(san_host("sdb", NAA)))
    assert judged(devices, here, target(storage=known, **blocks(san_host("sdb", NAA)))) == SAME
    assert judged(devices, here, target(storage=known, **blocks(san_host("sdb", OTHER)))) == DIFFERENT
    assert judged(devices, here, target(storage=known, **blocks(alone))) == DIFFERENT
    unread = found(storage_source.check, vm(devices), here, target(storage=known))
    assert unread.reasons == () and unread.notes[0].startswith("Not verified")
