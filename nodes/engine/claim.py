"""Claims: who runs an operation now, proved by a token that every write carries.

A claim is one conditional UPDATE. It raises ``claim_token``, so the writes of whoever held the row before,
dead or merely slow, match nothing from then on. Leases are set and judged by the database's clock: runners
may be on machines whose own clocks differ.
"""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import F, Q
from django.db.models.expressions import Combinable
from django.db.models.functions import Now

from nodes.models import Operation, OperationStatus
from nodes.models.operation import OperationQuerySet
from nodes.operations.base import CLOCKS_DIFFER, ClaimLost


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to run one operation, until the lease ends or somebody takes it over."""

    operation_id: uuid.UUID
    token: int

    def rows(self) -> OperationQuerySet:
        """The operation's row as long as the claim holds; else none."""
        return Operation.objects.filter(
            pk=self.operation_id, claim_token=self.token, status=OperationStatus.RUNNING
        )

    @contextmanager
    def fenced(self) -> Iterator[None]:
        """A transaction in which the claim holds from beginning to end.

        Raises ClaimLost, having changed nothing, where it does not. The row stays locked until the
        commit (SQLite: the whole database), so nobody takes it over in between.
        """
        with transaction.atomic():
            if not self.rows().select_for_update().exists():
                raise ClaimLost()
            yield

    def renew(self) -> None:
        """Prolong the lease: nobody else takes the operation over for that long from now on.

        Raises ClaimLost where somebody has.
        """
        if not _prolong(self):
            raise ClaimLost()


def runner_name() -> str:
    """This process, for people who read the row."""
    return f"{socket.gethostname()}:{os.getpid()}"


def lease_end() -> Combinable:
    return Now() + timedelta(seconds=settings.NODEADMIN_LEASE_S)


def claim(operation_id: uuid.UUID) -> Claim | None:
    """Claim the operation; None where somebody else was faster or it has ended."""
    with transaction.atomic():
        row = Operation.objects.claimable().filter(pk=operation_id)
        away_s = _unattended_s(row)
        taken = row.update(
            status=OperationStatus.RUNNING,
            claimed_by=runner_name(),
            claim_token=F("claim_token") + 1,
            lease_expires_at=lease_end(),
            # With the claim itself: it puts an end to the lease that tells of it.
            unattended_s=F("unattended_s") + away_s,
        )
        if not taken:
            return None
        token = Operation.objects.values_list("claim_token", flat=True).get(pk=operation_id)
    return Claim(operation_id, token)


def _unattended_s(row: OperationQuerySet) -> float:
    """For how long the lease of the operation has been over, whose row is locked from now on."""
    lease = row.select_for_update().annotate(now=Now()).values("lease_expires_at", "now").first()
    if lease is None or lease["lease_expires_at"] is None:
        return 0.0
    return max(0.0, float((lease["now"] - lease["lease_expires_at"]).total_seconds()))


def _prolong(held: Claim) -> bool:
    """Renew the lease; False where the claim is lost. One that was over, as after a pause of the whole
    process, has been time in which nobody went on with the operation."""
    if held.rows().filter(lease_expires_at__gte=Now()).update(lease_expires_at=lease_end()):
        return True
    with transaction.atomic():
        away_s = _unattended_s(held.rows())
        unattended_s = F("unattended_s") + away_s
        return bool(held.rows().update(lease_expires_at=lease_end(), unattended_s=unattended_s))


def renew(claims: list[Claim]) -> list[Claim]:
    """Prolong the leases; gives the claims that are lost."""
    return [held for held in claims if not _prolong(held)]


def release(held: Claim, *, at_once: bool = True) -> None:
    """Give the operation back unfinished, so that another runner takes it over: at once, or after a lease.

    What its run still meets, such as connections that are closed as this process ends, is written nowhere.
    """
    end = Now() - timedelta(seconds=1) if at_once else lease_end()
    held.rows().update(lease_expires_at=end, claim_token=F("claim_token") + 1)


def expire_all() -> int:
    """End every lease: for a runner that has proved to be the only one, after a crash of the one before."""
    running = Operation.objects.filter(status=OperationStatus.RUNNING)
    count = running.count()
    # No lease reaches that far: the clock was set back, and how long nobody was there cannot be told.
    odd = running.filter(lease_expires_at__gt=lease_end() + CLOCKS_DIFFER)
    odd.update(unattended_s=F("unattended_s") + settings.NODEADMIN_CONFIRMATION_LIFE_S + 1)
    # Those that are over stay as they are: they tell since when nobody has looked after the operation.
    going = running.filter(Q(lease_expires_at=None) | Q(lease_expires_at__gte=Now()))
    going.update(lease_expires_at=Now() - timedelta(seconds=1))
    return count
