"""libvirt on a host: opened over the connection that stands already, each call under a deadline."""

from __future__ import annotations

import shlex
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar
from urllib.parse import quote

import libvirt

from nodes.errors import HostTimeout, InsufficientRightsOnHost, LibvirtUnavailable
from nodes.hosts import eventloop
from nodes.hosts.bridge import Bridge
from nodes.hosts.deadlines import Clock, run_within
from nodes.hosts.elevation import Elevated
from nodes.hosts.host_budget import HostBudget, budgets
from nodes.hosts.libvirt_errors import ASKS_FOR_LOGIN, JOIN_GROUP, senseless, translate
from nodes.hosts.sshshell import HeldChannel, SshShell, type_where_asked
from nodes.hosts.wire import ChannelRefused

T = TypeVar("T")

SOCKETS = ("/run/libvirt/virtqemud-sock", "/run/libvirt/libvirt-sock")
"""The modular daemon's socket and the monolithic one's (https://libvirt.org/daemons.html)."""

KEEPALIVE_S = 20
KEEPALIVE_COUNT = 3
"""Calls have deadlines of their own; this only finds out what died while nobody called."""
CALL_S = 15.0


class Hypervisor:
    """An open connection to a host's libvirt. Safe to use from several threads at once."""

    def __init__(
        self,
        connection: libvirt.virConnect,
        address: str,
        bridge: Bridge | None = None,
        *,
        reopen: Callable[[float], Hypervisor],
        budget: HostBudget | None = None,
    ) -> None:
        self.budget = budget or budgets.of(address)
        self._connection: libvirt.virConnect | None = connection
        self._bridge = bridge
        self._reopen = reopen
        self._lock = threading.Lock()
        self._calls = 0
        self.address = address
        self.last_used = time.monotonic()

    @property
    def busy(self) -> bool:
        """Whether a call is under way."""
        return self._calls > 0

    @property
    def alive(self) -> bool:
        """Whether the connection stands, without asking the host."""
        connection = self._connection
        try:
            return connection is not None and connection.isAlive() == 1
        except libvirt.libvirtError:
            return False

    def run(
        self,
        work: Callable[[libvirt.virConnect], T],
        *,
        what: str,
        timeout_s: float = CALL_S,
        drop: bool = True,
    ) -> T:
        """Call libvirt within ``work`` and give its result.

        Raises HostTimeout at the deadline; the connection is then dropped, so that whatever hangs on it ends
        (with ``drop`` False it stays, for calls that are known to be slow). Raises HostBudgetExceeded where
        too many calls hang on the host already, LibvirtUnavailable,
        InsufficientRightsOnHost or LibvirtCallFailed for libvirt's errors.
        """
        connection = self._connection
        if connection is None:
            raise LibvirtUnavailable(f"The connection to libvirt on {self.address} is closed.")
        self._count(1)
        try:
            return in_thread(
                self.budget, lambda: _held(connection, work), timeout_s, f"{what} on {self.address}"
            )
        except libvirt.libvirtError as error:
            # Its frames hold libvirt's objects, whose end, in whatever thread, is a call to the host.
            if self._bridge is not None and self._bridge.flaw:
                raise senseless(self._bridge.flaw, self.address) from None
            raise translate(error, what, self.address) from error.with_traceback(None)
        except HostTimeout:
            if drop:
                self.close()
            raise
        finally:
            self._count(-1)

    def another(self, timeout_s: float = CALL_S) -> Hypervisor:
        """A further connection to the same libvirt, opened in the same way; the caller closes it.

        For what takes long. libvirt's client may leave a call waiting, unsent, as long as another thread's
        call on the same connection waits for its answer (it loses the wake-up; seen with 9.0). Raises as
        opening does.
        """
        return self._reopen(timeout_s)

    def run_apart(self, work: Callable[[libvirt.virConnect], T], *, what: str, timeout_s: float) -> T:
        """:meth:`run` over a connection of its own, for what may take seconds."""
        line = self.another()
        try:
            return line.run(work, what=what, timeout_s=timeout_s)
        finally:
            line.close()

    @contextmanager
    def borrowed(self) -> Iterator[libvirt.virConnect]:
        """The connection itself, for a call that two hosts take part in; its deadline is the borrower's.

        libvirt does not end it of its own accord meanwhile, by keep-alives that stay unanswered. Raises
        LibvirtUnavailable.
        """
        connection = self._connection
        if connection is None:
            raise LibvirtUnavailable(f"The connection to libvirt on {self.address} is closed.")
        self._count(1)
        hold = connection.newStream()
        try:
            connection.setKeepAlive(0, 0)
            yield connection
        finally:
            del hold
            self._count(-1)

    def on_loss(self, listener: Callable[[], None]) -> None:
        """Have ``listener`` called when the connection ends, before libvirt learns of it.

        Only where the connection goes over a bridge of ours: to this machine's own libvirt it does not.
        """
        if self._bridge is not None:
            self._bridge.on_loss.append(listener)

    def touch(self) -> None:
        """Note that somebody is about to call it."""
        self.last_used = time.monotonic()

    def _count(self, change: int) -> None:
        with self._lock:
            self._calls += change
            self.last_used = time.monotonic()

    def version_text(self) -> str:
        """libvirt's version on the host, as ``9.0.0``."""
        number: int = self.run(lambda connection: connection.getLibVersion(), what="Asking libvirt's version")
        return f"{number // 1_000_000}.{number // 1000 % 1000}.{number % 1000}"

    def cut(self) -> None:
        """End the connection at once, without a farewell: when this returns, nothing more reaches the host.

        Without a bridge of ours (this machine's own libvirt) it is the same as :meth:`close`.
        """
        if self._bridge is not None:
            self._bridge.close()
        self.close()

    def close(self) -> None:
        """End the connection, without waiting for the host."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        threading.Thread(
            target=_bury, args=([connection], self._bridge), name="host: libvirt close", daemon=True
        ).start()


def in_thread(budget: HostBudget, work: Callable[[], T], timeout_s: float, what: str) -> T:
    """:func:`run_within`, with the thread drawn from the host's budget for as long as the call lasts."""
    clock = Clock(timeout_s)
    budget.take("threads", timeout_s=timeout_s)
    return run_within(work, clock.left, what, on_end=lambda: budget.give_back("threads"))


