"""The logs that libvirt keeps of each VM, one file a VM: why QEMU did not start often stands only there.

The files have no cursor, level or boot. A place in them is a file's inode and an offset, so a file that was
rotated (virtlogd renames NAME.log to NAME.log.0) is read to its end under its new name, and the new one from
its beginning. Source: https://libvirt.org/logging.html#log-files, virtlogd(8).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from contextlib import closing, nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final

from nodes.errors import HostTimeout, InsufficientRightsOnHost, InvalidCursor
from nodes.hosts.connection import HostConnection
from nodes.hosts.deadlines import Clock
from nodes.hosts.journal_entries import MAX_VALUE, Entry
from nodes.hosts.journal_filters import JournalFilters
from nodes.hosts.journal_search import Search, search_of

DIRECTORY: Final = "/var/log/libvirt/qemu"
MAX_FILES = 64
"""The files changed last; a host with more VMs shows those of the others when asked by name."""
_ONE_BLOCK, _BLOCK = 1 << 20, 64 << 10
_FOLLOW_BLOCK = 256 << 10
_MARK = b"\x1e"

_STAMP = re.compile(r"(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d)(?:\.(\d{1,6}))?(Z|[+-]\d\d:?\d\d)?:? ?", re.ASCII)

Places = Mapping[str, tuple[int, int]]
"""For each file its inode and the offset at which to go on."""


@dataclass(frozen=True, slots=True)
class LogFile:
    """A file as it was found."""

    name: str
    inode: int
    size: int
    changed_at: int


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


@dataclass(slots=True)
class FileLines:
    """Lines in the order asked for. ``complete``: nothing of these files lies beyond them."""

    lines: list[Line] = field(default_factory=list)
    complete: bool = True
    ends: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Where each file begins to be unread, were no line taken."""
    reached: dict[str, tuple[int, int]] = field(default_factory=dict)
    """The same with all lines taken."""
    rotated: bool = False


def read_lines(
    connection: HostConnection,
    filters: JournalFilters,
    *,
    newest_first: bool,
    places: Places,
    timeout_s: float,
) -> FileLines:
    """What the files hold before (newest first) or after ``places``, a bounded block of each.

    Raises InsufficientRightsOnHost where the user may not read them, HostTimeout, HostUnreachable.
    """
    clock = Clock(timeout_s)
    found = FileLines()
    files = _listed(connection, filters.vm, clock)
    block = _ONE_BLOCK if len(files) == 1 else _BLOCK
    wanted = []
    for file in files:
        inode, offset = places.get(file.name, (file.inode, file.size if newest_first else 0))
        if inode != file.inode or offset > file.size:
            found.rotated = True
            offset = file.size if newest_first else 0
        start, end = (
            (max(0, offset - block), offset) if newest_first else (offset, min(file.size, offset + block))
        )
        found.ends[file.name] = found.reached[file.name] = (file.inode, offset)
        if start > 0 if newest_first else end < file.size:
            found.complete = False
        if end > start:
            wanted.append((file, start, end))
    search = _search_of(filters)
    with closing(search) if search else nullcontext():
        for file, start, data in _blocks(connection, wanted, clock):
            reader = LineReader(file.name, file.inode, start, filters, search)
            # A line that begins before the block is left for the next one.
            skipped = data.find(b"\n") + 1 if start > 0 and newest_first else 0
            reader.offset += skipped
            first = reader.offset
            found.lines += reader.feed(data[skipped:])
            found.reached[file.name] = (file.inode, first if newest_first else reader.offset)
    if newest_first:
        found.lines.reverse()
    # Stable, so that the lines of one file keep their order.
    found.lines.sort(key=lambda line: line.key, reverse=newest_first)
    return found


def _search_of(filters: JournalFilters) -> Search | None:
    """By the keyword alone: which VM a line belongs to, its file says."""
    return search_of(replace(filters, vm=""))


def paths(vm: str) -> str:
    """The files of a VM, or of all, as arguments for sh."""
    directory = shlex.quote(DIRECTORY)
    if vm:
        name = shlex.quote(f"{vm}.log")
        return f"{directory}/{name} {directory}/{name}.0"
    return f"{directory}/*.log {directory}/*.log.0"


def _listed(connection: HostConnection, vm: str, clock: Clock) -> list[LogFile]:
    directory = shlex.quote(DIRECTORY)
    script = (
        f"cd {directory} 2>/dev/null || {{ [ -d {directory} ] && exit 77; exit 0; }}; "
        f"stat -c '%i %s %Y %n' -- {paths(vm)} 2>/dev/null | sort -k3,3nr | head -n {MAX_FILES}"
    )
    shell = connection.shell
    # The directory belongs to root; a user of the group libvirt may not enter it.
    command = f"sh -c {shlex.quote(script)}"
    result = shell.run(command, timeout_s=clock.left, sudo=True)
    if result.exit_status != 0:
        raise InsufficientRightsOnHost(
            f"The user {shell.user} may not read the VMs' logs in {DIRECTORY}.",
            remedy="They belong to root: allow the user sudo without a password, or connect as root.",
        )
    files = []
    for line in result.stdout.decode("utf-8", errors="surrogateescape").splitlines():
        parts = line.split(" ", 3)
        if len(parts) == 4 and all(part.isdigit() for part in parts[:3]):
            name = parts[3].rpartition("/")[2]
            if not name.isprintable():  # not UTF-8, or made to confuse: no VM of libvirt's is called so
                continue
            files.append(LogFile(name, int(parts[0]), int(parts[1]), int(parts[2])))
    # An older file before its successor, so that equal times keep their order.
    return sorted(files, key=lambda file: file.changed_at)


