"""The frame around a command's output, which tells it from whatever else a login shell prints.

A user's start-up files (``.bashrc``, ``.zshenv``, ``config.fish``, …) run before every command and may print
a welcome, a warning, anything. So a command line prints, once the login shell has run it, a line with a
number that was never used before, on both outputs; then comes the command's own output, byte for byte; and
after that a line with the same number and the exit status. What lies outside is kept for error messages.

The command line itself is one that every login shell takes for the same (bash, dash, zsh, fish, tcsh, ksh,
busybox's ash): quoted texts without a quote, a backslash before anything but a digit or ``n``, an exclamation
mark, a line break or a byte beyond ASCII, which printf puts back (``%b``, POSIX, printf utility). The frame's
own script is written without them, and so is many a command: each text that printf has to put back costs the
host a process.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable

from nodes.inventory.parsing.numbers import integer

MAX_OUTSIDE = 1 << 20
"""What a login shell may print before the command, on either output, until it is given up."""
KEPT_OUTSIDE = 4 << 10
"""What is kept of it for an error message: the end, where a refusal stands."""

_START, _END = b"\x02", b"\x03"
_NONCE_BYTES = 16
_MAX_STATUS = 16
_SIGNALLED = range(129, 193)
"""How a shell tells the number of the signal that killed a command (POSIX, XCU 2.8.2)."""

_PLAIN = frozenset(range(0x20, 0x7F)) - frozenset(b"'\\!")

# Printed as two halves that stand apart in the command line: a login shell that traces what it runs (set -x,
# a DEBUG trap) prints the line, and never the number. Standard error has lines of its own (".") outside those
# of standard output, should a start-up file have joined both. Where nobody takes the first, nothing is run.
_BEGIN = r'set +vx; printf "\002%s%s.\n" "$1" "$2" >&2 && printf "\002%s%s\n" "$1" "$2" || exit 74; '
# A command that changes something is to run for those alone who know that it does: its first line is
# answered before it begins. So one that was given up, because its login shell was late or prints elsewhere,
# never runs. The answer also says for how many seconds the command is still waited for.
_AWAIT_GO_AHEAD = 'read -r go t && [ "$go" = "$1" ] || exit 74; '
# What this shell itself has to say (that a child was killed) goes nowhere.
_ASIDE = "exec 3>&2 2>/dev/null; "
_FINISH = (
    r's=$?; printf "\003%s%s %s\n" "$1" "$2" "$s"; printf "\003%s%s. %s\n" "$1" "$2" "$s" >&3; exit "$s"'
)
_READ_LINE = "IFS= read -r p; "
_RUN_TYPED = '{ printf %s "$p"; echo; } | (exec sh -c "$c") 2>&3 3>&-; '
_RUN = '(exec sh -c "$c") 2>&3 3>&-; '
# A follower (journalctl -f) that prints nothing never notices that its reader is gone. A watcher in the same
# process group waits for the end of standard input, which comes when the channel closes for whatever reason,
# and then ends the group. It holds neither output, so the end of the command is seen.
_WATCH = (
    'exec 4<&0; (trap "" TERM; read -r _ <&4; kill -TERM 0; sleep 2; kill -KILL 0) >/dev/null 2>&1 3>&- & '
    "exec 4<&- </dev/null; "
)
# Root's processes take no signals from the user, so the watcher has to be root's too; where sudoers names
# single commands and no shell, the command alone is run and ends with its next line.
_ROOTS_WATCH = f'{_WATCH.replace(" 3>&-", "")}eval "$1"'
_WATCH_AS_ROOT = (
    'if sudo -n -l sh >/dev/null 2>&1; then (exec sudo -n -- sh -c "$w" sh "$c") 2>&3 3>&-; '
    'else (eval "exec sudo -n -- $c") 2>&3 3>&-; fi; '
)


class FrameReader:
    """Takes one output of a framed command apart, as it comes. For one thread at a time.

    With ``ends`` False the command's output is all that follows the first line: nothing is ever held back.
    """

    def __init__(self, nonce: str, *, ends: bool) -> None:
        self._start = _START + nonce.encode("ascii") + b"\n"
        self._end = _END + nonce.encode("ascii") + b" " if ends else b""
        self.ends = ends
        self._held = b""
        self._read: Callable[[bytes], bytes] = self._before
        self._before_bytes = 0
        self.started = False
        """The command has begun: what is given from here on is its own."""
        self.ended = False
        self.exit_status: int | None = None
        """Once ``ended``; None for a command that a signal killed."""
        self.outside = bytearray()
        """The last of what is not the command's, at most :data:`KEPT_OUTSIDE` bytes."""

    @property
    def flooded(self) -> bool:
        """More than :data:`MAX_OUTSIDE` bytes came, and the command has not begun."""
        return not self.started and self._before_bytes > MAX_OUTSIDE

    def feed(self, chunk: bytes) -> bytes:
        """What of ``chunk``, and of what was held back before, the command itself printed."""
        return self._read(chunk)

    def finish(self) -> bytes:
        """The output ends here: gives what was held back, if it is the command's."""
        held, self._held = self._held, b""
        # A line that was cut on its way is no output; a byte or two that look like its beginning may be.
        return held if self._read == self._inside and len(held) <= len(_END) + 4 else b""

    def _before(self, chunk: bytes) -> bytes:
        data = self._held + chunk
        place = data.find(self._start)
        if place < 0:
            kept = _beginning_at_end(data, self._start)
            self._held = data[len(data) - kept :]
            self._set_aside(data[: len(data) - kept])
            return b""
        self._set_aside(data[:place])
        self._held, self.started, self._read = b"", True, self._inside
        return self._inside(data[place + len(self._start) :])

    def _inside(self, chunk: bytes) -> bytes:
        if not self._end:
            return chunk
        data = self._held + chunk if self._held else chunk
        place = data.find(self._end)
        if place < 0:
            kept = _beginning_at_end(data, self._end)
            self._held = data[len(data) - kept :]
            return data[: len(data) - kept] if kept else data
        self._held, self._read = b"", self._status
        self._status(data[place + len(self._end) :])
        return data[:place]

    def _status(self, chunk: bytes) -> bytes:
        text, newline, rest = (self._held + chunk).partition(b"\n")
        self._held = text[:_MAX_STATUS]
        if newline:
            status = integer(text) if text.isdigit() and len(text) <= _MAX_STATUS else None
            self.exit_status = None if status in _SIGNALLED else status
            self._held, self.ended, self._read = b"", True, self._after
            self._set_aside(rest)
        return b""

    def _after(self, chunk: bytes) -> bytes:
        self._set_aside(chunk)
        return b""

    def _set_aside(self, noise: bytes) -> None:
        if not self.started:
            self._before_bytes += len(noise)
        self.outside += noise[-KEPT_OUTSIDE:]
        del self.outside[:-KEPT_OUTSIDE]


