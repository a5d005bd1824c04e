"""The buttons of a node's head: what this user may do with the node as it is now."""

from __future__ import annotations

from dataclasses import dataclass

from django.urls import reverse
from django.utils.translation import gettext as _

from nodes.models import Bmc, Connection, Node, Operation
from nodes.models.node import Scheduling
from nodes.permissions import DELETE, MAINTAIN, POWER


@dataclass(frozen=True, slots=True)
class Button:
    """Opens a dialog. ``refused`` says why it cannot be used just now, "" where it can."""

    label: str
    icon: str
    url: str
    dangerous: bool = False
    refused: str = ""
    ends_group: bool = False


def buttons_of(node: Node, may: frozenset[str], busy: Operation | None) -> tuple[Button, ...]:
    """Maintenance first; what can hurt stands apart, at the end."""
    refused = _("Another operation is changing this node.") if busy is not None else ""
    calm = [*_maintenance(node, may, refused), *_power_on(node, may, refused)]
    dangerous: list[Button] = []
    if POWER in may:
        dangerous.append(_button(node, _("Reboot"), "rotate-clockwise", "reboot", refused))
        dangerous.append(_button(node, _("Shut down"), "power", "shutdown", refused))
    if DELETE in may:
        dangerous.append(_button(node, _("Remove"), "trash", "delete", refused))
    if calm and dangerous:
        last = calm[-1]
        calm[-1] = Button(last.label, last.icon, last.url, refused=last.refused, ends_group=True)
    return (*calm, *dangerous)


def _maintenance(node: Node, may: frozenset[str], refused: str) -> list[Button]:
    if MAINTAIN not in may:
        return []
    if node.scheduling != Scheduling.MAINTENANCE:
        return [_button(node, _("Maintenance"), "tool", "disable", refused)]
    drain = _button(node, _("Drain"), "stack-2", "disable", refused, "?drain")
    return [_button(node, _("Enable"), "circle-check", "enable", refused), drain]


def _power_on(node: Node, may: frozenset[str], refused: str) -> list[Button]:
    """Only for a host that is not there, and one query then."""
    if POWER not in may or node.connection == Connection.ONLINE:
        return []
    if not Bmc.objects.filter(node=node).exists():
        return []
    return [_button(node, _("Power on"), "bolt", "power-on", refused)]


def _button(node: Node, label: str, icon: str, action: str, refused: str, query: str = "") -> Button:
    url = reverse("node-service", args=[node.name, action]) + query
    return Button(label, icon, url, action in ("reboot", "shutdown", "delete"), refused)
