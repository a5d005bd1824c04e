"""Journal entries out of systemd's export format, as fast as they come and never larger than a bound.

The export format is ``FIELD=value`` a line and an empty line after each entry; a value with a line break or
bytes that are not UTF-8 is the name alone on a line, its size as 64 bits little-endian, the bytes and a line
break (https://systemd.io/JOURNAL_EXPORT_FORMATS/). journalctl writes it three times as fast as JSON, and
whole: in JSON it leaves out what is longer than 4 KiB.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum

import msgspec

from nodes.errors import HostBudgetExceeded, JournalUnavailable
from nodes.inventory.parsing.numbers import capped, integer

MAX_VALUE = 64 << 10
"""Bytes kept of one field. journald takes up to 768 MB in one, which no page shows and we shall not hold."""
MAX_FIELDS = 512
"""Fields kept of one entry; the rest is counted as cut."""
MAX_EMPTY_LINES = 1000
"""In a row: an entry is followed by one. journalctl that prints more prints no journal."""
MAX_BARREN = 1 << 30
"""Bytes without the end of an entry: the largest that journald keeps (ENTRY_SIZE_MAX)."""
_NAME_BYTES = 256
_LINE_BREAKS = re.compile(rb"\n*")
_PID_DIGITS = 11
_LAST_PID = 10**11 - 1

FIELDS = ("MESSAGE", "PRIORITY", "SYSLOG_IDENTIFIER", "_COMM", "_SYSTEMD_UNIT", "UNIT", "_PID")
"""All that a list of entries needs. Each further one costs journalctl a tenth of its speed."""

_LEVELS = {str(number): number for number in range(8)}
_seconds: dict[str, str] = {}
_BOOT_ID = re.compile(r"[0-9a-f]{32}")
_boots: set[str] = set()


class Entry(msgspec.Struct, gc=False):
    """One line of a journal or of a VM's log, as lists and sockets show it.

    ``level`` is syslog's 0 (emergency) to 7 (debug), None where the sender gave none. ``binary`` marks a
    message that is not text: it is shown with its bytes escaped. ``cut`` marks one longer than
    :data:`MAX_VALUE` bytes. ``cursor`` names the entry on its host, "" for a line of a file. ``message`` is
    None for an entry that has none; with ``message_unread`` it may have one that could not be read.
    """

    time: str | None
    level: int | None
    unit: str | None
    identifier: str | None
    pid: int | None
    message: str | None
    boot_id: str | None
    cursor: str
    source: str = "journal"
    binary: bool = False
    cut: bool = False
    message_unread: bool = False


@dataclass(frozen=True, slots=True)
class FieldValue:
    """A value of a field as it stands in the journal: as text, with what is not UTF-8 escaped."""

    name: str
    value: str
    binary: bool = False
    cut: bool = False
    size_bytes: int = 0


class _At(Enum):
    LINE = 1
    TEXT = 2
    SIZE = 3
    BYTES = 4
    BREAK = 5


@dataclass(slots=True)
class _Raw:
    """The fields of the entry that is being read."""

    values: list[tuple[bytes, bytes, int]] = field(default_factory=list)
    surplus: int = 0

    def add(self, name: bytes, value: bytes, size: int) -> None:
        if len(self.values) < MAX_FIELDS:
            self.values.append((name, value, size))
        else:
            self.surplus += 1


class ExportReader:
    """Entries out of pieces of export format, cut anywhere. Holds at most a chunk and one bounded entry."""

    def __init__(self) -> None:
        self._rest = b""
        self._raw = _Raw()
        self._at = _At.LINE
        self._name = b""
        self._value = bytearray()
        self._size = 0
        self._left = 0
        self._barren = self._empty_lines = 0
        """Bytes, and empty lines in a row, since the last entry."""
        self._clean = True
        """At the beginning of an entry, where the quick way can be tried."""

    def feed(self, chunk: bytes) -> list[Entry]:
        """The entries that ``chunk`` completes.

        Raises JournalUnavailable for what is no journal, HostBudgetExceeded for an entry without an end.
        """
        entries = self._feed(chunk)
        self._bound(len(chunk), entries)
        return entries

    def _bound(self, size: int, entries: list[Entry]) -> None:
        self._barren = 0 if entries else self._barren + size
        if self._barren > MAX_BARREN:
            raise HostBudgetExceeded(
                f"The host's journal sent {self._barren >> 20} MiB without the end of an entry, "
                f"which has {MAX_BARREN >> 20} MiB at most."
            )

    def _feed(self, chunk: bytes) -> list[Entry]:
        data = self._rest + chunk if self._rest else chunk
        self._rest = b""
        if self._clean:
            end = data.rfind(b"\n\n") + 2
            if end >= 2:
                quick = _quick(data[: end - 2])
                if quick is not None:
                    self._rest = data[end:]
                    return quick
            elif len(data) < MAX_VALUE:
                self._rest = data
                return []
        entries = [_entry_of(raw) for raw in self._slow(data)]
        self._clean = self._at is _At.LINE and not self._raw.values and not self._raw.surplus
        return entries

    def feed_fields(self, chunk: bytes) -> list[list[FieldValue]]:
        """The entries that ``chunk`` completes, with all fields of each. Not to be mixed with ``feed``."""
        data, self._rest = self._rest + chunk, b""
        return [[_field_value(*item) for item in raw.values] for raw in self._slow(data)]

    def _slow(self, data: bytes) -> Iterator[_Raw]:
        """Field by field; what is incomplete waits in the state (values) or in ``_rest`` (names, sizes)."""
        position = 0
        while position < len(data):
            before = position, self._at
            if self._at is _At.LINE:
                if data[position] == 0x0A:
                    if self._raw.values:
                        position += 1
                        self._empty_lines = 0
                        done, self._raw = self._raw, _Raw()
                        yield done
                        continue
                    position = self._pass_empty(data, position)
                    continue
                position = self._begin_field(data, position)
            elif self._at is _At.TEXT:
                position = self._text(data, position)
            elif self._at is _At.SIZE:
                position = self._binary_size(data, position)
            elif self._at is _At.BYTES:
                position = self._bytes(data, position)
            else:
                position += 1
                self._end_field()
            if (position, self._at) == before:
                self._rest = data[position:]
                return

    def _pass_empty(self, data: bytes, position: int) -> int:
        found = _LINE_BREAKS.match(data, position)
        end = found.end() if found else position + 1
        self._empty_lines += end - position
        if self._empty_lines > MAX_EMPTY_LINES:
            raise JournalUnavailable("journalctl on the host prints empty lines in place of entries.")
        return end

    def _begin_field(self, data: bytes, position: int) -> int:
        line_end = data.find(b"\n", position, position + _NAME_BYTES)
        equals = data.find(b"=", position, line_end if line_end >= 0 else position + _NAME_BYTES)
        if equals >= 0:
            self._start(data[position:equals], _At.TEXT)
            return equals + 1
        if line_end >= 0:
            self._start(data[position:line_end], _At.SIZE)
            return line_end + 1
        if len(data) - position >= _NAME_BYTES:  # no field's name is so long (64 at most): not the format
            self._start(b"", _At.TEXT)
        return position

    def _start(self, name: bytes, at: _At) -> None:
        self._name, self._at, self._size = name, at, 0
        self._value.clear()

    def _text(self, data: bytes, position: int) -> int:
        end = data.find(b"\n", position)
        stop = end if end >= 0 else len(data)
        self._keep(data, position, stop)
        if end < 0:
            return stop
        self._end_field()
        return end + 1

    def _binary_size(self, data: bytes, position: int) -> int:
        if len(data) - position < 8:
            return position
        self._left = int.from_bytes(data[position : position + 8], "little")
        if self._left > MAX_BARREN:
            raise JournalUnavailable(
                "What journalctl on the host prints is not the journal's export format: "
                f"a field is said to have {self._left} bytes."
            )
        self._at = _At.BYTES if self._left else _At.BREAK
        return position + 8

    def _bytes(self, data: bytes, position: int) -> int:
        stop = min(len(data), position + self._left)
        self._keep(data, position, stop)
        self._left -= stop - position
        if not self._left:
            self._at = _At.BREAK
        return stop

    def _keep(self, data: bytes, start: int, stop: int) -> None:
        room = MAX_VALUE - len(self._value)
        self._value += data[start : min(stop, start + room)]
        self._size += stop - start

    def _end_field(self) -> None:
        self._raw.add(self._name, bytes(self._value), self._size)
        self._at = _At.LINE


def _quick(block: bytes) -> list[Entry] | None:
    """Whole entries of text fields alone; None where one has a binary field, or anything is unusual."""
    if len(block) > 16 * MAX_VALUE:
        return None
    try:
        return [_from_texts(part) for part in block.decode("utf-8").split("\n\n")]
    except ValueError:  # not UTF-8, a name without "=", a number that is none
        return None


def _from_texts(part: str) -> Entry:
    # dict() raises ValueError for a line that has no "=", by which a binary field shows.
    lines = part.split("\n")
    values = dict([line.split("=", 1) for line in lines])
    if len(values) != len(lines):
        raise ValueError("a field stands there twice")
    get = values.get
    pid, message = get("_PID"), get("MESSAGE")
    if pid is not None and len(pid) > _PID_DIGITS:
        raise ValueError("no process has such a number")
    if message is not None and len(message) > MAX_VALUE // 4:
        raise ValueError("long: bytes have to be counted")
    return Entry(
        rfc3339(get("__REALTIME_TIMESTAMP")),
        _LEVELS.get(get("PRIORITY", "")),
        get("UNIT") or get("_SYSTEMD_UNIT"),
        get("SYSLOG_IDENTIFIER") or get("_COMM"),
        integer(pid) if pid else None,
        message,
        boot_id(get("_BOOT_ID")),
        get("__CURSOR", ""),
    )


def _entry_of(raw: _Raw) -> Entry:
    """The slow way: any bytes, any length. Of a field that stands there twice, the first counts."""
    values: dict[str, FieldValue] = {}
    for item in raw.values:
        value = _field_value(*item)
        values.setdefault(value.name, value)
    texts = {name: value.value for name, value in values.items()}
    pid = texts.get("_PID", "")
    message = values.get("MESSAGE")
    return Entry(
        time=rfc3339(texts.get("__REALTIME_TIMESTAMP")),
        level=_LEVELS.get(texts.get("PRIORITY", "")),
        unit=texts.get("UNIT") or texts.get("_SYSTEMD_UNIT"),
        identifier=texts.get("SYSLOG_IDENTIFIER") or texts.get("_COMM"),
        pid=integer(pid, most=_LAST_PID),
        message=message.value if message else None,
        boot_id=boot_id(texts.get("_BOOT_ID")),
        cursor=texts.get("__CURSOR", ""),
        binary=message.binary if message else False,
        cut=message.cut if message else False,
    )


def _field_value(name: bytes, value: bytes, size: int) -> FieldValue:
    cut = size > len(value)
    try:
        text, binary = value.decode("utf-8"), False
    except UnicodeDecodeError as error:
        # A cut may fall inside a character; that alone does not make the text binary.
        if cut and error.start >= len(value) - 3:
            text, binary = value[: error.start].decode("utf-8"), False
        else:
            text, binary = value.decode("utf-8", errors="backslashreplace"), True
    if "\0" in text:
        text, binary = text.replace("\0", "\\x00"), True
    return FieldValue(name.decode("ascii", errors="backslashreplace"), text, binary, cut, size)


def boot_id(text: str | None) -> str | None:
    """A boot's ID as the kernel makes it; None for all else, which somebody else must have written."""
    if text in _boots:
        return text
    if text is None or not _BOOT_ID.fullmatch(text):
        return None
    if len(_boots) > 4096:
        _boots.clear()
    _boots.add(text)
    return text


def rfc3339(microseconds: str | None) -> str | None:
    """Microseconds since 1970 as RFC 3339 in UTC; None for what is no such number."""
    if microseconds is None or not 7 <= len(microseconds) <= 17:
        return None
    # All of it each time: the second may be one of before, and what stands behind it something else.
    if not microseconds.isascii() or not microseconds.isdigit():
        return None
    second = microseconds[:-6]
    prefix = _seconds.get(second)
    if prefix is None:
        # Lines come in order, so nearly all share their second with the one before.
        if len(_seconds) > 4096:
            _seconds.clear()
        prefix = datetime.fromtimestamp(capped(second), UTC).strftime("%Y-%m-%dT%H:%M:%S.")
        _seconds[second] = prefix
    return f"{prefix}{microseconds[-6:]}Z"
