"""What there is to choose from in a host's journal: units, identifiers, boots."""

from __future__ import annotations

import re
from dataclasses import dataclass

from nodes.errors import InvalidInput
from nodes.hosts.connection import HostConnection
from nodes.hosts.deadlines import Clock
from nodes.hosts.journal import QUERY_S, refuse_by_status
from nodes.hosts.journal_filters import command, unit_name
from nodes.hosts.journal_tool import tool_of
from nodes.inventory.parsing.numbers import capped

MAX_SOURCES = 2000
MAX_BOOTS = 100
_MAX_BYTES = 1 << 20
_BOOT_LINE = re.compile(r"\s*(-?\d+)\s+([0-9a-f]{32})\s+(.*)")


@dataclass(frozen=True, slots=True)
class Boot:
    """A start of the host: 0 is the running one, -1 that before. ``span`` is as journalctl words it."""

    index: int
    boot_id: str
    span: str


@dataclass(frozen=True, slots=True)
class LogSources:
    """Names in order of the alphabet. ``complete`` is False where there are more than are given."""

    units: list[str]
    identifiers: list[str]
    boots: list[Boot]
    complete: bool


def list_sources(connection: HostConnection, timeout_s: float = QUERY_S) -> LogSources:
    """Read from the journal's index, which takes milliseconds however long the journal is.

    Raises what :func:`nodes.hosts.journal_tool.tool_of` raises, and JournalUnavailable.
    """
    clock = Clock(timeout_s)
    units, all_units = _values(connection, "_SYSTEMD_UNIT", clock)
    identifiers, all_identifiers = _values(connection, "SYSLOG_IDENTIFIER", clock)
    sudo = tool_of(connection, clock.left).sudo
    listed = connection.shell.run(
        command(["--list-boots", "--quiet", "--no-pager"]),
        timeout_s=clock.left,
        max_bytes=_MAX_BYTES,
        sudo=sudo,
    )
    if not listed.truncated:
        refuse_by_status(listed, cursor="")
    found = (_BOOT_LINE.fullmatch(line) for line in listed.stdout.decode("utf-8", "replace").splitlines())
    boots = [Boot(capped(line[1]), line[2], " ".join(line[3].split())) for line in found if line]
    return LogSources(
        [unit for unit in units if _is_unit(unit)],
        identifiers,
        boots[-MAX_BOOTS:],
        all_units and all_identifiers,
    )


def _values(connection: HostConnection, field: str, clock: Clock) -> tuple[list[str], bool]:
    sudo = tool_of(connection, clock.left).sudo
    result = connection.shell.run(
        command([f"--field={field}", "--quiet", "--no-pager"]),
        timeout_s=clock.left,
        max_bytes=_MAX_BYTES,
        sudo=sudo,
    )
    if not result.truncated:
        refuse_by_status(result, cursor="")
    lines = result.stdout.decode("utf-8", errors="replace").splitlines()
    names = sorted({line for line in lines if line.isprintable() and 0 < len(line) <= 255})
    return names[:MAX_SOURCES], not result.truncated and len(names) <= MAX_SOURCES


def _is_unit(name: str) -> bool:
    try:
        return unit_name(name) == name
    except InvalidInput:
        return False
