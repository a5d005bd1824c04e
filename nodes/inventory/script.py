"""The probe script: sources become one POSIX ``sh`` script, and what it printed becomes source outputs.

The script is fed to ``sh -s`` on the host, over one channel. Sources run side by side, those of one
deadline under one ``timeout``, so that a source costs one fork and its own tool, and no more: the probe
of all sections takes tens of milliseconds. See probe.sh for what it prints.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from nodes.inventory.document import SourceOutput, SourceStatus
from nodes.inventory.source import Source

PROBE_SOURCE = "probe"
"""Name of the output that tells about the script itself: lines ``uid N``, ``elevate root|sudo|no``,
``guard timeout|none``, ``start S`` and ``end S`` (seconds since boot), ``complete yes|no``."""

STDERR_LIMIT_BYTES = 4096
PATIENCE_S = 60
"""No further round of 64 items is begun after this time."""

_NAME = re.compile(r"[a-z][a-z0-9_.-]*\Z")
_TOOL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*\Z")
_FUNCTION = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_HEAD = re.compile(rb"^@@nodeadmin-probe 1 ([^\n]*)\n", re.MULTILINE)
_SIZE = re.compile(rb"\s*(\d+) (\d+(?:\.\d+)?\.[oes])\Z")
_SUDO_REFUSED = re.compile(r"^sudo: |^Sorry, user |not in the sudoers file|sudo: not found", re.MULTILINE)
_NOT_PERMITTED = re.compile(r"permission denied|operation not permitted|must be root", re.IGNORECASE)
_FILE_TOO_LARGE = 153
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
    return float(rounds + longest + 5)


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
    frames: Mapping[str, bytes] = field(default_factory=dict)
    """Bodies by file name: ``3.o`` output, ``3.e`` errors, ``3.s`` status; ``3.1.o`` of an item."""
    cut: frozenset[str] = frozenset()
    """Files whose end did not arrive."""
    complete: bool = False

    @property
    def elevated(self) -> bool:
        return self.account.get("elevate") == "sudo"


def _read_frames(raw: bytes) -> _Printed:
    head = _HEAD.search(raw)
    if head is None:
        return _Printed()
    words = (word.partition("=") for word in head.group(1).decode("ascii", "replace").split())
    account = {key: value for key, equals, value in words if equals}
    names_line, _, rest = raw[head.end() :].partition(b"\n")
    names = _read_names(names_line.decode("ascii", "replace"))
    table, separator, data = rest.partition(b"@@data\n")
    if not separator:
        return _Printed(account, names)
    bound = int(account["bound"]) if account.get("bound", "").isdecimal() else len(data)
    frames: dict[str, bytes] = {}
    cut: set[str] = set()
    position = 0
    for line in table.splitlines():
        match = _SIZE.match(line)
        if match is None:
            continue
        name, size = match.group(2).decode("ascii"), min(int(match.group(1)), bound)
        frames[name] = data[position : position + size]
        position += size
        if position > len(data):
            cut.add(name)
    complete = data[position : position + 6] == b"@@end\n"
    return _Printed(account, names, frames, frozenset(cut), complete)


def _read_names(line: str) -> dict[int, str]:
    names: dict[int, str] = {}
    for word in line.removeprefix("@@names").split():
        number, colon, name = word.partition(":")
        if colon and number.isdecimal() and _NAME.match(name):
            names[int(number)] = name
    return names


def _source_outputs(printed: _Printed, number: int, source: Source) -> dict[str, SourceOutput]:
    own = _output(printed, str(number), source.name, source)
    found = {source.name: own}
    if source.items:
        # The shell reads lines that end; str.splitlines() would also split at form feeds and the like.
        for count, item in enumerate(own.stdout.split("\n")[:-1], start=1):
            name = f"{source.name}:{item}"
            found[name] = _output(printed, f"{number}.{count}", name, source)
    return found


def _output(printed: _Printed, base: str, name: str, source: Source) -> SourceOutput:
    """The three files of a source (or of one of its items) as its output."""
    stdout = printed.frames.get(f"{base}.o")
    if stdout is None:
        return SourceOutput(name, SourceStatus.NOT_RUN)
    ended, duration_s = _read_status(printed.frames.get(f"{base}.s"))
    exit_status = int(ended) if ended.isdecimal() else None
    errors = _text(printed.frames.get(f"{base}.e", b"")[:STDERR_LIMIT_BYTES])
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


def _read_status(raw: bytes | None) -> tuple[str, float | None]:
    words = (raw or b"").decode("ascii", "replace").split()
    if len(words) < 1:
        return "", None
    try:
        return words[0], round(float(words[2]) - float(words[1]), 2)
    except (IndexError, ValueError):
        return words[0], None


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")
