"""The probe script: sources become one POSIX ``sh`` script, and what it printed becomes source outputs.

The script is fed to ``sh -s`` on the host, over one channel. Sources run side by side, those of one
deadline under one ``timeout``, so that a source costs one fork and its own tool, and no more: the probe
of all sections takes tens of milliseconds. See probe.sh for what it prints.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

from nodes.inventory.document import SourceOutput, SourceStatus
from nodes.inventory.parsing.numbers import decimal, integer
from nodes.inventory.privileged import TOOLS
from nodes.inventory.source import Source

PROBE_SOURCE = "probe"
"""Name of the output that tells about the script itself: lines ``uid N``, ``elevate root|sudo|password|no``,
``guard timeout|none``, ``start S`` and ``end S`` (seconds since boot), ``complete yes|no``."""

STDERR_LIMIT_BYTES = 4096
PATIENCE_S = 60
"""No further round of 64 items is begun after this time."""

_NAME = re.compile(r"[a-z][a-z0-9_.-]*\Z")
_TOOL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*\Z")
_FUNCTION = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
HEAD = re.compile(rb"^@@nodeadmin-probe 1 ([^\n]*)\n", re.MULTILINE)
_SIZE = re.compile(rb"[ \t]{0,32}(\d{1,20}) (\d{1,6}(?:\.\d{1,6})?\.[oes])\r?\Z")
_SUDO_REFUSED = re.compile(r"^sudo: |^Sorry, user |not in the sudoers file|sudo: not found", re.MULTILINE)
_NOT_PERMITTED = re.compile(r"permission denied|operation not permitted|must be root", re.IGNORECASE)
_FILE_TOO_LARGE = 153
MAX_SOURCES = 1000
MAX_ITEMS = 20_000
"""Of one source. A host with a thousand disks, each behind two paths, has a tenth of it."""
MAX_FRAMES = 6 * MAX_ITEMS
"""Lines of the table. Three frames are a source's or an item's output, errors and status."""
LONGEST_ITEM = 1024
TABLE_END = b"@@data\n"
_LONGEST_HEAD = 4096
_LONGEST_NAMES = 64 << 10
_LONGEST_ROW = 128
_LONGEST_STATUS = 256
_LONGEST_WORD = 32
_LAST_STATUS = 9999
_NOTHING = memoryview(b"")
MAX_TABLE = 2 << 20
"""Bytes in front of what the sources printed: of MAX_FRAMES lines, and the head."""
_LONGEST_GROUP = 100_000
"""Linux takes arguments of up to 128 KiB (execve(2)), and the shell's part is in front."""


def build_script(sources: Sequence[Source], *, sudo: bool = True) -> str:
    """The script that runs ``sources``, as text for the standard input of ``sh -s``.

    ``sudo`` False never calls sudo: what needs root is then denied to other users. Raises ValueError for
    a source that cannot be written as shell.
    """
    lines = [_shell("probe.sh").rstrip("\n"), ""]
    lines += [f"sudo={'yes' if sudo else ''}", f"patience={PATIENCE_S}"]
    lines += [f"bound={max((source.max_bytes for source in sources), default=4096) + 1}"]
    names = " ".join(f"{number}:{_checked(source).name}" for number, source in enumerate(sources))
    lines += [f"names={shlex.quote('@@names ' + names)}", f"prologue={shlex.quote(_shell('probe_group.sh'))}"]
    lines += ["groups() {"]
    deadlines = sorted({source.timeout_s for source in sources}, reverse=True)
    for index, timeout_s in enumerate(deadlines):
        members = [(number, source) for number, source in enumerate(sources) if source.timeout_s == timeout_s]
        text = _group(members)
        if len(text) > _LONGEST_GROUP:
            raise ValueError(f"the sources of {timeout_s} s are longer than one argument of a command may be")
        lines += [f"  group {index} {timeout_s} {shlex.quote(text)} &"]
    # One line at the very end starts it all: a script that was cut on its way does nothing.
    lines += ["}", "main", ""]
    return "\n".join(lines)


def deadline_s(sources: Sequence[Source]) -> float:
    """Seconds within which the script has always ended on a host that still runs processes."""
    longest = max((source.timeout_s for source in sources), default=0)
    rounds = PATIENCE_S if any(source.items for source in sources) else 0
    return rounds + longest + 5.0


