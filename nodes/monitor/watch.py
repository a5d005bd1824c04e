"""One watched node: what the database says of it, its stream, and the signs."""

from __future__ import annotations

import queue
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db.models import F

from nodes.hosts.connection import Feed
from nodes.inventory.beat import MAX_LINE, Beat
from nodes.models import Connection, Heartbeat, Scheduling
from nodes.monitor.evidence import Evidence, State
from nodes.monitor.gate import Gate
from nodes.monitor.store import BlockInHand, Reading

_CHUNK = 500
LINES_A_SECOND, LINES_AT_ONCE = 4.0, 16.0
"""Of one stream: more than any host sends, whose beats may come all at once after a pause of the line."""
TOLD_EVERY_S = 10.0
BOOTS, BOOTS_S = 5, 1800.0
"""Boot IDs of one host that are taken for reboots, in so many seconds."""
SOONER, SOONER_S = 4, 1800.0
"""Inventories of one host that its beats may bring forward, in so many seconds."""


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """The node's row, as far as the monitor needs it."""

    id: int
    name: str
    uri: str
    host_key: str
    credential_at: datetime | None
    connection: str
    reason: str
    connection_since: datetime | None
    boot_id: str
    beat_boot_id: str
    observed_at: datetime | None
    inventory_failures: int = 0
    scheduling: str = Scheduling.ENABLED
    jump_host_id: int | None = None
    jump_host_at: datetime | None = None

    @property
    def entrance(self) -> tuple[object, ...]:
        """What decides how the host is entered: another one is another connection."""
        return (self.uri, self.host_key, self.credential_at, self.jump_host_id, self.jump_host_at)

    @property
    def state(self) -> State:
        if self.connection == Connection.UNKNOWN:
            return State()
        return State(self.connection == Connection.ONLINE, self.reason)


def load_facts(node_ids: Collection[int]) -> dict[int, NodeFacts]:
    """The facts of these nodes; what has been deleted meanwhile is not among them."""
    found: dict[int, NodeFacts] = {}
    ids = sorted(node_ids)
    for start in range(0, len(ids), _CHUNK):
        rows = Heartbeat.objects.filter(pk__in=ids[start : start + _CHUNK]).values_list(
            "node_id", "node__name", "node__uri", "node__host_key", "node__credential__updated_at",
            "node__connection", "node__connection_reason", "node__connection_since", "node__boot_id",
            F("boot_id"), "node__observed_at", "node__inventory_failures",
            "node__scheduling", "node__jump_host_id", "node__jump_host__updated_at",
        )  # fmt: skip
        found |= {row[0]: NodeFacts(*row) for row in rows}
    return found


@dataclass(frozen=True, slots=True)
class Signal:
    """Something that happened to a node's stream ``generation``, at ``at`` on the monotonic clock."""

    kind: str
    node_id: int
    generation: int
    at: float
    line: str = ""
    beat: Beat | None = None
    feed: Feed | None = None
    state: State | None = None
    count: int = 0


Signals = queue.SimpleQueue[Signal]


class BeatSink:
    """Cuts a stream into lines, in the thread of the connection, and hands each on as a signal."""

    def __init__(self, node_id: int, generation: int, signals: Signals) -> None:
        self._node_id = node_id
        self._generation = generation
        self._signals = signals
        self._rest = b""
        self._ended = False
        self._allowed, self._allowed_at = LINES_AT_ONCE, time.monotonic()
        self._surplus, self._told_at = 0, self._allowed_at

    def data(self, chunk: bytes) -> None:
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        # A host that prints without ever ending a line is not to fill our memory.
        self._rest = self._rest[-MAX_LINE:]
        if not lines:
            return
        allowed = min(len(lines), self._allow())
        self._allowed -= allowed
        for line in lines[len(lines) - min(allowed, 4) :]:
            self._put("line", line=line[:MAX_LINE].decode("ascii", "replace"))
        self._surplus += len(lines) - allowed
        if self._surplus and self._allowed_at - self._told_at >= TOLD_EVERY_S:
            count, self._surplus, self._told_at = self._surplus, 0, self._allowed_at
            self._put("surplus", count=count)

    def _allow(self) -> int:
        """How many lines may be handed on now: what a host prints beyond would be all the monitor hears."""
        now = time.monotonic()
        self._allowed = min(LINES_AT_ONCE, self._allowed + (now - self._allowed_at) * LINES_A_SECOND)
        self._allowed_at = now
        return int(self._allowed)

    def ended(self) -> None:
        if not self._ended:
            self._ended = True
            self._put("ended")

    def _put(self, kind: str, **fields: Any) -> None:
        self._signals.put(Signal(kind, self._node_id, self._generation, time.monotonic(), **fields))


@dataclass(slots=True)
class Watched:
    """A node in this monitor's hands."""

    facts: NodeFacts
    evidence: Evidence
    block: BlockInHand
    generation: int = 0
    feed: Feed | None = None
    beat: Beat | None = None
    boot_id: str = ""
    newest: Reading | None = None
    said: State = field(default_factory=State)
    """What was last written of the node's connection."""
    said_itself: bool = False
    """Whether this monitor wrote it, and so may take it back, or found it written."""
    lost_unsaid: bool = False
    """Whether its loss had no event of its own, because the monitor may have been cut off."""
    away_since: float = float("inf")
    """When this monitor first read that the node is away because it was asked to go. A beat that was on its
    way then proves nothing."""
    refresh_at: float = 0.0
    copied_at: float = 0.0
    boots: Gate = field(default_factory=lambda: Gate(BOOTS, BOOTS_S))
    surplus: Gate = field(default_factory=lambda: Gate(0, BOOTS_S))
    """Lines beyond what a stream may bring."""
    sooner: Gate = field(default_factory=lambda: Gate(SOONER, SOONER_S))
    """Inventories that beats have brought forward."""

    @property
    def refusal(self) -> str:
        """Why the host's login shell did not begin the stream, in its own words; "" where it did."""
        return self.feed.refusal if self.feed is not None else ""
