"""The kernel's list format for CPUs and NUMA nodes: ``0-3,8,10-14:2/1``.

Source: "List of CPUs" in the kernel's Documentation/admin-guide/kernel-parameters.rst.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from nodes.inventory.parsing.numbers import capped

MAX_ID = 1 << 16
"""Beyond any machine there is; what claims more is damaged and is left out."""

_PART = re.compile(r"(\d{1,9})(?:-(\d{1,9})(?::(\d{1,9})/(\d{1,9}))?)?\Z", re.ASCII)


def parse_cpu_list(text: str | None) -> tuple[int, ...]:
    """The ids in ``text``, ascending; parts that are no such list are left out. Empty for None."""
    found: set[int] = set()
    for part in (text or "").strip().split(","):
        match = _PART.match(part.strip())
        if match is None:
            continue
        first = capped(match.group(1))
        last = capped(match.group(2)) if match.group(2) else first
        used, size = capped(match.group(3) or "1"), capped(match.group(4) or "1")
        if last >= MAX_ID or size == 0:
            continue
        found.update(number for number in range(first, last + 1) if (number - first) % size < used)
    return tuple(sorted(found))


def format_cpu_list(ids: Iterable[int]) -> str:
    """``0-3,8`` for 0, 1, 2, 3 and 8; an empty text for none."""
    parts: list[str] = []
    ordered = sorted(set(ids))
    index = 0
    while index < len(ordered):
        end = index
        while end + 1 < len(ordered) and ordered[end + 1] == ordered[end] + 1:
            end += 1
        parts.append(str(ordered[index]) if end == index else f"{ordered[index]}-{ordered[end]}")
        index = end + 1
    return ",".join(parts)
