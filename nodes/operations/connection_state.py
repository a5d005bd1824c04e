"""What a contact with a host tells about the node: the one place that writes ``Node.connection``."""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext as _

from nodes.errors import (
    AuthenticationFailed,
    CredentialNotForTarget,
    CredentialUnreadable,
    HostBudgetExceeded,
    HostError,
    HostKeyMismatch,
    HostKeyRequired,
    InsufficientRightsOnHost,
    JumpHostAuthFailed,
    JumpHostError,
    JumpHostForwardingRefused,
    JumpHostKeyMismatch,
    LibvirtUnavailable,
    LoginShellUnusable,
    ProbeFailed,
)
from nodes.events import NodeChanged, publish
from nodes.models import (
    Connection,
    ConnectionReason,
    Heartbeat,
    MonitorProcess,
    Node,
    Operation,
    OperationStatus,
)
from nodes.models.event import Severity
from nodes.models.operation import UNFINISHED
from nodes.operations.node_state.floods import record_of_host

_REASONS: tuple[tuple[type[HostError], ConnectionReason], ...] = (
    (AuthenticationFailed, ConnectionReason.SSH_AUTH_FAILED),
    (CredentialUnreadable, ConnectionReason.SSH_AUTH_FAILED),
    (CredentialNotForTarget, ConnectionReason.SSH_AUTH_FAILED),
    (HostKeyMismatch, ConnectionReason.HOST_KEY_MISMATCH),
    (HostKeyRequired, ConnectionReason.HOST_KEY_MISMATCH),
    (JumpHostKeyMismatch, ConnectionReason.JUMP_HOST_KEY_MISMATCH),
    (JumpHostAuthFailed, ConnectionReason.JUMP_HOST_AUTH_FAILED),
    (JumpHostForwardingRefused, ConnectionReason.JUMP_HOST_FORBIDS),
    (JumpHostError, ConnectionReason.JUMP_HOST_UNREACHABLE),
    (InsufficientRightsOnHost, ConnectionReason.INSUFFICIENT_RIGHTS),
    (LibvirtUnavailable, ConnectionReason.LIBVIRT_DOWN),
    (ProbeFailed, ConnectionReason.PROBE_FAILING),
    (LoginShellUnusable, ConnectionReason.PROBE_FAILING),
    (HostBudgetExceeded, ConnectionReason.PROBE_FAILING),
)

SEEN_BY_MONITOR = (
    ConnectionReason.UNREACHABLE,
    ConnectionReason.SSH_AUTH_FAILED,
    ConnectionReason.HOST_KEY_MISMATCH,
    ConnectionReason.JUMP_HOST_UNREACHABLE,
    ConnectionReason.JUMP_HOST_KEY_MISMATCH,
    ConnectionReason.JUMP_HOST_AUTH_FAILED,
    ConnectionReason.JUMP_HOST_FORBIDS,
    ConnectionReason.LIBVIRT_DOWN,
)
"""Reasons that a monitor finds out by itself, and whose end it notices."""

SEEN_BY_REFRESH = (ConnectionReason.PROBE_FAILING, ConnectionReason.INSUFFICIENT_RIGHTS)
"""Reasons that an inventory finds, and whose end only an inventory finds: such a host may beat.
The first one is a monitor's too, for a host whose shell is mute, until it has beaten again."""

ASKED_FOR = (ConnectionReason.REBOOTING, ConnectionReason.POWERED_OFF)

WHILE_REBOOTING = (
    ConnectionReason.UNREACHABLE,
    ConnectionReason.LIBVIRT_DOWN,
    ConnectionReason.PROBE_FAILING,
    ConnectionReason.SSH_AUTH_FAILED,
)
"""What a host looks like on its way down and up again: it refuses users while it starts (pam_nologin(8))."""

POWER_KINDS = ("reboot-node", "shutdown-node", "power-on-node")

LONGEST_REBOOT = timedelta(minutes=15)
"""A host that is not back by then is not rebooting any more."""


def reason_for(error: HostError) -> ConnectionReason:
    """The reason code that an error of reaching the host stands for."""
    for kind, reason in _REASONS:
        if isinstance(error, kind):
            return reason
    return ConnectionReason.UNREACHABLE


def note_contact(node: Node) -> None:
    """The host answered: online, and seen now.

    A monitor that watches the node knows more: a host with a shell may be without libvirt, or be on its way
    down because it was asked to be.
    """
    _note_answer(node, Connection.ONLINE, ConnectionReason.NONE, "")


def note_mute_libvirt(node: Node) -> None:
    """The host answered, and its libvirt did not. A monitor sees that it takes connections, and no more."""
    detail = _("libvirt takes connections on the host, and does not answer.")
    _note_answer(node, Connection.OFFLINE, ConnectionReason.PROBE_FAILING, detail)