def _blocks(
    connection: HostConnection, wanted: list[tuple[LogFile, int, int]], clock: Clock
) -> Iterator[tuple[LogFile, int, bytes]]:
    if not wanted:
        return
    parts = []
    for file, start, end in wanted:
        path = shlex.quote(f"{DIRECTORY}/{file.name}")
        parts.append(f"printf '\\036'; tail -c +{start + 1} -- {path} 2>/dev/null | head -c {end - start}")
    command = f"sh -c {shlex.quote('; '.join(parts))}"
    result = connection.shell.run(
        command, timeout_s=clock.left, sudo=True, max_bytes=MAX_FILES * (_BLOCK + 1) + _ONE_BLOCK
    )
    rest = result.stdout
    for file, start, end in wanted:
        if not rest.startswith(_MARK):  # a file shrank meanwhile: what follows cannot be told apart
            return
        yield file, start, rest[1 : 1 + end - start]
        rest = rest[1 + end - start :]


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


def check_places(places: Mapping[str, object]) -> dict[str, tuple[int, int]]:
    """Places as a cursor carries them. Raises InvalidCursor."""
    checked = {}
    for name, place in places.items():
        if (
            len(places) > 2 * MAX_FILES
            or not re.fullmatch(r"[^\x00-\x1f/]{1,220}\.log(\.[0-9])?", name)
            or not isinstance(place, list | tuple)
            or len(place) != 2
            or not all(type(number) is int and 0 <= number < 1 << 63 for number in place)
        ):
            raise InvalidCursor("The cursor is not one of VM logs.", field="cursor")
        checked[name] = (place[0], place[1])
    return checked


# -- following --------------------------------------------------------------------------------------

_LOOP = r"""
[ -d %(directory)s ] && ! [ -x %(directory)s ] && exit 77
%(known)s
while :; do
  for f in %(paths)s; do
    [ -f "$f" ] || continue
    set -- $(stat -c '%%i %%s' -- "$f" 2>/dev/null)
    [ $# -eq 2 ] || continue
    eval "o=\${o_$1:-0}"
    [ "$2" -lt "$o" ] && o=0
    while [ "$o" -lt "$2" ]; do
      n=$(($2 - o)); [ $n -gt %(block)d ] && n=%(block)d
      printf '\036%%s %%s %%s %%s\n' "$1" "$o" "$n" "${f##*/}"
      tail -c +$((o + 1)) -- "$f" | head -c $n
      o=$((o + n))
    done
    eval "o_$1=$o"
  done
  sleep 0.3
done
"""


class VmLogFollow:
    """The VMs' log files as they grow; the counterpart of JournalFollow. ``read`` from one thread."""

    def __init__(self, connection: HostConnection, filters: JournalFilters, places: Places) -> None:
        known = "\n".join(f"o_{inode}={offset}" for inode, offset in places.values())
        script = _LOOP % {
            "directory": shlex.quote(DIRECTORY),
            "known": known,
            "paths": paths(filters.vm),
            "block": _FOLLOW_BLOCK,
        }
        self._filters = filters
        self._readers: dict[int, LineReader] = {}
        self._buffer = b""
        self.places: dict[str, tuple[int, int]] = dict(places)
        self._search = _search_of(filters)
        try:
            self._stream = connection.shell.stream(f"sh -c {shlex.quote(script)}", sudo=True)
        except BaseException:
            self._end_search()
            raise

    def read(self, timeout_s: float | None = None) -> list[Line] | None:
        """The next lines, perhaps none yet; None at the end, which comes only when it may not read at all."""
        chunk = self._stream.read(timeout_s=timeout_s)
        if not chunk:
            return None
        self._buffer += chunk
        lines: list[Line] = []
        while (frame := self._frame()) is not None:
            inode, offset, name, data = frame
            reader = self._readers.get(inode)
            if reader is None or reader.offset > offset:
                reader = self._readers[inode] = LineReader(name, inode, offset, self._filters, self._search)
            reader.name = name
            lines += reader.feed(data)
            self.places[name] = (inode, reader.offset)
        return lines

    def _frame(self) -> tuple[int, int, str, bytes] | None:
        head, newline, _ = self._buffer.partition(b"\n")
        if not newline:
            return None
        parts = head.decode("utf-8", errors="replace").removeprefix("\x1e").split(" ", 3)
        if len(parts) != 4 or not all(part.isdigit() for part in parts[:3]):
            raise HostTimeout("The VMs' logs came in a form that is not understood.")
        inode, offset, length = (int(part) for part in parts[:3])
        begin = len(head) + 1
        if len(self._buffer) < begin + length:
            return None
        data = self._buffer[begin : begin + length]
        self._buffer = self._buffer[begin + length :]
        return inode, offset, parts[3], data

    def _end_search(self) -> None:
        if self._search is not None:
            self._search.close()

    def close(self) -> None:
        self._end_search()
        self._stream.close()
