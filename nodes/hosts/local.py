"""A shell on this machine: subprocesses in their own process group, killed at their deadline."""

from __future__ import annotations

import contextlib
import os
import pwd
import selectors
import signal
import subprocess
import time
from collections.abc import Iterator
from types import TracebackType
from typing import IO, Self

from nodes.errors import HostTimeout
from nodes.hosts.deadlines import Clock
from nodes.hosts.shell import (
    CHUNK,
    MAX_BYTES,
    MAX_STDERR,
    CommandResult,
    CommandTimeout,
    watched_command,
    with_sudo,
)

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""smartctl and its like are in sbin, which the path of an unprivileged server lacks."""


class LocalShell:
    """Implements :class:`nodes.hosts.shell.Shell` for this machine."""

    def __init__(self) -> None:
        try:
            self.user = pwd.getpwuid(os.geteuid()).pw_name
        except KeyError:  # a container's user without an entry
            self.user = str(os.geteuid())
        self.is_root = os.geteuid() == 0

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
        process = _start(with_sudo(command, sudo=sudo, is_root=self.is_root), stdin=subprocess.PIPE)
        clock = Clock(timeout_s)
        exchange = _Exchange(process, stdin, max_bytes)
        try:
            ended = exchange.until(clock) and (exchange.truncated or _exited_within(process, clock.left))
        finally:
            _end(process)
        result = CommandResult(
            process.returncode if ended and not exchange.truncated and process.returncode >= 0 else None,
            bytes(exchange.stdout),
            bytes(exchange.stderr),
            time.monotonic() - started,
            exchange.truncated,
        )
        if not ended:
            raise CommandTimeout(f"A command did not end within {timeout_s:g} s.", result)
        return result

    def stream(self, command: str, *, sudo: bool = False) -> LocalStream:
        # Its standard input is ours to hold: should this process be killed, the command ends as well.
        line = watched_command(command, sudo=sudo and not self.is_root)
        return LocalStream(_start(line, stdin=subprocess.PIPE))

    def close(self) -> None:
        """Nothing is kept open."""


class LocalStream:
    """Implements :class:`nodes.hosts.shell.CommandStream` over a subprocess's pipes."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._stderr = bytearray()
        self._selector = selectors.DefaultSelector()
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                os.set_blocking(pipe.fileno(), False)
                self._selector.register(pipe, selectors.EVENT_READ)

    def read(self, n: int = CHUNK, timeout_s: float | None = None) -> bytes:
        clock = Clock(timeout_s) if timeout_s is not None else None
        while self._selector.get_map():
            ready = self._selector.select(clock.left if clock else None)
            if not ready and clock and clock.passed:
                raise HostTimeout(f"Nothing came within {timeout_s:g} s.")
            for key, _ in sorted(ready, key=lambda item: item[0].fileobj is self._process.stdout):
                chunk = os.read(key.fd, n)
                if not chunk:
                    self._selector.unregister(key.fileobj)
                elif key.fileobj is self._process.stdout:
                    return chunk
                else:
                    self._stderr += chunk[: MAX_STDERR - len(self._stderr)]
        if self._process.returncode is None and _exited_within(self._process, clock.left if clock else 5):
            _end(self._process)
        return b""

    @property
    def exit_status(self) -> int | None:
        status = self._process.returncode
        return status if status is not None and status >= 0 else None

    @property
    def stderr(self) -> bytes:
        return bytes(self._stderr)

    def close(self) -> None:
        self._selector.close()
        _end(self._process)

    def __iter__(self) -> Iterator[bytes]:
        while chunk := self.read():
            yield chunk

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Exchange:
    """Feeds a process its input and takes its outputs side by side, so that neither blocks the other."""

    def __init__(self, process: subprocess.Popen[bytes], stdin: bytes, max_bytes: int) -> None:
        self.stdout, self.stderr = bytearray(), bytearray()
        self.truncated = False
        self._max_bytes = max_bytes
        self._input = memoryview(stdin)
        self._process = process
        self._selector = selectors.DefaultSelector()
        for pipe, events in (
            (process.stdin, selectors.EVENT_WRITE),
            (process.stdout, selectors.EVENT_READ),
            (process.stderr, selectors.EVENT_READ),
        ):
            if pipe is not None:
                os.set_blocking(pipe.fileno(), False)
                self._selector.register(pipe, events)

    def until(self, clock: Clock) -> bool:
        """Whether both outputs ended (or the bound was reached) before the deadline."""
        with self._selector:
            while self._selector.get_map():
                if clock.passed:
                    return False
                for key, _ in self._selector.select(clock.left):
                    pipe = key.fileobj
                    done = self._write(key.fd) if pipe is self._process.stdin else self._read(key.fd, pipe)
                    if self.truncated:
                        return True
                    if done:
                        self._selector.unregister(pipe)
                        if pipe is self._process.stdin:
                            self._process.stdin.close()
        return True

    def _write(self, fd: int) -> bool:
        try:
            written = os.write(fd, self._input[:CHUNK]) if self._input else 0
        except BrokenPipeError:  # the command ended without reading all
            return True
        self._input = self._input[written:]
        return not self._input

    def _read(self, fd: int, pipe: object) -> bool:
        chunk = os.read(fd, CHUNK)
        if pipe is self._process.stderr:
            self.stderr += chunk[: MAX_STDERR - len(self.stderr)]
        else:
            room = self._max_bytes - len(self.stdout)
            self.stdout += chunk[:room]
            self.truncated = len(chunk) > room
        return not chunk


def _start(command: str, *, stdin: int) -> subprocess.Popen[bytes]:
    environment = {name: os.environ[name] for name in ("HOME", "LANG", "TMPDIR") if name in os.environ}
    return subprocess.Popen(
        ["/bin/sh", "-c", command],
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # The server's own environment holds its secrets; a command on the local node gets none of them.
        env=environment | {"PATH": _PATH},
        cwd="/",
        start_new_session=True,
    )


def _exited_within(process: subprocess.Popen[bytes], timeout_s: float) -> bool:
    """Whether the process ends in time. It is not reaped, so its number stays its own (pidfd_open(2))."""
    descriptor = os.pidfd_open(process.pid)
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(descriptor, selectors.EVENT_READ)
            return bool(selector.select(timeout_s))
    finally:
        os.close(descriptor)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill the whole group (what a command left behind included), reap it and close the pipes.

    Not after it was reaped: the number may then be another process's.
    """
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(2)
    pipes: tuple[IO[bytes] | None, ...] = (process.stdin, process.stdout, process.stderr)
    for pipe in pipes:
        if pipe is not None:
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
