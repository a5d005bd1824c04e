"""The logs that libvirt keeps of each VM, one file a VM: why QEMU did not start often stands only there.

The files have no cursor, level or boot. A place in them is a file's inode and an offset, so a file that was
rotated is read on under its new name, and its successor from its beginning: virtlogd renames NAME.log to
NAME.log.0, .0 to .1; logrotate, where virtlogd is switched off, copies NAME.log to NAME.log.1 and truncates
it. Source: https://libvirt.org/logging.html#log-files, virtlogd(8), logrotate(8).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, field, replace
from typing import Final

from nodes.errors import InsufficientRightsOnHost, InvalidCursor
from nodes.hosts.connection import HostConnection
from nodes.hosts.deadlines import Clock
from nodes.hosts.elevation import Elevation
from nodes.hosts.journal_filters import JournalFilters
from nodes.hosts.journal_search import Search, search_of
from nodes.hosts.qemu_lines import Line, LineReader
from nodes.hosts.shell import Shell
from nodes.inventory.parsing.numbers import LARGEST, capped, integer
from nodes.inventory.privileged import VM_LOG_LISTING, VM_LOGS, require_declared

DIRECTORY: Final = VM_LOGS
MAX_FILES = 64
"""The files changed last; a host with more VMs shows those of the others when asked by name."""
MAX_PLACES_BYTES = 16 << 10
"""What the places of a cursor may take; of more files those are kept that changed last."""
_PLACE_BYTES = 32
"""A place without its name, as a cursor writes it."""
_LONGEST_NAME = 230
_ONE_BLOCK, _BLOCK = 1 << 20, 64 << 10
_ABOVE = 16 << 10
"""Looked at before a block for the time of its first lines; QEMU's own command takes some kilobytes."""
_MAX_LISTING = 4 << 20
_MARK = b"\x1e"
_NAME = re.compile(r"(.+)\.log(\.[0-9](\.gz)?)?", re.DOTALL)

Places = Mapping[str, tuple[int, int]]
"""For each file its inode and the offset at which to go on."""


@dataclass(frozen=True, slots=True)
class LogFile:
    """A file as it was found."""

    name: str
    inode: int
    size: int
    changed_at: int

    @property
    def vm_log(self) -> str:
        """The name under which it was written: that without the number of its rotation."""
        return self.name.rpartition(".log")[0] + ".log"

    @property
    def is_compressed(self) -> bool:
        return self.name.endswith(".gz")

    @property
    def is_rotated(self) -> bool:
        return self.name != self.vm_log


