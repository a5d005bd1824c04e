"""Lines of the logs that libvirt keeps of each VM, as entries: read piece by piece, each with its place.

Many lines carry no time: those of the command that QEMU was started with, and what its libraries print. They
count as of the time of the last line above them that has one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from nodes.hosts.journal_entries import MAX_VALUE, Entry
from nodes.hosts.journal_filters import JournalFilters
from nodes.hosts.journal_search import Search

_ZONE = r"(Z|[+-]\d\d:?\d\d)?:? ?"
_STAMP = re.compile(r"(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d)(?:\.(\d{1,6}))?" + _ZONE, re.ASCII)


@dataclass(slots=True)
class Line:
    """A line of a file: as an entry, and where it stands."""

    entry: Entry
    name: str
    inode: int
    start: int
    end: int
    key: str
    """Its time for sorting, never before that of the line above it, whatever the clock did."""


class LineReader:
    """Lines of one file, cut into pieces anywhere, as entries. Bounded: a longer line is cut."""

    def __init__(
        self, name: str, inode: int, offset: int, filters: JournalFilters, search: Search | None
    ) -> None:
        self.name = name
        self.inode = inode
        self.offset = offset
        self._rest = b""
        self._time: str | None = None
        self._key = ""
        self._search = search
        self._since = _bound(filters.since)
        self._until = _bound(filters.until)

    def look_back(self, above: bytes) -> None:
        """Take the time from what stands above the first line that is fed."""
        for line in reversed(above.split(b"\n")):
            stamp = _STAMP.match(line[:64].decode("utf-8", errors="replace"))
            if stamp is not None and (time := _time_of(stamp)) is not None:
                self._time = self._key = time
                return

    def feed(self, data: bytes) -> list[Line]:
        """The lines that ``data`` completes and that fit."""
        data = self._rest + data
        lines = []
        position = 0
        while (end := data.find(b"\n", position)) >= 0:
            raw = data[position:end]
            line = self._line(raw, self.offset, self.offset + len(raw) + 1)
            self.offset += len(raw) + 1
            if line is not None:
                lines.append(line)
            position = end + 1
        self._rest = data[position:]
        if len(self._rest) > MAX_VALUE:
            line = self._line(self._rest, self.offset, self.offset + len(self._rest))
            self.offset += len(self._rest)
            self._rest = b""
            if line is not None:
                line.entry.cut = True
                lines.append(line)
        if self._search is None:
            return lines
        fits = self._search.matching([line.entry.message for line in lines])
        return [line for line, fit in zip(lines, fits, strict=True) if fit]

    def _line(self, raw: bytes, start: int, end: int) -> Line | None:
        binary = False
        try:
            text = raw[:MAX_VALUE].decode("utf-8")
        except UnicodeDecodeError:
            text, binary = raw[:MAX_VALUE].decode("utf-8", errors="backslashreplace"), True
        stamp = _STAMP.match(text)
        if stamp is not None:
            self._time = _time_of(stamp) or self._time
            text = text[stamp.end() :]
        time = self._time
        self._key = max(self._key, time or "")
        if (self._since and time and time < self._since) or (self._until and time and time > self._until):
            return None
        entry = Entry(
            time, None, None, self.name, None, text, None, "", "vm-log", binary, len(raw) > MAX_VALUE
        )
        return Line(entry, self.name, self.inode, start, end, self._key)


def _bound(moment: datetime | None) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ") if moment else ""


def _time_of(stamp: re.Match[str]) -> str | None:
    """libvirt's ``2026-01-02 03:04:05.678+0000`` and QEMU's ``2026-01-02T03:04:05.678901Z`` alike."""
    day, clock, fraction, zone = stamp.groups()
    offset = "+00:00" if zone in (None, "Z") else zone if ":" in zone else f"{zone[:3]}:{zone[3:]}"
    try:
        moment = datetime.fromisoformat(f"{day}T{clock}.{(fraction or '0').ljust(6, '0')}{offset}")
        return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    except (ValueError, OverflowError):
        return None
