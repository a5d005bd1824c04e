"""Whether two storage pools of one name are the same storage, by what they are made of.

Source: https://libvirt.org/formatstorage.html#source-elements. A server that one host calls by its name and
another by its address is not recognized as the same.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping

from nodes.inventory.mounts import is_own_host
from nodes.inventory.pools import Pool, PoolSource

_PORTS = {"iscsi": "3260", "iscsi-direct": "3260", "rbd": "6789", "gluster": "24007"}
_NOTHING = PoolSource((), (), None, None, None, None, None)


def same_source(one: Pool, other: Pool) -> bool | None:
    """Whether two pools of one of the types that come over the network have the same source; None where
    their descriptions do not tell, as where the server is each host itself."""
    compare = _COMPARISONS.get(one.type or "")
    if compare is None or one.source is None or other.source is None:
        return None
    # Members of a Gluster volume take it from themselves as a rule.
    if one.type != "gluster" and any(is_own_host(name) for name in (*_hosts(one), *_hosts(other))):
        return None
    return compare(one, other)


def source_in_words(pool: Pool) -> str:
    """``nas:/images``, ``iqn.2026-01.org.example:vms at 192.0.2.9`` …, "?" where nothing is told."""
    source = pool.source or _NOTHING
    hosts = ", ".join(source.hosts)
    if pool.type == "netfs":
        return f"{hosts}:{source.directory or '?'}"
    what = source.name or ", ".join(source.devices) or source.directory or "?"
    return f"{what} ({hosts})" if hosts else what


def _hosts(pool: Pool) -> frozenset[str]:
    """The pool's servers, in small letters and without the port that is the usual one."""
    usual = _PORTS.get(pool.type or "")
    names = (pool.source or _NOTHING).hosts
    shown = (name.lower().rstrip(".") for name in names)
    return frozenset(
        name.removesuffix(f":{usual}").strip("[]")
        if usual and name.endswith(f":{usual}")
        else name.strip("[]")
        for name in shown
    )


def _directory(pool: Pool) -> str:
    return posixpath.normpath((pool.source or _NOTHING).directory or "/")


def _one_directory(one: Pool, other: Pool) -> bool | None:
    """A network file system: one server, one directory."""
    if not _hosts(one) or not _hosts(other):
        return None
    return _hosts(one) == _hosts(other) and _directory(one) == _directory(other)


def _one_name(one: Pool, other: Pool) -> bool | None:
    """A named thing of a cluster, of whose servers the two hosts may know different ones."""
    first, second = (one.source or _NOTHING).name, (other.source or _NOTHING).name
    if not first or not second:
        return None
    here, there = _hosts(one), _hosts(other)
    return first == second and _directory(one) == _directory(other) and (here == there or bool(here & there))


def _one_target(one: Pool, other: Pool) -> bool | None:
    """An iSCSI target, at the same portal."""
    first, second = (one.source or _NOTHING).devices, (other.source or _NOTHING).devices
    if not first or not second:
        return None
    return first == second and bool(_hosts(one) & _hosts(other))


_COMPARISONS: Mapping[str, Callable[[Pool, Pool], bool | None]] = {
    "netfs": _one_directory,
    "rbd": _one_name,
    "gluster": _one_name,
    "vstorage": _one_name,
    "sheepdog": _one_name,
    "iscsi": _one_target,
    "iscsi-direct": _one_target,
}
