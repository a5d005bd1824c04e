"""Which candidates are asked whether they take VMs, and when enough have been.

In batches, the most likely ones first: the next batch is asked only where the ones before did not answer, or
could not take all VMs, and only within the plan's deadline.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from django.utils.translation import gettext as _

from nodes.errors import NodeAdminError
from nodes.models import Node
from nodes.operations.candidates import Candidates, free_by_inventory
from nodes.operations.host_reading import Host
from nodes.operations.looking import Seen, Survey
from nodes.operations.placing import MIB, need_of
from nodes.operations.plans import Reason
from nodes.operations.world import PlannedVm, Target

LEAST_S = 1.5
"""With less time left no further batch is asked: no host would answer in it."""


@dataclass(frozen=True, slots=True)
class FoundTargets:
    """``targets``: those that answered or did not, then those that were not asked and those that take no VMs
    now, with the reason. ``asked`` of ``eligible`` candidates with room by their inventory were asked."""

    targets: tuple[Target, ...] = ()
    asked: int = 0
    eligible: int = 0


@dataclass(frozen=True, slots=True)
class Questions:
    """What the search does not know by itself: how nodes are reached, by their keys, or why not; what an
    answer means; and which VMs have no place among the targets given."""

    hosts_of: Callable[[Sequence[Node]], Mapping[int, Host | NodeAdminError]]
    target_of: Callable[[Host, Seen], Target]
    unplaced: Callable[[Sequence[Target]], Sequence[PlannedVm]]


def find_targets(survey: Survey, found: Candidates, questions: Questions, *, batch_size: int) -> FoundTargets:
    """Ask the candidates of ``found``, ``batch_size`` at a time, and those of ``found.first`` all at once."""
    search = _Search(survey, questions)
    rows = list(found.nodes)
    size = max(batch_size, found.first)
    patient = [str(row.uuid) for row in rows[: found.first]]
    while rows:
        batch, rows = rows[:size], rows[size:]
        size = batch_size
        survey.ask(search.hosts_of(batch), patient=patient, more=bool(rows), enough=search.is_enough)
        left = questions.unplaced(search.answered()) if survey.knows_vms else ()
        if not left or survey.clock.left < LEAST_S:
            break
        need = min(need_of(vm) for vm in left)
        lacking = [row for row in rows if not _has_room(row, need)]
        rows = [row for row in rows if _has_room(row, need)]
        if not rows:
            # Nobody else to ask: those that are late get the rest of their time.
            survey.ask((), enough=search.is_enough)
            rows = lacking
            break
    return search.outcome(found, rows)


class _Search:
    """The hosts that were asked, and what their answers mean, each worked out once."""

    def __init__(self, survey: Survey, questions: Questions) -> None:
        self._survey, self._questions = survey, questions
        self._hosts: dict[str, Host] = {}
        self._targets: dict[str, Target] = {}
        self._unreachable: list[Target] = []

    def hosts_of(self, rows: Sequence[Node]) -> list[Host]:
        found = []
        hosts = self._questions.hosts_of(rows)
        for row in rows:
            host = hosts[row.pk]
            if isinstance(host, Host):
                self._hosts[host.uuid] = host
                found.append(host)
            else:
                reason = Reason(host.code, str(host.message), str(host.remedy))
                self._unreachable.append(Target(str(row.uuid), row.name, None, obstacles=(reason,)))
        return found

    def answered(self) -> list[Target]:
        new = (self._survey.answered & self._hosts.keys()) - self._targets.keys()
        if new:
            seen = self._survey.seen
            self._targets |= {uuid: self._questions.target_of(self._hosts[uuid], seen) for uuid in new}
        return list(self._targets.values())

    def is_enough(self) -> bool:
        return not self._questions.unplaced(self.answered())

    def outcome(self, found: Candidates, unasked: Sequence[Node]) -> FoundTargets:
        self.answered()
        seen = self._survey.seen
        targets = [
            self._targets.get(uuid) or self._questions.target_of(host, seen)
            for uuid, host in self._hosts.items()
        ]
        targets += self._unreachable
        movable = self._questions.unplaced(()) if self._survey.knows_vms else ()
        need = min((need_of(vm) for vm in movable), default=0)
        rest = [_unasked(row, need) for row in unasked]
        unchosen = [_unasked(row, need) for row in found.unchosen]
        excluded = [
            Target(str(row.uuid), row.name, None, obstacles=(reason,), asked=False)
            for row, reason in found.excluded
        ]
        eligible = len(targets) + sum(not target.obstacles for target in rest)
        return FoundTargets((*targets, *rest, *unchosen, *excluded), len(targets), eligible)


def _has_room(row: Node, need_bytes: int) -> bool:
    """Whether the node could have room by its newest inventory; where that is unknown it could."""
    free = free_by_inventory(row)
    return free is None or free >= need_bytes


def _unasked(row: Node, need_bytes: int) -> Target:
    free = free_by_inventory(row)
    obstacles: tuple[Reason, ...] = ()
    if not _has_room(row, need_bytes):
        text = _("has %d MiB of memory free by its newest inventory") % ((free or 0) // MIB)
        obstacles = (Reason("no_room", text, _("Free room on it, or choose another target.")),)
    return Target(str(row.uuid), row.name, free, obstacles=obstacles, asked=False)