def _held(connection: libvirt.virConnect, work: Callable[[libvirt.virConnect], T]) -> T:
    """Work with a connection that another thread may close meanwhile.

    A call of libvirt takes no reference of its own to its connection, and one that was abandoned would come
    back to freed memory; a stream, which costs no round trip, holds one.
    """
    hold = connection.newStream()
    try:
        return work(connection)
    finally:
        del hold


def _bury(coffin: list[libvirt.virConnect], bridge: Bridge | None) -> None:
    """Close a connection where nobody waits: the call sends a farewell and may hang on the answer.

    Its last reference has to end in this thread as well, for the object closes itself when it is collected.
    """

    def farewell() -> None:
        try:
            coffin[0].close()
        except libvirt.libvirtError:  # gone already
            pass

    try:
        run_within(farewell, 2.0, "Closing libvirt")
    except HostTimeout:
        pass
    if bridge is not None:
        bridge.close()
    coffin.clear()


class TunnelConnection(Protocol):
    """What is needed of an SSH connection to reach libvirt over it."""

    @property
    def address(self) -> str: ...
    @property
    def shell(self) -> SshShell: ...
    @property
    def budget(self) -> HostBudget: ...
    def open_unix(self, path: str, timeout_s: float | None = None) -> HeldChannel: ...


def open_direct(uri: str, address: str, timeout_s: float, budget: HostBudget | None = None) -> Hypervisor:
    """libvirt of this machine, or its test driver."""
    budget = budget or budgets.of(address)
    return Hypervisor(
        _open(uri, address, timeout_s, budget),
        address,
        reopen=lambda limit_s: open_direct(uri, address, limit_s, budget),
        budget=budget,
    )


def open_over_ssh(ssh: TunnelConnection, uri: str, timeout_s: float) -> Hypervisor:
    """libvirt at the other end of ``ssh``: its socket if the server forwards to it, else virt-ssh-helper.

    Raises LibvirtUnavailable where no libvirt runs, InsufficientRightsOnHost where it may not be reached,
    HostTimeout, HostUnreachable.
    """
    clock = Clock(timeout_s)
    for path in SOCKETS:
        try:
            held = ssh.open_unix(path, clock.left)
        except ChannelRefused:
            continue
        try:
            return _open_bridged(held, ssh, uri, clock)
        except InsufficientRightsOnHost as refused:
            if ssh.shell.is_root or refused.extra.get("reason") == ASKS_FOR_LOGIN:
                raise
            return _open_by_helper(ssh, uri, clock, sudo=True)
    return _open_elsewise(ssh, uri, clock)


