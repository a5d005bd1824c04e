"""Whether what a host prints can still be the probe's output, told while it comes."""

from __future__ import annotations

from nodes.inventory.script import HEAD, MAX_TABLE, TABLE_END

HEAD_WITHIN = 64 << 10
"""Bytes before the first line of the probe: something else may print before it."""


class ProbeWatch:
    """Told piece by piece what a host prints in place of the probe's output; False where it is none.

    Only where the first line, and the end of the table behind it, do not come in time: what the table
    announces is bounded by the whole output's bound.
    """

    def __init__(self) -> None:
        self._begin = bytearray()
        self._has_head = self._has_table = False

    def __call__(self, chunk: bytes) -> bool:
        if self._has_table:
            return True
        # The mark may lie across two pieces.
        searched = max(0, len(self._begin) - len(TABLE_END))
        self._begin += chunk
        if not self._has_head and b"\n" in chunk:
            line = self._begin.rfind(b"\n", 0, searched) + 1
            self._has_head = HEAD.search(self._begin, line) is not None
        if self._has_head and self._begin.find(TABLE_END, searched) >= 0:
            self._has_table = True
            self._begin.clear()
            return True
        return len(self._begin) <= (MAX_TABLE if self._has_head else HEAD_WITHIN)
