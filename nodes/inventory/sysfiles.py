"""Reading many files of sysfs that one ``grep`` printed, and many links that one ``ls`` printed.

Beside procfiles.py, for what that one leaves out: paths with colons in them (PCI addresses), hexadecimal
numbers, links, and directories of devices. Two forms:

- ``grep -as . FILES`` prints ``PATH:LINE``. The line is split after the first file name that begins with a
  letter, since directories may hold colons and files of sysfs do not.
- ``ls -dgo --time-style=+ PATHS`` prints ``MODE COUNT SIZE  PATH -> TARGET``; the target is missing for
  what is no link.

Both are cut, mixed with error messages or wholly foreign now and then: what does not fit is passed over.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from nodes.inventory.parsing.effort import stepped
from nodes.inventory.parsing.numbers import integer

LIST_LINKS = "ls -dgo --time-style=+"
"""Lists paths with the targets of links, and nothing that changes from one moment to the next."""

_VALUE = re.compile(r"([^/]*/(?:[^/]*/)*?[A-Za-z_][\w.+-]*):(.*)")
_LISTED = re.compile(r"[-bcdlps][-rwxsStT]{9}[.+@]?\s+\d+\s+(?:\d+,\s*)?\d+\s+(\S.*)")


def read_values(text: str) -> dict[str, list[str]]:
    """What ``grep -as .`` printed: the lines of each file, by its path as it was given to grep."""
    values: dict[str, list[str]] = {}
    for line in stepped(text.split("\n")):
        match = _VALUE.match(line)
        if match is not None:
            values.setdefault(match.group(1), []).append(match.group(2).strip(" \t\r\0"))
    return values


def read_links(text: str) -> dict[str, str | None]:
    """What :data:`LIST_LINKS` printed: the target of each link by its path, None for what is no link."""
    links: dict[str, str | None] = {}
    for line in stepped(text.split("\n")):
        match = _LISTED.match(line)
        if match is None:
            continue
        path, arrow, target = match.group(1).partition(" -> ")
        if line[0] != "l":
            links[path] = None
        elif arrow and target:  # a link without a target was cut off
            links[path] = target
    return links


def resolve_links(links: Mapping[str, str | None], directory: str = "/") -> dict[str, str]:
    """The absolute path behind each link. ``directory`` is where relative paths begin."""
    found: dict[str, str] = {}
    for path, target in links.items():
        if target is not None:
            start = posixpath.dirname(posixpath.join(directory, path))
            found[path] = posixpath.normpath(posixpath.join(start, target))
    return found


@dataclass(frozen=True, slots=True)
class Directory:
    """The files of many directories below one, as name of the directory → name of the file → its lines."""

    entries: Mapping[str, Mapping[str, list[str]]] = field(default_factory=dict)

    @classmethod
    def read(cls, values: Mapping[str, list[str]], prefix: str = "") -> Directory:
        """Of ``values`` those whose path is ``prefix``, a directory, and whatever lies below it."""
        entries: dict[str, dict[str, list[str]]] = {}
        for path, lines in values.items():
            if path.startswith(prefix):
                name, slash, rest = path[len(prefix) :].partition("/")
                if name and slash and rest:
                    entries.setdefault(name, {})[rest] = lines
        return cls(entries)

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def text(self, name: str, file: str) -> str | None:
        """The first line of a file; None where it is missing or blank."""
        lines = self.entries.get(name, {}).get(file)
        return (lines[0] or None) if lines else None

    def number(self, name: str, file: str) -> int | None:
        """A file's decimal or ``0x`` number; None where it holds none."""
        return whole_number(self.text(name, file))


_WHOLE = re.compile(r"0[xX]([0-9a-fA-F]{1,16})\Z|([+-]?\d{1,20})\Z", re.ASCII)


def whole_number(text: str | None) -> int | None:
    """A decimal number, or a hexadecimal one that begins with ``0x``; None for all else."""
    match = _WHOLE.match(text or "")
    if match is None:
        return None
    return integer(match.group(1), 16) if match.group(1) else integer(match.group(2))