def _open_elsewise(ssh: TunnelConnection, uri: str, clock: Clock) -> Hypervisor:
    """No socket could be forwarded to. Find out why, and take the way that is left."""
    tests = "; ".join(f'[ -S {path} ] && echo "socket"; [ -w {path} ] && echo "writable"' for path in SOCKETS)
    command = f"{tests}; command -v virt-ssh-helper >/dev/null && echo helper; :"
    found = set(ssh.shell.run(command, timeout_s=clock.left).stdout.decode("ascii", "replace").split())
    if "socket" not in found:
        raise LibvirtUnavailable(
            f"{ssh.address} has no libvirt socket ({' or '.join(SOCKETS)}).",
            remedy="Install libvirt-daemon-system on the host, or start it: systemctl start libvirtd.",
        )
    if "helper" not in found and "writable" in found:
        raise InsufficientRightsOnHost(
            f"sshd on {ssh.address} forwards to no Unix socket, and virt-ssh-helper is not installed.",
            remedy="Set AllowStreamLocalForwarding to yes for this user, or install libvirt-clients.",
        )
    if "writable" in found:
        return _open_by_helper(ssh, uri, clock, sudo=False)
    return _open_by_helper(ssh, uri, clock, sudo=True)


def _open_by_helper(ssh: TunnelConnection, uri: str, clock: Clock, *, sudo: bool) -> Hypervisor:
    """libvirt through ``virt-ssh-helper`` on the host (https://libvirt.org/uri.html, proxy=native)."""
    as_root = sudo and not ssh.shell.is_root
    helper = f"virt-ssh-helper {shlex.quote(uri)}"
    elevated = ssh.shell.elevation.announced(helper) if sudo else Elevated(f"exec {helper}")
    held = ssh.shell.relay(elevated.line, timeout_s=clock.left)
    channel = held.channel
    if elevated.typed:
        try:
            type_where_asked(channel, elevated.typed, clock)
        except BaseException:
            held.close()
            raise
    try:
        return _open_bridged(held, ssh, uri, clock)
    except HostTimeout as error:
        if b"try again" not in bytes(channel.errors):
            raise
        raise InsufficientRightsOnHost(
            f"sudo on {ssh.address} does not take the stored sudo password of “{ssh.shell.user}”.",
            remedy="Store the user's password there as the credential's sudo password.",
        ) from error
    except (LibvirtUnavailable, InsufficientRightsOnHost) as error:
        if error.extra.get("reason") == ASKS_FOR_LOGIN:
            raise
        channel.status_event.wait(min(1.0, clock.left))
        said = bytes(channel.errors).decode("utf-8", errors="replace")
        if "Connection refused" in said or "No such file" in said:
            raise LibvirtUnavailable(
                f"libvirt on {ssh.address} does not run: nothing listens at its socket.",
                remedy="Start it on the host: systemctl start libvirtd (or virtqemud).",
            ) from error
        raise InsufficientRightsOnHost(
            f"The user “{ssh.shell.user}” may not reach libvirt on {ssh.address}"
            + (", and may not run virt-ssh-helper through sudo -n either." if as_root else "."),
            remedy=JOIN_GROUP,
        ) from error


def _open_bridged(held: HeldChannel, ssh: TunnelConnection, uri: str, clock: Clock) -> Hypervisor:
    address = ssh.address
    try:
        bridge = Bridge(held, clock.left, ssh.budget)
    except OSError as error:
        held.close()
        raise LibvirtUnavailable(
            f"This server could not make a socket of its own: {error.strerror}."
        ) from error
    scheme, _, path = uri.partition("://")
    try:
        connection = _open(
            f"{scheme}+unix://{path}?socket={quote(bridge.path)}", address, clock.left, ssh.budget
        )
    except BaseException as error:
        bridge.close()
        if bridge.flaw and isinstance(error, LibvirtUnavailable):
            raise senseless(bridge.flaw, address) from None
        raise
    return Hypervisor(
        connection,
        address,
        bridge,
        reopen=lambda limit_s: open_over_ssh(ssh, uri, limit_s),
        budget=ssh.budget,
    )


def _open(uri: str, address: str, timeout_s: float, budget: HostBudget) -> libvirt.virConnect:
    eventloop.ensure_running()

    def work() -> libvirt.virConnect:
        connection = libvirt.open(uri)
        # The test driver has no peer to keep alive and says so by an exception.
        if not uri.startswith("test:"):
            connection.setKeepAlive(KEEPALIVE_S, KEEPALIVE_COUNT)
        return connection

    try:
        return in_thread(budget, work, timeout_s, f"Opening libvirt on {address}")
    except libvirt.libvirtError as error:
        failure = translate(error, "Opening libvirt", address)
        if type(failure) in (LibvirtUnavailable, InsufficientRightsOnHost):
            raise failure from error
        raise LibvirtUnavailable(failure.message, remedy=failure.remedy) from error