def _beginning_at_end(data: bytes, line: bytes) -> int:
    """How many bytes at the end of ``data`` may be the beginning of ``line``, whose first byte is its own."""
    place = data.rfind(line[:1], max(0, len(data) - len(line) + 1))
    return len(data) - place if place >= 0 and line.startswith(data[place:]) else 0


class CommandFrame:
    """One run of one command: the line for the login shell, and readers that fit it."""

    def __init__(
        self, script: str, command: str, *, ends: bool, waits: bool = False, watcher: str = ""
    ) -> None:
        self._nonce = secrets.token_hex(_NONCE_BYTES)
        self._ends, self._waits = ends, waits
        half = len(self._nonce) // 2
        begin = _BEGIN + (_AWAIT_GO_AHEAD if waits else "")
        halves = (self._nonce[:half], self._nonce[half:])
        texts = (command, watcher) if watcher else (command,)
        self.arguments = ("/bin/sh", "-c", f"{begin}{_named(texts, raw=True)}{script}", "sh", *halves, *texts)
        """The same for a process that is started without a login shell."""
        self.line = (
            f"exec /bin/sh -c '{begin}{_named(texts)}{script}' sh "
            f"{' '.join(halves)} {' '.join(map(quoted, texts))}"
        )

    def go_ahead(self, within_s: float) -> bytes:
        """What has to come first on standard input, once the command's first line was seen.

        ``within_s`` is how long the command will be waited for; b"" for one that does not wait itself.
        """
        seconds = max(1, math.ceil(within_s))  # timeout(1) takes 0 for no limit
        return f"{self._nonce[: len(self._nonce) // 2]} {seconds}\n".encode("ascii") if self._waits else b""

    def output(self) -> FrameReader:
        """A reader for standard output."""
        return FrameReader(self._nonce, ends=self._ends)

    def errors(self) -> FrameReader:
        """A reader for standard error."""
        return FrameReader(f"{self._nonce}.", ends=self._ends)


def _named(texts: tuple[str, ...], *, raw: bool = False) -> str:
    """Assigns the arguments behind the halves: ``c`` is the command, ``w`` root's watcher."""
    plain = [raw or _PLAIN.issuperset(text.encode("utf-8", errors="surrogateescape")) for text in texts]
    values = (
        f"${place}" if is_plain else f'$(printf %b "${place}")' for place, is_plain in enumerate(plain, 3)
    )
    return "".join(f"{name}={value}; " for name, value in zip("cw", values, strict=False))


def quoted(text: str) -> str:
    """``text`` as a word for any login shell, of which ``printf %b`` makes the text again."""
    raw = text.encode("utf-8", errors="surrogateescape")
    parts = (chr(byte) if byte in _PLAIN else r"\n" if byte == 0x0A else rf"\0{byte:03o}" for byte in raw)
    return f"'{''.join(parts)}'"


def bounded(command: str) -> CommandFrame:
    """``command`` under the host's own clock, for as long as the go-ahead says.

    Closing an SSH channel does not end what runs behind it, and OpenSSH delivers no signals in a root login;
    without a clock at the host's end a hung command would hold one of the connection's sessions for ever.
    """
    # First asked to end, which lets a script remove its temporary files, then killed.
    run = '(exec timeout -k 1 "$t" sh -c "$c") 2>&3 3>&-; '
    return CommandFrame(_ASIDE + run + _FINISH, command, ends=True, waits=True)


def unbounded(command: str) -> CommandFrame:
    """``command`` for a process that is ended by whoever started it."""
    return CommandFrame(_ASIDE + _RUN + _FINISH, command, ends=True, waits=True)


def watched(command: str, *, sudo: bool = False, typed: bool = False) -> CommandFrame:
    """``command``, as root with ``sudo``, until its end or until its standard input is closed.

    With ``typed`` the first line of that input is the command's own, and all that it gets.
    """
    if typed:
        return CommandFrame(_ASIDE + _READ_LINE + _WATCH + _RUN_TYPED + _FINISH, command, ends=True)
    run, watcher = (_WATCH_AS_ROOT, _ROOTS_WATCH) if sudo else (_WATCH + _RUN, "")
    return CommandFrame(_ASIDE + run + _FINISH, command, ends=True, watcher=watcher)


def relayed(command: str) -> CommandFrame:
    """``command`` with both of its ends given over to it: a protocol, or lines without an end.

    Its output has no closing line, and its exit status is the channel's.
    """
    return CommandFrame('exec sh -c "$c"', command, ends=False)
