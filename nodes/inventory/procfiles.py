"""Reading what ``grep -as . FILE…`` prints: many small files of /proc and /sys out of one process.

Each line is ``path:line``. A file that is empty, unreadable or not there has no line at all, so that all
three read as unknown here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from nodes.inventory.parsing.effort import stepped
from nodes.inventory.parsing.numbers import capped, integer

_KIB = re.compile(r"(\d{1,15})(?: kB)?\Z", re.ASCII)
"""Up to an exbibyte: what is beyond is damage, and no database's whole number holds it in bytes."""


def kib_to_bytes(text: str | None) -> int | None:
    """``16384 kB``, as /proc/meminfo writes KiB, in bytes."""
    match = _KIB.match((text or "").strip())
    return capped(match.group(1)) * 1024 if match else None


class Files:
    """Files by path, each a list of its non-empty lines.

    Paths end at the first colon: for paths with PCI addresses in them this class is of no use.
    """

    def __init__(self, text: str) -> None:
        files: dict[str, list[str]] = {}
        for line in stepped(text.split("\n")):
            path, colon, value = line.partition(":")
            if colon:
                files.setdefault(path, []).append(value)
        self._files: Mapping[str, list[str]] = files

    def __bool__(self) -> bool:
        return bool(self._files)

    def __contains__(self, path: object) -> bool:
        return path in self._files

    def lines(self, path: str) -> list[str]:
        return self._files.get(path, [])

    def get(self, path: str) -> str | None:
        """The file's first line without blanks and NULs around it; None where there is nothing."""
        lines = self._files.get(path)
        text = lines[0].strip(" \t\r\0") if lines else ""
        return text or None

    def integer(self, path: str) -> int | None:
        return integer(self.get(path))

    def matching(self, pattern: re.Pattern[str]) -> Iterator[tuple[re.Match[str], str]]:
        """Files whose whole path fits ``pattern``, as pairs of match and first line, in the order printed."""
        for path in self._files:
            match = pattern.fullmatch(path)
            value = self.get(path) if match else None
            if match and value is not None:
                yield match, value
