"""Which of a VM's disks lie on its host alone, and so hold it there.

A live migration moves memory, not disks: what a disk lies on has to be reachable from the target as well
(https://libvirt.org/migration.html). Shared is what comes over the network by itself, a pool of a kind that
does, and a file on a network file system. Anything else, a path under ``/dev`` too, counts as local.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from django.utils.translation import gettext as _

from nodes.inventory.domain_devices import Disk
from nodes.inventory.mounts import Mount, mount_of
from nodes.inventory.pools import Pool
from nodes.operations.plans import Reason

SHARED_POOLS = frozenset({"netfs", "iscsi", "iscsi-direct", "rbd", "gluster", "vstorage", "sheepdog"})
SHARED_FILE_SYSTEMS = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "ceph", "glusterfs", "ocfs2", "gfs2", "lustre", "gpfs", "beegfs"}
    | {"fuse.ceph", "fuse.glusterfs", "fuse.moosefs", "fuse.sshfs", "9p", "virtiofs"}
)
_WITHOUT_STORAGE = frozenset({"network", "nvme"})
"""Comes over the network, or is a device of the host (which is told as such)."""


@dataclass(frozen=True, slots=True)
class HostStorage:
    """Pools by name, and mounts; None where they could not be read."""

    pools: Mapping[str, Pool] | None = field(default_factory=dict)
    mounts: Sequence[Mount] | None = ()


def held_by_disks(disks: Sequence[Disk], host: HostStorage) -> tuple[Reason, ...]:
    """Why the disks hold their VM on ``host``; one reason a disk, none for those that are shared."""
    found = (_held(disk, host) for disk in disks)
    return tuple(reason for reason in found if reason is not None)


def missing_on_target(disks: Sequence[Disk], host: HostStorage, target: HostStorage) -> tuple[Reason, ...]:
    """What the shared disks of a VM on ``host`` lie on and ``target`` does not have."""
    found = (_missing(disk, host, target) for disk in disks)
    return tuple(reason for reason in found if reason is not None)


def _held(disk: Disk, host: HostStorage) -> Reason | None:
    if disk.source_kind is None or disk.source_kind in _WITHOUT_STORAGE:
        return None
    if disk.source_kind == "volume":
        return _held_by_pool(disk, host)
    paths = [disk.source or "?", *disk.backing]
    if disk.source_kind == "file":
        local = next((path for path in paths if not _is_shared_file(path, host)), None)
        if local is None:
            return None
        return _local(disk, local)
    return _local(disk, paths[0])


def _held_by_pool(disk: Disk, host: HostStorage) -> Reason | None:
    pool = (host.pools or {}).get(disk.pool or "")
    if pool is None:
        return Reason(
            "non_shared_pool",
            _("Disk %(target)s is in the pool “%(pool)s”, of which it cannot be told whether it is shared.")
            % {"target": disk.target, "pool": disk.pool},
            _("Look at the pool on the host (virsh pool-info), or stop the VM."),
        )
    if is_shared_pool(pool, host.mounts):
        return None
    return Reason(
        "non_shared_pool",
        _("Disk %(target)s is in the pool “%(pool)s” (%(type)s), which is on this host alone.")
        % {"target": disk.target, "pool": pool.name, "type": pool.type or "?"},
        _("Stop the VM, or move its disk to a shared pool."),
    )


def is_shared_pool(pool: Pool, mounts: Sequence[Mount] | None) -> bool:
    """Whether other hosts can have the same pool."""
    if pool.type in SHARED_POOLS:
        return True
    if pool.type in ("dir", "fs") and pool.target_path:
        return _shared_mount(pool.target_path, mounts) is not None
    return False


def _is_shared_file(path: str, host: HostStorage) -> bool:
    return path.startswith("/") and _shared_mount(path, host.mounts) is not None


def _shared_mount(path: str, mounts: Sequence[Mount] | None) -> Mount | None:
    mount = mount_of(path, mounts or ())
    return mount if mount is not None and mount.fs_type in SHARED_FILE_SYSTEMS else None


def _local(disk: Disk, path: str) -> Reason:
    if disk.device in ("cdrom", "floppy"):
        return Reason(
            "local_disk",
            _("The drive %(target)s holds a medium that is on this host alone: %(path)s.")
            % {"target": disk.target, "path": path},
            _("Eject the medium, or stop the VM."),
        )
    return Reason(
        "local_disk",
        _("Disk %(target)s is on this host alone: %(path)s.") % {"target": disk.target, "path": path},
        _("Stop the VM, or move its disk to shared storage."),
    )


def _missing(disk: Disk, host: HostStorage, target: HostStorage) -> Reason | None:
    if disk.source_kind == "volume" and target.pools is not None:
        pool = target.pools.get(disk.pool or "")
        if pool is None or pool.active is False:
            return _absent(_("has no active pool “%s”") % disk.pool)
        own = (host.pools or {}).get(disk.pool or "")
        if own is not None and own.type != pool.type:
            return _absent(_("has another pool of the name “%s”") % disk.pool)
    if disk.source_kind == "file" and disk.source and target.mounts is not None:
        here, there = _shared_mount(disk.source, host.mounts), _shared_mount(disk.source, target.mounts)
        if here is not None and (there is None or there.source != here.source):
            return _absent(_("has %(source)s not mounted on %(point)s") % _words(here))
    return None


def _words(mount: Mount) -> dict[str, str]:
    return {"source": mount.source, "point": mount.point}


def _absent(message: str) -> Reason:
    return Reason("storage_not_on_target", message, _("Make the storage available on the target."))
