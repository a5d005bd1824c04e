"""The monitor's writes, in a thread of their own: a slow database delays figures, never the watching."""

from __future__ import annotations

import queue
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog
from django.db import Error, close_old_connections
from django.utils import timezone
from django.utils.translation import gettext as _

from nodes.events import record
from nodes.models import Connection, FloodKind, Heartbeat, MonitorProcess, Node, Operation
from nodes.models.event import Severity
from nodes.monitor.claims import LeaseLost, Membership
from nodes.monitor.evidence import State
from nodes.monitor.store import Block, Reading, copy_to_nodes, write_blocks, write_newest
from nodes.operations.connection_state import note_evidence, note_lost, note_still_up
from nodes.operations.node_state.floods import note as note_flood
from nodes.operations.node_state.floods import record_of_host

log = structlog.get_logger(__name__)

ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class Batch:
    """What one tick has to write."""

    readings: Sequence[Reading]
    to_nodes: Sequence[Reading]
    blocks: Sequence[Block]


@dataclass(frozen=True, slots=True)
class Finding:
    """The node's connection is not what it was."""

    node_id: int
    state: State
    quiet: bool
    own: str = ""
    """The reason that this monitor gave before."""


@dataclass(frozen=True, slots=True)
class StillUp:
    """The node beats on, although an operation says that it is away."""

    node_id: int


@dataclass(frozen=True, slots=True)
class Rebooted:
    """The node's boot ID is another one."""

    node_id: int
    before: str
    now: str


@dataclass(frozen=True, slots=True)
class Flooded:
    """The node has sent ``count`` of a kind beyond the limit in so many seconds."""

    node_id: int
    kind: FloodKind
    count: int
    seconds: float


@dataclass(frozen=True, slots=True)
class CutOffTurn:
    """Being cut off begins or ends: ``missing`` of ``known`` nodes are silent. ``left`` are those that stay
    lost at its end, and have had no event yet."""

    begins: bool
    missing: int
    known: int
    left: Sequence[int] = ()


Found = Batch | Finding | StillUp | Rebooted | Flooded | CutOffTurn
Work = Found | Callable[[], None]


class Writer:
    """Carries out what it is given, in order, each in one fenced transaction.

    ``on_lost`` is called where the lease has run out: what was to be written is then somebody else's to say.
    So is what was found of a node that another monitor has by now, be it because this one has given it back
    or because it was ended and has joined again.
    """

    def __init__(self, membership: Membership, on_lost: Callable[[], None]) -> None:
        self._membership = membership
        self._on_lost = on_lost
        self._work: queue.Queue[Work | None] = queue.Queue()
        self.written = 0
        self.transactions = 0
        self._thread = threading.Thread(target=self._run, name="monitor: writer", daemon=True)
        self._thread.start()

    def put(self, work: Work) -> None:
        self._work.put(work)

    @property
    def waiting(self) -> int:
        return self._work.qsize()

    def close(self, timeout_s: float) -> None:
        """Write what is waiting, and end."""
        self._work.put(None)
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            for attempt in range(ATTEMPTS):
                if self._attempt(work):
                    break
                time.sleep(0.2 * 2**attempt)
            close_old_connections()

    def _attempt(self, work: Work) -> bool:
        """Whether there is nothing to try again."""
        try:
            if isinstance(work, Found):
                with self._membership.fenced():
                    self._write(work)
                self.transactions += 1
            else:
                work()
        except LeaseLost:
            self._on_lost()
        except Error:
            log.exception("the monitor could not write; it tries again")
            close_old_connections()
            return False
        except Exception:  # one odd row must not end the writing of all others
            log.exception("the monitor could not write this")
        return True

    def _write(self, work: Found) -> None:
        mine = Heartbeat.objects.filter(owner=self._membership.id)
        if isinstance(work, Batch):
            held = set(mine.values_list("pk", flat=True))
            self.written += write_newest([one for one in work.readings if one.node_id in held])
            copy_to_nodes([one for one in work.to_nodes if one.node_id in held])
            # Points that were heard before a node was given back belong to its plot all the same.
            write_blocks(_existing(work.blocks))
        elif isinstance(work, CutOffTurn):
            _note_cut_off(self._membership.id, work)
        elif mine.filter(pk=work.node_id).exists():
            _note(work)


def _note(work: Finding | StillUp | Rebooted | Flooded) -> None:
    node = Node.objects.get(pk=work.node_id)
    match work:
        case Finding(_, state, quiet, own):
            online = state.online is True
            note_evidence(node, online=online, reason=state.reason, detail=state.detail, quiet=quiet, own=own)
        case StillUp():
            note_still_up(node)
        case Rebooted(_, before, now):
            _note_reboot(node, before, now)
        case Flooded(_, kind, count, seconds):
            note_flood(node, kind, count, seconds)


def _existing(blocks: Sequence[Block]) -> list[Block]:
    """The blocks of nodes that are still there: one that was deleted meanwhile would fail all others."""
    ids = {block.node_id for block in blocks}
    known = set(Heartbeat.objects.filter(pk__in=ids).values_list("pk", flat=True)) if ids else set()
    return [block for block in blocks if block.node_id in known]


def _note_reboot(node: Node, before: str, now: str) -> None:
    # Conditional: a monitor that takes over may find the same reboot.
    if not Heartbeat.objects.filter(pk=node.pk).exclude(boot_id=now).update(boot_id=now):
        return
    asked = Operation.objects.unfinished().filter(node=node.pk, kind="reboot-node").exists()
    record_of_host(
        "host_rebooted",
        (_("%s has rebooted.") if asked else _("%s has rebooted on its own.")) % node.name,
        node=node,
        severity=Severity.INFO if asked else Severity.WARNING,
        data={"boot_id_before": before, "boot_id": now},
    )


def _note_cut_off(monitor: uuid.UUID, turn: CutOffTurn) -> None:
    since = timezone.now() if turn.begins else None
    MonitorProcess.objects.filter(pk=monitor).update(cut_off_since=since)
    if turn.begins:
        text = _("The monitor may be cut off: %(missing)d of %(known)d nodes went silent at once.")
    else:
        text = _("The monitor hears its nodes again: %(missing)d of %(known)d are missing.")
    record(
        "monitor_cut_off" if turn.begins else "monitor_reconnected",
        text % {"missing": turn.missing, "known": turn.known},
        severity=Severity.ERROR if turn.begins else Severity.INFO,
        data={"missing": turn.missing, "nodes": turn.known},
    )
    for node in Node.objects.filter(pk__in=turn.left, connection=Connection.OFFLINE).order_by("name"):
        note_lost(node)
