"""SSH to a host: the host key first, then the user, then channels; each step under its own deadline."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import TracebackType
from typing import Self

import paramiko

from nodes.errors import HostError, HostKeyRequired, HostTimeout, HostUnreachable
from nodes.hosts.command_frame import CommandFrame, relayed
from nodes.hosts.deadlines import DEFAULT, Clock, Deadlines
from nodes.hosts.handshake import NoSuchHostKey, connect_verified, host_key_mismatch
from nodes.hosts.host_budget import HostBudget, budgets
from nodes.hosts.host_key_scan import scan_host_keys
from nodes.hosts.login import DEFAULT_USER, log_in
from nodes.hosts.ssh_links import SILENT_S, Opener, SshLinks
from nodes.hosts.sshshell import ChannelSlot, ChannelSlots, HeldChannel, SshShell, SshStream
from nodes.hosts.target import HostKey, HostTarget
from nodes.hosts.wire import ChannelRefused, ChannelTimeout, Sink, Wire, WireChannel

__all__ = ["ChannelRefused", "SshConnection", "SshShell", "SshStream", "scan_host_keys"]

MAX_CHANNELS = 8
"""At once to one host, sessions and forwarded sockets together."""


class SshConnection:
    """One authenticated connection to a host whose key was verified; everything else runs over it."""

    def __init__(
        self,
        target: HostTarget,
        deadlines: Deadlines = DEFAULT,
        *,
        on_stage: Callable[[str], None] | None = None,
    ) -> None:
        """Connect; ``on_stage`` is told ``host_key`` and ``authenticate`` as they begin.

        Raises HostKeyRequired without any contact where no key is pinned, HostUnreachable, HostTimeout,
        HostKeyMismatch (nothing but the key exchange has then been sent), AuthenticationFailed.
        """
        if target.host_key is None:
            raise HostKeyRequired(
                f"The host key of {target.address} has not been confirmed, so nothing was sent to it.",
                remedy="Compare the fingerprint that the host shows with the one read on its console.",
                field="host_key_fingerprint",
            )
        stage = on_stage or (lambda _name: None)
        self.user = target.user or DEFAULT_USER
        self.address = target.address
        self.budget: HostBudget = budgets.of(target.budget_key, target.address)
        self._deadlines = deadlines
        self._slots = ChannelSlots(MAX_CHANNELS)
        self._target, self._host_key = target, target.host_key
        self._wire = _entered(target, target.host_key, deadlines, stage)
        self._links = SshLinks(self._wire, self._dial, target.address)

    def _dial(self, within_s: float) -> Wire:
        """A further connection to the same host as the same user."""
        given, share_s = self._deadlines, within_s / 3
        limits = replace(
            given,
            connect_s=min(given.connect_s, share_s),
            handshake_s=min(given.handshake_s, share_s),
            auth_s=min(given.auth_s, share_s),
        )
        return _entered(self._target, self._host_key, limits, lambda _stage: None)

    def enter_with(self, target: HostTarget) -> None:
        """Make further connections by ``target``, and hold the credential of the one before no longer.

        Raises ValueError where it leads to another host or user: the connections would not be alike.
        """
        before = self._target
        same = (target.host, target.port, target.user, target.host_key)
        if same != (before.host, before.port, before.user, before.host_key):
            raise ValueError("another host or user needs a connection of its own")
        self._target = target

    @property
    def alive(self) -> bool:
        """Whether the connection stands, as far as one can tell without sending something."""
        return self._wire.is_active()

    @property
    def login_key(self) -> HostKey | None:
        """The public half of the key that the host took; None for a password."""
        return self._wire.login_key

    @property
    def server_version(self) -> str:
        """The server's greeting: ``SSH-2.0-OpenSSH_9.2p1 Debian-2``."""
        return str(self._wire.remote_version)

    @property
    def sudo_password(self) -> str | None:
        return self._target.sudo_password

    @property
    def open_channels(self) -> int:
        """How many channels are in use."""
        return self._slots.in_use

    @property
    def shell(self) -> SshShell:
        return SshShell(self)

    @property
    def connections(self) -> int:
        """How many SSH connections there are: more than one where the server allows few sessions in each."""
        return self._links.count

    def open_exec(self, frame: CommandFrame, timeout_s: float | None = None) -> HeldChannel:
        """Run a framed command on a channel of its own. Raises HostTimeout, HostUnreachable."""
        clock = Clock(self._deadlines.channel_s if timeout_s is None else timeout_s)
        return self._session(lambda wire, left: wire.open_exec(frame, left), clock)

    def open_feed(self, command: str, sink: Sink) -> HeldChannel:
        """Run a command whose output goes to ``sink``, without a thread of its own to read it.

        Nobody waits for its beginning; where it never begins, ``refusal`` of what is given says why. Raises
        HostTimeout, HostUnreachable.
        """
        frame, clock = relayed(command), Clock(self._deadlines.channel_s)
        return self._session(lambda wire, left: wire.open_exec(frame, left, sink), clock)

    def open_unix(self, path: str, timeout_s: float | None = None) -> HeldChannel:
        """A channel to a Unix socket on the host, with the user's rights on it.

        Raises ChannelRefused when the socket is not there, may not be opened, or forwarding is forbidden
        (OpenSSH does not say which), HostTimeout, HostUnreachable.
        """
        clock = Clock(self._deadlines.channel_s if timeout_s is None else timeout_s)
        with self._slot(clock) as slot:
            return slot.held(self._forwarded(path, clock), self.user, self.address)

    def _session(self, opener: Opener, clock: Clock) -> HeldChannel:
        with self._slot(clock) as slot:
            session = self._links.open(opener, clock)
            slot.on_release(session.release)
            return slot.held(session.channel, self.user, self.address)

    def _slot(self, clock: Clock) -> ChannelSlot:
        if not self._slots.acquire(clock.left):
            raise HostTimeout(
                f"All {MAX_CHANNELS} channels to {self.address} were busy for {clock.timeout_s:g} s.",
                extra={"reason": "channels_busy"},
            )
        slot = ChannelSlot(self._slots)
        try:
            self.budget.take("sessions", timeout_s=clock.left)
        except BaseException:
            slot.release()
            raise
        slot.on_release(lambda: self.budget.give_back("sessions"))
        return slot

    def _forwarded(self, path: str, clock: Clock) -> WireChannel:
        # No session, so no limit of sshd's counts it (MaxSessions in sshd_config(5)).
        within_s = clock.left
        try:
            return self._wire.open_streamlocal(path, within_s)
        except ChannelRefused:
            raise
        except ChannelTimeout as silent:
            if within_s >= SILENT_S:  # let the next one reconnect
                self.close()
            raise HostTimeout(
                f"{self.address} did not open a channel within {clock.timeout_s:g} s."
            ) from silent
        except (EOFError, OSError, paramiko.SSHException) as lost:
            self.close()
            raise HostUnreachable(
                f"The connection to {self.address} was lost.", extra={"reason": "lost"}
            ) from lost

    def rest(self, idle_s: float) -> None:
        """Close further connections that nobody has used for so long."""
        self._links.rest(idle_s)

    def close(self) -> None:
        """End the connection and all that runs over it."""
        self._links.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def enter(target: HostTarget, deadlines: Deadlines) -> Wire:
    """A bare connection, verified and logged in, on which the caller opens channels: for jump hosts.

    Raises as :class:`SshConnection`.
    """
    if target.host_key is None:
        raise HostKeyRequired(f"The host key of {target.address} has not been confirmed.")
    return _entered(target, target.host_key, deadlines, lambda _stage: None)


def _entered(
    target: HostTarget, host_key: HostKey, deadlines: Deadlines, stage: Callable[[str], None]
) -> Wire:
    """A connection whose host key was verified and whose user is logged in."""
    wire = _verified(target, host_key, deadlines, stage)
    try:
        stage("authenticate")
        log_in(wire, target, deadlines.auth_s)
    except BaseException:
        wire.shut()
        raise
    wire.set_keepalive(deadlines.keepalive_s)
    return wire


def _verified(
    target: HostTarget, pinned: HostKey, deadlines: Deadlines, on_stage: Callable[[str], None]
) -> Wire:
    try:
        return connect_verified(target, pinned, deadlines, on_stage)
    except NoSuchHostKey:
        # The host was confirmed by a key of a type it no longer has: ask what it shows instead.
        try:
            shown = scan_host_keys(
                target.host,
                target.port,
                rules=target.rules,
                timeout_s=deadlines.handshake_s,
                jump=target.jump,
            )
        except HostError:
            shown = ()
        raise host_key_mismatch(target.address, pinned, shown) from None
