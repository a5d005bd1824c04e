"""What the journalctl of a host can do, as whom it has to be run, and what the host's clock says."""

from __future__ import annotations

import threading
import time
import weakref
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from nodes.errors import InsufficientRightsOnHost, JournalUnavailable
from nodes.hosts.connection import HostConnection
from nodes.inventory.parsing.numbers import decimal

_ASK = """export LC_ALL=C
journalctl --version 2>/dev/null | head -n 2
echo; date +%s.%N
journalctl --lines=0 --no-pager --grep=x 2>&1 >/dev/null | grep -c PCRE2
journalctl --lines=0 --no-pager 2>&1 >/dev/null | head -n 20
"""
CLOCK_GOOD_S = 60.0
"""For so long a host's clock is taken to run as it did: one that was wrong at its start is set soon after."""
_READERS = ("insufficient permissions", "not seeing messages from other users")


@dataclass(frozen=True, slots=True)
class JournalTool:
    """``sudo``: the journal has to be read as root. ``has_grep``: it searches by itself (PCRE2)."""

    sudo: bool
    has_grep: bool
    clock_ahead_s: float
    """By how much the host's clock is ahead of ours (behind: negative)."""
    clock_read_at: float = field(default_factory=time.monotonic)

    def host_now(self) -> datetime:
        """The host's time, as well as it was known when it was asked."""
        return datetime.now(UTC) + timedelta(seconds=self.clock_ahead_s)


_known: weakref.WeakKeyDictionary[HostConnection, JournalTool] = weakref.WeakKeyDictionary()
_guard = threading.Lock()


def tool_of(connection: HostConnection, timeout_s: float) -> JournalTool:
    """Asked once a connection, by running it; the clock again after :data:`CLOCK_GOOD_S`.

    Raises InsufficientRightsOnHost where the user may read the journal neither as they are nor by sudo,
    JournalUnavailable where there is no journalctl, HostTimeout, HostUnreachable.
    """
    with _guard:
        known = _known.get(connection)
    if known is not None:
        if time.monotonic() - known.clock_read_at < CLOCK_GOOD_S:
            return known
        return _kept(connection, _with_clock(connection, known, timeout_s))
    if not connection.has_shell:
        raise JournalUnavailable("A node of libvirt's test driver has no journal.")
    shell = connection.shell
    before = time.time()
    result = shell.run(_ASK, timeout_s=timeout_s)
    version, _, rest = result.stdout.decode("utf-8", errors="replace").partition("\n\n")
    clock, _, rest = rest.partition("\n")
    missing, _, complaints = rest.partition("\n")
    if not version.startswith("systemd"):
        raise JournalUnavailable(
            "There is no journalctl on the host.", remedy="A host without systemd keeps no journal."
        )
    sudo = not shell.is_root and any(words in complaints for words in _READERS)
    if sudo and not shell.run("journalctl --no-pager --lines=0 --quiet", timeout_s=timeout_s, sudo=True).ok:
        raise InsufficientRightsOnHost(
            f"The user {shell.user} may not read the system's journal.",
            remedy=f"On the host, as root: usermod -aG systemd-journal {shell.user}",
        )
    middle = (before + time.time()) / 2
    # Built with it, and the library still not there: journalctl loads it only when it is asked to search.
    has_grep = "+PCRE2" in version and missing.strip() == "0"
    return _kept(connection, JournalTool(sudo, has_grep, _seconds(clock, middle) - middle))


def _kept(connection: HostConnection, tool: JournalTool) -> JournalTool:
    with _guard:
        _known[connection] = tool
    return tool


def _with_clock(connection: HostConnection, tool: JournalTool, timeout_s: float) -> JournalTool:
    before = time.time()
    said = connection.shell.run("date +%s.%N", timeout_s=timeout_s).stdout
    middle = (before + time.time()) / 2
    ahead_s = _seconds(said.decode("ascii", errors="replace"), middle + tool.clock_ahead_s) - middle
    return replace(tool, clock_ahead_s=ahead_s, clock_read_at=time.monotonic())


_LONGEST_TIME = 40
_LAST_SECOND = 253_402_300_800
"""The year 10000, which no datetime has; a clock that is set there is not one to reckon with."""


def _seconds(text: str, otherwise: float) -> float:
    # busybox's date leaves %N as it is.
    seconds = decimal(text[:_LONGEST_TIME].replace("N", "0"))
    return seconds if seconds is not None and 0 <= seconds < _LAST_SECOND else otherwise
