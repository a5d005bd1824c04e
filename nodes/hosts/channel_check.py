"""Whether a host allows everything that nodeadmin runs on it at once: found out when a node is added.

A heartbeat, a journal that is followed, libvirt and a command beside them. Each works alone on hosts that
refuse the second or third (MaxSessions in sshd_config(5)), and would then fail days later.
"""

from __future__ import annotations

import threading
from contextlib import ExitStack, closing

from nodes.errors import HostError, JournalUnavailable, ProbeFailed
from nodes.hosts.connection import HostConnection
from nodes.hosts.deadlines import Clock
from nodes.hosts.journal_filters import command
from nodes.hosts.journal_tool import tool_of
from nodes.inventory.beat import beat_command

HEARTBEAT_S = 5.0
_FOLLOW = ("--quiet", "--no-pager", "--lines=0", "--follow")


class _FirstLine:
    """Notes that a whole line has come."""

    def __init__(self) -> None:
        self.has_come = False
        self.decided = threading.Event()

    def data(self, chunk: bytes) -> None:
        if b"\n" in chunk:
            self.has_come = True
            self.decided.set()

    def ended(self) -> None:
        self.decided.set()


def try_channels(connection: HostConnection, timeout_s: float = 20.0) -> int:
    """Open all at once, and give how many SSH connections that took: more than one where the host allows few
    sessions in each; 0 where there is no SSH.

    A journal that this user may not read is left out, as is libvirt where it does not answer: whether they
    work alone is for others to say. Raises ProbeFailed for a heartbeat that prints nothing, and for what the
    host refuses LoginShellUnusable, HostUnreachable (``extra["reason"]`` ``no_session``) and HostTimeout.
    """
    if connection.transport != "ssh":
        return 0
    clock = Clock(timeout_s)
    with ExitStack() as open_channels:
        _open_heartbeat(connection, clock, open_channels)
        _open_journal(connection, clock, open_channels)
        _open_libvirt(connection, clock)
        connection.shell.run("true", timeout_s=clock.left)
        return connection.ssh_connections


def _open_heartbeat(connection: HostConnection, clock: Clock, open_channels: ExitStack) -> None:
    first = _FirstLine()
    feed = open_channels.enter_context(closing(connection.follow(beat_command(HEARTBEAT_S), first)))
    first.decided.wait(clock.left)
    if not first.has_come:
        raise ProbeFailed(
            f"The heartbeat's command prints nothing on {connection.address}. {feed.refusal}".strip(),
            remedy="The host needs sh, sleep and grep, and a readable /proc.",
        )


def _open_journal(connection: HostConnection, clock: Clock, open_channels: ExitStack) -> None:
    try:
        tool = tool_of(connection, clock.left)
    except JournalUnavailable:
        return
    except HostError as refused:
        if refused.layer != "rights" or refused.code == "login_shell_unusable":
            raise
        return
    stream = open_channels.enter_context(connection.shell.stream(command(list(_FOLLOW)), sudo=tool.sudo))
    stream.begin(clock.left)


def _open_libvirt(connection: HostConnection, clock: Clock) -> None:
    try:
        connection.hypervisor(clock.left)
    except HostError as refused:
        if refused.extra.get("reason") == "no_session":
            raise
