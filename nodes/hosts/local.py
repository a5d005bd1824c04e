"""A shell on this machine: subprocesses in their own process group, killed at their deadline."""

from __future__ import annotations

import contextlib
import os
import pwd
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from types import TracebackType
from typing import IO, Self

from nodes.errors import HostTimeout
from nodes.hosts import stop_signal
from nodes.hosts.command_frame import CommandFrame, unbounded, watched
from nodes.hosts.deadlines import Clock
from nodes.hosts.elevation import Elevated, Elevation
from nodes.hosts.held_output import HeldOutput
from nodes.hosts.host_budget import HostBudget, Meter, budgets
from nodes.hosts.shell import (
    CHUNK,
    MAX_BYTES,
    MAX_STDERR,
    CommandResult,
    CommandTimeout,
    Watch,
)

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""smartctl and its like are in sbin, which the path of an unprivileged server lacks."""
_END_S = 1.0
"""What a command that has ended is given to leave, before what is left of its group is killed."""


class LocalShell:
    """Implements :class:`nodes.hosts.shell.Shell` for this machine."""

    def __init__(self, budget: HostBudget | None = None, sudo_password: str | None = None) -> None:
        self.budget = budget or budgets.of("local", "this machine")
        try:
            self.user = pwd.getpwuid(os.geteuid()).pw_name
        except KeyError:  # a container's user without an entry
            self.user = str(os.geteuid())
        self.is_root = os.geteuid() == 0
        self.elevation = Elevation(self.is_root, sudo_password)

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
        elevated = self.elevation.of(command) if sudo else Elevated(command)
        frame = unbounded(elevated.line)
        clock = Clock(timeout_s)
        self.budget.take("sessions", timeout_s=timeout_s)
        output = HeldOutput(self.budget, max_bytes, watch)
        stdout = b""
        try:
            process = _start(frame)
            try:
                typed = frame.go_ahead(timeout_s) + elevated.typed + stdin
                exchange = _Exchange(process, frame, typed, output)
                ended = exchange.until(clock)
                _exited_within(process, min(clock.left, _END_S))
            finally:
                _end(process)
        finally:
            stdout = output.value()
            output.release()
            self.budget.give_back("sessions")
        result = CommandResult(
            exchange.exit_status if ended and not exchange.truncated else None,
            stdout,
            bytes(exchange.stderr),
            time.monotonic() - started,
            exchange.truncated,
        )
        if not ended:
            raise CommandTimeout(f"A command did not end within {timeout_s:g} s.", result)
        return result

    def stream(self, command: str, *, sudo: bool = False, typed: bytes = b"") -> LocalStream:
        # Its standard input is ours to hold: should this process be killed, the command ends as well.
        elevated = self.elevation.of(command) if sudo else Elevated(command, typed)
        frame = (
            watched(elevated.line, typed=True)
            if elevated.typed
            else watched(command, sudo=sudo and not self.is_root)
        )
        self.budget.take("sessions")
        try:
            process = _start(frame)
            if elevated.typed and process.stdin is not None:
                with contextlib.suppress(BrokenPipeError):
                    process.stdin.write(elevated.typed)
                    process.stdin.flush()
            return LocalStream(process, frame, self.budget)
        except BaseException:
            self.budget.give_back("sessions")
            raise

    def close(self) -> None:
        """Nothing is kept open."""


class LocalStream:
    """Implements :class:`nodes.hosts.shell.CommandStream` over a subprocess's pipes."""

    def __init__(self, process: subprocess.Popen[bytes], frame: CommandFrame, budget: HostBudget) -> None:
        self._process = process
        self._budget = budget
        self._meter = Meter(budget)
        self._closing = threading.Event()
        self._is_closed = False
        self._output, self._error_output = frame.output(), frame.errors()
        self._stderr = bytearray()
        self._selector = selectors.DefaultSelector()
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                os.set_blocking(pipe.fileno(), False)
                self._selector.register(pipe, selectors.EVENT_READ)

    def begin(self, timeout_s: float) -> None:
        """No login shell lies between."""

    def read(self, n: int = CHUNK, timeout_s: float | None = None) -> bytes:
        clock = Clock(timeout_s) if timeout_s is not None else None
        while self._selector.get_map() and not (self._output.ended and self._error_output.ended):
            rested = self._meter.rest(clock.left if clock else None, self._closing)
            late = bool(rested and clock and clock.passed)
            ready = [] if late else self._selector.select(self._slice(clock))
            stop_signal.check()
            if not ready and clock and clock.passed:
                raise HostTimeout(f"Nothing came within {timeout_s:g} s.")
            for key, _ in sorted(ready, key=lambda item: item[0].fileobj is self._process.stdout):
                chunk = os.read(key.fd, n)
                self._meter.count(chunk)
                is_output = key.fileobj is self._process.stdout
                reader = self._output if is_output else self._error_output
                own = reader.feed(chunk) if chunk else reader.finish()
                if not chunk:
                    self._selector.unregister(key.fileobj)
                if is_output and own:
                    return own
                if not is_output:
                    self._stderr += own[: MAX_STDERR - len(self._stderr)]
            if ready and clock and clock.passed:
                # Something came, and nothing of the output: what is only complained about has no end either.
                raise HostTimeout(f"Nothing came within {timeout_s:g} s.")
        if self._process.returncode is None and _exited_within(self._process, clock.left if clock else 5):
            _end(self._process)
        return b""

    @staticmethod
    def _slice(clock: Clock | None) -> float | None:
        within_s = stop_signal.slice_of(clock.left if clock else float("inf"))
        return None if within_s == float("inf") else within_s

    @property
    def exit_status(self) -> int | None:
        """None as well for a command whose shell was killed."""
        return self._output.exit_status

    @property
    def stderr(self) -> bytes:
        return bytes(self._stderr)

    def close(self) -> None:
        self._closing.set()
        self._selector.close()
        _end(self._process)
        if not self._is_closed:
            self._is_closed = True
            self._budget.give_back("sessions")

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

    def __init__(
        self, process: subprocess.Popen[bytes], frame: CommandFrame, stdin: bytes, output: HeldOutput
    ) -> None:
        self._kept = output
        self._meter = Meter(output.budget)
        self.stderr = bytearray()
        self._output, self._error_output = frame.output(), frame.errors()
        self.truncated = False
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
        """Whether both outputs ended (or the bound was reached) before the deadline.

        By their closing lines: what a command leaves running in the background may hold them open for ever.
        """
        never = threading.Event()
        with self._selector:
            while self._selector.get_map() and not (self._output.ended and self._error_output.ended):
                stop_signal.check()
                self._meter.rest(clock.left, never)
                if clock.passed:
                    return False
                for key, _ in self._selector.select(stop_signal.slice_of(clock.left)):
                    pipe = key.fileobj
                    done = (
                        self._write(key.fd)
                        if pipe is self._process.stdin
                        else self._read(key.fd, pipe, clock)
                    )
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

    def _read(self, fd: int, pipe: object, clock: Clock) -> bool:
        chunk = os.read(fd, CHUNK)
        self._meter.count(chunk)
        reader = self._error_output if pipe is self._process.stderr else self._output
        own = reader.feed(chunk) if chunk else reader.finish()
        if pipe is self._process.stderr:
            self.stderr += own[: MAX_STDERR - len(self.stderr)]
        else:
            self.truncated = not self._kept.add(own, clock.left)
        return not chunk

    @property
    def exit_status(self) -> int | None:
        return self._output.exit_status


def _start(frame: CommandFrame) -> subprocess.Popen[bytes]:
    environment = {name: os.environ[name] for name in ("HOME", "LANG", "TMPDIR") if name in os.environ}
    return subprocess.Popen(
        frame.arguments,
        stdin=subprocess.PIPE,
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
