"""The monitor's writes, in a thread of their own: a slow database delays figures, never the watching."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog
from django.db import DatabaseError, close_old_connections
from django.utils.translation import gettext as _

from nodes.events import record
from nodes.models import Heartbeat, Node, Operation
from nodes.models.event import Severity
from nodes.monitor.claims import LeaseLost, Membership
from nodes.monitor.evidence import State
from nodes.monitor.store import Block, Reading, copy_to_nodes, write_blocks, write_newest
from nodes.operations.connection_state import note_evidence

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


@dataclass(frozen=True, slots=True)
class Rebooted:
    """The node's boot ID is another one."""

    node_id: int
    before: str
    now: str


Work = Batch | Finding | Rebooted | Callable[[], None]


class Writer:
    """Carries out what it is given, in order, each in one fenced transaction.

    ``on_lost`` is called where the lease has run out: what was to be written is then somebody else's to say.
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
            if isinstance(work, Batch | Finding | Rebooted):
                with self._membership.fenced():
                    self._write(work)
                self.transactions += 1
            else:
                work()
        except LeaseLost:
            self._on_lost()
        except DatabaseError:
            log.exception("the monitor could not write; it tries again")
            close_old_connections()
            return False
        except Exception:  # one odd row must not end the writing of all others
            log.exception("the monitor could not write this")
        return True

    def _write(self, work: Batch | Finding | Rebooted) -> None:
        match work:
            case Batch(readings, to_nodes, blocks):
                self.written += write_newest(readings)
                copy_to_nodes(to_nodes)
                write_blocks(_existing(blocks))
            case Finding(node_id, state, quiet):
                node = Node.objects.filter(pk=node_id).first()
                if node is not None:
                    online = state.online is True
                    note_evidence(node, online=online, reason=state.reason, detail=state.detail, quiet=quiet)
            case Rebooted(node_id, before, now):
                _note_reboot(node_id, before, now)


def _existing(blocks: Sequence[Block]) -> list[Block]:
    """The blocks of nodes that are still there: one that was deleted meanwhile would fail all others."""
    ids = {block.node_id for block in blocks}
    known = set(Heartbeat.objects.filter(pk__in=ids).values_list("pk", flat=True)) if ids else set()
    return [block for block in blocks if block.node_id in known]


def _note_reboot(node_id: int, before: str, now: str) -> None:
    # Conditional: a monitor that takes over may find the same reboot.
    if not Heartbeat.objects.filter(pk=node_id).exclude(boot_id=now).update(boot_id=now):
        return
    node = Node.objects.get(pk=node_id)
    asked = Operation.objects.unfinished().filter(node=node_id, kind="reboot-node").exists()
    record(
        "host_rebooted",
        (_("%s has rebooted.") if asked else _("%s has rebooted on its own.")) % node.name,
        node=node,
        severity=Severity.INFO if asked else Severity.WARNING,
        data={"boot_id_before": before, "boot_id": now},
    )