def _note_answer(node: Node, connection: Connection, reason: ConnectionReason, detail: str) -> None:
    """The host was seen now; the state that this means, unless a monitor knows better."""
    node.refresh_from_db(fields=["connection", "connection_reason"])
    if node.connection_reason not in (*SEEN_BY_MONITOR, *ASKED_FOR) or not is_watched(node):
        _change(node, connection, reason, detail)
    Node.objects.filter(pk=node.pk).update(last_seen_at=timezone.now())


def note_failure(node: Node, error: HostError) -> None:
    """The host could not be reached or read: offline, with the layer that failed.

    Where a monitor watches the node, losing contact is its finding: one failed attempt is one sign of two.
    """
    reason = reason_for(error)
    if reason in SEEN_BY_MONITOR and is_watched(node):
        return
    _change(node, Connection.OFFLINE, reason, error.detail())


def is_watched(node: Node) -> bool:
    """Whether a monitor that is alive has the node."""
    return Heartbeat.objects.filter(node=node.pk, owner__in=MonitorProcess.objects.alive()).exists()


def note_evidence(
    node: Node, *, online: bool, reason: str, detail: str, quiet: bool = False, own: str = ""
) -> str:
    """What the monitor found. Gives the reason that was written.

    A host that is away because it was asked to is ``rebooting`` or ``powered_off``. ``quiet`` writes no
    event: for when one event tells of many nodes. ``own`` is the reason that the same monitor gave before:
    it may end what only an inventory ends otherwise.
    """
    if online:
        if node.connection_reason in SEEN_BY_REFRESH and node.connection_reason != own:
            return node.connection_reason
        _change(node, Connection.ONLINE, ConnectionReason.NONE, "", quiet=quiet)
        return ""
    found = ConnectionReason(reason)
    if found in WHILE_REBOOTING:
        found = _asked_for(node, found)
    _change(node, Connection.OFFLINE, found, detail, quiet=quiet)
    return found.value


def note_power(node: Node, reason: ConnectionReason, detail: str) -> None:
    """The host is away, or about to be, because it was asked to: ``rebooting`` or ``powered_off``."""
    _change(node, Connection.OFFLINE, reason, detail)


def note_still_up(node: Node) -> None:
    """A host that counts as away, because it was asked to go, beats on: online, unless the operation that
    asked is still at it, or was cancelled just now: that calls no host back that is on its way down."""
    lately = Q(
        status=OperationStatus.CANCELLED,
        finished_at__gt=timezone.now() - timedelta(seconds=settings.NODEADMIN_POWER_OFF_S),
    )
    asked = Operation.objects.filter(node=node.pk, kind__in=POWER_KINDS)
    at_it = asked.filter(Q(status__in=UNFINISHED) | lately)
    if node.connection_reason in ASKED_FOR and not at_it.exists():
        _change(node, Connection.ONLINE, ConnectionReason.NONE, "")


def note_lost(node: Node) -> None:
    """The event of a loss that had none yet."""
    _record_state(node)


def note_back(node: Node) -> None:
    """The host has proved to be up again: online, whatever a monitor has noticed of its absence."""
    _change(node, Connection.ONLINE, ConnectionReason.NONE, "")
    Node.objects.filter(pk=node.pk).update(last_seen_at=timezone.now())


def _asked_for(node: Node, found: ConnectionReason) -> ConnectionReason:
    """The reason as it was brought about by an operation, else ``found``."""
    if Operation.objects.unfinished().filter(node=node.pk, kind="reboot-node").exists():
        return ConnectionReason.REBOOTING
    if found != ConnectionReason.UNREACHABLE:
        return found
    known, since = node.connection_reason, node.connection_since
    if known == ConnectionReason.POWERED_OFF:
        return ConnectionReason.POWERED_OFF
    if known == ConnectionReason.REBOOTING and since and timezone.now() - since < LONGEST_REBOOT:
        return ConnectionReason.REBOOTING
    return found


def _change(
    node: Node, connection: Connection, reason: ConnectionReason, detail: str, *, quiet: bool = False
) -> None:
    """Write the state; where it differs from the one before, an event and news."""
    with transaction.atomic():
        _write(node, connection, reason, detail, quiet)


def _write(node: Node, connection: Connection, reason: ConnectionReason, detail: str, quiet: bool) -> None:
    now = timezone.now()
    differs = ~Q(connection=connection) | ~Q(connection_reason=reason)
    changed = (
        Node.objects.filter(pk=node.pk)
        .filter(differs)
        .update(
            connection=connection, connection_reason=reason, connection_detail=detail, connection_since=now
        )
    )
    node.refresh_from_db()
    if not changed:
        return
    if not quiet:
        _record_state(node)
    publish(NodeChanged(str(node.uuid), node.name))


def _record_state(node: Node) -> None:
    connection, reason = Connection(node.connection), ConnectionReason(node.connection_reason)
    online = connection == Connection.ONLINE
    record_of_host(
        "node_online" if online else "node_offline",
        f"{node.name}: {connection.label}" + (f" ({reason.label})" if reason else ""),
        node=node,
        severity=Severity.INFO if online else Severity.WARNING,
        data={"reason": reason.value, "detail": node.connection_detail} if reason else {},
    )
