"""The SSH connections over which one host's sessions run: one, and more where it allows few sessions in each.

sshd counts the commands that run at once over a connection (MaxSessions in sshd_config(5), 10 by default, 1
or 2 on hardened hosts) and refuses what is beyond. nodeadmin keeps one session for the heartbeat, and more
for a journal that is followed, so commands take a further connection then. How many fit into one is not told
by the server; it is learned from its refusals.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from functools import partial

import paramiko

from nodes.errors import HostError, HostTimeout, HostUnreachable
from nodes.hosts.deadlines import Clock
from nodes.hosts.wire import ChannelRefused, ChannelTimeout, Wire, WireChannel

MAX_SESSIONS = 8
"""At once, of all connections to a host. sshd allows ten in one; two are left for those it is closing."""

_RETRY_S = 0.05
_CLOSING_S = 0.3
"""For so long a session that was closed is taken to be still counted by sshd: until its process is gone."""
_FULL_S = 1.0
"""So long a connection that goes on refusing is left alone: a heartbeat ends with its next line."""
_NONE_S = 3.0
"""A server that has opened no session at all until then will open none."""
_DIAL_AGAIN_S = 10.0
SILENT_S = 0.5
"""A server that does not answer the opening of a channel for so long answers nothing. One that had less time
to answer, because that was all that was left of a deadline, goes on being used."""

Opener = Callable[[Wire, float], WireChannel]
Dial = Callable[[float], Wire]
"""Makes a further connection, verified and authenticated, within so many seconds."""


class Link:
    """One connection, and what runs over it."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.sessions = 0
        self.used_at = time.monotonic()
        self.closed_at = -math.inf
        """When a session on it was last closed."""
        self.refused_since: float | None = None
        self.refused_at = 0.0

    @property
    def is_full(self) -> bool:
        """Whether the server goes on refusing, though no session of ours is in the way."""
        now = time.monotonic()
        lasts = self.refused_since is not None and now - self.refused_since > _CLOSING_S
        return lasts and now - self.refused_at < _FULL_S


class Session:
    """A session's channel, and the place that it takes on its connection, given back once."""

    def __init__(self, channel: WireChannel, release: Callable[[], None]) -> None:
        self.channel = channel
        self.release = release


