"""The opaque cursor: a query and the place at which to go on, in one word.

It is not signed: all that it says is checked again like a user's own input, and it opens nothing that the
user could not ask for.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from nodes.errors import InvalidCursor, InvalidInput
from nodes.hosts.journal import check_cursor
from nodes.hosts.journal_filters import JournalFilters, read_filters
from nodes.hosts.qemu_logs import bounded, check_places

MAX_CURSOR = 32 << 10
_VERSION = 1


class _Wire(msgspec.Struct, forbid_unknown_fields=True):
    v: int
    q: dict[str, Any]
    n: bool
    j: str = ""
    f: dict[str, list[int]] = {}


@dataclass(frozen=True, slots=True)
class LogCursor:
    """``journal`` is the last entry's own cursor, ``files`` the place in each of the VMs' logs."""

    filters: JournalFilters
    newest_first: bool = False
    journal: str = ""
    files: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    def encode(self) -> str:
        """URL-safe text without padding."""
        wire = _Wire(
            _VERSION,
            self.filters.to_json(),
            self.newest_first,
            self.journal,
            {name: list(place) for name, place in bounded(self.files).items()},
        )
        return base64.urlsafe_b64encode(msgspec.json.encode(wire)).rstrip(b"=").decode("ascii")

    @classmethod
    def decode(cls, text: str) -> LogCursor:
        """Raises InvalidCursor for anything that :meth:`encode` did not make."""
        try:
            if len(text) > MAX_CURSOR:
                raise ValueError("longer than any cursor")
            raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
            wire = msgspec.json.decode(raw, type=_Wire)
            if wire.v != _VERSION:
                raise ValueError("another version's cursor")
            filters = read_filters(wire.q)
        except (ValueError, RecursionError, binascii.Error, msgspec.DecodeError, InvalidInput) as error:
            raise InvalidCursor(
                "The cursor is not one that was given out.",
                remedy="Ask again without a cursor.",
                field="cursor",
            ) from error
        check_cursor(wire.j)
        return cls(filters, wire.n, wire.j, check_places(wire.f))
