"""Whether the audit log is as it was written: walks all entries in the order of their numbers.

A key that is not in the database authenticates each entry and its place in the chain, so that an entry which
was altered, put in, taken out or moved is named; the head file tells of entries that were cut off at the
end. Memory is bounded: entries are read in portions, and at most ``MOST_PROBLEMS`` problems are kept (all
are counted).
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.db.models import Count, Max
from django.utils import timezone

from nodes.audit.head_file import Head, HeadFileDamaged, read_head
from nodes.audit.sealer import STARTED, seal
from nodes.models import AuditCheckpoint, AuditHead, Event
from nodes.models.audit import CheckpointKind
from nodes.models.event import chain_fits, facts_are_authentic

MOST_PROBLEMS = 200
PORTION = 1000
SEALED_WITHIN = timedelta(minutes=2)
"""An entry that waits longer for its number is a problem: no process numbers entries, or somebody took the
number away."""


@dataclass(frozen=True, slots=True)
class Problem:
    """``code``: ``altered``, ``inserted``, ``moved``, ``removed``, ``cut``, ``unsealed``, ``checkpoint``,
    ``head`` or ``unreadable``; ``number`` the entry that it is about, or the first one of several up to
    ``last``."""

    code: str
    number: int | None
    message: str
    last: int | None = None


@dataclass(slots=True)
class Verification:
    """What was found: entries looked at, the newest one, problems, and notes on what is no problem."""

    entries: int = 0
    newest: Head = field(default_factory=Head)
    problem_count: int = 0
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        return not self.problem_count

    def add(self, code: str, number: int | None, message: str, last: int | None = None) -> None:
        self.problem_count += 1
        if len(self.problems) < MOST_PROBLEMS:
            self.problems.append(Problem(code, number, message, last))

    def to_dict(self) -> dict[str, Any]:
        return {
            "clean": self.is_clean,
            "entries": self.entries,
            "newest_number": self.newest.number,
            "problem_count": self.problem_count,
            "problems": [asdict(problem) for problem in self.problems],
            "notes": self.notes,
        }


@dataclass(frozen=True, slots=True)
class Link:
    """One entry as the walk needs it."""

    number: int
    content_mac: str
    chain_mac: str
    facts: Mapping[str, Any]


class Walk:
    """Goes from entry to entry and says what does not fit. ``before`` is the code of the entry before, None
    where that is not known."""

    def __init__(
        self, found: Verification, expected: int, before: str | None, accepted: Mapping[int, int]
    ) -> None:
        self._found = found
        self._expected = expected
        self._before = before
        self._accepted = accepted

    def step(self, link: Link) -> None:
        found = self._found
        found.entries += 1
        if link.number < self._expected:
            found.add(
                "inserted", link.number, f"Entry {link.number} was inserted: its number was used already."
            )
            return
        if link.number > self._expected:
            self._tell_gap(self._expected, link.number - 1)
            self._before = None
        linked = self._before is None or chain_fits(
            link.chain_mac, link.number, self._before, link.content_mac
        )
        if not facts_are_authentic(dict(link.facts), link.content_mac):
            code, words = ("altered", "altered") if linked else ("inserted", "inserted or replaced")
            found.add(
                code, link.number, f"Entry {link.number} was {words}: it is not what was authenticated."
            )
        elif not linked:
            words = (
                f"Entry {link.number} was moved, or the entry before it was replaced: it does not follow it."
            )
            found.add("moved", link.number, words)
        self._expected, self._before = link.number + 1, link.chain_mac
        found.newest = Head(link.number, link.chain_mac)

    def _tell_gap(self, first: int, last: int) -> None:
        if self._accepted.get(first) == last:
            self._found.notes.append(f"Entries {first} to {last} are missing; their loss was accepted.")
            return
        words = f"Entry {first} was removed." if first == last else f"Entries {first} to {last} were removed."
        self._found.add("removed", first, words, last)


def verify() -> Verification:
    """Walk the database's audit log, and keep the outcome for the audit log's page."""
    seal()
    while True:
        checkpoints = AuditCheckpoint.objects.count()
        found = _walk_database()
        # Retention that ran meanwhile took entries away which the walk then missed.
        if checkpoints == AuditCheckpoint.objects.count():
            break
    _keep(found)
    return found


def _walk_database() -> Verification:
    found = Verification()
    start, accepted = _checkpoints(found)
    try:
        kept = read_head()
    except HeadFileDamaged as error:
        found.add("head", None, f"The head file is damaged: {error}.")
        kept = None
    walk = Walk(found, start.number + 1, start.chain_mac, accepted)
    older, first_older = 0, None
    fits_file = kept is None or kept.number <= start.number
    for entry in Event.objects.sealed().iterator(chunk_size=PORTION):
        walk.step(_link_of(entry))
        if entry.kind == STARTED and entry.number == 1:
            older, first_older = _told_of_older(entry)
        if kept is not None and entry.number == kept.number:
            fits_file = entry.chain_mac == kept.chain_mac
            if not fits_file:
                words = f"Entry {kept.number} is not the one that the head file names: it was replaced."
                found.add("moved", kept.number, words)
    _look_at_end(found, kept, start, fits_file)
    _look_at_unsealed(found)
    if found.entries or start.number or kept is not None:
        _look_at_older(found, older, first_older)
    else:
        _note_older(found, Event.objects.unauthenticated().count())
    return found


def verify_file(path: Path) -> Verification:
    """Walk the lines of an exported file. What comes before its first line and after its last one is not in
    it, and is noted."""
    found = Verification()
    walk: Walk | None = None
    recent, repeated = deque[str](maxlen=PORTION), 0
    with path.open(encoding="utf-8", errors="replace") as stream:
        for link in _lines(found, stream):
            if walk is None:
                walk = Walk(found, link.number, "" if link.number == 1 else None, {})
                if link.number > 1:
                    found.notes.append(f"The file begins with entry {link.number}.")
            elif link.number <= found.newest.number and link.chain_mac in recent:
                repeated += 1
                continue
            recent.append(link.chain_mac)
            walk.step(link)
    if repeated:
        found.notes.append(f"Entries that are there twice, as an interrupted export leaves them: {repeated}.")
    found.notes.append(f"The file ends with entry {found.newest.number}.")
    _look_at_file_end(found)
    return found


def _look_at_file_end(found: Verification) -> None:
    """A file that is followed is complete; one that was made earlier ends where it ends."""
    try:
        kept = read_head()
    except HeadFileDamaged:
        return
    if kept is not None and kept.number > found.newest.number:
        found.notes.append(f"The audit log of this server goes on to entry {kept.number}.")


def _lines(found: Verification, stream: Iterable[str]) -> Iterator[Link]:
    for position, line in enumerate(stream, start=1):
        try:
            told = json.loads(line)
            number, content, chain = told.pop("number"), told.pop("content_mac"), told.pop("chain_mac")
            link = Link(int(number), str(content), str(chain), told)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            found.add("unreadable", None, f"Line {position} is no entry of the audit log.")
            continue
        yield link


def _link_of(entry: Event) -> Link:
    return Link(entry.number or 0, entry.content_mac, entry.chain_mac, entry.facts())


def _checkpoints(found: Verification) -> tuple[Head, dict[int, int]]:
    """Where the walk begins, and which gaps were accepted (last number by first)."""
    start, accepted = Head(), dict[int, int]()
    for row in AuditCheckpoint.objects.order_by("last_number", "pk").iterator(chunk_size=PORTION):
        if not row.is_authentic:
            words = f"The checkpoint of the entries {row.first_number} to {row.last_number} was altered."
            found.add("checkpoint", row.first_number, words)
        elif row.kind == CheckpointKind.PURGED:
            start = Head(row.last_number, row.chain_mac)
        else:
            accepted[row.first_number] = row.last_number
    return start, accepted


def _told_of_older(entry: Event) -> tuple[int, int | None]:
    try:
        last = entry.data["last_older_id"]
        return int(entry.data["older_entries"]), int(last) if last is not None else None
    except (KeyError, TypeError, ValueError):
        return 0, None


def _look_at_end(found: Verification, kept: Head | None, start: Head, fits_file: bool) -> None:
    last = max(found.newest.number, start.number)
    if kept is None:
        if last:
            found.notes.append("There is no head file here: entries missing at the end cannot be told.")
    elif kept.number > last:
        words = f"Entries {last + 1} to {kept.number} were cut off at the end: the head file names them."
        found.add("cut", last + 1, words)
    elif not fits_file and not any(problem.number == kept.number for problem in found.problems):
        found.add("removed", kept.number, f"Entry {kept.number}, which the head file names, was removed.")


def _look_at_unsealed(found: Verification) -> None:
    late = Event.objects.unsealed().filter(created_at__lt=timezone.now() - SEALED_WITHIN)
    for pk, kind in late.values_list("pk", "kind")[:MOST_PROBLEMS]:
        found.add("unsealed", None, f"The entry with id {pk} ({kind}) has no number, and does not get one.")


def _look_at_older(found: Verification, told: int, last_id: int | None) -> None:
    """Entries that claim to be from before the log was authenticated: no more than its first entry says."""
    rows = Event.objects.unauthenticated().order_by()
    newer = rows.filter(pk__gt=last_id) if last_id is not None else rows
    for pk, kind in newer.values_list("pk", "kind")[:MOST_PROBLEMS]:
        found.add("inserted", None, f"The entry with id {pk} ({kind}) was inserted: it is not authenticated.")
    here = rows.aggregate(count=Count("pk"), last=Max("pk"))
    if last_id is not None and here["count"] > told:
        words = (
            f"{here['count']} entries claim to be older than the audit log; {told} were: some were inserted."
        )
        found.add("inserted", None, words)
    else:
        _note_older(found, here["count"])


def _note_older(found: Verification, count: int) -> None:
    """No problem: the database was updated, and until the first entry is written none says how many there
    are."""
    if count:
        found.notes.append(f"{count} entries are from before the log and are not authenticated.")


def _keep(found: Verification) -> None:
    AuditHead.objects.update_or_create(
        pk=AuditHead.SINGLE,
        defaults={
            "verified_at": timezone.now(),
            "verified_number": found.newest.number,
            "problem_count": found.problem_count,
            "problems": [asdict(problem) for problem in found.problems[:20]],
        },
    )
