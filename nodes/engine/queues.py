"""The queues that operations wait in, each with threads of its own, and what one in a queue waits for.

Whoever clicks a button never waits behind the inventories that are taken by schedule, nor behind a drain that
waits for a host. Of the two queues of refreshes, hosts whose last inventory failed, or took long, hold half
the threads at most: one that answers SSH and then hangs takes a thread for the whole of the probe's deadline.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from django.conf import settings
from django.db.models import Q

from nodes.models import Operation, OperationStatus
from nodes.models.operation import OperationQuerySet
from nodes.operations.refresh_node import RefreshNode
from nodes.operations.registry import PATIENT

SLOW_INVENTORY_S = 12.0
"""An ordinary inventory takes a second or two, one of a large host five."""
FAILING = Q(node__inventory_failures__gt=0) | Q(node__snapshot__duration_s__gt=SLOW_INVENTORY_S)
"""Of operations: those for a host that has lately kept a thread for long, or in vain."""


class Queue(StrEnum):
    """``prompt``: short operations that people ask for. ``refresh``: inventories that people ask for;
    ``automatic``: those by schedule. ``patient``: operations that may wait for hosts and VMs for minutes."""

    PROMPT = "prompt"
    REFRESH = "refresh"
    AUTOMATIC = "automatic"
    PATIENT = "patient"


REFRESHES = (Queue.REFRESH, Queue.AUTOMATIC)

_PATIENT = Q(kind__in=PATIENT)
_REFRESH = Q(kind=RefreshNode.kind)
_ROWS: Mapping[Queue, Q] = {
    Queue.PROMPT: ~_PATIENT & ~_REFRESH,
    Queue.REFRESH: _REFRESH & Q(automatic=False),
    Queue.AUTOMATIC: _REFRESH & Q(automatic=True),
    Queue.PATIENT: _PATIENT,
}


def queue_of(kind: str, automatic: bool) -> Queue:
    """The queue that an operation of ``kind`` waits in."""
    if kind in PATIENT:
        return Queue.PATIENT
    if kind != RefreshNode.kind:
        return Queue.PROMPT
    return Queue.AUTOMATIC if automatic else Queue.REFRESH


def threads_of() -> dict[Queue, int]:
    """How many operations of each queue run at once in one process."""
    return {
        Queue.PROMPT: settings.NODEADMIN_ENGINE_THREADS,
        Queue.REFRESH: settings.NODEADMIN_ENGINE_REFRESH_THREADS,
        Queue.AUTOMATIC: settings.NODEADMIN_ENGINE_AUTOMATIC_THREADS,
        Queue.PATIENT: settings.NODEADMIN_ENGINE_PATIENT_THREADS,
    }


def rows_in(queue: Queue, rows: OperationQuerySet) -> OperationQuerySet:
    """Those of ``rows`` that belong to the queue."""
    return rows.filter(_ROWS[queue])


@dataclass(frozen=True, slots=True)
class Slot:
    """A thread of a queue. ``failing``: it is for a host that keeps a thread (:data:`FAILING`)."""

    queue: Queue
    failing: bool = False


class Slots:
    """Which threads of a process are free. Not safe for several threads at once: the caller locks."""

    def __init__(self) -> None:
        self._limits = threads_of()
        self._taken = dict.fromkeys(self._limits, 0)
        self._failing = dict.fromkeys(self._limits, 0)

    @property
    def total(self) -> int:
        return sum(self._limits.values())

    def has_share(self, queue: Queue) -> bool:
        """Whether the queue's threads can be shared between hosts that failed and the others: a single one
        cannot."""
        return self._limits[queue] > 1

    def free(self, slot: Slot) -> int:
        """How many more operations of that sort could begin now."""
        limit = self._limits[slot.queue]
        free = limit - self._taken[slot.queue]
        if slot.failing:
            free = min(free, max(1, limit // 2) - self._failing[slot.queue])
        return max(0, free)

    def take(self, slot: Slot) -> bool:
        """Take a thread; False where none is free."""
        if not self.free(slot):
            return False
        self._taken[slot.queue] += 1
        self._failing[slot.queue] += slot.failing
        return True

    def give_back(self, slot: Slot) -> None:
        self._taken[slot.queue] -= 1
        self._failing[slot.queue] -= slot.failing


# -- what waits, and behind what -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Waiting:
    """An operation that has not begun. ``ahead`` counts those in its queue that were asked for before it and
    have not begun either, ``running`` those of its queue that run."""

    queue: Queue
    ahead: int
    running: int


def waiting_of(operations: Iterable[Operation]) -> dict[UUID, Waiting]:
    """What each of ``operations`` that is queued waits for, by its id: one query, none where none is."""
    queued = {row.pk: row for row in operations if row.status == OperationStatus.QUEUED}
    if not queued:
        return {}
    before = dict.fromkeys(Queue, 0)
    running = dict.fromkeys(Queue, 0)
    places: dict[UUID, tuple[Queue, int]] = {}
    unfinished = Operation.objects.unfinished().order_by("created_at", "pk")
    for pk, kind, automatic, status in unfinished.values_list("pk", "kind", "automatic", "status"):
        queue = queue_of(kind, automatic)
        if status == OperationStatus.RUNNING:
            running[queue] += 1
            continue
        if pk in queued:
            places[pk] = queue, before[queue]
        before[queue] += 1
    return {pk: Waiting(queue, ahead, running[queue]) for pk, (queue, ahead) in places.items()}
