"""What a host's storage is made of, as a plan reads it: pools, mounts, and what was declared to be shared."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from nodes.inventory.mounts import Mount, mount_of
from nodes.inventory.pools import Pool

NETWORK_POOLS = frozenset(
    {"netfs", "iscsi", "iscsi-direct", "rbd", "gluster", "vstorage", "sheepdog"},
)
"""Pools whose source is named alike on every host that has it."""
SHARED_FILE_SYSTEMS = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "ceph", "glusterfs", "ocfs2", "gfs2", "lustre", "gpfs", "beegfs"}
    | {"fuse.ceph", "fuse.glusterfs", "fuse.moosefs", "fuse.sshfs", "9p", "virtiofs"}
)


@dataclass(frozen=True, slots=True)
class HostStorage:
    """Pools by name, and mounts; None where they could not be read."""

    pools: Mapping[str, Pool] | None = field(default_factory=dict)
    mounts: Sequence[Mount] | None = ()

    def pool(self, name: str | None) -> Pool | None:
        return (self.pools or {}).get(name or "")

    def shared_mount(self, path: str) -> Mount | None:
        """The mount of a file system of several hosts that holds ``path``; None where it is another one."""
        mount = mount_of(path, self.mounts or ())
        return mount if mount is not None and mount.fs_type in SHARED_FILE_SYSTEMS else None


@dataclass(frozen=True, slots=True)
class DeclaredShare:
    """What an administrator declared to be the same storage on several hosts, as one of them has it.

    ``kind``: ``pool``, ``path`` (``name`` and all below it) or ``volume_group``; ``id`` is the same on all
    hosts of the declaration; ``declared_by`` names who did.
    """

    id: int
    kind: str
    name: str
    declared_by: str


def is_below(path: str, prefix: str) -> bool:
    """Whether ``path`` is ``prefix`` or lies below it, ``..`` resolved."""
    path, prefix = posixpath.normpath(path), posixpath.normpath(prefix)
    return path == prefix or path.startswith(prefix.rstrip("/") + "/")
