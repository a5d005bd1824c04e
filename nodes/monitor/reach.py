"""Reaching hosts for the monitor: dials by the thousand, handshakes a few at a time, none in its loop."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import structlog
from django.db import DatabaseError, close_old_connections

from nodes import access
from nodes.errors import HostError, NodeAdminError
from nodes.hosts.connection import Feed, HostConnection
from nodes.hosts.greeting import Greeter
from nodes.hosts.shared_pool import SharedPool
from nodes.inventory.beat import Beat, beat_command
from nodes.models import Node
from nodes.monitor.evidence import AWAY, State
from nodes.monitor.watch import BeatSink, NodeFacts, Signal, Signals
from nodes.operations.connection_state import reason_for

log = structlog.get_logger(__name__)

_GREETINGS = 32
"""At once through jump hosts: each takes a thread until the host answers, or for its deadline."""
_JUMP_S = 12.0
"""Connecting to a jump host, which all hosts behind it share."""


class Reacher:
    """Everything here ends as a signal: ``greeted``, ``silent``, ``refused``, ``opened``."""

    def __init__(self, signals: Signals, *, period_s: float, greeting_s: float, threads: int) -> None:
        self._signals = signals
        self._period_s = period_s
        self._greeting_s = greeting_s
        self._greeter = Greeter()
        self._pool = SharedPool(threads, "monitor: connect", share=2)
        self._slow_pool = SharedPool(threads, "monitor: connect again", share=1)
        self._jump_pool = SharedPool(_GREETINGS, "monitor: greetings through jump hosts", share=1)
        self._stopping = threading.Event()

    def dial(self, facts: NodeFacts, generation: int) -> None:
        """Ask the host for its greeting; one behind a jump host, through that."""
        if facts.jump_host_id is not None:
            self._submit(facts.id, lambda: self._greet(facts, generation), self._jump_pool)
            return
        try:
            uri = access.read_uri(facts.uri)
        except NodeAdminError as error:
            self._put("silent", facts, generation, state=State(False, "unreachable", error.message))
            return

        def answer(problem: str | None) -> None:
            if problem is None:
                self._put("greeted", facts, generation)
            else:
                detail = f"{uri.host}, port {uri.port}: {problem}."
                self._put("silent", facts, generation, state=State(False, "unreachable", detail))

        self._greeter.ask(uri.host, uri.port, self._greeting_s, access.network_rules(), answer)

    def connect(
        self, facts: NodeFacts, generation: int, *, anew: bool, old: Feed | None, stalled: bool
    ) -> None:
        """Open the stream; with ``anew`` over a new connection, the old one having gone silent.

        A host that greets and then lets one wait takes a thread for as long. One that ``stalled`` before
        waits with its like: otherwise a few dozen of them would keep all others from coming back.
        """
        pool = self._slow_pool if stalled else self._pool
        self._submit(facts.id, lambda: self._connect(facts, generation, anew, old), pool)

    def discard(self, facts: NodeFacts, feed: Feed | None, *, connection: bool) -> None:
        """Close a stream, and with ``connection`` all that runs over the node's connection."""
        if feed is not None or connection:
            self._submit(facts.id, lambda: self._discard(facts, feed, connection))

    def end(self, node_id: int, feed: Feed) -> None:
        """Close a stream of a node that is watched no more."""
        self._submit(node_id, feed.close)

    def close(self) -> None:
        self._stopping.set()
        for pool in (self._pool, self._slow_pool, self._jump_pool):
            pool.close()
        self._greeter.close()

    def _submit(self, node_id: int, work: Callable[[], None], pool: SharedPool | None = None) -> None:
        if not self._stopping.is_set():
            (pool or self._pool).submit(str(node_id), lambda: self._guarded(work))

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        finally:
            close_old_connections()

    def _discard(self, facts: NodeFacts, feed: Feed | None, connection: bool) -> None:
        if feed is not None:
            feed.close()
        if connection:
            node = Node.objects.filter(pk=facts.id).only("uuid").first()
            if node is not None:
                access.pool().drop_node(str(node.uuid))

    def _greet(self, facts: NodeFacts, generation: int) -> None:
        try:
            node = Node.objects.get(pk=facts.id)
            access.greet(node, self._greeting_s, connect_s=_JUMP_S)
        except HostError as error:
            reason = reason_for(error)
            kind = "silent" if reason in AWAY else "refused"
            self._put(kind, facts, generation, state=State(False, reason.value, error.detail()))
        except (Node.DoesNotExist, DatabaseError, NodeAdminError) as error:
            log.warning("a node could not be greeted", node=facts.name, error=str(error))
            self._put("postponed", facts, generation)
        except Exception:  # one node's oddity must not silence the others
            log.exception("a node could not be greeted", node=facts.name)
            self._put("postponed", facts, generation)
        else:
            self._put("greeted", facts, generation)

    def _connect(self, facts: NodeFacts, generation: int, anew: bool, old: Feed | None) -> None:
        self._discard(facts, old, anew)
        try:
            node = Node.objects.get(pk=facts.id)
            connection = access.connect(access.target_for(node))
            feed = self._open(connection, facts, generation)
        except HostError as error:
            reason = reason_for(error)
            kind = "silent" if reason in AWAY else "refused"
            self._put(kind, facts, generation, state=State(False, reason.value, error.detail()))
        except (Node.DoesNotExist, DatabaseError, NodeAdminError) as error:
            log.warning("a node could not be entered", node=facts.name, error=str(error))
            self._put("postponed", facts, generation)
        except Exception:  # one node's oddity must not silence the others
            log.exception("a node could not be watched", node=facts.name)
            self._put("postponed", facts, generation)
        else:
            self._put("opened", facts, generation, feed=feed)

    def _open(self, connection: HostConnection, facts: NodeFacts, generation: int) -> Feed:
        sink = BeatSink(facts.id, generation, self._signals)
        if connection.has_shell:
            return connection.follow(beat_command(self._period_s), sink)
        return TestDriverFeed(connection, facts, generation, self._signals, self._period_s)

    def _put(
        self,
        kind: str,
        facts: NodeFacts,
        generation: int,
        *,
        feed: Feed | None = None,
        state: State | None = None,
    ) -> None:
        self._signals.put(Signal(kind, facts.id, generation, time.monotonic(), feed=feed, state=state))


class TestDriverFeed:
    """Beats of a node of libvirt's test driver, behind which there is no machine: libvirt's own counts."""

    refusal = ""

    def __init__(
        self, connection: HostConnection, facts: NodeFacts, generation: int, signals: Signals, period_s: float
    ) -> None:
        self._connection = connection
        self._facts, self._generation, self._signals = facts, generation, signals
        self._period_s = period_s
        self._closing = threading.Event()
        threading.Thread(target=self._run, name="monitor: test driver", daemon=True).start()

    def _run(self) -> None:
        number = 0
        while not self._closing.is_set():
            try:
                self._connection.hypervisor(self._period_s)
                up = True
            except HostError:
                up = False
            beat = Beat(number=number, boot_id="test", libvirt_up=up)
            now = time.monotonic()
            self._signals.put(Signal("beat", self._facts.id, self._generation, now, beat=beat))
            number += 1
            self._closing.wait(self._period_s)

    def close(self) -> None:
        self._closing.set()
