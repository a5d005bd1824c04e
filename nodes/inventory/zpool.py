"""ZFS's pools and the devices in them: ``zpool list -vHPLp`` (zpool-list(8)).

A pool is a line of its own; the lines of its devices begin with a tab, and classes of them (``logs``,
``cache``, ``spare``, ``special``, ``dedup``) follow a line with their name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from nodes.inventory.smart_tree import whole

_STATES = frozenset(
    ("ONLINE", "DEGRADED", "FAULTED", "OFFLINE", "UNAVAIL", "REMOVED", "AVAIL", "INUSE", "SUSPENDED", "SPLIT")
)
_CLASSES = {"logs": "log", "cache": "cache", "spare": "spare", "special": "special", "dedup": "dedup"}
_FIELDS = 8


@dataclass(frozen=True, slots=True)
class ZpoolDevice:
    """A device in a pool: its ``role`` (``data``, ``log``, ``cache``, ``spare`` …), the ``group`` it is in
    (``mirror-0``), and its ``state`` in ZFS's word (``ONLINE``). ``path`` is a number where it is missing."""

    path: str
    pool: str
    role: str
    group: str | None
    state: str | None


@dataclass(frozen=True, slots=True)
class Zpool:
    """One imported pool. Sizes in bytes; ``health`` is ZFS's word (``ONLINE``, ``DEGRADED`` …)."""

    name: str
    size_bytes: int | None
    allocated_bytes: int | None
    free_bytes: int | None
    health: str | None


@dataclass(frozen=True, slots=True)
class ZpoolList:
    """Pools by name and their devices by path."""

    pools: Mapping[str, Zpool] = field(default_factory=dict)
    devices: Mapping[str, ZpoolDevice] = field(default_factory=dict)


def read_zpool(text: str) -> ZpoolList:
    """The pools in ``text``; none where it is no output of zpool's. Never raises."""
    pools: dict[str, Zpool] = {}
    devices: dict[str, ZpoolDevice] = {}
    pool, role, group = "", "data", None
    for line in text.split("\n"):
        fields = line.split("\t")
        if line.startswith("\t"):
            name = fields[1].strip()
            if not pool or not name:
                continue
            # One that was not there at the import has but its number in the pool (zpool-import(8)).
            if name.startswith("/") or name.isdecimal():
                devices[name] = ZpoolDevice(name, pool, role, group, _state(fields))
            else:
                group = name
        elif len(fields) >= _FIELDS and not (fields[0] in _CLASSES and fields[1] == "-"):
            pool, role, group = fields[0], "data", None
            pools[pool] = Zpool(pool, whole(fields[1]), whole(fields[2]), whole(fields[3]), _state(fields))
        elif (word := line.replace("\t", " ").split(" ")[0]) in _CLASSES:
            role, group = _CLASSES[word], None
    return ZpoolList(pools, devices)


def _state(fields: list[str]) -> str | None:
    return next((field.strip() for field in reversed(fields) if field.strip() in _STATES), None)
