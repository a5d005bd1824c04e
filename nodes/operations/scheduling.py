"""Cordon and uncordon: the one place that writes ``Node.scheduling``."""

from __future__ import annotations

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from nodes.events import Actor, NodeChanged, publish, record
from nodes.models import HeldAutostart, Node, Operation, Scheduling
from nodes.operations.node_state.maintenance_vms import forget


def cordon(node: Node, *, reason: str, actor: Actor, operation: Operation | None = None) -> bool:
    """Put the node into maintenance: nothing moves to it any more. False where it was there already.

    What a person gave as the reason for an earlier maintenance then stays, as does who did it and since when.
    ``node`` is brought up to date.
    """
    return _change(node, Scheduling.MAINTENANCE, reason, actor, operation)


def uncordon(node: Node, *, actor: Actor, operation: Operation | None = None) -> bool:
    """Take the node out of maintenance. False where it was enabled already."""
    return _change(node, Scheduling.ENABLED, "", actor, operation)


def _change(node: Node, wanted: Scheduling, reason: str, actor: Actor, operation: Operation | None) -> bool:
    with transaction.atomic():
        # Conditional, so that of two who ask at once one leaves an event.
        changed = (
            Node.objects.filter(pk=node.pk)
            .exclude(scheduling=wanted)
            .update(
                scheduling=wanted,
                scheduling_reason=reason,
                scheduling_by=actor.user,
                scheduling_since=timezone.now(),
            )
        )
        node.refresh_from_db(fields=["scheduling", "scheduling_reason", "scheduling_by", "scheduling_since"])
        if not changed:
            return False
        disabled = wanted == Scheduling.MAINTENANCE
        forget(node)
        if not disabled:
            # What is held of a node that is enabled is owed to it from this very moment on.
            HeldAutostart.objects.filter(node=node.pk).release()
        text = _("%s entered maintenance") if disabled else _("%s left maintenance")
        record(
            "node_disabled" if disabled else "node_enabled",
            (text % node.name) + (f": {reason}" if reason else ""),
            node=node,
            actor=actor,
            operation=operation,
            data={"reason": reason} if reason else {},
        )
        publish(NodeChanged(str(node.uuid), node.name))
    return True
