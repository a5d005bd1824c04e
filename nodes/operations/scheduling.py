"""What people decide about a node: taken out of scheduling (cordoned) for a reason, and given back."""

from __future__ import annotations

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from nodes.events import SYSTEM, Actor, NodeChanged, publish, record
from nodes.models import Node, Operation, Scheduling


def cordon(
    node: Node, *, reason: str = "", actor: Actor = SYSTEM, operation: Operation | None = None
) -> bool:
    """Put ``node`` into maintenance: nothing is planned onto it any more. Gives whether it was enabled.

    A node that is in maintenance keeps its reason unless a new one is given. Writes within the caller's
    transaction, where there is one; run again it changes nothing.
    """
    with transaction.atomic():
        was_enabled = bool(
            Node.objects.filter(pk=node.pk, scheduling=Scheduling.ENABLED).update(
                scheduling=Scheduling.MAINTENANCE,
                scheduling_reason=reason,
                scheduling_by=actor.user,
                scheduling_since=timezone.now(),
            )
        )
        if not was_enabled and reason:
            Node.objects.filter(pk=node.pk).exclude(scheduling_reason=reason).update(scheduling_reason=reason)
        _reload(node)
        if was_enabled:
            text = _("%s: taken out of scheduling") % node.name
            record(
                "node_disabled",
                f"{text}: {reason}" if reason else text,
                node=node,
                actor=actor,
                operation=operation,
                data={"reason": reason},
            )
        publish(NodeChanged(str(node.uuid), node.name))
    return was_enabled


def uncordon(node: Node, *, actor: Actor = SYSTEM, operation: Operation | None = None) -> bool:
    """Give ``node`` back to scheduling. Gives whether it was in maintenance; run again it changes nothing."""
    with transaction.atomic():
        was_out = bool(
            Node.objects.filter(pk=node.pk, scheduling=Scheduling.MAINTENANCE).update(
                scheduling=Scheduling.ENABLED,
                scheduling_reason="",
                scheduling_by=actor.user,
                scheduling_since=timezone.now(),
            )
        )
        _reload(node)
        if was_out:
            text = _("%s: back in scheduling") % node.name
            record("node_enabled", text, node=node, actor=actor, operation=operation)
            publish(NodeChanged(str(node.uuid), node.name))
    return was_out


def _reload(node: Node) -> None:
    columns = ["scheduling", "scheduling_reason", "scheduling_by", "scheduling_since"]
    node.refresh_from_db(fields=columns)
