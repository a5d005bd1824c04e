"""Whether a target has the storage that a VM's disks lie on."""

from __future__ import annotations

from dataclasses import fields

import pytest

from nodes.inventory.mounts import read_mounts
from nodes.inventory.pools import Pool
from nodes.operations.plan.constraints import storage_source
from nodes.operations.storage import HostStorage
from tests.operations.plan.constraints.states import codes, disk, found, source, target, vm

MOUNTS = read_mounts(
    [
        "21 1 8:1 / / rw - ext4 /dev/sda1 rw",
        "40 21 0:44 / /srv/images rw - nfs4 nas:/images rw",
    ]
)


def pool(name: str, kind: str, *, path: str | None = None, active: bool = True) -> Pool:
    unknown = dict.fromkeys(field.name for field in fields(Pool))
    told = {"uuid": name, "name": name, "type": kind, "active": active, "target_path": path}
    return Pool(**unknown | told)


HOST = HostStorage({"nfs": pool("nfs", "netfs", path="/var/lib/nfs")}, MOUNTS)


def missing(devices: str, there: HostStorage) -> list[str]:
    return codes(found(storage_source.check, vm(devices), source(storage=HOST), target(storage=there)))


def test_a_target_with_the_same_pools_and_mounts_lacks_nothing():
    devices = disk("pool='nfs' volume='web'", "volume") + disk("file='/srv/images/web.qcow2'")
    assert missing(devices, HOST) == []


@pytest.mark.parametrize(
    ("devices", "there"),
    [
        (disk("pool='nfs' volume='web'", "volume"), HostStorage({}, MOUNTS)),
        (
            disk("pool='nfs' volume='web'", "volume"),
            HostStorage({"nfs": pool("nfs", "netfs", active=False)}, MOUNTS),
        ),
        (disk("pool='nfs' volume='web'", "volume"), HostStorage({"nfs": pool("nfs", "dir")}, MOUNTS)),
        (disk("file='/srv/images/web.qcow2'"), HostStorage({}, MOUNTS[:1])),
        (
            disk("file='/srv/images/web.qcow2'"),
            HostStorage({}, read_mounts(["9 1 0:4 / /srv/images rw - nfs4 other:/images rw"])),
        ),
    ],
)
def test_a_target_without_the_storage_is_told_from_one_that_has_it(devices, there):
    assert missing(devices, there) == ["storage_not_on_target"]


def test_what_could_not_be_read_of_a_target_is_left_to_libvirt():
    assert missing(disk("file='/srv/images/web.qcow2'"), HostStorage(None, None)) == []