def parse_output(raw: bytes, sources: Sequence[Source]) -> Mapping[str, SourceOutput]:
    """What each of ``sources`` printed, by name, and the script's own account under ``probe``.

    Never raises. A source without a complete frame is NOT_RUN, or TRUNCATED where its beginning arrived;
    where the text is no probe output at all, every source is NOT_RUN. Items are named ``name:item``.
    Names that the output has and ``sources`` does not are kept, as plain sources.
    """
    known = {source.name: source for source in sources}
    printed = _read_frames(raw)
    outputs: dict[str, SourceOutput] = {}
    if printed.account:
        account = {**printed.account, "complete": "yes" if printed.complete else "no"}
        text = "".join(f"{key} {value}\n" for key, value in account.items())
        outputs[PROBE_SOURCE] = SourceOutput(PROBE_SOURCE, SourceStatus.OK, text, exit_status=0)
    for number, name in printed.names.items():
        source = known.get(name, Source(name, "", ok_statuses=None))
        outputs |= _source_outputs(printed, number, source)
    for name in known:
        if name not in outputs:
            why = "" if printed.account else "the host printed no probe output"
            outputs[name] = SourceOutput(name, SourceStatus.NOT_RUN, stderr=why)
    return outputs


@cache
def _shell(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="ascii")


def _checked(source: Source) -> Source:
    if not _NAME.match(source.name) or source.name == PROBE_SOURCE:
        raise ValueError(f"a source's name has small letters, digits, '.', '_' and '-': {source.name!r}")
    if source.needs and not _TOOL.match(source.needs):
        raise ValueError(f"source {source.name} needs a tool of an odd name: {source.needs!r}")
    if source.needs_root and source.needs and not _FUNCTION.match(source.needs):
        raise ValueError(f"source {source.name}: {source.needs!r} cannot be a shell function's name")
    if source.needs_root and source.needs and source.needs not in TOOLS:
        raise ValueError(f"source {source.name}: {source.needs!r} is not declared in privileged.py")
    if source.timeout_s < 1 or source.max_bytes < 1:
        raise ValueError(f"source {source.name} has no room to run in")
    return source


def _group(members: Sequence[tuple[int, Source]]) -> str:
    """The sources of one deadline: a function each, then their calls, each in a subshell of its own."""
    functions, single, many = [], [], []
    for number, source in members:
        functions.append(f"source_{number}() {{\n{source.command.strip()}\n}}")
        # One block more than the bound, so that what was cut can be told from what just fits.
        blocks = source.max_bytes // 512 + 1
        root = "root" if source.needs_root else ""
        call = shlex.join([str(number), f"source_{number}", str(blocks), source.needs, root])
        if source.items:
            functions.append(f"list_{number}() {{\n{source.items.strip()}\n}}")
            many.append(f"many {call} &")
        else:
            single.append(f"one {call} &")
    first = ['if [ "$offset" = 0 ]; then', *(single or [":"]), "fi"]
    return "\n".join(["", *functions, *many, *first, "finish", ""])


@dataclass(frozen=True, slots=True)
class _Printed:
    """What the script printed, taken apart but not yet understood."""

    account: Mapping[str, str] = field(default_factory=dict)
    """Words of the head line."""
    names: Mapping[int, str] = field(default_factory=dict)
    frames: Mapping[str, memoryview] = field(default_factory=dict)
    """Bodies by file name: ``3.o`` output, ``3.e`` errors, ``3.s`` status; ``3.1.o`` of an item."""
    cut: frozenset[str] = frozenset()
    """Files whose end did not arrive."""
    complete: bool = False
    surplus: bool = False
    """There are more frames than are read: what has none here may have one there."""

    @property
    def elevated(self) -> bool:
        return self.account.get("elevate") in ("sudo", "password")


def _read_frames(raw: bytes) -> _Printed:
    head = HEAD.search(raw)
    if head is None:
        return _Printed()
    words = (word.partition("=") for word in head.group(1)[:_LONGEST_HEAD].decode("ascii", "replace").split())
    account = {key: value for key, equals, value in words if equals}
    names_end = _after(raw, b"\n", head.end())
    names = _read_names(
        raw[head.end() : min(names_end, head.end() + _LONGEST_NAMES)].decode("ascii", "replace")
    )
    table_end = raw.find(TABLE_END, names_end)
    if table_end < 0:
        return _Printed(account, names, surplus=len(raw) > MAX_TABLE)
    begin = table_end + len(TABLE_END)
    bound = integer(account.get("bound"))
    sizes, surplus = _read_table(raw, names_end, table_end, len(raw) - begin if bound is None else bound)
    frames: dict[str, memoryview] = {}
    # Not copied: all of them together are as large as the output.
    view = memoryview(raw)
    cut: set[str] = set()
    position = begin
    for name, size in sizes:
        frames[name] = view[position : position + size]
        position += size
        if position > len(raw):
            cut.add(name)
            position = len(raw) + 1
    complete = not surplus and raw[position : position + 6] == b"@@end\n"
    return _Printed(account, names, frames, frozenset(cut), complete, surplus)


