"""When each node's inventory is taken anew: spread over the interval, and at once after a reboot."""

from __future__ import annotations

import random
from collections.abc import Iterable
from datetime import datetime

import structlog
from django.utils import timezone

from nodes.engine.submit import submit
from nodes.errors import NodeAdminError
from nodes.events import SYSTEM
from nodes.inventory.beat import Beat
from nodes.models import Connection, Node, Operation, Scheduling
from nodes.monitor.watch import NodeFacts, Watched
from nodes.operations.connection_state import SEEN_BY_REFRESH

log = structlog.get_logger(__name__)

CROWD = 32
"""Automatic refreshes that may be unfinished before further ones are put off."""
SOONER = 0.2
"""Of the interval, to the next attempt at an inventory that failed."""
LONGEST = 2.0
"""Of the interval, between two attempts at a host that has failed again and again: it is told to be well
again half an hour after it is, at the latest."""


def pace(facts: NodeFacts) -> float:
    """The node's next inventory, in intervals from now: sooner after a first failure, then ever later, since
    each attempt at a host that hangs holds a thread for a minute."""
    failures = facts.inventory_failures or int(facts.reason in SEEN_BY_REFRESH)
    return min(SOONER * 2 ** min(failures - 1, 8), LONGEST) if failures else 1.0


def comes_in_maintenance(facts: NodeFacts, before: Beat | None, beat: Beat) -> bool:
    """Whether a VM has come to run on a node in maintenance, by two beats of its host: an inventory then
    tells which, and whether anybody meant it, without waiting for its turn."""
    if facts.scheduling != Scheduling.MAINTENANCE or before is None:
        return False
    was, now = before.vms_running, beat.vms_running
    return was is not None and now is not None and now > was


def first_refresh(observed_at: datetime | None, now: float, interval_s: float) -> float:
    """When a node that was just taken over is due, on the monotonic clock.

    By its newest inventory; where that is older than the interval (or missing), within a tenth of it, so that
    a fleet found after a pause does not come all at once. A host that failed the last time is no exception:
    it may have been mended during the pause.
    """
    if interval_s <= 0:
        return float("inf")
    age = (timezone.now() - observed_at).total_seconds() if observed_at is not None else interval_s
    left = interval_s - age
    if left <= 0:
        left = random.uniform(0, interval_s / 10)  # noqa: S311
    return now + min(left, interval_s)


def due(watched: Iterable[Watched], now: float, interval_s: float) -> list[int]:
    """The nodes whose turn it is, and which answer; each gets its next turn.

    A node whose inventory failed beats on, but may count as offline until one succeeds: its turn comes sooner
    at first (see :func:`pace`).
    """
    found = []
    for node in watched:
        if now < node.refresh_at or node.evidence.state.online is not True:
            continue
        failing = node.facts.reason in SEEN_BY_REFRESH
        if node.facts.connection == Connection.ONLINE or failing:
            # A little jitter each time spreads out those that once came together.
            node.refresh_at = now + pace(node.facts) * interval_s * random.uniform(0.95, 1.05)  # noqa: S311
            found.append(node.facts.id)
    return found


def submit_refreshes(node_ids: Iterable[int], *, crowd: int = CROWD) -> list[int]:
    """Ask for the refreshes; gives the nodes that have to wait because too many are unfinished.

    Hosts whose last inventory failed are half the crowd at most: they leave it slowly, as each that hangs
    holds its thread for a minute, and would keep all others out of it.
    """
    unfinished = Operation.objects.unfinished().filter(kind="refresh-node", automatic=True)
    free = crowd - unfinished.count()
    free_for_failing = max(1, crowd // 2) - unfinished.filter(node__inventory_failures__gt=0).count()
    put_off = []
    for node_id in node_ids:
        if free <= 0:
            put_off.append(node_id)
            continue
        node = Node.objects.filter(pk=node_id).first()
        if node is None:
            continue
        if node.inventory_failures:
            if free_for_failing <= 0:
                put_off.append(node_id)
                continue
            free_for_failing -= 1
        try:
            submit("refresh-node", actor=SYSTEM, node=node)
        except NodeAdminError as error:
            log.info("a refresh was not submitted", node=node.name, reason=error.code)
        free -= 1
    return put_off
