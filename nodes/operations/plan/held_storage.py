"""Which of a VM's disks lie on its host alone, and so hold it there whichever the target is.

A live migration moves memory, not disks: what a disk lies on has to be reachable from the target as well
(https://libvirt.org/migration.html). What may be shared is judged for each target by
:mod:`nodes.operations.plan.constraints.storage_source`.
"""

from __future__ import annotations

from collections.abc import Sequence

from django.utils.translation import gettext as _

from nodes.inventory.domain_devices import Disk
from nodes.inventory.pools import Pool
from nodes.operations.plan.declared_storage import declared_for, group_of_pool
from nodes.operations.plan.host_state import HostState
from nodes.operations.plans import Reason
from nodes.operations.storage import NETWORK_POOLS

WITHOUT_STORAGE = frozenset({None, "network", "nvme"})
"""An empty drive; comes over the network; is a device of the host (which is told as such)."""


def held_by_disks(disks: Sequence[Disk], host: HostState) -> tuple[Reason, ...]:
    """Why the disks hold their VM on ``host``; one reason a disk, none for those that may be shared."""
    found = (_held(disk, host) for disk in disks)
    return tuple(reason for reason in found if reason is not None)


def _held(disk: Disk, host: HostState) -> Reason | None:
    if disk.source_kind in WITHOUT_STORAGE or declared_for(disk, host):
        return None
    on_volume = disk.source_kind == "volume"
    if on_volume and (reason := _held_by_pool(disk, host)) is not None:
        return reason
    paths = [*([] if on_volume else [disk.source or "?"]), *disk.backing]
    if disk.source_kind not in ("file", "block", "volume"):
        return _local(disk, paths[0])
    local = next((path for path in paths if not _may_be_shared(path, host)), None)
    return _local(disk, local) if local is not None else None


def _may_be_shared(path: str, host: HostState) -> bool:
    if path.startswith("/dev/"):
        return host.blocks is not None and host.blocks.at(path) is not None
    return path.startswith("/") and host.storage.shared_mount(path) is not None


def _held_by_pool(disk: Disk, host: HostState) -> Reason | None:
    pool = host.storage.pool(disk.pool)
    if pool is None:
        return Reason(
            "non_shared_pool",
            _("Disk %(target)s is in the pool “%(pool)s”, of which it cannot be told whether it is shared.")
            % {"target": disk.target, "pool": disk.pool},
            _("Look at the pool on the host (virsh pool-info), or stop the VM."),
        )
    if _pool_may_be_shared(pool, disk, host):
        return None
    return Reason(
        "non_shared_pool",
        _("Disk %(target)s is in the pool “%(pool)s” (%(type)s), which is on this host alone.")
        % {"target": disk.target, "pool": pool.name, "type": pool.type or "?"},
        _("Stop the VM, or move its disk to a shared pool."),
    )


def _pool_may_be_shared(pool: Pool, disk: Disk, host: HostState) -> bool:
    if pool.type in NETWORK_POOLS:
        return True
    if pool.type in ("dir", "fs"):
        return bool(pool.target_path) and host.storage.shared_mount(pool.target_path or "") is not None
    if host.blocks is None:
        return False
    if pool.type == "logical":
        return group_of_pool(pool) in host.blocks.groups
    return host.blocks.of_volume(pool.name, disk.volume or "") is not None


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
