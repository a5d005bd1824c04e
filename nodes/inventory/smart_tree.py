"""Careful reads of smartctl's output as a tree of JSON values.

Versions, bridges and controllers leave members out, print numbers as text, or fill a counter with its
sentinel. Every read here gives None for what is not what it should be, so that no reader of the facts has
to doubt them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping

from nodes.inventory.jsontext import Tree, branch, decode, read_json
from nodes.inventory.parsing.numbers import decimal as decimal_of
from nodes.inventory.parsing.numbers import wide_integer

__all__ = [
    "Tree",
    "branch",
    "counter",
    "decimal",
    "first",
    "load_cut_tree",
    "load_tree",
    "rows",
    "truth",
    "whole",
    "words",
]

_NUMBER = re.compile(r"\s*([+-]?)(0[xX][0-9a-fA-F]+|\d[\d,]*)(?:\.\d+)?")
_OPENING = re.compile(r"^[ \t\ufeff]*\{", re.MULTILINE)
_LONGEST_NUMBER = 60
_SIGNS = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],"]', re.DOTALL)
_CLOSING = {"{": "}", "[": "]"}
_SMARTCTLS = ("json_format_version", "smart", "device", "ata_", "nvme_", "scsi_")
"""What members of smartctl's output begin with."""


def load_tree(text: str) -> Tree | None:
    """The JSON object in ``text``, None without one. Other lines may stand before it (a warning of sudo)."""
    opening = _OPENING.search(text)
    if opening is None:
        return None
    value, _end = decode(text, opening.end() - 1)
    return value if isinstance(value, dict) else None


def load_cut_tree(text: str) -> Tree | None:
    """What came whole of smartctl's JSON whose end is missing; None where ``text`` is something else.

    Objects keep the members that came whole, lists their whole items: half an attribute is none.
    """
    opening = _OPENING.search(text)
    if opening is None:
        return None
    start = opening.end() - 1
    end, closing = _last_whole(text, start)
    try:
        value = read_json(text[start:end] + closing)
    except ValueError:
        return None
    known = isinstance(value, dict) and any(name.startswith(_SMARTCTLS) for name in value)
    return value if known else None


def _last_whole(text: str, start: int) -> tuple[int, str]:
    """Where in the cut JSON at ``start`` the last whole part ends, and what closes it there."""
    opened: list[str] = []
    lists = depth = 0
    last = start
    for match in _SIGNS.finditer(text, start):
        sign, end = match.group(), match.end()
        if sign == '"':
            break  # a text without an end
        if sign in _CLOSING:
            opened.append(sign)
            lists += sign == "["
        elif sign in ("}", "]"):
            if not opened:
                break
            lists -= opened.pop() == "["
        elif sign == ",":
            end = match.start()
        else:
            continue
        if lists == 0 or (lists == 1 and opened[-1] == "["):
            last, depth = end, len(opened)
    return last, "".join(_CLOSING[sign] for sign in reversed(opened[:depth]))


def rows(tree: object, *path: str) -> Iterator[Tree]:
    """The objects in the list at ``path``."""
    found = branch(tree, *path)
    if isinstance(found, list):
        yield from (row for row in found if isinstance(row, Mapping))


def whole(value: object, low: int = 0, high: int = 2**127) -> int | None:
    """``value`` as a whole number from ``low`` to ``high``, else None.

    Texts count by the number they begin with (decimal, with thousands' commas, or hexadecimal after 0x):
    smartctl prints ``26 (Min/Max 13/41)`` for an attribute whose raw number packs three temperatures.
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        match = _NUMBER.match(value[:_LONGEST_NUMBER])
        if match is None:
            return None
        digits = match.group(2).replace(",", "")
        told = wide_integer(digits)
        if told is None:
            return None
        number = -told if match.group(1) == "-" else told
    elif isinstance(value, int):
        number = value
    elif isinstance(value, float) and abs(value) < 2**127:
        number = math.trunc(value)
    else:
        return None
    return number if low <= number <= high else None


def decimal(value: object, high: float = 1e30) -> float | None:
    """``value`` (a number, or text such as ``162438.759``) as a number from 0 to ``high``, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        if isinstance(value, str):
            number = decimal_of(value[:_LONGEST_NUMBER].replace(",", ""))
        else:
            number = float(value)
    except OverflowError:
        return None
    return number if number is not None and 0 <= number <= high else None


def words(value: object) -> str | None:
    """``value`` as text without surrounding blanks; None where it is no text or empty."""
    if not isinstance(value, str):
        return None
    text = " ".join(value.split())
    return text or None


def truth(value: object) -> bool | None:
    """``value`` as yes or no, also where a tool wrote it as a word; None for all else."""
    if isinstance(value, bool):
        return value
    if isinstance(value, int) and value in (0, 1):
        return bool(value)
    if isinstance(value, str):
        return {
            "true": True,
            "passed": True,
            "ok": True,
            "false": False,
            "failed": False,
            "failed!": False,
        }.get(value.strip().lower())
    return None


def first(*values: int | None) -> int | None:
    """The first that is known (0 is)."""
    return next((value for value in values if value is not None), None)


def counter(tree: object, *path: str) -> int | None:
    """A counter at ``path``; one beyond 53 bits may stand as text under the same name with ``_s``."""
    *way, name = path
    found = whole(branch(tree, *path))
    return found if found is not None else whole(branch(tree, *way, f"{name}_s"))
