"""Commands over an SSH connection, each on a channel of its own."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Protocol, Self

import paramiko

from nodes.errors import HostTimeout
from nodes.hosts import login_shell, stop_signal
from nodes.hosts.command_frame import CommandFrame, bounded, relayed, watched
from nodes.hosts.deadlines import DEFAULT, Clock
from nodes.hosts.elevation import ASKS, Elevated, Elevation
from nodes.hosts.held_output import HeldOutput
from nodes.hosts.host_budget import HostBudget, Meter
from nodes.hosts.shell import (
    CHUNK,
    MAX_BYTES,
    CommandResult,
    CommandTimeout,
    ConnectionLost,
    Watch,
)
from nodes.hosts.wire import WireChannel

_INLINE_INPUT = 256 << 10
"""Input below this fits the server's first window (2 MiB in OpenSSH), so writing it blocks nobody."""

_GONE = (EOFError, OSError, paramiko.SSHException)

_ERRORS_S = 1.0
"""What standard error may lag behind the end of standard output."""
_SESSION_S = 0.2
"""What the server is given to end a session by itself: sshd counts it until then (MaxSessions)."""
_FOR_EVER_S = float("inf")


class ChannelSlots:
    """The channels that one connection may have open at once."""

    def __init__(self, limit: int) -> None:
        self._free = threading.Semaphore(limit)
        self._lock = threading.Lock()
        self.in_use = 0

    def acquire(self, timeout_s: float) -> bool:
        """Take one, if one becomes free in time."""
        clock = Clock(timeout_s)
        while not self._free.acquire(timeout=stop_signal.slice_of(clock.left)):
            stop_signal.check()
            if clock.passed:
                return False
        with self._lock:
            self.in_use += 1
        return True

    def release(self) -> None:
        with self._lock:
            self.in_use -= 1
        self._free.release()


class ChannelSlot:
    """One channel's place among those of its connection, given back once.

    As a context it gives the place back where no channel came of it.
    """

    def __init__(self, slots: ChannelSlots) -> None:
        self._release: list[Callable[[], None]] = [slots.release]
        self._lock = threading.Lock()
        self._is_held = False

    def on_release(self, work: Callable[[], None]) -> None:
        """Have ``work`` done as well when the place is given back."""
        self._release.append(work)

    def held(self, channel: WireChannel, user: str, address: str) -> HeldChannel:
        self._is_held = True
        return HeldChannel(channel, self.release, user, address)

    def release(self) -> None:
        with self._lock:
            work, self._release = self._release, []
        for release in reversed(work):
            release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._is_held:
            self.release()


class HeldChannel:
    """A channel and the place it takes among those of its connection, given back by ``close``."""

    def __init__(self, channel: WireChannel, release: Callable[[], None], user: str, address: str) -> None:
        self.channel = channel
        self._release = release
        self._user, self._address = user, address

    @property
    def refusal(self) -> str:
        """What the login shell said instead of beginning the command; "" where it has begun, or still may."""
        channel = self.channel
        ended = channel.ended_by_server or channel.closed_by_server
        if channel.started or not (ended or channel.flooded):
            return ""
        result = _result(channel, b"", time.monotonic(), truncated=False, timed_out=True)
        if channel.flooded:
            return login_shell.flooding(self._user, self._address, result).detail()
        return login_shell.refusing(self._user, self._address, channel.exit_status, result).detail()

    def close(self) -> None:
        with contextlib.suppress(*_GONE):
            self.channel.close()
        self._release()


class ExecConnection(Protocol):
    """What a shell needs of its connection."""

    @property
    def user(self) -> str: ...
    @property
    def alive(self) -> bool: ...
    @property
    def address(self) -> str: ...
    @property
    def budget(self) -> HostBudget: ...
    @property
    def sudo_password(self) -> str | None: ...
    def open_exec(self, frame: CommandFrame, timeout_s: float | None = None) -> HeldChannel: ...


