"""Entries as they leave: one JSON object a line, with what it takes to verify them elsewhere."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from nodes.models import Event
from nodes.models.event import EventQuerySet

PORTION = 200
LONGEST_LINE = 4 << 20


def exported(entry: Event) -> dict[str, Any]:
    codes = {"content_mac": entry.content_mac, "chain_mac": entry.chain_mac}
    return {"number": entry.number, **entry.facts(), **codes}


def line_of(entry: Event) -> str:
    """Its JSON on one line. Everything beyond ASCII is escaped: no character of an entry's text can break the
    line, or move a terminal's cursor."""
    return json.dumps(exported(entry), separators=(",", ":")) + "\n"


def entries_after(
    number: int, *, since: datetime | None = None, until: datetime | None = None
) -> EventQuerySet:
    """Entries behind that number, in the order of the chain."""
    rows = Event.objects.sealed().filter(number__gt=number)
    if since is not None:
        rows = rows.filter(created_at__gte=since)
    if until is not None:
        rows = rows.filter(created_at__lt=until)
    return rows


def portions(rows: EventQuerySet) -> Iterator[list[Event]]:
    """The rows in lists of PORTION; each is a query of its own, so that no transaction stays open."""
    last = 0
    while found := list(rows.filter(number__gt=last)[:PORTION]):
        yield found
        last = found[-1].number or 0


def append(path: Path, lines: Iterable[str]) -> None:
    """Add lines to the file, and have them on the disk. The file is opened anew each time: one that was
    rotated is begun anew. Half a line that a kill has left is ended first."""
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "r+b", buffering=0) as stream:
        size = os.fstat(descriptor).st_size
        text = "".join(lines).encode()
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            text = b"\n" + text
        view = memoryview(text)
        while view:
            view = view[stream.write(view) or 0 :]
        os.fsync(descriptor)


def last_number(path: Path) -> int:
    """The number of the file's last whole entry; 0 where there is none."""
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        return 0
    with path.open("rb") as stream:
        stream.seek(max(0, size - LONGEST_LINE))
        for line in reversed(stream.read().splitlines()):
            try:
                return int(json.loads(line)["number"])
            except (ValueError, KeyError, TypeError):
                continue
    return 0
