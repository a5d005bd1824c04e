"""Facts as plain JSON: what snapshots store and the API answers."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from enum import Enum
from functools import cache
from typing import Any, TypeAlias

from nodes.inventory.parsing.effort import stepped

_SURROGATE = re.compile("[\ud800-\udfff]")

Plain: TypeAlias = "dict[str, Plain] | list[Plain] | str | int | float | bool | None"


def to_plain(value: Any) -> Plain:
    """Dataclasses and mappings become objects, sequences lists, enums their value; the rest stays.

    Texts become such as any database and client takes: bytes that were no UTF-8 are shown as U+FFFD, and
    NUL is left out (PostgreSQL's jsonb refuses both). A number that JSON cannot write becomes None. Raises
    TypeError for what is no fact.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Enum):
        return to_plain(value.value)
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {name: to_plain(getattr(value, name)) for name in _fields(type(value))}
    if isinstance(value, Mapping):
        return {clean_text(str(key)): to_plain(item) for key, item in stepped(value.items())}
    if isinstance(value, tuple | list):
        return [to_plain(item) for item in stepped(value)]
    if isinstance(value, frozenset | set):
        return [to_plain(item) for item in sorted(value)]
    raise TypeError(f"{type(value).__name__} is no fact")


@cache
def _fields(kind: type[Any]) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(kind))


def clean_text(text: str) -> str:
    """Text as any database and client takes it: a byte that was no UTF-8, or half of a pair that a tool's
    JSON spells out, is shown as U+FFFD."""
    if "\0" in text:
        text = text.replace("\0", "")
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)
