"""Amounts of memory in libvirt's XML: a number and a unit.

Source: https://libvirt.org/formatdomain.html#memory-allocation and, for storage,
https://libvirt.org/formatstorage.html. Without a unit memory is in KiB, storage in bytes.
"""

from __future__ import annotations

from lxml import etree

from nodes.inventory.parsing.numbers import integer

_DECIMAL = {"kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12, "pb": 10**15, "eb": 10**18}
_BINARY = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50, "e": 1 << 60}
_FACTORS = {
    "b": 1,
    "byte": 1,
    "bytes": 1,
    **_DECIMAL,
    **_BINARY,
    **{f"{letter}ib": factor for letter, factor in _BINARY.items()},
}


def memory_bytes(element: etree._Element | None) -> int | None:
    """The amount in ``element``, in KiB where it names no unit."""
    return _amount(element.text, element.get("unit") or "KiB") if element is not None else None


def storage_bytes(element: etree._Element | None) -> int | None:
    """The amount in ``element``, in bytes where it names no unit."""
    return _amount(element.text, element.get("unit") or "bytes") if element is not None else None


def attribute_bytes(element: etree._Element, name: str) -> int | None:
    """The amount in the attribute ``name`` of ``element``, in KiB where the attribute ``unit`` is not
    there.
    """
    return _amount(element.get(name), element.get("unit") or "KiB")


def _amount(text: str | None, unit: str) -> int | None:
    number, factor = integer(text), _FACTORS.get(unit.strip().lower())
    return number * factor if number is not None and number >= 0 and factor else None
