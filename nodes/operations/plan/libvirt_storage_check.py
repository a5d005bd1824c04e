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
from nodes.operations.plan.host_state import HostState
from nodes.operations.plan.vm_state import VmState

_KNOWN = frozenset(
    {"nfs", "nfs4", "gfs2", "ocfs2", "afs", "cifs", "smb3", "ceph", "gpfs", "acfs"}
    | {"fuse.glusterfs", "fuse.quobyte"}
)
_DIRECTORY_POOLS = frozenset({"dir", "fs", "netfs", "vstorage"})


def files_unknown_to_libvirt(vm: VmState, host: HostState) -> tuple[str, ...]:
    """The image files for which libvirt on ``host`` would refuse the migration, as paths."""
    disks = vm.xml.disks if vm.xml is not None else ()
    paths = (path for disk in disks if not disk.readonly for path in _files(disk, host))
    return tuple(dict.fromkeys(path for path in paths if not _is_known(path, host)))


def _files(disk: Disk, host: HostState) -> Iterator[str]:
    if disk.source_kind == "file" and disk.source:
        yield disk.source
    elif disk.source_kind == "volume":
        pool = host.storage.pool(disk.pool)
        if pool is not None and pool.type in _DIRECTORY_POOLS and pool.target_path:
            yield f"{pool.target_path}/{disk.volume}"


def _is_known(path: str, host: HostState) -> bool:
    mount = mount_of(path, host.storage.mounts or ())
    return mount is not None and mount.fs_type in _KNOWN