class SshShell:
    """Implements :class:`nodes.hosts.shell.Shell` over SSH."""

    def __init__(self, connection: ExecConnection) -> None:
        self._connection = connection
        self.user = connection.user
        self.is_root = connection.user == "root"
        self.elevation = Elevation(self.is_root, connection.sudo_password)

    def run(
        self,
        command: str,
        *,
        stdin: bytes = b"",
        timeout_s: float,
        max_bytes: int = MAX_BYTES,
        sudo: bool = False,
        watch: Watch | None = None,
    ) -> CommandResult:
        started = time.monotonic()
        clock = Clock(timeout_s)
        elevated = self.elevation.of(command) if sudo else Elevated(command)
        frame = bounded(elevated.line)
        held = self._connection.open_exec(frame, timeout_s)
        channel = held.channel
        truncated = timed_out = False
        output = HeldOutput(self._connection.budget, max_bytes, watch)
        stdout = b""
        try:
            # Not before: a start-up file that reads its standard input would swallow the command's.
            await_start(channel, self._connection, clock)
            if clock.passed:
                raise TimeoutError  # without the go-ahead, so that it never runs
            _feed(channel, frame.go_ahead(clock.left) + elevated.typed + stdin, clock)
            truncated = _take(channel, output, clock)
            timed_out = not truncated and not _await_end(channel, clock)
        except TimeoutError:
            timed_out = True
        finally:
            held.close()
            stdout = output.value()
            output.release()
        result = _result(channel, stdout, started, truncated=truncated, timed_out=timed_out)
        if timed_out:
            raise CommandTimeout(
                f"A command on {self._connection.address} did not end within {timeout_s:g} s.", result
            )
        if channel.lost and not truncated and not channel.ended:
            raise ConnectionLost(f"The connection to {self._connection.address} was lost.", result)
        return result

    def stream(self, command: str, *, sudo: bool = False, typed: bytes = b"") -> SshStream:
        elevated = self.elevation.of(command) if sudo else Elevated(command, typed)
        if not elevated.typed:
            frame = watched(command, sudo=sudo and not self.is_root)
            return SshStream(self._connection.open_exec(frame), self._connection)
        clock = Clock(DEFAULT.channel_s)
        held = self._connection.open_exec(watched(elevated.line, typed=True))
        try:
            # Not before: a start-up file that reads its standard input would have the password.
            await_start(held.channel, self._connection, clock)
            type_line(held.channel, elevated.typed, clock)
        except BaseException:
            held.close()
            raise
        return SshStream(held, self._connection)

    def relay(self, command: str, *, timeout_s: float) -> HeldChannel:
        """Start ``command``, which speaks a protocol over its input and output, and give its channel.

        Raises HostTimeout, HostUnreachable, LoginShellUnusable.
        """
        clock = Clock(timeout_s)
        held = self._connection.open_exec(relayed(command), timeout_s)
        try:
            await_start(held.channel, self._connection, clock)
        except BaseException:
            held.close()
            raise
        return held

    def close(self) -> None:
        """The connection stays with whoever opened it."""


class SshStream:
    """Implements :class:`nodes.hosts.shell.CommandStream`; SSH's window holds the host's pipe back."""

    def __init__(self, held: HeldChannel, connection: ExecConnection) -> None:
        self._held = held
        self._channel = held.channel
        self._connection = connection
        self._start = Clock(DEFAULT.channel_s)
        self._meter = Meter(connection.budget)
        self._closing = threading.Event()

    def begin(self, timeout_s: float) -> None:
        await_start(self._channel, self._connection, Clock(timeout_s))

    def read(self, n: int = CHUNK, timeout_s: float | None = None) -> bytes:
        clock = None if timeout_s is None else Clock(timeout_s)
        if not self._channel.started:
            self._await_start(clock)
        if self._meter.rest(timeout_s, self._closing) and clock is not None and clock.passed:
            raise self._nothing(timeout_s)
        try:
            chunk = _receive(self._channel, n, clock)
        except TimeoutError:
            raise self._nothing(timeout_s) from None
        self._meter.count(chunk)
        if not chunk:
            _await_end(self._channel, Clock(5))
            if self._channel.lost and not self._channel.ended:
                lost = CommandResult(None, b"", self.stderr, 0.0)
                raise ConnectionLost(f"The connection to {self._connection.address} was lost.", lost)
        return chunk

    def _await_start(self, clock: Clock | None) -> None:
        sooner = clock is not None and clock.left < self._start.left
        if clock is not None and sooner and not self._channel.decided.wait(clock.left):
            raise self._nothing(clock.timeout_s)
        await_start(self._channel, self._connection, self._start)

    def _nothing(self, timeout_s: float | None) -> HostTimeout:
        return HostTimeout(f"Nothing came from {self._connection.address} within {timeout_s or 0:g} s.")

    @property
    def exit_status(self) -> int | None:
        return self._channel.command_status

    @property
    def stderr(self) -> bytes:
        return bytes(self._channel.errors)

    def close(self) -> None:
        self._closing.set()
        self._held.close()

    def __iter__(self) -> Iterator[bytes]:
        while chunk := self.read():
            yield chunk

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def await_start(channel: WireChannel, connection: ExecConnection, clock: Clock) -> None:
    """Wait until the login shell has begun the command of ``channel``.

    Raises CommandTimeout where it has not in time, ConnectionLost, and LoginShellUnusable where it ended, or
    printed without an end, instead.
    """
    began = time.monotonic()
    stop_signal.wait(channel.decided, clock.left)
    if channel.started:
        return
    result = _result(channel, b"", began, truncated=False, timed_out=True)
    user, address = connection.user, connection.address
    if not channel.decided.is_set():
        raise login_shell.silent(user, address, clock.timeout_s, result)
    if channel.flooded:
        raise login_shell.flooding(user, address, result)
    # Its status, if it has one: a shell whose output goes elsewhere has only ended that.
    channel.status_event.wait(min(clock.left, _ERRORS_S))
    if not channel.ended_by_server and not channel.closed_by_server:
        raise ConnectionLost(f"The connection to {address} was lost.", result)
    raise login_shell.refusing(user, address, channel.exit_status, result)