def _after(raw: bytes, mark: bytes, start: int) -> int:
    """Where what follows the next ``mark`` begins."""
    found = raw.find(mark, start)
    return len(raw) if found < 0 else found + len(mark)


def _read_table(raw: bytes, start: int, end: int, bound: int) -> tuple[list[tuple[str, int]], bool]:
    """Names and sizes of the frames, in their order, and whether there are more than are read.

    A line at a time: a host may write millions of them, and lines that are none are counted as well.
    """
    sizes: list[tuple[str, int]] = []
    lines = 0
    while start < end and lines < MAX_FRAMES:
        stop = raw.find(b"\n", start, end)
        stop = end if stop < 0 else stop
        match = _SIZE.match(raw[start : min(stop, start + _LONGEST_ROW)])
        if match is not None:
            size = integer(match.group(1))
            sizes.append((match.group(2).decode("ascii"), bound if size is None else min(size, bound)))
        start, lines = stop + 1, lines + 1
    return sizes, start < end


def _read_names(line: str) -> dict[int, str]:
    names: dict[int, str] = {}
    for word in line.removeprefix("@@names").split()[:MAX_SOURCES]:
        number, colon, name = word.partition(":")
        known = integer(number, most=MAX_SOURCES)
        if colon and known is not None and _NAME.match(name):
            names[known] = name
    return names


def _source_outputs(printed: _Printed, number: int, source: Source) -> dict[str, SourceOutput]:
    own = _output(printed, str(number), source.name, source)
    found = {source.name: own}
    if source.items:
        # The shell reads lines that end; str.splitlines() would also split at form feeds and the like.
        items = own.stdout.split("\n", MAX_ITEMS + 1)[:-1]
        for count, item in enumerate(items[:MAX_ITEMS], start=1):
            name = f"{source.name}:{item[:LONGEST_ITEM]}"
            found[name] = _output(printed, f"{number}.{count}", name, source)
        if len(items) > MAX_ITEMS:
            found[source.name] = replace(own, status=SourceStatus.TRUNCATED)
    return found


def _output(printed: _Printed, base: str, name: str, source: Source) -> SourceOutput:
    """The three files of a source (or of one of its items) as its output."""
    stdout = printed.frames.get(f"{base}.o")
    if stdout is None:
        return SourceOutput(name, SourceStatus.TRUNCATED if printed.surplus else SourceStatus.NOT_RUN)
    ended, duration_s = _read_status(printed.frames.get(f"{base}.s"))
    exit_status = integer(ended, most=_LAST_STATUS) if ended.isdecimal() else None
    errors = _text(printed.frames.get(f"{base}.e", _NOTHING)[:STDERR_LIMIT_BYTES])
    if f"{base}.o" in printed.cut:
        status = SourceStatus.TRUNCATED if stdout else SourceStatus.NOT_RUN
    elif ended in ("missing", "denied", "timeout"):
        status = SourceStatus(ended)
    elif len(stdout) > source.max_bytes or exit_status == _FILE_TOO_LARGE:
        status = SourceStatus.TRUNCATED
    else:
        status = _ended(exit_status, errors, printed.elevated, source)
    return SourceOutput(name, status, _text(stdout[: source.max_bytes]), errors, exit_status, duration_s)


def _ended(exit_status: int | None, errors: str, elevated: bool, source: Source) -> SourceStatus:
    # Killed at last, it could not say how it ended.
    if exit_status is None:
        return SourceStatus.TIMEOUT
    if exit_status and source.needs_root and _denied(errors, elevated):
        return SourceStatus.DENIED
    if source.ok_statuses is not None and exit_status not in source.ok_statuses:
        return SourceStatus.FAILED
    return SourceStatus.OK


def _denied(stderr: str, elevated: bool) -> bool:
    return bool((elevated and _SUDO_REFUSED.search(stderr)) or _NOT_PERMITTED.search(stderr))


def _read_status(raw: memoryview | None) -> tuple[str, float | None]:
    words = str((raw or _NOTHING)[:_LONGEST_STATUS], "ascii", "replace").split()
    if len(words) < 1:
        return "", None
    begin, end = (decimal(word) for word in (*words[1:3], "", "")[:2])
    return words[0][:_LONGEST_WORD], round(end - begin, 2) if begin is not None and end is not None else None


def _text(data: memoryview) -> str:
    return str(data, "utf-8", "surrogateescape")
