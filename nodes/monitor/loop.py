"""The monitor: one loop over the signals of all nodes, and what follows from them."""

from __future__ import annotations

import queue
import threading
import time

import structlog
from django.db import DatabaseError, close_old_connections
from django.utils.translation import gettext as _

from nodes import access
from nodes.errors import NodeAdminError
from nodes.inventory.beat import Beat, parse_beat
from nodes.models import ConnectionReason, FloodKind, HostFlood
from nodes.monitor.claims import LeaseLost, Membership
from nodes.monitor.evidence import AWAY, Do, Evidence, State
from nodes.monitor.fleet import CutOff
from nodes.monitor.pace import MonitorSettings
from nodes.monitor.points import point_of
from nodes.monitor.reach import Reacher
from nodes.monitor.refresh import SOONER, comes_in_maintenance, due, first_refresh, pace, submit_refreshes
from nodes.monitor.store import Block, BlockInHand, Reading
from nodes.monitor.watch import NodeFacts, Signal, Signals, Watched, load_facts
from nodes.monitor.writer import Batch, CutOffTurn, Finding, Flooded, Rebooted, StillUp, Writer
from nodes.operations.connection_state import ASKED_FOR, SEEN_BY_REFRESH
from nodes.operations.node_state.floods import end_quiet

__all__ = ["Monitor", "MonitorSettings"]

log = structlog.get_logger(__name__)

LOOK_S = 0.2
"""How often deadlines are looked at."""
SYNC_S = 3.0
CALM_S = 30.0
"""How often it is looked which floods are over."""
COPY_S = 30.0
"""How old the copies of figures on the nodes' rows may be in a large fleet: those rows are wide."""
SMALL_FLEET = 200
"""Up to so many nodes everything is written as it comes."""
ASLEEP_S = 1.0
"""A process that is this late and has not been working stood still (it was stopped, or its machine paused):
what its hosts sent meanwhile is still to be read."""
KEPT_BLOCKS = 10
"""Minutes of a node's plot that wait for a database which is away."""
AFTER_RETURN_S = 5.0
AT_ONCE_S = 30.0
LEFT_ALONE = frozenset((*SEEN_BY_REFRESH, *ASKED_FOR))
"""What operations find or announce about a host that still beats."""


