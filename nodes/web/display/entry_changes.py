"""What an entry of the audit log changed, as lines of a small table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext as _

from nodes.models import Event

MOST_LINES = 30
LONGEST = 300


@dataclass(frozen=True, slots=True)
class ChangeLine:
    """One field; None where there was or is no value."""

    name: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True)
class EntryChanges:
    """``lines`` of what changed, ``further`` facts as name and text, ``left_out`` lines beyond the limit."""

    lines: tuple[ChangeLine, ...]
    further: tuple[tuple[str, str], ...]
    left_out: int

    def __bool__(self) -> bool:
        return bool(self.lines or self.further)


def changes_of(event: Event) -> EntryChanges:
    data = event.data if isinstance(event.data, Mapping) else {}
    lines = list(_lines(data))
    told = {line.name for line in lines}
    rest = [
        (str(name), _text(value) or "")
        for name, value in data.items()
        if name not in ("before", "after", "added", "removed") and name not in told
    ]
    return EntryChanges(tuple(lines[:MOST_LINES]), tuple(rest[:MOST_LINES]), max(0, len(lines) - MOST_LINES))


def _lines(data: Mapping[str, Any]) -> Iterator[ChangeLine]:
    """From ``{"before": {…}, "after": {…}}``, or from ``{field: {"before": …, "after": …}}``."""
    before, after = data.get("before"), data.get("after")
    if isinstance(before, Mapping) or isinstance(after, Mapping):
        old = before if isinstance(before, Mapping) else {}
        new = after if isinstance(after, Mapping) else {}
        for name in dict.fromkeys((*old, *new)):
            yield ChangeLine(str(name), _text(old.get(name)), _text(new.get(name)))
        return
    for name, value in data.items():
        if isinstance(value, Mapping) and {"before", "after"} <= set(value):
            yield ChangeLine(str(name), _text(value["before"]), _text(value["after"]))


def _text(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, bool):
        return str(_("yes")) if value else str(_("no"))
    if isinstance(value, list | tuple):
        text = ", ".join(_text(inner) or "–" for inner in value)
    elif isinstance(value, Mapping):
        text = ", ".join(f"{name}: {_text(inner) or '–'}" for name, inner in value.items())
    else:
        text = str(value)
    if not text:
        return None
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
