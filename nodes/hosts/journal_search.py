"""The search on our side: of VMs' log files, and of the journals of hosts whose journalctl has no PCRE2.

What it finds is what ``journalctl --grep`` would: a keyword in any case; an expression in any case only
where it has no capital letter (journalctl(1)). Expressions are matched in a process of their own, which is
ended when one takes too long (see :mod:`expression_worker`).
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Final, Protocol, cast

from nodes.errors import HostTimeout, InvalidInput, NodeAdminError
from nodes.hosts import expression_worker
from nodes.hosts.deadlines import Clock
from nodes.hosts.expression_worker import CASELESS, FAILED, NO_LIBRARY
from nodes.hosts.journal_filters import JournalFilters, is_case_sensitive, search_pattern

_WORKER: Final = str(Path(expression_worker.__file__))
_WAIT_S = 10.0
"""For an answer by the clock on the wall: on a busy machine a second of CPU time takes longer."""


class Search(Protocol):
    """Tells which messages fit. Used from one thread; ``close`` may be called from any."""

    def matching(self, messages: Sequence[str | None]) -> Sequence[int]:
        """For each message 1 or 0; None, which is no message, never fits.

        Raises InvalidInput where an expression does not come to an end on one of them.
        """
        ...

    def close(self) -> None: ...


def search_of(filters: JournalFilters) -> Search | None:
    """None where neither a keyword nor a VM is asked for. Raises InvalidInput for what does not compile."""
    pattern = search_pattern(filters)
    if not pattern:
        return None
    if filters.regex and filters.keyword:
        return ExpressionSearch(pattern, case_sensitive=is_case_sensitive(filters))
    return LiteralSearch(pattern)


class LiteralSearch:
    """A keyword or a VM's name, whose pattern is ours: Python's own matcher takes no time over it."""

    def __init__(self, pattern: str) -> None:
        # Only ASCII knows capitals, as on the host.
        self._search = re.compile(pattern, re.IGNORECASE | re.ASCII).search

    def matching(self, messages: Sequence[str | None]) -> Sequence[int]:
        return [message is not None and self._search(message) is not None for message in messages]

    def close(self) -> None:
        pass


class ExpressionSearch:
    """A user's own expression."""

    def __init__(self, pattern: str, *, case_sensitive: bool) -> None:
        """Raises InvalidInput where it does not compile, or there is no PCRE2 here either; HostTimeout."""
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", _WORKER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self._stdin = cast(IO[bytes], self._process.stdin)
        self._stdout = cast(IO[bytes], self._process.stdout)
        options = 0 if case_sensitive else CASELESS
        try:
            answer = self._ask(options.to_bytes(4, "little") + pattern.encode(), 1)
            if answer != b"\x01":
                raise self._refusal(answer)
        except BaseException:
            self.close()
            raise

    def matching(self, messages: Sequence[str | None]) -> Sequence[int]:
        given = [message.encode() for message in messages if message is not None]
        if not given:
            return [0] * len(messages)
        request = b"".join(len(message).to_bytes(4, "little") + message for message in given)
        answer = self._ask(request, len(given))
        if len(answer) < len(given) or FAILED in answer:
            raise InvalidInput(
                "The expression takes too long on an entry of this journal.",
                remedy="Make it simpler: no repetition of what itself repeats, as in (a+)+.",
                field="keyword",
            )
        found = iter(answer)
        return [0 if message is None else next(found) for message in messages]

    def _ask(self, request: bytes, size: int) -> bytes:
        """As many bytes of its answer, or fewer where it has ended or does not come to an end."""
        stdin, stdout = self._stdin, self._stdout
        with contextlib.suppress(BrokenPipeError):
            stdin.write(len(request).to_bytes(4, "little") + request)
            stdin.flush()
        answer, clock = b"", Clock(_WAIT_S)
        ready = select.poll()  # select() knows none beyond 1023, and a server of many hosts has those
        ready.register(stdout, select.POLLIN)
        while len(answer) < size:
            if not ready.poll(clock.left * 1000):
                break
            piece = os.read(stdout.fileno(), size - len(answer))
            if not piece:
                break
            answer += piece
        return answer

    def _refusal(self, answer: bytes) -> NodeAdminError:
        with contextlib.suppress(subprocess.TimeoutExpired):
            if not answer and self._process.wait(1) == NO_LIBRARY:
                return InvalidInput(
                    "Neither the host's journalctl nor this server can search by expressions (no PCRE2).",
                    remedy="Search for a literal keyword.",
                    field="regex",
                )
        if not answer:
            return HostTimeout("The search could not be begun: this server is too busy.")
        said = os.read(self._stdout.fileno(), 200).decode("ascii", errors="replace")
        return InvalidInput(f"The expression does not compile. {said}".strip(), field="keyword")

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._stdin, self._stdout):
            with contextlib.suppress(OSError):
                pipe.close()
