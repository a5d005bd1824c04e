"""Commands over an SSH connection, each on a channel of its own."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Protocol, Self

import paramiko

from nodes.errors import HostTimeout
from nodes.hosts.deadlines import Clock
from nodes.hosts.shell import (
    CHUNK,
    MAX_BYTES,
    CommandResult,
    CommandTimeout,
    ConnectionLost,
    bounded_command,
    watched_command,
    with_sudo,
)
from nodes.hosts.wire import WireChannel

_INLINE_INPUT = 256 << 10
"""Input below this fits the server's first window (2 MiB in OpenSSH), so writing it blocks nobody."""

_GONE = (EOFError, OSError, paramiko.SSHException)


class ChannelSlots:
    """The channels that one connection may have open at once."""

    def __init__(self, limit: int) -> None:
        self._free = threading.Semaphore(limit)
        self._lock = threading.Lock()
        self.in_use = 0

    def acquire(self, timeout_s: float) -> bool:
        """Take one, if one becomes free in time."""
        if not self._free.acquire(timeout=timeout_s):
            return False
        with self._lock:
            self.in_use += 1
        return True

    def release(self) -> None:
        with self._lock:
            self.in_use -= 1
        self._free.release()


class HeldChannel:
    """A channel and the place it takes among those of its connection, given back once by ``close``."""

    def __init__(self, channel: WireChannel, slots: ChannelSlots) -> None:
        self.channel = channel
        self._slots: ChannelSlots | None = slots
        self._lock = threading.Lock()

    def close(self) -> None:
        with contextlib.suppress(*_GONE):
            self.channel.close()
        with self._lock:
            slots, self._slots = self._slots, None
        if slots is not None:
            slots.release()


class ExecConnection(Protocol):
    """What a shell needs of its connection."""

    @property
    def user(self) -> str: ...
    @property
    def alive(self) -> bool: ...
    @property
    def address(self) -> str: ...
    def open_exec(self, command: str, timeout_s: float | None = None) -> HeldChannel: ...


class SshShell:
    """Implements :class:`nodes.hosts.shell.Shell` over SSH."""

    def __init__(self, connection: ExecConnection) -> None:
        self._connection = connection
        self.user = connection.user
        self.is_root = connection.user == "root"

    def run(
        self,
        command: str,
        *,
        stdin: bytes = b"",
        timeout_s: float,
        max_bytes: int = MAX_BYTES,
        sudo: bool = False,
    ) -> CommandResult:
        started = time.monotonic()
        clock = Clock(timeout_s)
        line = bounded_command(with_sudo(command, sudo=sudo, is_root=self.is_root), timeout_s)
        held = self._connection.open_exec(line, timeout_s)
        channel = held.channel
        stdout = bytearray()
        truncated = timed_out = lost = False
        try:
            _feed(channel, stdin, clock)
            truncated = _take(channel, stdout, max_bytes, clock)
            timed_out = not truncated and not channel.status_event.wait(clock.left)
            lost = channel.lost
        except TimeoutError:
            timed_out = True
        finally:
            held.close()
        status = channel.exit_status
        result = CommandResult(
            status if status >= 0 and not truncated and not timed_out else None,
            bytes(stdout),
            bytes(channel.errors),
            time.monotonic() - started,
            truncated,
        )
        if timed_out:
            raise CommandTimeout(
                f"A command on {self._connection.address} did not end within {timeout_s:g} s.", result
            )
        if lost and not truncated:
            raise ConnectionLost(f"The connection to {self._connection.address} was lost.", result)
        return result

    def stream(self, command: str, *, sudo: bool = False) -> SshStream:
        line = watched_command(command, sudo=sudo and not self.is_root)
        return SshStream(self._connection.open_exec(line), self._connection)

    def close(self) -> None:
        """The connection stays with whoever opened it."""


class SshStream:
    """Implements :class:`nodes.hosts.shell.CommandStream`; SSH's window holds the host's pipe back."""

    def __init__(self, held: HeldChannel, connection: ExecConnection) -> None:
        self._held = held
        self._channel = held.channel
        self._connection = connection

    def read(self, n: int = CHUNK, timeout_s: float | None = None) -> bytes:
        self._channel.settimeout(timeout_s)
        try:
            chunk = self._channel.recv(n)
        except TimeoutError:
            raise HostTimeout(
                f"Nothing came from {self._connection.address} within {timeout_s:g} s."
            ) from None
        if not chunk:
            self._channel.status_event.wait(5)
            if self._channel.lost:
                lost = CommandResult(None, b"", self.stderr, 0.0)
                raise ConnectionLost(f"The connection to {self._connection.address} was lost.", lost)
        return chunk

    @property
    def exit_status(self) -> int | None:
        return self._channel.exit_status if self._channel.exit_status >= 0 else None

    @property
    def stderr(self) -> bytes:
        return bytes(self._channel.errors)

    def close(self) -> None:
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


def _feed(channel: WireChannel, stdin: bytes, clock: Clock) -> None:
    def write() -> None:
        # A command that ends without reading all of its input closes the channel under the writer.
        with contextlib.suppress(*_GONE):
            channel.settimeout(clock.left)
            channel.sendall(stdin)
            channel.shutdown_write()

    if len(stdin) <= _INLINE_INPUT:
        write()
    else:
        threading.Thread(target=write, name="host: input", daemon=True).start()


def _take(channel: WireChannel, into: bytearray, max_bytes: int, clock: Clock) -> bool:
    """Read to the end of the output; whether it was longer than the bound. Raises TimeoutError."""
    while True:
        if clock.passed:
            raise TimeoutError
        channel.settimeout(max(clock.left, 0.001))
        chunk = channel.recv(CHUNK)
        if not chunk:
            return False
        room = max_bytes - len(into)
        into += chunk[:room]
        if len(chunk) > room:
            return True
