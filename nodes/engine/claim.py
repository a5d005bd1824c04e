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
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import F, Q
from django.db.models.expressions import Combinable
from django.db.models.functions import Now

from nodes.models import Operation, OperationStatus
from nodes.models.operation import OperationQuerySet
from nodes.operations.base import ClaimLost


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to run one operation, until the lease ends or somebody takes it over."""

    operation_id: uuid.UUID
    token: int
    left_at: datetime | None = None
    """When the lease of the run before ended, whose process was gone by then; None for the first run."""

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
        if not self.rows().update(lease_expires_at=lease_end()):
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
        before = row.select_for_update().values("started_at", "lease_expires_at").first()
        taken = row.update(
            status=OperationStatus.RUNNING,
            claimed_by=runner_name(),
            claim_token=F("claim_token") + 1,
            lease_expires_at=lease_end(),
        )
        if not taken or before is None:
            return None
        token = Operation.objects.values_list("claim_token", flat=True).get(pk=operation_id)
    return Claim(operation_id, token, before["lease_expires_at"] if before["started_at"] else None)


def renew(claims: list[Claim]) -> list[Claim]:
    """Prolong the leases; gives the claims that are lost."""
    end = lease_end()
    return [held for held in claims if not held.rows().update(lease_expires_at=end)]


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
    # Those that are over stay as they are: they tell since when nobody has looked after the operation.
    going = running.filter(Q(lease_expires_at=None) | Q(lease_expires_at__gte=Now()))
    going.update(lease_expires_at=Now() - timedelta(seconds=1))
    return count
