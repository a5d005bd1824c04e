"""What old events leave behind: entries of the audit log a signed checkpoint, events of hosts nothing.

Each has a retention time of its own, and of one node's events only so many are kept: whatever hosts do, the
entries of people stay.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import Count, Max
from django.utils import timezone

from nodes.audit.sealer import lock, seal
from nodes.events import record
from nodes.models import AuditCheckpoint, Event
from nodes.models.audit import CheckpointKind
from nodes.models.event import Category

AT_ONCE = 5000
"""Rows deleted in one transaction: on SQLite everybody else waits for it."""


def purge_events(now: datetime | None = None) -> dict[str, int]:
    """Delete what the settings let go; gives how many went."""
    now = now or timezone.now()
    return {
        "events": _purge_host_events(now - timedelta(days=settings.NODEADMIN_EVENT_DAYS)),
        "audit_entries": _purge_entries(now - timedelta(days=settings.NODEADMIN_AUDIT_DAYS)),
    }


def _purge_host_events(before: datetime) -> int:
    rows = Event.objects.filter(category=Category.HOST).order_by()
    removed = rows.filter(created_at__lt=before).delete()[0]
    most = settings.NODEADMIN_EVENTS_PER_NODE
    # By name: the events of a node that was removed count on.
    crowded = rows.values("node_name").annotate(count=Count("pk")).filter(count__gt=most)
    for name in list(crowded.values_list("node_name", flat=True)):
        of_node = rows.filter(node_name=name)
        oldest_kept = of_node.order_by("-pk").values_list("pk", flat=True)[most - 1 : most].first()
        if oldest_kept is not None:
            removed += of_node.filter(pk__lt=oldest_kept).delete()[0]
    return removed


def _purge_entries(before: datetime) -> int:
    """Remove the first entries of the chain, up to the first one that is younger. The newest entry always
    stays: the chain goes on from it."""
    seal()
    removed = Event.objects.unauthenticated().filter(created_at__lt=before).delete()[0]
    rows = Event.objects.sealed()
    newest = rows.aggregate(last=Max("number"))["last"]
    if newest is None:
        return removed
    kept = rows.filter(created_at__gte=before).values_list("number", flat=True).first() or newest
    while gone := _purge_up_to(min(kept, newest)):
        removed += gone
    return removed


@transaction.atomic
def _purge_up_to(kept: int) -> int:
    """Remove entries before the one with the number ``kept``, AT_ONCE at most, and sign for it."""
    lock()
    rows = Event.objects.sealed().filter(number__lt=kept)
    doomed = [(number or 0, code) for number, code in rows.values_list("number", "chain_mac")[:AT_ONCE]]
    if not doomed:
        return 0
    first, (last, chain_mac) = doomed[0][0], doomed[-1]
    checkpoint = AuditCheckpoint(
        kind=CheckpointKind.PURGED,
        first_number=first,
        last_number=last,
        chain_mac=chain_mac,
        count=len(doomed),
        created_at=timezone.now(),
    )
    checkpoint.authenticate()
    checkpoint.save()
    Event.objects.filter(number__gte=first, number__lte=last).delete()
    record(
        "audit_log_purged",
        f"Retention removed the entries {first} to {last} of the audit log.",
        category=Category.AUDIT,
        data={"first_number": first, "last_number": last, "count": len(doomed)},
    )
    return len(doomed)
