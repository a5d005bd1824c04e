"""Which VMs libvirt itself would refuse to migrate, since it does not know that their files are shared.

Before a migration libvirt looks at the file system of each image file, and refuses where it is none of those
that it takes for shared (``virFileIsSharedFSType`` in libvirt's src/util/virfile.c): one that was declared
shared, or a network file system that it has not heard of. Where this plan knows better, the migration has to
say so (VIR_MIGRATE_UNSAFE). Block devices and read-only disks it does not look at.
"""

from __future__ import annotations

from collections.abc import Iterator

from nodes.inventory.domain_devices import Disk
from nodes.inventory.mounts import mount_of
from nodes.operations.plan.declared_storage import declared_for
from nodes.operations.plan.host_state import HostState
from nodes.operations.plan.vm_state import VmState
from nodes.operations.storage import SHARED_FILE_SYSTEMS

_KNOWN = frozenset(
    {"nfs", "nfs4", "gfs2", "ocfs2", "afs", "cifs", "smb3", "ceph", "gpfs", "acfs"}
    | {"fuse.glusterfs", "fuse.quobyte"}
)
_DIRECTORY_POOLS = frozenset({"dir", "fs", "netfs", "vstorage"})


def files_unknown_to_libvirt(vm: VmState, host: HostState) -> tuple[str, ...]:
    """The image files for which libvirt on ``host`` would refuse the migration, though the plan knows that
    they are shared, as paths. Of any other file libvirt's check is the last one that could notice."""
    disks = vm.xml.disks if vm.xml is not None else ()
    writable = (disk for disk in disks if not disk.readonly)
    paths = (path for disk in writable for path in _files(disk, host) if _plan_knows_better(path, disk, host))
    return tuple(dict.fromkeys(paths))


def _files(disk: Disk, host: HostState) -> Iterator[str]:
    if disk.source_kind == "file" and disk.source:
        yield disk.source
    elif disk.source_kind == "volume":
        pool = host.storage.pool(disk.pool)
        if pool is not None and pool.type in _DIRECTORY_POOLS and pool.target_path:
            yield f"{pool.target_path}/{disk.volume}"


def _plan_knows_better(path: str, disk: Disk, host: HostState) -> bool:
    mount = mount_of(path, host.storage.mounts or ())
    fs_type = mount.fs_type if mount is not None else None
    if fs_type in _KNOWN:
        return False
    return fs_type in SHARED_FILE_SYSTEMS or bool(declared_for(disk, host))