class SshLinks:
    """Opens sessions wherever there is room. Safe to use from several threads at once."""

    def __init__(self, first: Wire, dial: Dial, address: str) -> None:
        self._first = Link(first)
        self._links = [self._first]
        self._dial = dial
        self._address = address
        self._limit = MAX_SESSIONS
        self._changed = threading.Condition()
        self._dialing = threading.Lock()
        self._dial_failure: HostError | None = None
        self._dial_failed_at = 0.0
        self._has_opened = False
        """A session, ever: a server that opens none is not asked over further connections."""
        self._closed = False

    @property
    def count(self) -> int:
        """How many connections there are."""
        return len(self._links)

    def open(self, opener: Opener, clock: Clock) -> Session:
        """A session by ``opener``, on the connection that has room for it.

        Raises HostTimeout, HostUnreachable (``extra["reason"]``: ``lost``, ``no_session``).
        """
        refused: ChannelRefused | None = None
        first_tries = Clock(_NONE_S)
        while refused is None or (clock.left > _RETRY_S and (self._has_opened or not first_tries.passed)):
            link, channel = self._place(clock), None
            within_s = clock.left
            try:
                channel = opener(link.wire, within_s)
            except ChannelRefused as answer:
                refused = answer
                self._learn(link, answer)
            except ChannelTimeout as silent:
                if refused is not None:
                    break
                if within_s >= SILENT_S:  # let the next one reconnect
                    self.close()
                raise HostTimeout(
                    f"{self._address} did not open a channel within {clock.timeout_s:g} s."
                ) from silent
            except (EOFError, OSError, paramiko.SSHException) as lost:
                link.wire.shut()
                if link is self._first or clock.passed:
                    self.close()
                    raise self._lost() from lost
            finally:
                if channel is None:
                    self._release(link)
            if channel is not None:
                link.refused_since, self._has_opened = None, True
                return Session(channel, partial(self._end_of_session, link))
        raise HostUnreachable(
            f"{self._address} opens no session: it has reached MaxSessions, or may not start a process.",
            remedy="On the host, “sshd -T | grep -i maxsessions” shows how many it allows (default: 10).",
            extra={"reason": "no_session"},
        ) from refused

    def rest(self, idle_s: float) -> None:
        """Close further connections that nobody has used for so long."""
        now = time.monotonic()
        with self._changed:
            idle = [
                link
                for link in self._links[1:]
                if not link.wire.is_active() or (not link.sessions and now - link.used_at >= idle_s)
            ]
            self._links = [link for link in self._links if link not in idle]
        for link in idle:
            link.wire.shut()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            links = tuple(self._links)
            self._changed.notify_all()
        for link in links:
            link.wire.shut()

    # -- a place -----------------------------------------------------------------------------------

    def _place(self, clock: Clock) -> Link:
        """A connection with room, a new one where there is none; the place on it is taken."""
        while True:
            with self._changed:
                if (link := self._with_room()) is not None:
                    return link
                if clock.passed or not self._may_dial:
                    self._await_room(clock)
                    continue
            # One at a time: who waited takes what another has made meanwhile, or has given back.
            if self._dialing.acquire(timeout=min(clock.left, _CLOSING_S)):
                try:
                    with self._changed:
                        link = self._with_room()
                    if link is not None:
                        return link
                    self._add(clock)
                finally:
                    self._dialing.release()

    def _with_room(self) -> Link | None:
        self._links = [link for link in self._links if link is self._first or link.wire.is_active()]
        for link in self._links:
            if link.sessions < self._limit and not link.is_full:
                link.sessions += 1
                return link
        return None

    @property
    def _may_dial(self) -> bool:
        lately = time.monotonic() - self._dial_failed_at < _DIAL_AGAIN_S
        refused = self._dial_failure is not None and lately
        return self._has_opened and not refused and len(self._links) < MAX_SESSIONS

    def _await_room(self, clock: Clock) -> None:
        self._changed.wait(min(clock.left, _CLOSING_S))
        if self._closed:
            raise self._lost()
        if not clock.passed:
            return
        why = f" It refused a further connection: {self._dial_failure.message}" if self._dial_failure else ""
        raise HostUnreachable(
            f"{self._address} allows too few sessions at once in a connection ({self._limit}; MaxSessions in "
            f"sshd_config), and all of them were in use for {clock.timeout_s:g} s.{why}",
            remedy="Set MaxSessions to 10, its default, in /etc/ssh/sshd_config on the host, or let "
            "nodeadmin connect several times at once (a firewall or pam_limits may count connections).",
            extra={"reason": "no_session"},
        )

    def _add(self, clock: Clock) -> None:
        try:
            wire = self._dial(clock.left)
        except HostError as failure:
            with self._changed:
                self._dial_failure, self._dial_failed_at = failure, time.monotonic()
            return
        with self._changed:
            self._dial_failure = None
            if not self._closed:
                self._links.append(Link(wire))
                return
        wire.shut()
        raise self._lost()

    def _release(self, link: Link) -> None:
        with self._changed:
            link.sessions -= 1
            self._changed.notify_all()

    def _end_of_session(self, link: Link) -> None:
        link.used_at = link.closed_at = time.monotonic()
        self._release(link)

    # -- what a refusal means ----------------------------------------------------------------------

    def _learn(self, link: Link, refused: ChannelRefused) -> None:
        """A refusal beside sessions that are open shows the limit, unless some are just being closed."""
        with self._changed:
            link.refused_at = time.monotonic()
            link.refused_since = link.refused_since or link.refused_at
            closing = link.refused_at - link.closed_at < _CLOSING_S
            if refused.sessions and not closing:
                self._limit = max(1, min(self._limit, refused.sessions))
                return
        time.sleep(_RETRY_S)

    def _lost(self) -> HostUnreachable:
        return HostUnreachable(f"The connection to {self._address} was lost.", extra={"reason": "lost"})
