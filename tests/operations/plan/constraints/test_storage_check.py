"""Which files libvirt would refuse a migration for, not knowing that they are on shared storage."""

from __future__ import annotations

import pytest

from nodes.inventory.mounts import read_mounts
from nodes.operations.plan.constraints import storage_check
from nodes.operations.storage import DeclaredShare, HostStorage
from tests.operations.plan.constraints.states import disk, found, source, target, vm
from tests.operations.plan.constraints.test_storage_source import pool

MOUNTS = read_mounts(
    [
        "21 1 8:1 / / rw - ext4 /dev/sda1 rw",
        "40 21 0:44 / /nfs rw - nfs4 nas:/images rw",
        "41 21 0:45 / /moose rw - fuse.moosefs mfs:9421 rw",
        "42 21 0:46 / /gluster rw - fuse.glusterfs g1:gv0 rw",
    ]
)
POOLS = {"local": pool("local", "dir", path="/srv/vms"), "nas": pool("nas", "netfs", path="/nfs")}
DECLARED = (DeclaredShare(1, "path", "/srv", "anna"), DeclaredShare(2, "pool", "local", "anna"))
HERE = source(storage=HostStorage(POOLS, MOUNTS), declared=DECLARED)


@pytest.mark.parametrize(
    ("devices", "told"),
    [
        (disk("file='/nfs/a.qcow2'"), []),
        (disk("file='/gluster/a.qcow2'"), []),
        (disk("file='/moose/a.qcow2'"), ["/moose/a.qcow2"]),
        (disk("file='/srv/a.qcow2'"), ["/srv/a.qcow2"]),
        (disk("file='/srv/a.iso'", device="cdrom", more="<readonly/>"), []),
        (disk("pool='local' volume='a'", "volume"), ["/srv/vms/a"]),
        (disk("pool='nas' volume='a'", "volume"), []),
        (disk("dev='/dev/sdb'", "block"), []),
        (disk("protocol='rbd' name='vms/a'", "network"), []),
    ],
)
def test_a_file_on_what_libvirt_does_not_take_for_shared_is_named(devices, told):
    notes = found(storage_check.check, vm(devices), HERE, target()).notes
    assert [path for path in told if any(path in note for note in notes)] == told
    assert len(notes) == len(told)


@pytest.mark.parametrize("mounts", [MOUNTS, MOUNTS[:1], None])
def test_libvirts_check_is_not_skipped_for_what_the_plan_does_not_know_to_be_shared(mounts):
    """A pool of NFS whose directory is not mounted any more, or of which nobody knows whether it is."""
    here = source(storage=HostStorage(POOLS, mounts))
    devices = disk("pool='nas' volume='a'", "volume") + disk("file='/srv/a.qcow2'", target="vdb")
    assert found(storage_check.check, vm(devices), here, target()).notes == ()
