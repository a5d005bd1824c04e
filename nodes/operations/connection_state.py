"""What a contact with a host tells about the node: the one place that writes ``Node.connection``."""

from __future__ import annotations

from django.db.models import Q
from django.utils import timezone

from nodes.errors import (
    AuthenticationFailed,
    HostError,
    HostKeyMismatch,
    HostKeyRequired,
    InsufficientRightsOnHost,
    LibvirtUnavailable,
    ProbeFailed,
)
from nodes.events import NodeChanged, publish, record
from nodes.models import Connection, ConnectionReason, Node
from nodes.models.event import Severity

_REASONS: tuple[tuple[type[HostError], ConnectionReason], ...] = (
    (AuthenticationFailed, ConnectionReason.SSH_AUTH_FAILED),
    (HostKeyMismatch, ConnectionReason.HOST_KEY_MISMATCH),
    (HostKeyRequired, ConnectionReason.HOST_KEY_MISMATCH),
    (InsufficientRightsOnHost, ConnectionReason.INSUFFICIENT_RIGHTS),
    (LibvirtUnavailable, ConnectionReason.LIBVIRT_DOWN),
    (ProbeFailed, ConnectionReason.PROBE_FAILING),
)


def reason_for(error: HostError) -> ConnectionReason:
    """The reason code that an error of reaching the host stands for."""
    for kind, reason in _REASONS:
        if isinstance(error, kind):
            return reason
    return ConnectionReason.UNREACHABLE


def note_contact(node: Node) -> None:
    """The host answered: online, and seen now."""
    _change(node, Connection.ONLINE, ConnectionReason.NONE, "")
    Node.objects.filter(pk=node.pk).update(last_seen_at=timezone.now())


def note_failure(node: Node, error: HostError) -> None:
    """The host could not be reached or read: offline, with the layer that failed."""
    _change(node, Connection.OFFLINE, reason_for(error), error.detail())


def _change(node: Node, connection: Connection, reason: ConnectionReason, detail: str) -> None:
    """Write the state; where it differs from the one before, an event and news."""
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
    online = connection == Connection.ONLINE
    record(
        "node_online" if online else "node_offline",
        f"{node.name}: {connection.label}" + (f" ({reason.label})" if reason else ""),
        node=node,
        severity=Severity.INFO if online else Severity.WARNING,
        data={"reason": reason.value, "detail": detail} if reason else {},
    )
    publish(NodeChanged(str(node.uuid), node.name))
