"""Waiting for a host that was rebooted or switched on, until its own system answers and libvirt with it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from django.utils.translation import gettext as _

from nodes import access
from nodes.errors import HostError, HostKeyMismatch, HostKeyRequired, HostTimeout
from nodes.hosts import power
from nodes.hosts.connection import HostConnection
from nodes.hosts.deadlines import Clock, Deadlines
from nodes.models import Node
from nodes.operations.base import Run, StepHandle

PAUSE_S = 3.0
QUICK = Deadlines(connect_s=4.0, handshake_s=6.0, auth_s=10.0)


@dataclass(frozen=True, slots=True)
class Back:
    """A host that answers again: the pool's connection to it, its boot ID, and how long it took."""

    connection: HostConnection
    boot_id: str
    waited_s: float


class StillTheOldRun(HostError):
    """The host answers, from before it was rebooted or switched off."""

    code, http_status, retryable = "host_not_restarted", 502, True
    title = "The host has not been restarted"
    layer = "probe"


def read_boot_id(connection: HostConnection) -> str:
    """The boot ID of the host, made anew by each run of the kernel (random(4)). Raises HostError: what cannot
    be read is not taken for another boot."""
    return power.boot_id(connection.shell)


def answering_boot_id(node: Node) -> str | None:
    """The boot ID that the host answers with right now, over a connection of its own; None where it is
    silent. Takes 20 seconds at most."""
    try:
        with access.connect_once(access.target_for(node), QUICK) as connection:
            return read_boot_id(connection)
    except HostError:
        return None


def wait_until_back(
    run: Run,
    step: StepHandle,
    node: Node,
    *,
    boot_id_before: str,
    timeout_s: float,
    look: Callable[[], None] = lambda: None,
) -> Back:
    """Wait until the host answers with a boot ID other than ``boot_id_before`` ("" takes any), and libvirt
    answers too.

    ``look`` is called before each attempt, and ends the wait by what it raises. A changed host key ends it
    as well; a refused login does not, as hosts refuse users while they start (pam_nologin(8)). Raises
    HostTimeout with the last thing that stood in the way, OperationCancelled.
    """
    clock, begun = Clock(timeout_s), time.monotonic()
    access.pool().drop_node(str(node.uuid))  # of the run before; it may look alive for minutes
    last = ""
    while True:
        run.check_cancelled()
        look()
        try:
            return _attempt(node, boot_id_before, begun)
        except (HostKeyMismatch, HostKeyRequired):
            raise
        except HostError as error:
            if error.message != last:
                last = error.message
                step.report(last)
        if clock.passed:
            raise HostTimeout(
                _("The host was not back within %(seconds)d s: %(why)s")
                % {"seconds": timeout_s, "why": last},
                remedy=_("Look at its console. Once it answers, nodeadmin notices by itself."),
            )
        time.sleep(min(PAUSE_S, clock.left))


def _attempt(node: Node, boot_id_before: str, begun: float) -> Back:
    target = access.target_for(node)
    connection = access.connect(target)
    try:
        boot_id = read_boot_id(connection)
        if boot_id == boot_id_before:
            raise StillTheOldRun(_("The host still answers from before."))
        connection.hypervisor().version_text()
    except HostError:
        access.pool().drop(target)
        raise
    return Back(connection, boot_id, time.monotonic() - begun)
