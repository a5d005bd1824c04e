"""Retention: what is old enough goes. Runs daily by itself and as ``manage.py purge``."""

from __future__ import annotations

from datetime import timedelta

from allauth.usersessions.models import UserSession
from django.conf import settings
from django.contrib.sessions.models import Session
from django.utils import timezone

from nodes import sign_in_limits
from nodes.audit.retention import purge_events
from nodes.models import (
    CredentialUse,
    FactorProof,
    IdempotencyKey,
    InventoryChange,
    MigrationSlot,
    Operation,
    SmartReading,
    Snapshot,
    UnfitTarget,
    UsedConfirmation,
)
from nodes.models.operation import UNFINISHED
from nodes.operations.node_state.floods import end_quiet

IDEMPOTENCY_HOURS = 24
CONFIRMATION_HOURS = 1
"""Many times as long as a confirmation token lives: after that its signature alone refuses it."""
SMART_DAYS = 5 * 365
"""A disk's whole life: one row a day is little, and wear is judged over years."""


def purge() -> dict[str, int]:
    """Delete what the retention settings let go; gives how many rows of each kind went."""
    now = timezone.now()
    operations = Operation.objects.exclude(status__in=UNFINISHED).filter(
        created_at__lt=now - timedelta(days=settings.NODEADMIN_OPERATION_DAYS)
    )
    changes = InventoryChange.objects.filter(
        observed_at__lt=now - timedelta(days=settings.NODEADMIN_EVENT_DAYS)
    )
    uses = CredentialUse.objects.filter(day__lt=(now - timedelta(days=settings.NODEADMIN_EVENT_DAYS)).date())
    readings = SmartReading.objects.filter(observed_at__lt=now - timedelta(days=SMART_DAYS))
    keys = IdempotencyKey.objects.filter(created_at__lt=now - timedelta(hours=IDEMPOTENCY_HOURS))
    confirmations = UsedConfirmation.objects.filter(used_at__lt=now - timedelta(hours=CONFIRMATION_HOURS))
    proofs = FactorProof.objects.filter(made_at__lt=now - timedelta(hours=CONFIRMATION_HOURS))
    sessions = Session.objects.filter(expire_date__lt=now)
    logins = UserSession.objects.exclude(
        session_key__in=Session.objects.filter(expire_date__gte=now).values("session_key")
    )
    slots = MigrationSlot.objects.exclude(operation__status__in=UNFINISHED)
    return {
        "migration_slots": slots.delete()[0],
        "operations": operations.delete()[1].get("nodes.Operation", 0),
        **purge_events(now),
        "credential_uses": uses.delete()[0],
        "inventory_changes": changes.delete()[0],
        "smart_readings": readings.delete()[0],
        "idempotency_keys": keys.delete()[0],
        "used_confirmations": confirmations.delete()[0],
        "factor_proofs": proofs.delete()[0],
        "logins": logins.delete()[0],
        "sessions": sessions.delete()[0],
        "unfit_targets": UnfitTarget.objects.exclude(pk__in=UnfitTarget.objects.lasting()).delete()[0],
        "sign_in_counts": sign_in_limits.purge(),
        "snapshots": purge_snapshots(),
        "floods": end_quiet(),
    }


def purge_snapshots() -> int:
    """Of each node keep the newest snapshots, those in which something changed, and the current one."""
    doomed = list(Snapshot.objects.beyond_retention().values_list("pk", flat=True))
    return Snapshot.objects.filter(pk__in=doomed).delete()[1].get("nodes.Snapshot", 0)
