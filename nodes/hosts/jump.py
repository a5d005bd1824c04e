"""Jump hosts: a few SSH connections to each, shared by all the hosts behind it.

A host behind a jump host is reached by a channel ``direct-tcpip`` (RFC 4254, section 7.2), over which an SSH
connection of its own runs: the jump host sees no more of it than a router does, and the host's own key is
verified as ever. sshd counts no such channel for MaxSessions; each takes a file descriptor of it, of which a
process may have 1,024 by default, so a connection carries :data:`CHANNELS` of them and then another is made.
"""

from __future__ import annotations

import copy
import os
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import paramiko

from nodes.errors import (
    AuthenticationFailed,
    HostError,
    HostKeyMismatch,
    HostKeyRequired,
    HostTimeout,
    HostUnreachable,
    JumpHostAuthFailed,
    JumpHostError,
    JumpHostForwardingRefused,
    JumpHostKeyMismatch,
    JumpHostUnreachable,
)
from nodes.hosts.deadlines import DEFAULT, Clock
from nodes.hosts.target import JumpTarget
from nodes.hosts.wire import ChannelRefused, ChannelTimeout, Wire, WireChannel

CHANNELS = 200
"""At once over one connection to a jump host."""
IDLE_S = 120.0
"""A connection over which nothing has run for so long is closed."""
_AGAIN_S = 2.0
"""A jump host that failed is taken to fail again for so long: a thousand hosts behind it ask at once."""
_ANSWER_S = 2.0
"""What a jump host is given to show that it is alive, when a host behind it does not answer."""
_RESERVE_S = 0.5
_PROHIBITED, _CONNECT_FAILED, _SHORTAGE = 1, 2, 4


class ChannelSocket:
    """A channel through a jump host, with the methods of a socket that an SSH connection needs."""

    def __init__(self, channel: WireChannel, release: Callable[[WireChannel], None]) -> None:
        self._channel = channel
        self._release = release
        self._closed = False  # paramiko reads it, as it would a socket's
        self._lock = threading.Lock()

    def settimeout(self, value: float | None, /) -> None:
        self._channel.settimeout(value)

    def send(self, data: bytes, /) -> int:
        return int(self._channel.send(data))

    def recv(self, size: int, /) -> bytes:
        return bytes(self._channel.recv(size))

    def shutdown(self, _how: int, /) -> None:
        self.close()

    def close(self) -> None:
        """Wakes who reads at once; the jump host is told in another thread, as its line may be blocked."""
        with self._lock:
            closed, self._closed = self._closed, True
        if not closed:
            self._release(self._channel)


@dataclass(slots=True, eq=False)
class _Link:
    """One connection to a jump host."""

    wire: Wire
    channels: int = 0
    full: bool = False
    used_at: float = field(default_factory=time.monotonic)


@dataclass(slots=True, eq=False)
class _Place:
    """The connections to one jump host. ``dialing`` is held while another one is made."""

    key: str
    dialing: threading.Lock = field(default_factory=threading.Lock)
    links: list[_Link] = field(default_factory=list)
    failed_at: float = float("-inf")
    failure: HostError | None = None