@dataclass(slots=True)
class FileLines:
    """Lines in the order asked for. ``complete``: nothing of these files lies beyond them."""

    lines: list[Line] = field(default_factory=list)
    complete: bool = True
    ends: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Where each file begins to be unread, were no line taken; files that were left out as well."""
    reached: dict[str, tuple[int, int]] = field(default_factory=dict)
    """The same with all lines taken."""
    rotated: bool = False
    """Something that was to be gone on with is no longer there."""
    compressed: bool = False
    """There are older ones that logrotate has compressed, which are not read."""
    left_out: int = 0
    """How many files there are beyond :data:`MAX_FILES`."""


@dataclass(frozen=True, slots=True)
class _Block:
    """What to read of a file; ``above`` is where to begin looking for the time of its first line."""

    file: LogFile
    above: int
    start: int
    end: int


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
    listed = list_files(connection, filters.vm, clock)
    files = [file for file in listed if not file.is_compressed]
    since = filters.since.timestamp() if filters.since else 0.0
    found.compressed = any(file.is_compressed and file.changed_at >= since for file in listed)
    begins, found.rotated = beginnings(files, places, newest_first=newest_first)
    begins |= passed(files, filters, newest_first=newest_first)
    found.left_out = max(0, len(files) - MAX_FILES)
    for file in files[: found.left_out]:
        found.ends[file.name] = (file.inode, begins[file.name])
    wanted = _wanted(files[found.left_out :], begins, found, newest_first=newest_first)
    search = search_of_lines(filters)
    with closing(search) if search else nullcontext():
        taken = 0
        for one, above, data in _blocks(connection, wanted, clock):
            taken += 1
            file = one.file
            reader = LineReader(file.name, file.inode, one.start, filters, search)
            # A line that begins before the block is left for the next one.
            skipped = data.find(b"\n") + 1 if one.start > 0 and newest_first else 0
            reader.look_back(above + data[:skipped])
            reader.offset += skipped
            first = reader.offset
            found.lines += reader.feed(data[skipped:])
            found.reached[file.name] = (file.inode, first if newest_first else reader.offset)
    if taken < len(wanted):  # a file shrank meanwhile
        found.complete = False
    if newest_first:
        found.lines.reverse()
    # Stable, so that the lines of one file keep their order.
    found.lines.sort(key=lambda line: line.key, reverse=newest_first)
    return found


def _wanted(
    files: Sequence[LogFile], begins: Mapping[str, int], found: FileLines, *, newest_first: bool
) -> list[_Block]:
    """The next block of each file, where it has one; ``found`` notes where each begins, and what is left."""
    block = _ONE_BLOCK if len(files) == 1 else _BLOCK
    wanted = []
    for file in files:
        offset = begins[file.name]
        start, end = (
            (max(0, offset - block), offset) if newest_first else (offset, min(file.size, offset + block))
        )
        found.ends[file.name] = found.reached[file.name] = (file.inode, offset)
        if start > 0 if newest_first else end < file.size:
            found.complete = False
        if end > start:
            wanted.append(_Block(file, max(0, start - _ABOVE), start, end))
    return wanted


def search_of_lines(filters: JournalFilters) -> Search | None:
    """By the keyword alone: which VM a line belongs to, its file says."""
    return search_of(replace(filters, vm=""))


def paths(vm: str) -> str:
    """The files of a VM, or of all, as arguments for sh; the rotated ones first, as they are older."""
    directory = shlex.quote(DIRECTORY)
    if vm:
        name = shlex.quote(f"{vm}.log")
        return f"{directory}/{name}.[0-9] {directory}/{name}"
    return f"{directory}/*.log.[0-9] {directory}/*.log"


def listing_as_root(elevation: Elevation) -> str:
    """A command of sh that lists the files through sudo, where a sudoers file may allow just this.

    A line a file: inode, size, time of the last change, and the name, in which a line break becomes “?”.
    """
    require_declared(VM_LOG_LISTING)
    # Its status is to be that of the listing, not of the end of a pipe.
    listing = f"{elevation.prefix}{VM_LOG_LISTING} 2>/dev/null"
    return f"list=$( {listing} ) || exit 77; printf %s \"$list\" | tr '\\n/' '?\\n'"


def _listing(shell: Shell, vm: str) -> str:
    if not shell.is_root:
        return shell.elevation.first + listing_as_root(shell.elevation)
    directory = shlex.quote(DIRECTORY)
    compressed = f"{directory}/{shlex.quote(f'{vm}.log') if vm else '*.log'}.[0-9].gz"
    return (
        f"cd {directory} 2>/dev/null || {{ [ -d {directory} ] && exit 77; exit 0; }}; "
        f"stat -c '%i %s %Y %n' -- {paths(vm)} {compressed} 2>/dev/null; exit 0"
    )


def list_files(connection: HostConnection, vm: str, clock: Clock) -> list[LogFile]:
    """The files of a VM, or of all, those changed last at the end; compressed ones too.

    Raises as :func:`read_lines` does.
    """
    shell = connection.shell
    by_sudo = not shell.is_root
    # The directory belongs to root; a user of the group libvirt may not enter it.
    result = shell.run(
        _listing(shell, vm), stdin=shell.elevation.typed, timeout_s=clock.left, max_bytes=_MAX_LISTING
    )
    if result.exit_status != 0 and not result.truncated:
        raise InsufficientRightsOnHost(
            f"The user {shell.user} may not read the VMs' logs in {DIRECTORY}.",
            remedy="They belong to root: allow the user sudo without a password, or connect as root.",
        )
    files = []
    for line in result.stdout.decode("utf-8", errors="surrogateescape").splitlines():
        parts = line.split(" ", 3)
        # find(1) gives the time with a fraction.
        numbers = [integer(part) for part in (*parts[:2], *(part.partition(".")[0] for part in parts[2:3]))]
        if len(parts) == 4 and all(number is not None and number < LARGEST for number in numbers):
            name = parts[3].rpartition("/")[2]
            kind = _NAME.fullmatch(name)
            if kind is None or (vm and kind[1] != vm):
                continue
            if by_sudo and " " in name:  # no rule of a sudoers file could be held to it
                continue
            if not name.isprintable():  # not UTF-8, or made to confuse: no VM of libvirt's is called so
                continue
            files.append(LogFile(name, *(number or 0 for number in numbers)))
    # An older file before its successor, so that equal times keep their order.
    return sorted(files, key=lambda file: (file.changed_at, file.name.rpartition(".log")[2]))


def beginnings(
    files: Sequence[LogFile], places: Places, *, newest_first: bool
) -> tuple[dict[str, int], bool]:
    """Where to go on in each file, and whether something to go on with is gone.

    Newest first, what has come since is no part of what is left to read.
    """
    if not places:
        return {file.name: file.size if newest_first else 0 for file in files}, False
    by_vm: dict[str, list[LogFile]] = {}
    for file in files:
        by_vm.setdefault(file.vm_log, []).append(file)
    inodes = {file.inode for file in files}
    gone = any(offset and inode not in inodes for inode, offset in places.values())
    found: dict[str, int] = {}
    for family in by_vm.values():
        offsets, is_cut = _of_family(family, places)
        found |= offsets
        gone = gone or is_cut
    return found, gone


def passed(files: Sequence[LogFile], filters: JournalFilters, *, newest_first: bool) -> dict[str, int]:
    """The end of reading in files that were last written to before the time that is asked for."""
    if filters.since is None:
        return {}
    since = int(filters.since.timestamp())
    return {file.name: 0 if newest_first else file.size for file in files if file.changed_at < since}


def _of_family(family: Sequence[LogFile], places: Places) -> tuple[dict[str, int], bool]:
    """The beginnings in one VM's files, and whether one was truncated without a copy."""
    name = family[0].vm_log
    inode, read = places.get(name, (0, 0))
    # The file under its old name is the one that was read: so a new rotated one is a copy of it.
    stayed = any(file.name == name and file.inode == inode for file in family)
    found: dict[str, int] = {}
    copied = is_cut = False
    for file in family:
        offset = _offset(file, places)
        if offset is not None:
            found[file.name] = offset
        elif stayed and file.is_rotated and file.size >= read:
            # Of several the oldest has what was read; they come in the order in which they were changed.
            found[file.name] = 0 if copied else read
            copied = True
        else:
            found[file.name] = file.size if is_full(places) and file.name not in places else 0
            is_cut = is_cut or places.get(file.name, (0, 0))[0] == file.inode
    if copied:
        found[name] = 0
    return found, is_cut and not copied


