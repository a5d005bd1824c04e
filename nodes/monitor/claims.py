"""Which monitor watches which nodes. Monitors find each other in the database; nothing is configured.

A monitor is one row with a lease; a node belongs to the monitor that its heartbeat row names. Each takes its
share of the nodes, and what it has beyond that it gives back when another one joins. Leases are set and
judged by the database's clock, as monitors may be on machines whose own clocks differ.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import structlog
from django.db import connection, transaction
from django.db.models.expressions import Combinable
from django.db.models.functions import Now

from nodes.engine.claim import runner_name
from nodes.models import Heartbeat, MonitorProcess, Node

log = structlog.get_logger(__name__)

CHUNK = 500


class LeaseLost(Exception):
    """This monitor was silent for longer than its lease: its nodes may be another one's by now."""


@dataclass(slots=True)
class Membership:
    """This process among the monitors."""

    lease_s: float
    id: uuid.UUID = field(default_factory=uuid.uuid4)

    def join(self) -> None:
        """Become a monitor, as yet without nodes."""
        self.id = uuid.uuid4()
        MonitorProcess.objects.create(pk=self.id, name=runner_name(), lease_expires_at=self._lease_end())

    def renew(self, *, loop_delay_s: float | None = None) -> None:
        """Prolong the lease. Raises LeaseLost where another monitor has ended this one.

        A lease that has run out unnoticed is prolonged like any other: ending a monitor removes its row.
        """
        row = MonitorProcess.objects.filter(pk=self.id)
        if not row.update(lease_expires_at=self._lease_end(), loop_delay_s=loop_delay_s):
            raise LeaseLost

    @contextmanager
    def fenced(self) -> Iterator[None]:
        """A transaction in which this monitor is one from beginning to end.

        Raises LeaseLost, having changed nothing, where it is not. Whoever ends a monitor needs its row, which
        is locked here: so no beat of a node is ever written by two.
        """
        with transaction.atomic():
            self._bound_the_lock()
            if not MonitorProcess.objects.filter(pk=self.id).select_for_update().exists():
                raise LeaseLost
            yield

    def _bound_the_lock(self) -> None:
        """A process that stands still in the midst of writing, or whose machine lost its power, would hold
        its row locked until the network gives it up, which takes hours: nobody could take over from it."""
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                setting = f"{max(1, round(1000 * self.lease_s))}ms"
                cursor.execute(
                    "SELECT set_config('idle_in_transaction_session_timeout', %s, true)", [setting]
                )

    def leave(self) -> None:
        """Give all nodes back, so that another monitor has them at once."""
        with transaction.atomic():
            Heartbeat.objects.filter(owner=self.id).update(owner=None)
            MonitorProcess.objects.filter(pk=self.id).delete()

    def balance(self) -> frozenset[int]:
        """End dead monitors, take a fair share of the nodes, give back what is beyond it; the nodes held."""
        _add_heartbeats()
        bury_dead(besides=self.id)
        held = set(self._held())
        monitors = max(1, MonitorProcess.objects.alive().count())
        share = math.ceil(Heartbeat.objects.count() / monitors)
        if len(held) > share:
            held -= self._release(sorted(held)[share:])
        elif len(held) < share:
            held |= self._claim(share - len(held))
        return frozenset(held)

    def _held(self) -> Iterable[int]:
        return Heartbeat.objects.filter(owner=self.id).values_list("pk", flat=True)

    def _release(self, surplus: list[int]) -> set[int]:
        for chunk in _chunks(surplus):
            Heartbeat.objects.filter(owner=self.id, pk__in=chunk).update(owner=None)
        return set(surplus)

    def _claim(self, count: int) -> set[int]:
        with self.fenced():
            free = Heartbeat.objects.filter(owner=None).order_by("pk")
            # Rows that another monitor is claiming this very moment are passed over, not waited for.
            wanted = [row.pk for row in free.select_for_update(skip_locked=True).only("pk")[:count]]
            for chunk in _chunks(wanted):
                Heartbeat.objects.filter(pk__in=chunk, owner=None).update(owner=self.id)
            return set(self._held())

    def _lease_end(self) -> Combinable:
        return Now() + timedelta(seconds=self.lease_s)


def bury_dead(*, besides: uuid.UUID) -> int:
    """End the other monitors whose lease has run out: their nodes are free from now on."""
    with transaction.atomic():
        expired = MonitorProcess.objects.filter(lease_expires_at__lt=Now()).exclude(pk=besides)
        dead = list(expired.select_for_update(skip_locked=True))
        if not dead:
            return 0
        freed = Heartbeat.objects.filter(owner__in=dead).update(owner=None)
        MonitorProcess.objects.filter(pk__in=[process.pk for process in dead]).delete()
    log.warning("monitors have ended", monitors=[process.name for process in dead], nodes=freed)
    return len(dead)


def _add_heartbeats() -> None:
    missing = list(Node.objects.filter(heartbeat=None).values_list("pk", flat=True))
    Heartbeat.objects.bulk_create((Heartbeat(node_id=pk) for pk in missing), ignore_conflicts=True)


def _chunks(ids: list[int]) -> Iterator[list[int]]:
    for start in range(0, len(ids), CHUNK):
        yield ids[start : start + CHUNK]
