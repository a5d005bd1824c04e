"""What the endpoints of journals give (see answers.py)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from nodes.hosts.journal_entries import Entry
from nodes.hosts.log_query import LogProblem
from nodes.hosts.log_sources import Boot


@dataclass(frozen=True, slots=True)
class LogPageAnswer:
    """Entries in the order asked for.

    ``cursor`` carries the query and the place: with it alone the next entries are asked for, without gap or
    repeat, also when there are none yet. ``cut`` says which bound ended the search: ``limit``, ``bytes`` or
    ``time``, null at the end of the journal. ``searched_by`` is ``nodeadmin`` where the host cannot search.
    ``command`` gives on the host what such a first page gives, ``query_command`` all that the query finds,
    oldest first.
    """

    node: str
    order: str
    entries: list[Entry]
    cursor: str
    more: bool
    cut: str | None
    searched_by: str
    problems: list[LogProblem]
    command: str
    query_command: str


@dataclass(frozen=True, slots=True)
class LogSourcesAnswer:
    """What ``services`` and ``boot`` of describe-node-logs can name on this host."""

    node: str
    aliases: list[str]
    units: list[str]
    identifiers: list[str]
    boots: list[Boot]
    complete: bool


@dataclass(frozen=True, slots=True)
class LogFieldAnswer:
    """A field of an entry. ``binary``: bytes that are not UTF-8 are escaped. ``cut``: it is longer."""

    name: str
    value: str
    binary: bool
    cut: bool
    size_bytes: int


@dataclass(frozen=True, slots=True)
class LogEntryAnswer:
    node: str
    fields: list[LogFieldAnswer]


@dataclass(frozen=True, slots=True)
class OperationLogLine:
    """One line. ``step`` is the code of the step that wrote it, null for what belongs to none."""

    id: int
    time: datetime
    level: str
    step: str | None
    step_title: str | None
    vm_name: str | None
    message: str


@dataclass(frozen=True, slots=True)
class OperationLogPage:
    """Lines oldest first. ``cursor`` goes on after them, without gap or repeat, also when there are none yet;
    ``more``: further lines are there already. Once ``finished`` and not ``more``, no line will follow."""

    operation: UUID
    status: str
    finished: bool
    lines: list[OperationLogLine]
    cursor: int
    more: bool
