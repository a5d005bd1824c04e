"""Gives entries their numbers and binds each to the one before.

Not in the transaction that writes an entry: all of them would wait for one another then, and PostgreSQL could
end two that wait in a circle. Right after its commit, and again by the engine's sweep and before the log is
read as a whole: an entry whose process was killed in between is numbered then.
"""

from __future__ import annotations

import structlog
from django.db import DatabaseError, connection, transaction
from django.db.models import Count, Max, Subquery

from nodes.audit.head_file import Head, HeadFileDamaged, read_head, write_head
from nodes.events import SYSTEM, on_entry, record
from nodes.models import AuditHead, Event
from nodes.models.event import Category, chain_code

log = structlog.get_logger(__name__)

AT_ONCE = 200
"""Entries numbered in one transaction."""
STARTED = "audit_log_started"


def seal_after_commit() -> None:
    """Number this transaction's entries once it has committed; asked for once a transaction."""
    inside = set(connection.savepoint_ids)
    for asked in connection.run_on_commit:  # (savepoints that were open, function, whether it is robust)
        # One that was asked for in a savepoint which has ended may have been rolled back with it.
        if asked[1] is _seal_quietly and asked[0] <= inside:
            return
    transaction.on_commit(_seal_quietly, robust=True)


def _seal_quietly() -> None:
    """What was committed is done, whatever becomes of its number now: the sweep tries again."""
    try:
        seal()
    except (DatabaseError, OSError):
        log.exception("entries of the audit log have no number yet; the sweep tries again")


def install() -> None:
    on_entry(seal_after_commit)


def seal_waiting() -> int:
    """Number what waits, where anything does: one query where nothing does."""
    return seal() if Event.objects.unsealed().exists() else 0


def seal() -> int:
    """Number all entries that wait; gives how many there were. Three queries for up to AT_ONCE of them."""
    count = 0
    while True:
        sealed = _seal_some()
        count += sealed
        if sealed < AT_ONCE:
            return count


def _seal_some() -> int:
    with transaction.atomic():
        lock()
        last = Event.objects.sealed().order_by("-number")
        waiting = list(
            Event.objects.unsealed()
            .annotate(
                last_number=Subquery(last.values("number")[:1]),
                last_mac=Subquery(last.values("chain_mac")[:1]),
            )
            .only("pk", "content_mac")[:AT_ONCE]
        )
        if not waiting:
            return 0
        head = _newest(waiting[0].last_number, waiting[0].last_mac)
        entries: list[Event] = [*_start_of_log(), *waiting] if head == Head() else [*waiting]
        for entry in entries:
            entry.number = head.number + 1
            entry.chain_mac = chain_code(entry.number, head.chain_mac, entry.content_mac)
            head = Head(entry.number, entry.chain_mac)
        if len(entries) == 1:
            Event.objects.filter(pk=entries[0].pk).update(number=head.number, chain_mac=head.chain_mac)
        else:
            Event.objects.bulk_update(entries, ["number", "chain_mac"])
    write_head(head)
    return len(entries)


def lock() -> AuditHead:
    """Hold the row that all who give numbers hold, until the transaction ends."""
    rows = AuditHead.objects.select_for_update().filter(pk=AuditHead.SINGLE)
    found = rows.first()
    if found is None:
        AuditHead.objects.bulk_create([AuditHead()], ignore_conflicts=True)
        found = rows.get()
    return found


def _newest(number: int | None, chain_mac: str | None) -> Head:
    """Where the chain goes on: behind the newest entry of the database or of the head file.

    Where the file knows of a newer one, entries were cut off, or an older state of the database was put back.
    Their numbers are not given again, so that the gap stays and verification names it.
    """
    here = Head(number or 0, chain_mac or "")
    try:
        kept = read_head()
    except HeadFileDamaged:
        log.exception("the head of the audit log cannot be read")
        return here
    if kept is not None and kept.number > here.number:
        log.error("entries of the audit log are missing", last=here.number, expected=kept.number)
        return kept
    return here


def _start_of_log() -> list[Event]:
    """The first entry says how many older ones are not authenticated; it comes before those that wait."""
    older = Event.objects.unauthenticated().order_by().aggregate(count=Count("pk"), last=Max("pk"))
    words = f"The audit log starts here. Older entries that are not authenticated: {older['count']}."
    return [
        record(
            STARTED,
            words,
            actor=SYSTEM,
            category=Category.AUDIT,
            data={"older_entries": older["count"], "last_older_id": older["last"]},
        )
    ]
