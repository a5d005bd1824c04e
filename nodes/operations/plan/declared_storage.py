"""Which declaration of shared storage covers a disk."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

from nodes.inventory.domain_devices import Disk
from nodes.inventory.lvm import split_mapped_name
from nodes.inventory.pools import Pool
from nodes.operations.plan.host_state import HostState
from nodes.operations.storage import DeclaredShare, is_below


def declared_for(disk: Disk, host: HostState) -> tuple[DeclaredShare, ...]:
    """The declarations of ``host`` that cover the whole of ``disk``, its backing files too."""
    return tuple(share for share in host.declared if _covers(share, disk, host))


def shared_by_declaration(disk: Disk, source: HostState, target: HostState) -> DeclaredShare | None:
    """A declaration by which ``disk`` lies on the same storage on both hosts, at the same place in it."""
    there = {share.id for share in declared_for(disk, target)}
    shares = (share for share in declared_for(disk, source) if share.id in there)
    return next((share for share in shares if _same_place(share, disk, source, target)), None)


def _same_place(share: DeclaredShare, disk: Disk, source: HostState, target: HostState) -> bool:
    """Whether what is declared leads to the same file on both: a pool of one name may be another directory
    below a declared path, and a path may lie at another place in a declared pool."""
    on_volume = disk.source_kind == "volume"
    if (share.kind == "path" and on_volume) or (share.kind == "pool" and not on_volume):
        name = disk.pool if on_volume else share.name
        one, other = source.storage.pool(name), target.storage.pool(name)
        return one is not None and other is not None and _folder(one) == _folder(other)
    return True


def _folder(pool: Pool) -> str:
    return posixpath.normpath(pool.target_path or "/")


def _covers(share: DeclaredShare, disk: Disk, host: HostState) -> bool:
    if disk.source_kind == "volume":
        whole = all(_covers_path(share, path, host) for path in disk.backing)
        return whole and _covers_volume(share, disk, host.storage.pool(disk.pool))
    if disk.source_kind not in ("file", "block") or not disk.source:
        return False
    return all(_covers_path(share, path, host) for path in (disk.source, *disk.backing))


def _covers_volume(share: DeclaredShare, disk: Disk, pool: Pool | None) -> bool:
    match share.kind:
        case "pool":
            return share.name == disk.pool
        case "path":
            return (
                pool is not None and bool(pool.target_path) and is_below(pool.target_path or "", share.name)
            )
        case _:
            return share.name == group_of_pool(pool)


def _covers_path(share: DeclaredShare, path: str, host: HostState) -> bool:
    if not path.startswith("/"):
        return False
    match share.kind:
        case "pool":
            pool = host.storage.pool(share.name)
            return pool is not None and bool(pool.target_path) and is_below(path, pool.target_path or "")
        case "path":
            return is_below(path, share.name)
        case _:
            return share.name in _groups_of_path(path)


def group_of_pool(pool: Pool | None) -> str | None:
    """The volume group that a pool of the type ``logical`` is."""
    if pool is None or pool.type != "logical":
        return None
    return (pool.source.name if pool.source is not None else None) or pool.name


def _groups_of_path(path: str) -> Iterator[str]:
    """``/dev/GROUP/VOLUME`` and ``/dev/mapper/GROUP-VOLUME``."""
    parts = path.split("/")
    if len(parts) != 4 or parts[1] != "dev":
        return
    if parts[2] == "mapper":
        split = split_mapped_name(parts[3])
        if split is not None:
            yield split[0]
    elif parts[3] not in ("", ".", ".."):
        yield parts[2]
