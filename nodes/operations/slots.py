"""Places for migrations: how many may leave a node, and enter one, at the same time.

The limit holds across operations and processes, for it is a unique constraint: whoever wants to migrate
inserts a row for the source and one for the target, both or none.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.translation import gettext as _

from nodes.errors import UnknownNode
from nodes.models import MigrationSlot, Node, OperationStatus, OperationStep, StepStatus
from nodes.models.migration import Direction
from nodes.models.operation import UNFINISHED
from nodes.operations.base import Run, StepHandle

POLL_S = 0.5
ABANDONED = timedelta(minutes=2)
"""An operation that nobody has gone on with for so long holds no place any more. libvirt ended its migrations
long ago, and those who wait may be the very threads that would have to go on with it."""


@dataclass(frozen=True, slots=True)
class Place:
    """A direction of a node, of which there are ``limit`` numbers."""

    node_id: int
    direction: Direction
    limit: int

    @property
    def key(self) -> str:
        return f"{self.node_id}:{self.direction.value}"

    def free_number(self) -> int | None:
        """A number that nobody holds; None where all are taken."""
        taken = MigrationSlot.objects.filter(node=self.node_id, direction=self.direction)
        left = set(range(self.limit)) - set(taken.values_list("number", flat=True))
        return min(left, default=None)


@contextmanager
def migration_place(run: Run, step: StepHandle, code: str, source: Node, target: Node) -> Iterator[None]:
    """Hold a place out of ``source`` and one into ``target`` for the step ``code``, once there are any.

    Who has waited longer goes first. Waiting shows in the step, and a cancel or a lost claim ends it. A step
    resumed after a crash finds the places it held. Raises UnknownNode where one of the nodes is removed.
    """
    places = (
        Place(source.pk, Direction.OUT, settings.NODEADMIN_MIGRATIONS_OUT),
        Place(target.pk, Direction.IN, settings.NODEADMIN_MIGRATIONS_IN),
    )
    if not _take(run, code, places, since=""):
        _wait(run, step, code, places, source, target)
    try:
        yield
    finally:
        with run.fenced():
            MigrationSlot.objects.filter(operation=run.operation.pk, step_code=code).delete()


def release_left_over(run: Run) -> None:
    """Give back places that an earlier run of this operation held for steps that have ended since."""
    going = run.operation.steps.filter(status=StepStatus.RUNNING).values_list("code", flat=True)
    left = MigrationSlot.objects.filter(operation=run.operation.pk).exclude(step_code__in=list(going))
    if left.exists():
        with run.fenced():
            left.delete()


def _wait(run: Run, step: StepHandle, code: str, places: Sequence[Place], source: Node, target: Node) -> None:
    since = str(step.data.get("waits_since") or timezone.now().isoformat())
    step.report(
        _("Waits for a place: %(out)d migrations at once may leave %(source)s, %(in)d may enter %(target)s.")
        % {
            "out": places[0].limit,
            "source": source.name,
            "in": places[1].limit,
            "target": target.name,
        },
        data={"waits": True, "waits_since": since, "waits_for": [place.key for place in places]},
    )
    while not _take(run, code, places, since=since):
        time.sleep(POLL_S)
        run.check_cancelled()
    step.report(data={"waits": False})


def _take(run: Run, code: str, places: Sequence[Place], *, since: str) -> bool:
    """Take all ``places`` or none. ``since``: the time from which this step has been waiting, "" for now."""
    try:
        with run.fenced():
            return _take_now(run, code, places, since)
    except IntegrityError:  # a node was removed in between, which is told at the next try
        return False


def _take_now(run: Run, code: str, places: Sequence[Place], since: str) -> bool:
    ids = {place.node_id for place in places}
    if Node.objects.filter(pk__in=ids).count() < len(ids):
        raise UnknownNode(
            _("One of the two nodes has been removed meanwhile. The VM was not touched."),
            remedy=_("Ask for a new plan."),
        )
    _free(ids)
    held = MigrationSlot.objects.filter(operation=run.operation.pk, step_code=code)
    if held.count() == len(places):
        return True
    held.delete()
    numbers = [number for place in places if (number := place.free_number()) is not None]
    if len(numbers) < len(places) or _somebody_is_first(run, code, places, since):
        return False
    try:
        with transaction.atomic():
            for place, number in zip(places, numbers, strict=True):
                MigrationSlot.objects.create(
                    node_id=place.node_id,
                    direction=place.direction,
                    number=number,
                    operation=run.operation,
                    step_code=code,
                )
    except IntegrityError:  # another process took the number in between
        return False
    return True


def _free(nodes: Collection[int]) -> None:
    """Give back the places of these nodes whose operation has ended, or was abandoned."""
    slots = MigrationSlot.objects.filter(node__in=nodes)
    slots.exclude(operation__status__in=UNFINISHED).delete()
    slots.filter(operation__lease_expires_at__lt=Now() - ABANDONED).delete()


def in_use(node: Node) -> bool:
    """Whether a migration into the node or out of it may be under way."""
    _free([node.pk])
    return MigrationSlot.objects.filter(node=node.pk).exists()


def _somebody_is_first(run: Run, code: str, places: Sequence[Place], since: str) -> bool:
    """Whether a step that has waited longer wants one of these places and could go now.

    One that could not go anyway, because its other place is taken, is not waited for. Those of an operation
    whose process is gone do not count either: nobody knows when it will be resumed.
    """
    limits = {
        Direction.OUT.value: settings.NODEADMIN_MIGRATIONS_OUT,
        Direction.IN.value: settings.NODEADMIN_MIGRATIONS_IN,
    }
    waiting = OperationStep.objects.filter(
        status=StepStatus.RUNNING,
        operation__status=OperationStatus.RUNNING,
        operation__lease_expires_at__gt=Now(),
        data__waits=True,
    ).exclude(operation=run.operation.pk, code=code)
    wanted = {place.key for place in places}
    for data in waiting.values_list("data", flat=True):
        if (since and data["waits_since"] >= since) or wanted.isdisjoint(data["waits_for"]):
            continue
        others = []
        for key in data["waits_for"]:
            node_id, direction = key.split(":")
            others.append(Place(int(node_id), Direction(direction), limits[direction]))
        if all(place.free_number() is not None for place in others):
            return True
    return False
