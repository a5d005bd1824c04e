"""A connection to a host: a shell and libvirt behind one object, whatever lies between."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self

from nodes.errors import HostTimeout, HostUnreachable, ProbeFailed
from nodes.hosts.deadlines import DEFAULT, Clock, Deadlines
from nodes.hosts.host_budget import budgets
from nodes.hosts.hypervisor import Hypervisor, open_direct, open_over_ssh
from nodes.hosts.local import LocalShell
from nodes.hosts.localfeed import LocalFeed
from nodes.hosts.pool import ConnectionPool
from nodes.hosts.shell import Shell
from nodes.hosts.ssh import SshConnection
from nodes.hosts.target import HostKey, HostTarget
from nodes.hosts.wire import Sink

__all__ = ["ConnectionPool", "HostConnection", "Stage", "connect"]

Stage = Callable[[str], None]
"""Told each stage as it begins: ``host_key``, ``authenticate`` (``reach`` has begun by itself)."""


class Feed(Protocol):
    """A command whose output goes to a sink."""

    @property
    def refusal(self) -> str:
        """Why the login shell did not begin it, in words; "" where it did, or where that is not known."""
        ...

    def close(self) -> None: ...


def connect(
    target: HostTarget, deadlines: Deadlines = DEFAULT, *, on_stage: Stage | None = None
) -> HostConnection:
    """A new connection to ``target``, which the caller closes (it is a context manager).

    Over SSH it is verified and authenticated when this returns; libvirt is opened at its first use. Raises
    HostKeyRequired, HostUnreachable, HostTimeout, HostKeyMismatch, AuthenticationFailed.
    """
    ssh = SshConnection(target, deadlines, on_stage=on_stage) if target.transport == "ssh" else None
    return HostConnection(target, deadlines, ssh)


class HostConnection:
    """What one can do with a host. Safe to use from several threads at once."""

    def __init__(self, target: HostTarget, deadlines: Deadlines, ssh: SshConnection | None) -> None:
        self.key = target.key
        self.transport = target.transport
        self.address = target.address
        self.deadlines = deadlines
        self._uri = target.libvirt_uri
        self._ssh = ssh
        self._hypervisor: Hypervisor | None = None
        self._opening = threading.Lock()
        self._closed = False
        self.budget = budgets.of(target.budget_key, target.address)
        local = target.transport == "local"
        self._local = LocalShell(self.budget, target.sudo_password) if local else None
        self._last_used = time.monotonic()

    def touch(self) -> None:
        """Note that somebody works with it."""
        self._last_used = time.monotonic()

    @property
    def last_used(self) -> float:
        """When it was last worked with, on the monotonic clock."""
        hypervisor = self._hypervisor
        return max(self._last_used, hypervisor.last_used if hypervisor else 0.0)

    @property
    def user(self) -> str:
        """The user on the host, "" where there is no shell."""
        return self.shell.user if self.has_shell else ""

    @property
    def has_shell(self) -> bool:
        return self.transport != "test"

    @property
    def shell(self) -> Shell:
        """Raises ProbeFailed for a test node, behind which there is no machine."""
        self.touch()
        if self._ssh is not None:
            return self._ssh.shell
        if self._local is not None:
            return self._local
        raise ProbeFailed("A node of libvirt's test driver has no shell.")

    def follow(self, command: str, sink: Sink) -> Feed:
        """Run ``command``, which may run for ever, and hand its output to ``sink`` as it comes.

        Over SSH this costs no thread: ``sink`` is called in the connection's own. ``close`` of what is given
        ends it. Raises ProbeFailed for a test node, HostTimeout, HostUnreachable.
        """
        self.touch()
        if self._ssh is not None:
            return self._ssh.open_feed(command, sink)
        if self._local is not None:
            return LocalFeed(self._local.stream(command), sink)
        raise ProbeFailed("A node of libvirt's test driver has no shell.")

    def enter_with(self, target: HostTarget) -> None:
        """Enter the host by ``target`` from now on, where a further SSH connection is needed: the credential
        that this one was opened with is kept no longer. Its address and host key have to be the same."""
        if self._ssh is not None:
            self._ssh.enter_with(target)

    @property
    def login_key(self) -> HostKey | None:
        """The public half of the key by which nodeadmin was let in; None for a password and without SSH."""
        return self._ssh.login_key if self._ssh is not None else None

    @property
    def server_version(self) -> str:
        """How the host's SSH server greets; "" without SSH."""
        return self._ssh.server_version if self._ssh is not None else ""

    @property
    def ssh_connections(self) -> int:
        """How many SSH connections lead to the host: more than one where it allows few sessions in each."""
        return self._ssh.connections if self._ssh is not None else 0

    @property
    def alive(self) -> bool:
        return not self._closed and (self._ssh is None or self._ssh.alive)

    @property
    def busy(self) -> bool:
        """Whether something runs over it right now; an open libvirt that nobody calls is nothing."""
        hypervisor = self._hypervisor
        if hypervisor is not None and hypervisor.busy:
            return True
        return self._ssh is not None and self._ssh.open_channels > (1 if hypervisor else 0)

    def hypervisor(self, timeout_s: float | None = None) -> Hypervisor:
        """libvirt of the host, opened at the first call and again whenever it was lost.

        Raises LibvirtUnavailable, InsufficientRightsOnHost, HostTimeout, HostUnreachable.
        """
        self.touch()
        clock = Clock(self.deadlines.libvirt_s if timeout_s is None else timeout_s)
        if not self._opening.acquire(timeout=clock.timeout_s):
            raise HostTimeout(f"Opening libvirt on {self.address} did not end within {clock.timeout_s:g} s.")
        try:
            if self._closed:
                raise HostUnreachable(
                    f"The connection to {self.address} is closed.", extra={"reason": "lost"}
                )
            known = self._hypervisor
            if known is not None and known.alive:
                known.touch()
                return known
            if known is not None:
                known.close()
                self._hypervisor = None
            if self._ssh is not None:
                opened = open_over_ssh(self._ssh, self._uri, clock.left)
            else:
                opened = open_direct(self._uri, self.address, clock.left, self.budget)
            self._hypervisor = opened
            return opened
        finally:
            self._opening.release()

    def rest(self, idle_s: float) -> None:
        """Close libvirt where nobody has called it for so long, and further SSH connections; the first stays.

        A daemon pings each open client every five seconds (keepalive_interval in libvirtd.conf), which a
        thousand idle hosts would make two hundred wake-ups a second of ours.
        """
        if self._ssh is not None:
            self._ssh.rest(idle_s)
        hypervisor = self._hypervisor
        if hypervisor is None or hypervisor.busy or time.monotonic() - hypervisor.last_used < idle_s:
            return
        if self._opening.acquire(blocking=False):
            try:
                if self._hypervisor is hypervisor and not hypervisor.busy:
                    self._hypervisor = None
                    hypervisor.close()
            finally:
                self._opening.release()

    def close(self) -> None:
        """End it and all that runs over it."""
        self._closed = True
        hypervisor, self._hypervisor = self._hypervisor, None
        if hypervisor is not None:
            hypervisor.close()
        if self._ssh is not None:
            self._ssh.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
