"""The target has what the VM's disks lie on: the same storage, not one that is only called the same.

A block device is the same by what it is (:mod:`nodes.inventory.block.identity`), a file by the file system
that is mounted, a volume by its pool's source. What an administrator declared shared counts before all that.
What holds the VM on its host whichever the target is stands in :mod:`nodes.operations.plan.held_storage`.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable

from django.utils.translation import gettext as _

from nodes.inventory.domain_devices import Disk
from nodes.inventory.mounts import Mount, names_a_server
from nodes.inventory.pools import Pool
from nodes.operations.plan.declared_storage import declared_for, group_of_pool, shared_by_declaration
from nodes.operations.plan.disk_paths import path_on_target
from nodes.operations.plan.held_storage import WITHOUT_STORAGE, held_by_disks
from nodes.operations.plan.host_state import HostState
from nodes.operations.plan.pool_source import same_source, source_in_words
from nodes.operations.plan.vm_state import VmState
from nodes.operations.plans import Note, Reason

Found = Iterable[Reason | Note]


def check(vm: VmState, source: HostState, target: HostState) -> Found:
    for disk in vm.xml.disks if vm.xml is not None else ():
        if disk.source_kind not in WITHOUT_STORAGE and not held_by_disks((disk,), source):
            yield from _disk(disk, source, target)


def _disk(disk: Disk, source: HostState, target: HostState) -> Found:
    declared = shared_by_declaration(disk, source, target)
    if declared is not None:
        yield from _declared(disk, declared.declared_by, source, target)
    elif disk.source_kind == "volume":
        yield from _volume(disk, source, target)
        yield from _paths(disk, disk.backing, source, target)
    else:
        yield from _paths(disk, (disk.source or "?", *disk.backing), source, target)


def _declared(disk: Disk, who: str, source: HostState, target: HostState) -> Found:
    if disk.source_kind == "volume" and target.storage.pools is not None:
        pool = target.storage.pool(disk.pool)
        if pool is None or pool.active is False:
            yield _absent(_("has no active pool “%s”") % disk.pool)
            return
    if disk.source_kind == "block" and (differs := _another_disk(disk.source or "?", source, target)):
        yield differs
        return
    what = {"disk": disk.target or "?", "source": disk.source or "?", "who": who}
    yield Note(_("Disk %(disk)s (%(source)s) is on storage declared shared by %(who)s.") % what)


def _another_disk(path: str, source: HostState, target: HostState) -> Reason | None:
    """Why a declaration cannot be true: both disks have names that are the same on every host, and these
    differ."""
    mine = source.blocks.at(path) if source.blocks is not None else None
    other = target.blocks.at(path) if target.blocks is not None else None
    if mine is None or other is None or path_on_target(path, source, target) is not None:
        return None
    text = _("has another disk as %(path)s than was declared: %(there)s instead of %(here)s")
    return _absent(text % {"path": path, "there": other, "here": mine})


# -- files and devices -----------------------------------------------------------------------------


def _paths(disk: Disk, paths: Iterable[str], source: HostState, target: HostState) -> Found:
    for path in paths:
        if path.startswith("/dev/"):
            yield from _device(disk, path, source, target, may_differ=path == disk.source)
        else:
            yield from _file(disk, path, source, target)


def _device(disk: Disk, path: str, source: HostState, target: HostState, *, may_differ: bool) -> Found:
    device = source.blocks.at(path) if source.blocks is not None else None
    if device is None:
        yield from _only_declared(disk, path, source, target)
        return
    if target.blocks is None:
        yield _absent(_("did not tell its block devices, so %s may not be there") % path)
        return
    there = path_on_target(path, source, target)
    if there == path or (there is not None and may_differ and disk.source_kind == "block"):
        if there != path:
            yield Note(
                _("Disk %(disk)s is %(there)s on %(host)s, by which it is opened there.")
                % {"disk": disk.target or "?", "there": there, "host": target.name}
            )
        return
    elsewhere = target.blocks.preferred.get(device)
    if elsewhere is not None:
        text = _("has the disk %(device)s as %(there)s, and not as %(path)s")
        yield Reason(
            "storage_not_on_target",
            text % {"device": device, "there": elsewhere, "path": path},
            _("Name the disk in the VM by a path that both hosts have, as below /dev/disk/by-id."),
        )
    elif any(layer.startswith("lvm:") for layer in device.layers):
        yield Reason(
            "storage_not_on_target",
            _("has no active logical volume %s on the same disks") % path,
            _("Where the volume group is shared, activate the volume on the target: lvchange -ay %s") % path,
        )
    else:
        yield _absent(_("does not have the disk %(device)s (%(path)s)") % {"device": device, "path": path})


def _file(disk: Disk, path: str, source: HostState, target: HostState) -> Found:
    here = source.storage.shared_mount(path)
    if here is None:
        yield from _only_declared(disk, path, source, target)
    elif target.storage.mounts is None:
        yield _absent(_("did not tell what it has mounted, so %s may not be there") % path)
    else:
        there = target.storage.shared_mount(path)
        if there is None or there.point != here.point:
            yield _not_mounted(here)
        else:
            yield from _mounts(here, there, source, target)


def _only_declared(disk: Disk, path: str, source: HostState, target: HostState) -> Found:
    """Of storage that is shared by declaration alone, and not with this target, or at another place there."""
    shares = declared_for(disk, source)
    if not shares:
        return
    what = {"path": path, "who": shares[0].declared_by}
    if {share.id for share in shares} & {share.id for share in target.declared}:
        yield Reason(
            "storage_not_on_target",
            _("does not have %(path)s, declared shared by %(who)s, under the same path") % what,
            _("Give the pool the same path on both hosts, or stop the VM."),
        )
    else:
        yield Reason(
            "storage_not_on_target",
            _("is not among the nodes that %(path)s is shared with (declared by %(who)s)") % what,
            _("Where the target has the same storage, add it to the declaration; else stop the VM."),
        )


def _mounts(here: Mount, there: Mount, source: HostState, target: HostState) -> Found:
    """Whether two mounts of shared file systems are one. A device is compared by what it is."""
    if here.root != there.root:
        yield _not_mounted(here)
    elif here.source.startswith("/dev/") or there.source.startswith("/dev/"):
        yield from _mounted_devices(here, there, source, target)
    elif here.source != there.source:
        yield _not_mounted(here)
    elif not names_a_server(here):
        yield _no_server(here, target)


def _mounted_devices(here: Mount, there: Mount, source: HostState, target: HostState) -> Found:
    mine = source.blocks.at(here.source) if source.blocks is not None else None
    other = target.blocks.at(there.source) if target.blocks is not None else None
    if mine is not None and mine == other:
        return
    # A disk that several hosts reach is not one that its host alone can hold.
    differ = mine != other and source.blocks is not None and target.blocks is not None
    if differ or here.source != there.source:
        yield _not_mounted(here)
    else:
        what = {"source": here.source, "host": target.name}
        yield Note(_("Not verified: whether %(source)s is the same disk on %(host)s.") % what)


# -- volumes of pools ------------------------------------------------------------------------------


def _volume(disk: Disk, source: HostState, target: HostState) -> Found:
    here = source.storage.pool(disk.pool)
    if here is None:
        # Known by declaration alone, which does not hold for this target.
        yield from _only_declared(disk, f"{disk.pool}/{disk.volume}", source, target)
        return
    if target.storage.pools is None:
        yield _absent(_("did not tell its storage pools, so “%s” may not be there") % disk.pool)
        return
    there = target.storage.pool(disk.pool)
    if there is None or there.active is False:
        yield _absent(_("has no active pool “%s”") % disk.pool)
    elif here.type != there.type:
        yield _absent(_("has another pool of the name “%s”") % disk.pool)
    elif here.type in ("dir", "fs"):
        yield from _directories(disk, here, there, source, target)
    elif here.type == "logical":
        yield from _logical(disk, here, there, source, target)
    elif here.type in ("iscsi", "scsi", "mpath", "disk"):
        yield from _unit(disk, here, there, source, target)
    elif same_source(here, there) is not True:
        yield _other_source(here, there)


def _directories(disk: Disk, here: Pool, there: Pool, source: HostState, target: HostState) -> Found:
    one, other = here.target_path or "", there.target_path or ""
    mounted = source.storage.shared_mount(one)
    if mounted is None:
        yield from _only_declared(disk, one or here.name, source, target)
    elif target.storage.mounts is None:
        yield _absent(_("did not tell what it has mounted, so %s may not be there") % other)
    else:
        remote = target.storage.shared_mount(other)
        if remote is None or _inside(one, mounted) != _inside(other, remote):
            yield _not_mounted(mounted)
        else:
            yield from _mounts(mounted, remote, source, target)


def _inside(path: str, mount: Mount) -> str:
    return posixpath.relpath(posixpath.normpath(path), mount.point)


def _logical(disk: Disk, here: Pool, there: Pool, source: HostState, target: HostState) -> Found:
    mine = source.blocks.groups.get(group_of_pool(here) or "") if source.blocks is not None else None
    if mine is None:
        yield from _only_declared(disk, f"{here.name}/{disk.volume}", source, target)
        return
    if target.blocks is None:
        yield _absent(_("did not tell its block devices, so the pool “%s” may be another one") % here.name)
        return
    group = group_of_pool(there) or ""
    other = target.blocks.groups.get(group)
    if other is None or not mine.same(other):
        yield _absent(_("has another volume group below the pool “%s”, or not on the same disks") % here.name)
    elif not target.blocks.has(f"/dev/{group}/{disk.volume}"):
        name = f"{group}/{disk.volume}"
        yield Reason(
            "storage_not_on_target",
            _("has the logical volume %s, but not active") % name,
            _("Activate it on the target: lvchange -ay %s") % name,
        )


def _unit(disk: Disk, here: Pool, there: Pool, source: HostState, target: HostState) -> Found:
    """A volume that is a whole disk: by what the disk is; of iSCSI else by the target that the pool names."""
    volume = disk.volume or ""
    mine = source.blocks.of_volume(here.name, volume) if source.blocks is not None else None
    other = target.blocks.of_volume(there.name, volume) if target.blocks is not None else None
    if mine is not None and other is not None:
        if mine != other:
            yield _absent(
                _("has another disk as %(volume)s of the pool “%(pool)s”: %(there)s instead of %(here)s")
                % {"volume": volume, "pool": here.name, "there": other, "here": mine}
            )
    elif same_source(here, there) is not True:
        yield _other_source(here, there)


def _other_source(here: Pool, there: Pool) -> Reason:
    return _absent(
        _("has a pool “%(pool)s” of another source, or of one that cannot be told: %(there)s, not %(here)s")
        % {"pool": here.name, "there": source_in_words(there), "here": source_in_words(here)}
    )


def _not_mounted(mount: Mount) -> Reason:
    return _absent(
        _("has %(source)s not mounted on %(point)s") % {"source": mount.source, "point": mount.point}
    )


def _no_server(mount: Mount, target: HostState) -> Reason | Note:
    """``localhost:/images`` and the tag of a VM's own file system are called alike on every host. Members of
    a Gluster volume mount it from themselves as a rule."""
    words = {"source": mount.source, "point": mount.point, "host": target.name}
    if mount.fs_type in ("glusterfs", "fuse.glusterfs"):
        return Note(_("Not verified: whether %(source)s is the same volume on %(host)s.") % words)
    return Reason(
        "storage_not_on_target",
        _("has %(source)s mounted on %(point)s, which may be another storage of the same name") % words,
        _("Where both hosts have the same storage, declare the path %s as shared; else stop the VM.")
        % mount.point,
    )


def _absent(message: str) -> Reason:
    return Reason("storage_not_on_target", message, _("Make the storage available on the target."))
