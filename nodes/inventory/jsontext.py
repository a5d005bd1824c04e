"""Careful reads of JSON that a tool printed: also where it was cut, or is not what it should be.

Every read here gives None (or nothing) for a value of another kind than the one asked for, so that no
reader of the facts has to doubt them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from nodes.inventory.parsing.effort import step as count_step
from nodes.inventory.parsing.numbers import json_decimal, json_integer

Tree: TypeAlias = Mapping[str, Any]

_BLANK_OR_COMMA = re.compile(r"[\s,]*")
_DECODER = json.JSONDecoder(parse_int=json_integer, parse_float=json_decimal, parse_constant=lambda _: None)


def read_json(text: str) -> Any:
    """The value in ``text``, its numbers None where they are beyond what is read (see parsing/numbers.py).

    Raises ValueError where it is no JSON, or nested deeper than is read.
    """
    try:
        return _DECODER.decode(text)
    except RecursionError:
        raise ValueError("nested too deep") from None


def read_values(text: str) -> list[Any]:
    """The JSON values in ``text``, one after the other as several tools (or commands of one) print them.

    Reading ends at what is no JSON. An array that was cut gives those of its items that came whole.
    """
    values: list[Any] = []
    position = _skip(text, 0)
    while position < len(text):
        count_step()
        value, end = decode(text, position)
        if end == position:
            if text[position] == "[":
                values.append(_whole_items(text, position + 1))
            break
        values.append(value)
        position = _skip(text, end)
    return values


def read_objects(text: str) -> list[Tree]:
    """The objects of the first array in ``text``; none where it begins with anything else."""
    values = read_values(text)
    first = values[0] if values else None
    return [item for item in first if isinstance(item, dict)] if isinstance(first, list) else []


def branch(tree: object, *path: str) -> Any:
    """The value at ``path``, or None where a step of it is missing or no object."""
    for step in path:
        if not isinstance(tree, dict):
            return None
        tree = tree.get(step)
    return tree


def subtree(tree: object, *path: str) -> Tree:
    """The object at ``path``; an empty one where there is none."""
    found = branch(tree, *path)
    return found if isinstance(found, dict) else {}


def items(tree: object, *path: str) -> Sequence[Any]:
    """The array at ``path``; an empty one where there is none."""
    found = branch(tree, *path)
    return found if isinstance(found, list) else ()


def words(tree: object, *path: str) -> str | None:
    """The text at ``path``; None where there is none or it is empty."""
    found = branch(tree, *path)
    return (found.strip() or None) if isinstance(found, str) else None


def whole(tree: object, *path: str) -> int | None:
    """The whole number at ``path`` (true and false are none)."""
    found = branch(tree, *path)
    return found if isinstance(found, int) and not isinstance(found, bool) else None


def truth(tree: object, *path: str) -> bool | None:
    """true or false at ``path``; a 1 or 0 will do."""
    found = branch(tree, *path)
    if isinstance(found, bool):
        return found
    return bool(found) if isinstance(found, int) and found in (0, 1) else None


def _whole_items(text: str, position: int) -> list[Any]:
    found: list[Any] = []
    position = _skip(text, position)
    while position < len(text):
        count_step()
        value, end = decode(text, position)
        if end == position:
            break
        found.append(value)
        position = _skip(text, end)
    return found


def decode(text: str, position: int) -> tuple[Any, int]:
    """The value at ``position`` and where it ends; ``position`` itself where there is none."""
    try:
        value, end = _DECODER.raw_decode(text, position)
        return value, end
    except (ValueError, RecursionError):
        return None, position


def _skip(text: str, position: int) -> int:
    match = _BLANK_OR_COMMA.match(text, position)
    return match.end() if match else position
