"""Any section's facts as blocks to show: what a section without a template of its own looks like.

Facts are plain JSON (nodes/inventory/plain.py). Members that are single values become a list of terms, lists
of objects become tables, objects become blocks of their own. Units are read off the names, which carry them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.utils.translation import gettext as _

from nodes.web import figures

SUFFIXES = {
    "_bytes": "bytes",
    "_percent": "percent",
    "_mhz": "mhz",
    "_mbps": "mbps",
    "_s": "seconds",
    "_celsius": "celsius",
    "_hours": "hours",
    "_watts": "watts",
    "_at": "moment",
}
MONO_NAMES = frozenset(
    (
        "address",
        "mac",
        "uuid",
        "serial",
        "path",
        "id",
        "slot",
        "vendor_id",
        "device_id",
        "subsystem_id",
        "wwn",
    )
)
WORDS = {
    "cpu": "CPU",
    "vm": "VM",
    "vms": "VMs",
    "numa": "NUMA",
    "iommu": "IOMMU",
    "uuid": "UUID",
    "mac": "MAC",
}
WORDS |= {
    "pci": "PCI",
    "usb": "USB",
    "sriov": "SR-IOV",
    "mtu": "MTU",
    "smart": "SMART",
    "ip": "IP",
    "id": "ID",
}
WORDS |= {"vcpus": "vCPUs", "os": "OS", "bios": "BIOS", "ssd": "SSD", "vf": "VF", "pf": "PF", "vlan": "VLAN"}
MAX_COLUMNS = 12


@dataclass(frozen=True, slots=True)
class Value:
    """One value and how to write it: a key of :data:`SUFFIXES`, ``mono``, ``text``, ``list`` or ``block``."""

    kind: str
    value: Any


@dataclass(frozen=True, slots=True)
class Block:
    """Something with a title: terms, tables and further blocks, each possibly empty."""

    title: str
    terms: tuple[tuple[str, Value], ...] = ()
    tables: tuple[Table, ...] = ()
    blocks: tuple[Block, ...] = ()


@dataclass(frozen=True, slots=True)
class Table:
    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[Value, ...], ...] = field(default=())


def to_block(title: str, facts: Mapping[str, Any]) -> Block:
    """The block of one object."""
    terms, tables, blocks = [], [], []
    for name, value in facts.items():
        if isinstance(value, Mapping):
            if value:
                blocks.append(to_block(words(name), value))
        elif _is_rows(value):
            tables.append(to_table(words(name), value))
        else:
            terms.append((words(name), to_value(name, value)))
    return Block(title, tuple(terms), tuple(tables), tuple(blocks))


def to_table(title: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    """The table of a list of objects: columns that are unknown in every row are left out."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    filled = [n for n in names if any(row.get(n) not in (None, [], {}, "") for row in rows)][:MAX_COLUMNS]
    cells = tuple(tuple(to_value(name, row.get(name)) for name in filled) for row in rows)
    return Table(title, tuple(words(name) for name in filled), cells)


def to_value(name: str, value: Any) -> Value:
    """One member of an object."""
    if isinstance(value, Mapping):
        return Value("block", to_block("", value)) if value else Value("text", None)
    if _is_rows(value):
        return Value("table", to_table("", value))
    if isinstance(value, list):
        return Value("list", value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        for suffix, kind in SUFFIXES.items():
            if name.endswith(suffix):
                return Value(kind, value)
    if isinstance(value, str) and (
        name in MONO_NAMES or name.endswith(("_uuid", "_path", "_address", "_mac"))
    ):
        return Value("mono", value)
    if isinstance(value, str) and name.endswith("_at"):
        return Value("moment", value)
    return Value("text", value)


def _is_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, Mapping) for item in value)


def words(name: str) -> str:
    """``memory_total_bytes`` as "Memory total"."""
    for suffix in SUFFIXES:
        if name.endswith(suffix) and len(name) > len(suffix) and suffix != "_at":
            name = name.removesuffix(suffix)
            break
    parts = [WORDS.get(part, part) for part in name.split("_")]
    text = " ".join(parts)
    return text[:1].upper() + text[1:]


TEXTS: Mapping[str, Callable[[float], str]] = {
    "bytes": figures.bytes_text,
    "percent": figures.percent_text,
    "mhz": figures.mhz_text,
    "mbps": figures.mbps_text,
    "seconds": figures.duration_text,
    "celsius": lambda value: f"{figures.number_text(value)} °C",
    "hours": lambda value: f"{figures.number_text(value)} h",
    "watts": lambda value: f"{figures.number_text(value)} W",
}


def in_words(name: str, value: Any) -> str:
    """The member ``name`` of an object as one line of text; "" for None, which is unknown."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return _("Yes") if value else _("No")
    if isinstance(value, Mapping):
        members = {key: member for key, member in value.items() if member not in ([], {})}
        told = ((words(key), in_words(key, member)) for key, member in members.items())
        return ", ".join(f"{label} {text}" for label, text in told if text)
    if isinstance(value, list):
        deep = any(isinstance(item, Mapping | list) for item in value)
        return ("; " if deep else ", ").join(in_words(name, item) for item in value) or _("none")
    if isinstance(value, int | float):
        return TEXTS.get(to_value(name, value).kind, figures.number_text)(value)
    return str(value)
