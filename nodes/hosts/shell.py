"""Run commands on a host: one interface, whether it is this machine or one behind SSH."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol, Self

from nodes.errors import HostTimeout, HostUnreachable
from nodes.hosts.elevation import Elevation

MAX_BYTES = 8 << 20
MAX_STDERR = 64 << 10
"""Standard error kept of one command; what comes beyond is read and dropped, so that it blocks nobody."""

CHUNK = 64 << 10


Watch = Callable[[bytes], bool]
"""Told each piece of an output; False where the rest of it is not wanted."""


@dataclass(frozen=True, slots=True)
class CommandResult:
    """How a command ended.

    ``exit_status`` is None where there is none: the command was killed by a signal, cut off by the bound on
    its output (``truncated``), or lost with the connection. Output is bytes: a host may print anything, and
    all of it is the command's own; what a login shell printed beside it is in ``outside``, the end of it.
    """

    exit_status: int | None
    stdout: bytes = field(repr=False)
    stderr: bytes
    duration_s: float
    truncated: bool = False
    started: bool = True
    """False: the login shell had not begun the command. One of :meth:`Shell.run` will never run then."""
    outside: bytes = field(default=b"", repr=False)

    @property
    def ok(self) -> bool:
        return self.exit_status == 0

    @property
    def error_text(self) -> str:
        """The last line of standard error, short enough for a message."""
        return last_line(self.stderr)


def last_line(output: bytes) -> str:
    """The last line with anything in it, short enough for a message; "" where there is none."""
    lines = output.decode("utf-8", errors="replace").strip().splitlines()
    return "".join(c if c.isprintable() else "?" for c in lines[-1]).strip()[:300] if lines else ""


class CommandTimeout(HostTimeout):
    """The command still ran at its deadline and has been ended; ``partial`` is what came till then.

    Where ``partial.started`` is False, the login shell had not even begun it, and it will never run.
    """

    def __init__(self, message: str, partial: CommandResult, *, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.partial = partial


class ConnectionLost(HostUnreachable):
    """The connection ended under the command; ``partial`` is what came till then."""

    def __init__(self, message: str, partial: CommandResult) -> None:
        super().__init__(message, extra={"reason": "lost"})
        self.partial = partial


class CommandStream(Protocol):
    """A running command whose output is read piece by piece.

    Nothing is read ahead beyond a bounded buffer: a reader that stops also stops the command at the host's
    end of the pipe. ``close`` ends the command; leaving the ``with`` block does too.
    """

    def begin(self, timeout_s: float) -> None:
        """Wait until the command has begun. Raises HostTimeout, ConnectionLost, LoginShellUnusable."""
        ...

    def read(self, n: int = CHUNK, timeout_s: float | None = None) -> bytes:
        """Up to ``n`` bytes, as soon as there are any; b"" at the end of the output.

        Raises HostTimeout when nothing comes within ``timeout_s`` (the command goes on, and reading may be
        tried again), ConnectionLost when the connection ends, LoginShellUnusable when the command never
        begins.
        """
        ...

    @property
    def exit_status(self) -> int | None:
        """The exit status, once the output has ended and there is one."""
        ...

    @property
    def stderr(self) -> bytes:
        """The beginning of standard error so far, at most :data:`MAX_STDERR` bytes."""
        ...

    def close(self) -> None: ...
    def __iter__(self) -> Iterator[bytes]: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Shell(Protocol):
    """Runs POSIX sh commands on a host. Safe to use from several threads at once."""

    @property
    def user(self) -> str:
        """The user the commands run as."""
        ...

    @property
    def is_root(self) -> bool: ...

    @property
    def elevation(self) -> Elevation:
        """How the user becomes root."""
        ...

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
        """Run ``command`` under ``sh -c`` to its end.

        ``sudo`` runs it through sudo where the user is not root; it then has to be one of the commands of
        nodes/inventory/privileged.py, which an administrator may have allowed in sudoers. A command whose
        output exceeds ``max_bytes``, or is not wanted by ``watch`` any more, is ended and its result
        ``truncated``. Raises HostBudgetExceeded where there is no room for the output, CommandTimeout at the
        deadline, after which the command is gone from the host as well (one through sudo, which its user
        may not signal, ends with its next output), ConnectionLost, and LoginShellUnusable.
        """
        ...

    def stream(self, command: str, *, sudo: bool = False, typed: bytes = b"") -> CommandStream:
        """Start ``command`` and give its output as it comes. Its standard input is ``typed``, a line or
        nothing."""
        ...

    def close(self) -> None: ...