class JumpHosts:
    """Connections to jump hosts by target. Safe to use from several threads at once."""

    def __init__(self, *, channels: int = CHANNELS, idle_s: float = IDLE_S) -> None:
        self._channels = channels
        self._idle_s = idle_s
        self._guard = threading.Lock()
        self._places: dict[str, _Place] = {}
        self._endings: queue.SimpleQueue[tuple[_Link, WireChannel]] | None = None
        self._pid = os.getpid()

    def open(
        self, jump: JumpTarget, host: str, port: int, timeout_s: float, *, connect_s: float | None = None
    ) -> ChannelSocket:
        """A channel from ``jump`` to ``port`` of ``host``. Where a connection to ``jump`` has to be made
        first, that may take ``connect_s`` besides; without it, ``timeout_s`` is for both.

        Raises JumpHostUnreachable, JumpHostKeyMismatch, JumpHostAuthFailed, JumpHostForwardingRefused; and
        HostUnreachable or HostTimeout where the jump host itself is fine.
        """
        jump.rules.check_literal(host, "host")
        clock = Clock(timeout_s)
        for last in (False, True):
            link = self._link(jump, clock if connect_s is None else Clock(connect_s))
            if connect_s is not None:
                clock = Clock(timeout_s)
            try:
                channel = link.wire.open_tcp(host, port, max(_RESERVE_S, clock.left - _RESERVE_S))
            except ChannelRefused as refused:
                self._give_back(link)
                if refused.reason == _SHORTAGE and link.channels and not last:
                    link.full = True  # another connection to it may have room
                    continue
                raise _explain(jump, host, port, refused) from refused
            except ChannelTimeout as silent:
                self._give_back(link)
                if not link.wire.answers(_ANSWER_S):
                    link.wire.shut()
                    raise _unreachable(jump, "it has stopped answering") from silent
                raise HostTimeout(
                    f"No answer from {host}, port {port} within {timeout_s:g} s, asked from the jump host "
                    f"“{jump.name}”.",
                    remedy="The host may be down, or a firewall between the two drops what is sent to it.",
                    extra={"reason": "silent"},
                ) from silent
            except (EOFError, OSError, paramiko.SSHException) as lost:
                self._give_back(link)
                link.wire.shut()
                if last or clock.passed:
                    raise _unreachable(jump, "the connection to it was lost") from lost
            else:
                return ChannelSocket(channel, lambda held, link=link: self._end(link, held))  # type: ignore[misc]
        raise _unreachable(jump, "the connection to it was lost")

    def count(self, jump: JumpTarget) -> int:
        """How many connections stand to this jump host."""
        with self._guard:
            place = self._places.get(jump.digest())
            return sum(link.wire.is_active() for link in place.links) if place is not None else 0

    def drop(self, key: str) -> None:
        """Close every connection to the jump host of this key, with all that runs over them."""
        with self._guard:
            digests = [digest for digest, place in self._places.items() if place.key == key]
            doomed = [self._places.pop(digest) for digest in digests]
        for place in doomed:
            for link in place.links:
                link.wire.shut()

    def close_idle(self) -> int:
        """Close what nobody has used for long or what is broken; how many those were."""
        now, doomed = time.monotonic(), []
        with self._guard:
            for digest, place in list(self._places.items()):
                stale = [link for link in place.links if self._is_stale(link, now)]
                doomed += stale
                place.links = [link for link in place.links if link not in stale]
                failing = now - place.failed_at < self._idle_s
                if not place.links and not failing and not place.dialing.locked():
                    del self._places[digest]
        for link in doomed:
            link.wire.shut()
        return len(doomed)

    def close(self) -> None:
        """Close all connections. It may be used again afterwards."""
        with self._guard:
            places, self._places = list(self._places.values()), {}
        for place in places:
            for link in place.links:
                link.wire.shut()

    # -- a connection with room --------------------------------------------------------------------

    def _is_stale(self, link: _Link, now: float) -> bool:
        return not link.wire.is_active() or (not link.channels and now - link.used_at >= self._idle_s)

    def _link(self, jump: JumpTarget, clock: Clock) -> _Link:
        """A connection with room for one more channel, whose place is taken. Raises JumpHostError."""
        place = self._place(jump)
        while True:
            asked_at = time.monotonic()
            if (found := self._with_room(place)) is not None:
                return found
            if not place.dialing.acquire(timeout=clock.left):
                raise _unreachable(jump, f"connecting to it did not end within {clock.timeout_s:g} s")
            try:
                if (found := self._with_room(place)) is not None:
                    return found
                failure = place.failure
                if failure is not None and place.failed_at >= asked_at - _AGAIN_S:
                    # A copy: an exception collects the traceback of everybody who raises it.
                    raise copy.copy(failure)
                self._connect(place, jump, clock)
            finally:
                place.dialing.release()

    def _place(self, jump: JumpTarget) -> _Place:
        digest = jump.digest()
        with self._guard:
            if self._pid != os.getpid():
                # After a fork the sockets are the parent's too: closing them would end its connections.
                self._places, self._endings, self._pid = {}, None, os.getpid()
            return self._places.setdefault(digest, _Place(jump.key))

    def _with_room(self, place: _Place) -> _Link | None:
        with self._guard:
            place.links = [link for link in place.links if link.wire.is_active() or link.channels]
            for link in place.links:
                if link.wire.is_active() and link.channels < self._channels and not link.full:
                    link.channels += 1
                    link.used_at = time.monotonic()
                    return link
        return None

    def _connect(self, place: _Place, jump: JumpTarget, clock: Clock) -> None:
        try:
            wire = _entered(jump, clock)
        except JumpHostError as error:
            place.failure, place.failed_at = error, time.monotonic()
            raise
        with self._guard:
            place.failure = None
            place.links.append(_Link(wire))

    # -- the end of a channel ----------------------------------------------------------------------

    def _give_back(self, link: _Link) -> None:
        with self._guard:
            link.channels -= 1
            link.full = False
            link.used_at = time.monotonic()

    def _end(self, link: _Link, channel: WireChannel) -> None:
        with channel.lock:
            messages = channel._close_internal()  # type: ignore[attr-defined]
        channel.messages_of_end = messages
        with self._guard:
            endings = self._endings
            if endings is None:
                endings = self._endings = queue.SimpleQueue()
                threading.Thread(
                    target=_tell_ends, args=(endings,), name="jump hosts: closed channels", daemon=True
                ).start()
        self._give_back(link)
        endings.put((link, channel))


