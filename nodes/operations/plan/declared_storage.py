"""Which declaration of shared storage covers a disk."""

from __future__ import annotations

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
    """A declaration by which ``disk`` lies on the same storage on both hosts."""
    there = {share.id for share in declared_for(disk, target)}
    return next((share for share in declared_for(disk, source) if share.id in there), None)


def _covers(share: DeclaredShare, disk: Disk, host: HostState) -> bool:
    if disk.source_kind == "volume":
        pool = host.storage.pool(disk.pool)
        return _covers_volume(share, disk, pool)
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