class Monitor:
    """Watches this process's share of the nodes from ``start`` to ``stop``."""

    def __init__(self, wanted: MonitorSettings | None = None) -> None:
        self._settings = wanted or MonitorSettings.from_django()
        self._signals: Signals = queue.SimpleQueue()
        self._membership = Membership(self._settings.lease_s)
        self._watched: dict[int, Watched] = {}
        self._facts: dict[int, NodeFacts] = {}
        self._facts_at = 0.0
        self._handled_facts = 0.0
        self._guard = threading.Lock()
        self._lost = threading.Event()
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._cut_off = CutOff(self._settings.cut_off_share)
        self._cut_off_at = 0.0
        self._readings: list[Reading] = []
        self._blocks: list[Block] = []
        self._flushed_at = self._looked_at = time.monotonic()
        self._worked_s = time.process_time()
        self.loop_delay_s = 0.0
        self.beats = 0

    def start(self) -> None:
        self._membership.join()
        timing = self._settings.timing
        self._reacher = Reacher(
            self._signals,
            period_s=timing.period_s,
            greeting_s=timing.greeting_s,
            threads=self._settings.threads,
        )
        self._writer = Writer(self._membership, self._lost.set)
        for name, target in (("monitor", self._loop), ("monitor: claims", self._keep)):
            thread = threading.Thread(target=target, name=name, daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """Write what is in hand and give the nodes back; another monitor has them within seconds."""
        if self._stopping.is_set():
            return
        self._stopping.set()
        for thread in self._threads:
            thread.join(5)
        self._reacher.close()
        for node in self._watched.values():
            if (block := node.block.close()) is not None:
                self._blocks.append(block)
            if node.feed is not None:
                node.feed.close()
        self._flush(time.monotonic())
        self._writer.close(5)
        try:
            self._membership.leave()
        except DatabaseError:
            log.exception("the nodes could not be given back; their lease will run out")
        close_old_connections()

    @property
    def watched_count(self) -> int:
        return len(self._watched)

    # -- claims: a thread of their own, so that no slow write lets the lease run out --------------------

    def _keep(self) -> None:
        synced, calmed = 0.0, time.monotonic()
        while not self._stopping.is_set():
            try:
                if self._lost.is_set():
                    log.warning("the lease has run out; the monitor begins anew")
                    self._membership.join()
                    self._lost.clear()
                self._membership.renew(loop_delay_s=self.loop_delay_s)
                if time.monotonic() - synced >= SYNC_S:
                    self._sync()
                    synced = time.monotonic()
                if time.monotonic() - calmed >= CALM_S:
                    calmed = time.monotonic()
                    end_quiet(HostFlood.objects.filter(node__heartbeat__owner=self._membership.id))
            except LeaseLost:
                self._lost.set()
                with self._guard:
                    self._facts, self._facts_at = {}, time.monotonic()
            except Exception:  # whatever it is, a thread that ends would let the lease run out
                log.exception("the monitor could not look at its claims; it goes on")
            finally:
                close_old_connections()
            self._stopping.wait(min(1.0, self._settings.lease_s / 4))

    def _sync(self) -> None:
        held = self._membership.balance()
        begun = time.monotonic()
        facts = load_facts(held)
        with self._guard:
            self._facts, self._facts_at = facts, begun

    # -- the loop ---------------------------------------------------------------------------------------

    def _loop(self) -> None:
        while not self._stopping.is_set():
            try:
                self._round()
            except Exception:  # whatever it is, the other nodes are still to be watched
                log.exception("a round of the monitor failed; it goes on")
                time.sleep(LOOK_S)

    def _round(self) -> None:
        self._take_signals(time.monotonic() + LOOK_S)
        now = time.monotonic()
        self.loop_delay_s = max(0.0, now - self._looked_at - LOOK_S)
        self._looked_at = now
        self._allow_for_sleep(now)
        self._take_facts(now)
        for node in self._watched.values():
            if now >= node.evidence.deadline:
                self._do(node, node.evidence.passed(now))
        self._judge_fleet(now)
        for node in self._watched.values():
            self._say(node)
        timing, count = self._settings.timing, len(self._watched)
        if now - self._flushed_at >= (timing.period_s if count > SMALL_FLEET else min(1.0, timing.period_s)):
            self._tell_floods(now)
            self._flush(now)
            self._refresh(now)

    def _allow_for_sleep(self, now: float) -> None:
        """Hold no time against the hosts in which this process did not run."""
        worked_s, self._worked_s = time.process_time() - self._worked_s, time.process_time()
        asleep_s = self.loop_delay_s - worked_s
        if asleep_s > ASLEEP_S:
            log.warning("the monitor stood still", seconds=round(asleep_s, 1))
            for node in self._watched.values():
                node.evidence.slept(now, asleep_s)

    def _take_signals(self, until: float) -> None:
        """Handle signals until then; all that are waiting come first, so that no deadline is judged by an
        old state."""
        while True:
            left = until - time.monotonic()
            try:
                signal = self._signals.get(timeout=left) if left > 0 else self._signals.get_nowait()
            except queue.Empty:
                return
            self._handle(signal)

    def _handle(self, signal: Signal) -> None:
        node = self._watched.get(signal.node_id)
        if node is None or signal.generation != node.generation:
            # Opened for nobody: left open it would beat on, on a channel of the connection that stays.
            if signal.feed is not None:
                self._reacher.end(signal.node_id, signal.feed)
            return
        evidence, now = node.evidence, signal.at
        match signal.kind:
            case "line":
                beat = parse_beat(signal.line)
                if beat is not None:
                    self._hear(node, beat, now)
            case "beat" if signal.beat is not None:
                self._hear(node, signal.beat, now)
            case "surplus":
                node.surplus.count(signal.count, now)
            case "ended":
                self._do(node, evidence.ended(now, node.refusal))
            case "greeted":
                self._do(node, evidence.greeted(now, node.refusal))
            case "opened":
                node.feed = signal.feed
                evidence.opened(now)
            case "silent" if signal.state is not None:
                self._do(node, evidence.silent(now, signal.state.detail, signal.state.reason))
                self._drop_silent(node)
            case "refused" if signal.state is not None:
                self._do(node, evidence.refused(now, signal.state.reason, signal.state.detail))
            case _:
                evidence.postponed(now)

    def _hear(self, node: Watched, beat: Beat, now: float) -> None:
        self.beats += 1
        before = node.beat
        node.beat = beat
        node.evidence.heard(now, beat)
        if node.boot_id and node.boot_id != beat.boot_id and node.boots.admit(now):
            self._writer.put(Rebooted(node.facts.id, node.boot_id, beat.boot_id))
            self._bring_forward(node, now)
        node.boot_id = beat.boot_id
        if comes_in_maintenance(node.facts, before, beat):
            self._bring_forward(node, now)
        # By our clock: the host's may be an hour off.
        seen_at = time.time() - (time.monotonic() - now)
        point = point_of(before, beat, node.block.offset_s(seen_at))
        node.newest = Reading(node.facts.id, seen_at, beat, point)
        self._readings.append(node.newest)
        if (full := node.block.add(seen_at, point)) is not None:
            self._blocks.append(full)

    def _bring_forward(self, node: Watched, now: float) -> None:
        """Take an inventory now, unless what the host says has brought forward too many."""
        if node.sooner.admit(now):
            node.refresh_at = now

    def _tell_floods(self, now: float) -> None:
        for node in self._watched.values():
            for kind, gate in ((FloodKind.BOOT_IDS, node.boots), (FloodKind.HEARTBEATS, node.surplus)):
                if gate.due(now):
                    count, seconds = gate.take(now)
                    self._writer.put(Flooded(node.facts.id, kind, count, seconds))

    def _do(self, node: Watched, what: Do) -> None:
        match what:
            case Do.DIAL:
                self._reacher.dial(node.facts, node.generation)
            case Do.CONNECT | Do.RECONNECT:
                node.generation += 1
                old, node.feed = node.feed, None
                anew, stalled = what is Do.RECONNECT, node.evidence.stalled > 0
                self._reacher.connect(node.facts, node.generation, anew=anew, old=old, stalled=stalled)

    def _drop_silent(self, node: Watched) -> None:
        """The host answers nobody: what hangs on the old connection is to fail now, not in half a minute."""
        if node.evidence.state.online is False and node.feed is not None:
            node.generation += 1
            old, node.feed = node.feed, None
            self._reacher.discard(node.facts, old, connection=True)

    # -- what follows -----------------------------------------------------------------------------------

    def _say(self, node: Watched) -> None:
        """Write the node's connection where it differs from what was written last."""
        state, said = node.evidence.state, node.said
        if state.online is None or (state.online, state.reason) == (said.online, said.reason):
            return
        if state.online and said.online is False:
            # Much may have changed meanwhile; the delay lets a host that has just booted settle.
            node.refresh_at = min(node.refresh_at, time.monotonic() + AFTER_RETURN_S)
        own = said.reason if node.said_itself else ""
        node.said, node.said_itself = state, True
        quiet = self._cut_off.is_cut_off and state.reason in ("", *AWAY)
        node.lost_unsaid = quiet and not state.online
        if node.lost_unsaid and state.reason == ConnectionReason.UNREACHABLE:
            detail = _("The monitor may be cut off: most nodes went silent at once.")
            state = State(False, state.reason, detail)
        self._writer.put(Finding(node.facts.id, state, quiet, own))

    def _judge_fleet(self, now: float) -> None:
        # Heard lately, or until the others vanished: a host that is off for days says nothing.
        since = (self._cut_off_at if self._cut_off.is_cut_off else now) - AT_ONCE_S
        heard = [node.evidence for node in self._watched.values() if node.evidence.heard_after(since)]
        missing = sum(evidence.in_doubt for evidence in heard)
        turned = self._cut_off.judge(len(heard), missing)
        if turned is None:
            return
        self._cut_off_at = now
        left = [node for node in self._watched.values() if node.lost_unsaid and not turned]
        for node in left:
            node.lost_unsaid = False
        ids = tuple(node.facts.id for node in left)
        self._writer.put(CutOffTurn(turned, missing, len(heard), ids))

    def _flush(self, now: float) -> None:
        self._flushed_at = now
        if self._writer.waiting > 50:
            # The database is far behind, or away: old figures are worth less than new ones that come in time.
            log.warning("figures are left out: the database is too slow", waiting=self._writer.waiting)
            self._readings.clear()
            del self._blocks[: -KEPT_BLOCKS * len(self._watched)]
            return
        to_nodes = []
        copy_s = COPY_S if len(self._watched) > SMALL_FLEET else self._settings.timing.period_s
        for node in self._watched.values():
            if node.newest is not None and now - node.copied_at >= copy_s:
                node.copied_at = now
                to_nodes.append(node.newest)
        if self._readings or self._blocks or to_nodes:
            self._writer.put(Batch(tuple(self._readings), tuple(to_nodes), tuple(self._blocks)))
        self._readings, self._blocks = [], []

    def _refresh(self, now: float) -> None:
        if self._settings.refresh_s <= 0:
            return
        wanted = due(self._watched.values(), now, self._settings.refresh_s)
        if wanted:
            self._writer.put(lambda: self._submit(wanted))

    def _submit(self, wanted: list[int]) -> None:
        for node_id in submit_refreshes(wanted):
            node = self._watched.get(node_id)
            if node is not None:
                node.refresh_at = time.monotonic() + self._settings.refresh_s / 60

    # -- taking nodes over and letting them go ----------------------------------------------------------

    def _take_facts(self, now: float) -> None:
        with self._guard:
            facts, at = self._facts, self._facts_at
        if at == self._handled_facts:
            return
        self._handled_facts = at
        for node_id in self._watched.keys() - facts.keys():
            self._let_go(node_id)
        for node_id, found in facts.items():
            node = self._watched.get(node_id)
            if node is None:
                self._adopt(found, now)
            else:
                self._compare(node, found, now)

    def _adopt(self, facts: NodeFacts, now: float) -> None:
        evidence = Evidence(self._settings.timing, direct=_is_direct(facts), state=facts.state)
        node = Watched(facts, evidence, BlockInHand(facts.id), said=facts.state)
        node.boot_id = facts.beat_boot_id or facts.boot_id
        node.refresh_at = first_refresh(facts.observed_at, now, self._settings.refresh_s)
        # Copies are spread out like everything that comes once a node.
        node.copied_at = now - COPY_S * (facts.id % 30) / 30
        self._watched[facts.id] = node
        self._do(node, evidence.start(now))

    def _let_go(self, node_id: int) -> None:
        node = self._watched.pop(node_id)
        if (block := node.block.close()) is not None:
            self._blocks.append(block)
        self._reacher.discard(node.facts, node.feed, connection=False)

    def _compare(self, node: Watched, facts: NodeFacts, now: float) -> None:
        before, node.facts = node.facts, facts
        if facts.reason not in ASKED_FOR:
            node.away_since = float("inf")
        elif node.away_since == float("inf"):
            node.away_since = now
        if before.entrance != facts.entrance:
            node.evidence.direct = _is_direct(facts)
            self._reacher.discard(before, node.feed, connection=False)
            node.generation += 1
            node.feed = None
            self._do(node, node.evidence.start(now))
            return
        # Somebody else wrote the state: an operation that knows better, or one that met a moment's trouble.
        written, state = facts.state, node.evidence.state
        settled = before.connection == facts.connection and before.reason == facts.reason
        if facts.inventory_failures > before.inventory_failures:
            node.refresh_at = now + pace(facts) * self._settings.refresh_s
        elif facts.reason in SEEN_BY_REFRESH and not settled:
            node.refresh_at = min(node.refresh_at, now + SOONER * self._settings.refresh_s)
        elif settled and state.online is not None and written != State(state.online, state.reason):
            if not state.online or facts.reason not in LEFT_ALONE:
                node.said, node.said_itself = State(), False
            elif node.evidence.heard_after(node.away_since + 2 * self._settings.timing.period_s):
                self._writer.put(StillUp(node.facts.id))


def _is_direct(facts: NodeFacts) -> bool:
    try:
        return access.read_uri(facts.uri).transport != "ssh"
    except NodeAdminError:
        return False