def _offset(file: LogFile, places: Places) -> int | None:
    """The place in a file that has its name still, or was renamed; None where it is another one."""
    place = places.get(file.name)
    if place is not None and place[0] == file.inode:
        return place[1] if place[1] <= file.size else None
    if not file.is_rotated:
        return None
    # An inode is soon used again: only a file that moved on by its number is the one of before.
    number = capped(file.name[-1])
    for before in (file.vm_log, *(f"{file.vm_log}.{lower}" for lower in range(number))):
        place = places.get(before)
        if place is not None and place[0] == file.inode and place[1] <= file.size:
            return place[1]
    return None


def is_full(places: Places) -> bool:
    """Whether a cursor had no room for more of them: a file without a place is then no new one."""
    size = sum(len(name.encode()) + _PLACE_BYTES for name in places)
    return size > MAX_PLACES_BYTES - _LONGEST_NAME - _PLACE_BYTES


def bounded(places: Places) -> dict[str, tuple[int, int]]:
    """As many of the last ones as a cursor has room for."""
    room, kept = MAX_PLACES_BYTES, []
    for name, place in reversed(list(places.items())):
        room -= len(name.encode()) + _PLACE_BYTES
        if room < 0:
            break
        kept.append((name, place))
    return dict(reversed(kept))


def _blocks(
    connection: HostConnection, wanted: Sequence[_Block], clock: Clock
) -> Iterator[tuple[_Block, bytes, bytes]]:
    """For each block what stands above it, and itself."""
    if not wanted:
        return
    parts, elevation = [], connection.shell.elevation
    for one in wanted:
        path = shlex.quote(f"{DIRECTORY}/{one.file.name}")
        size = one.end - one.above
        read = f"tail -c +{one.above + 1} -- {path}"
        if not elevation.is_root:
            require_declared(read)
        parts.append(f"printf '\\036'; {elevation.prefix}{read} 2>/dev/null | head -c {size}")
    result = connection.shell.run(
        elevation.first + "; ".join(parts),
        stdin=elevation.typed,
        timeout_s=clock.left,
        max_bytes=MAX_FILES * (_BLOCK + _ABOVE + 1) + _ONE_BLOCK,
    )
    rest = result.stdout
    for one in wanted:
        if not rest.startswith(_MARK):  # a file shrank meanwhile: what follows cannot be told apart
            return
        data = rest[1 : 1 + one.end - one.above]
        yield one, data[: one.start - one.above], data[one.start - one.above :]
        rest = rest[1 + one.end - one.above :]


def check_places(places: Mapping[str, object]) -> dict[str, tuple[int, int]]:
    """Places as a cursor carries them. Raises InvalidCursor."""
    checked = {}
    for name, place in places.items():
        if (
            not re.fullmatch(r"[^\x00-\x1f/]{1,220}\.log(\.[0-9])?", name)
            or not isinstance(place, list | tuple)
            or len(place) != 2
            or not all(type(number) is int and 0 <= number < 1 << 63 for number in place)
        ):
            raise InvalidCursor("The cursor is not one of VM logs.", field="cursor")
        checked[name] = (place[0], place[1])
    return checked
