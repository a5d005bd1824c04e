"""The paths of multipath devices: ``multipathd show maps json`` (multipathd(8))."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nodes.inventory.jsontext import read_values
from nodes.inventory.smart_tree import rows, words


@dataclass(frozen=True, slots=True)
class PathState:
    """One path: the disk it is, the state in device-mapper (``active``, ``failed``), what its checker says
    (``ready``, ``faulty``, ``ghost``), and that of the device itself (``running``, ``offline``)."""

    disk: str
    group: int
    mapped: str | None
    checker: str | None
    device: str | None


def read_multipath(text: str) -> Mapping[str, tuple[PathState, ...]]:
    """The paths of each map by its kernel name (``dm-3``); none where ``text`` is something else."""
    values = read_values(text)
    found: dict[str, tuple[PathState, ...]] = {}
    for row in rows(values[0] if values else None, "maps"):
        name = words(row.get("sysfs"))
        if name is None:
            continue
        found[name] = tuple(
            PathState(
                disk=disk,
                group=number,
                mapped=words(path.get("dm_st")),
                checker=words(path.get("chk_st")),
                device=words(path.get("dev_st")),
            )
            for number, group in enumerate(rows(row, "path_groups"), start=1)
            for path in rows(group, "paths")
            if (disk := words(path.get("dev"))) is not None
        )
    return found