def _result(
    channel: WireChannel, stdout: bytes, began: float, *, truncated: bool, timed_out: bool
) -> CommandResult:
    return CommandResult(
        None if truncated or timed_out else channel.command_status,
        stdout,
        bytes(channel.errors),
        time.monotonic() - began,
        truncated,
        channel.started,
        channel.outside,
    )


def _await_end(channel: WireChannel, clock: Clock) -> bool:
    """Wait for what comes with the end of standard output: the status, and the rest of standard error."""
    if not channel.ended:
        return channel.status_event.wait(clock.left)
    channel.errors_ended.wait(min(clock.left, _ERRORS_S))
    channel.status_event.wait(min(clock.left, _SESSION_S))
    return True


def type_line(channel: WireChannel, line: bytes, clock: Clock) -> None:
    """Write a line to the command's standard input, which stays open."""
    with contextlib.suppress(*_GONE):
        channel.settimeout(clock.left)
        channel.sendall(line)


def _receive(channel: WireChannel, n: int, clock: Clock | None) -> bytes:
    """What comes next, up to ``n`` bytes. Raises TimeoutError at the deadline, Unwanted."""
    left_s = _FOR_EVER_S if clock is None else clock.left
    while True:
        within_s = stop_signal.slice_of(left_s)
        channel.settimeout(None if within_s == _FOR_EVER_S else max(within_s, 0.001))
        try:
            return channel.recv(n)
        except TimeoutError:
            stop_signal.check()
            left_s = _FOR_EVER_S if clock is None else clock.left
            if not left_s:
                raise


def type_where_asked(channel: WireChannel, line: bytes, clock: Clock) -> None:
    """Write a line to the standard input of an announced command (:meth:`Elevation.announced`) once it has
    said that sudo reads it, and nothing where the command itself would. Raises HostTimeout."""
    said = b""
    while len(said) < len(ASKS):
        try:
            more = _receive(channel, len(ASKS) - len(said), clock)
        except TimeoutError:
            raise HostTimeout(f"sudo did not begin within {clock.timeout_s:g} s.") from None
        if not more:
            return
        said += more
    if said == ASKS:
        type_line(channel, line, clock)


def _feed(channel: WireChannel, stdin: bytes, clock: Clock) -> None:
    def write() -> None:
        # A command that ends without reading all of its input closes the channel under the writer.
        with contextlib.suppress(*_GONE):
            _send_all(channel, stdin, clock)
            channel.shutdown_write()

    if len(stdin) <= _INLINE_INPUT:
        write()
    else:
        threading.Thread(target=write, name="host: input", daemon=True).start()


def _send_all(channel: WireChannel, data: bytes, clock: Clock) -> None:
    """Send all of it before the deadline, however little the host takes at a time. Raises TimeoutError."""
    rest = memoryview(data)
    while rest:
        if clock.passed:
            raise TimeoutError
        channel.settimeout(max(clock.left, 0.001))
        rest = rest[channel.send(rest[:CHUNK].tobytes()) :]


def _take(channel: WireChannel, into: HeldOutput, clock: Clock) -> bool:
    """Read to the end of the output; whether it is not wanted whole.

    Raises TimeoutError, Unwanted, and HostBudgetExceeded where there is no room for more.
    """
    meter, never = Meter(into.budget), threading.Event()
    while True:
        if clock.passed:
            raise TimeoutError
        channel.settimeout(max(stop_signal.slice_of(clock.left), 0.001))
        try:
            chunk = channel.recv(CHUNK)
        except TimeoutError:
            stop_signal.check()
            continue
        if not chunk:
            return False
        meter.count(chunk)
        if not into.add(chunk, clock.left):
            return True
        stop_signal.check()
        meter.rest(clock.left, never)