def _tell_ends(endings: queue.SimpleQueue[tuple[_Link, WireChannel]]) -> None:
    """Tell jump hosts of the channels that are closed. A line that is blocked ends within 30 s by itself."""
    while True:
        link, channel = endings.get()
        try:
            for message in channel.messages_of_end:
                if message is not None and link.wire.is_active():
                    link.wire._send_user_message(message)
        except (EOFError, OSError, paramiko.SSHException):
            continue


def _entered(jump: JumpTarget, clock: Clock) -> Wire:
    """A connection to the jump host, verified and logged in. Raises JumpHostError."""
    from nodes.hosts.ssh import enter

    target = jump.target
    limits = replace(
        DEFAULT,
        connect_s=min(DEFAULT.connect_s, clock.left),
        handshake_s=min(DEFAULT.handshake_s, clock.left),
        auth_s=min(DEFAULT.auth_s, clock.left),
    )
    try:
        if target.host_key is None:
            raise HostKeyRequired(f"The host key of {target.address} has not been confirmed.")
        return enter(target, limits)
    except JumpHostError:
        raise  # of the one in front of it
    except (HostKeyMismatch, HostKeyRequired) as error:
        raise JumpHostKeyMismatch(
            f"Jump host “{jump.name}”: {error.message}",
            remedy=error.remedy,
            extra={**error.extra, "jump_host": jump.name},
        ) from error
    except AuthenticationFailed as error:
        raise JumpHostAuthFailed(
            f"Jump host “{jump.name}”: {error.message}",
            remedy=error.remedy,
            extra={**error.extra, "jump_host": jump.name},
        ) from error
    except HostError as error:
        raise JumpHostUnreachable(
            f"The jump host “{jump.name}” cannot be reached: {error.message}",
            remedy=error.remedy,
            extra={**error.extra, "jump_host": jump.name},
        ) from error


def _unreachable(jump: JumpTarget, why: str) -> JumpHostUnreachable:
    return JumpHostUnreachable(
        f"The jump host “{jump.name}” cannot be reached: {why}.",
        remedy="See that it runs, and that this machine can connect to it.",
        extra={"reason": "lost", "jump_host": jump.name},
    )


def _explain(jump: JumpTarget, host: str, port: int, refused: ChannelRefused) -> HostError:
    where = f"{host}, port {port}"
    if refused.reason == _CONNECT_FAILED:
        words = f": “{refused.said}”" if refused.said else ""
        return HostUnreachable(
            f"The jump host “{jump.name}” cannot connect to {where}{words}.",
            remedy="Check the address as the jump host sees it, the port, and that sshd runs on the host.",
            extra={"reason": _reason(refused.said), "jump_host": jump.name},
        )
    if refused.reason == _PROHIBITED:
        return JumpHostForwardingRefused(
            f"The jump host “{jump.name}” does not allow connections to {where}.",
            remedy="Allow them on the jump host: AllowTcpForwarding, DisableForwarding and PermitOpen in "
            "/etc/ssh/sshd_config; port-forwarding and permitopen in the key's line of authorized_keys.",
            extra={"reason": "prohibited", "jump_host": jump.name},
        )
    return JumpHostUnreachable(
        f"The jump host “{jump.name}” opens no further connection"
        + (f": “{refused.said}”." if refused.said else "."),
        remedy="It may have too many open files (ulimit -n of sshd) or connections.",
        extra={"reason": "shortage", "jump_host": jump.name},
    )


def _reason(said: str) -> str:
    text = said.lower()
    if "refused" in text:
        return "refused"
    if "timed out" in text or "timeout" in text:
        return "silent"
    if "no route" in text or "unreachable" in text:
        return "no_route"
    if "name" in text or "resol" in text:
        return "name_unknown"
    return "network"


_jump_hosts = JumpHosts()


def jump_hosts() -> JumpHosts:
    """This process's connections to jump hosts."""
    return _jump_hosts
