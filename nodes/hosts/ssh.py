"""SSH to a host: the host key first, then the user, then channels; each step under its own deadline."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

import paramiko

from nodes.errors import HostKeyRequired, HostTimeout, HostUnreachable
from nodes.hosts.command_frame import CommandFrame, relayed
from nodes.hosts.deadlines import DEFAULT, Clock, Deadlines
from nodes.hosts.handshake import connect_verified, scan_host_keys
from nodes.hosts.login import DEFAULT_USER, log_in
from nodes.hosts.sshshell import ChannelSlots, HeldChannel, SshShell, SshStream
from nodes.hosts.target import HostTarget
from nodes.hosts.wire import ChannelRefused, ChannelTimeout, Sink, WireChannel

__all__ = ["ChannelRefused", "SshConnection", "SshShell", "SshStream", "scan_host_keys"]

MAX_CHANNELS = 8
"""At once on one connection. sshd allows ten sessions (MaxSessions); two are left for those it is closing."""

_RETRY_S = 0.05


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
        self._deadlines = deadlines
        self._slots = ChannelSlots(MAX_CHANNELS)
        self._wire = connect_verified(target, target.host_key, deadlines, stage)
        try:
            stage("authenticate")
            log_in(self._wire, target, deadlines.auth_s)
        except BaseException:
            self._wire.shut()
            raise
        self._wire.set_keepalive(deadlines.keepalive_s)

    @property
    def alive(self) -> bool:
        """Whether the connection stands, as far as one can tell without sending something."""
        return self._wire.is_active()

    @property
    def open_channels(self) -> int:
        """How many channels are in use."""
        return self._slots.in_use

    @property
    def shell(self) -> SshShell:
        return SshShell(self)

    def open_exec(self, frame: CommandFrame, timeout_s: float | None = None) -> HeldChannel:
        """Run a framed command on a channel of its own. Raises HostTimeout, HostUnreachable."""
        wait_s = self._deadlines.channel_s if timeout_s is None else timeout_s
        return self._held(lambda left: self._wire.open_exec(frame, left), wait_s, retry_refused=True)

    def open_feed(self, command: str, sink: Sink) -> HeldChannel:
        """Run a command whose output goes to ``sink``, without a thread of its own to read it.

        Nobody waits for its beginning; where it never begins, ``refusal`` of what is given says why. Raises
        HostTimeout, HostUnreachable.
        """
        frame = relayed(command)
        return self._held(
            lambda left: self._wire.open_exec(frame, left, sink),
            self._deadlines.channel_s,
            retry_refused=True,
        )

    def open_unix(self, path: str, timeout_s: float | None = None) -> HeldChannel:
        """A channel to a Unix socket on the host, with the user's rights on it.

        Raises ChannelRefused when the socket is not there, may not be opened, or forwarding is forbidden
        (OpenSSH does not say which), HostTimeout, HostUnreachable.
        """
        wait_s = self._deadlines.channel_s if timeout_s is None else timeout_s
        return self._held(lambda left: self._wire.open_streamlocal(path, left), wait_s, retry_refused=False)

    def _held(
        self, opener: Callable[[float], WireChannel], timeout_s: float, *, retry_refused: bool
    ) -> HeldChannel:
        clock = Clock(timeout_s)
        if not self._slots.acquire(timeout_s):
            raise HostTimeout(
                f"All {MAX_CHANNELS} channels to {self.address} were busy for {timeout_s:g} s.",
                extra={"reason": "channels_busy"},
            )
        try:
            channel = self._opened(opener, clock, retry_refused=retry_refused)
            return HeldChannel(channel, self._slots, self.user, self.address)
        except BaseException:
            self._slots.release()
            raise

    def _opened(
        self, opener: Callable[[float], WireChannel], clock: Clock, *, retry_refused: bool
    ) -> WireChannel:
        refused: ChannelRefused | None = None
        while refused is None or clock.left > _RETRY_S:
            try:
                return opener(clock.left)
            except ChannelRefused as answer:
                # sshd counts a session until its process is gone, a moment longer than we do.
                if not retry_refused:
                    raise
                refused = answer
                time.sleep(_RETRY_S)
            except ChannelTimeout as silent:
                if refused is not None:
                    break
                # A server that does not answer this at once answers nothing: let the next one reconnect.
                self.close()
                raise HostTimeout(
                    f"{self.address} did not open a channel within {clock.timeout_s:g} s."
                ) from silent
            except (EOFError, OSError, paramiko.SSHException) as lost:
                self.close()
                raise HostUnreachable(
                    f"The connection to {self.address} was lost.", extra={"reason": "lost"}
                ) from lost
        raise HostUnreachable(
            f"{self.address} opens no session: it has reached MaxSessions, or may not start a process.",
            extra={"reason": "no_session"},
        ) from refused

    def close(self) -> None:
        """End the connection and all that runs over it."""
        self._wire.shut()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
