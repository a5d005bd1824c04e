"""The journal on a page: the whole tab, or a panel that opens filtered to what the page is about."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

from django import template
from django.utils import timezone
from django.utils.translation import gettext as _

from nodes.models import Node, Operation
from nodes.models.operation import LogLevel

register = template.Library()

SUBJECTS: dict[str, tuple[str, ...]] = {
    "vms": ("libvirtd", "qemu"),
    "disks": ("kernel", "smartd", "smartmontools", "multipathd", "udisks2", "mdmonitor"),
    "net": ("kernel", "systemd-networkd", "NetworkManager", "networking", "ovs-vswitchd", "virtnetworkd"),
}
AROUND = timedelta(seconds=30)


@register.inclusion_tag("nodes/_log_panel.html")
def log_view(node: Node) -> dict[str, Any]:
    """The whole tab; its query stands in the page's address."""
    return {"node": node, "embedded": False, **_frame()}


@register.inclusion_tag("nodes/_log_panel.html")
def log_panel(node: Node, subject: str) -> dict[str, Any]:
    """A closed panel with what concerns VMs, disks or the network; nothing is read before it is opened."""
    return _panel(node, _("Journal"), {"service": SUBJECTS[subject]})


@register.inclusion_tag("nodes/_log_panel.html")
def log_panel_between(node: Node, begin: datetime, end: datetime | None) -> dict[str, Any]:
    """A closed panel with what was logged while something ran, and shortly before and after."""
    until = (end or timezone.now()) + AROUND
    span = {"since": [(begin - AROUND).isoformat()], "until": [until.isoformat()], "level": ["6"]}
    return _panel(node, _("Journal of that time"), span)


@register.inclusion_tag("operations/_log.html")
def operation_log(operation: Operation) -> dict[str, Any]:
    """The log that an operation keeps of itself, live until it has ended."""
    levels = (
        ("", _("All"), "neutral"),
        (LogLevel.ERROR.value, _("Error"), "bad"),
        (LogLevel.WARNING.value, _("Warning"), "warn"),
    )
    words = _words() | {
        "ended": _("Ended"),
        "nothing": _("No line fits."),
        "empty": _("Nothing was logged."),
        "waits": _("Nothing yet. New lines appear here."),
        "time": _("Time"),
        "level": _("Level"),
        "step": _("Step"),
        "vm": _("VM"),
    }
    return {"operation": operation, "levels": levels, "words": json.dumps(words)}


def _panel(node: Node, title: str, query: dict[str, Any]) -> dict[str, Any]:
    return {"node": node, "embedded": True, "title": title, "query": json.dumps(query), **_frame()}


def _frame() -> dict[str, Any]:
    levels = (
        ("", _("All"), "neutral"),
        ("3", _("Error"), "bad"),
        ("4", _("Warning"), "warn"),
        ("6", _("Info"), "active"),
        ("7", _("Debug"), "unknown"),
    )
    spans = (
        ("15m", _("Last 15 minutes")),
        ("1h", _("Last hour")),
        ("6h", _("Last 6 hours")),
        ("1d", _("Last day")),
        ("7d", _("Last week")),
        ("", _("From – to")),
    )
    return {"levels": levels, "spans": spans, "words": json.dumps(_words())}


def _words() -> dict[str, str]:
    """What the script says, in the reader's language."""
    return {
        "live": _("Live"),
        "paused": _("Paused"),
        "connecting": _("Connecting"),
        "reconnecting": _("The host is lost; trying again"),
        "waiting": _("Waiting for its turn"),
        "ended": _("Ended"),
        "loading": _("Loading"),
        "done": _("Loaded"),
        "error": _("Stopped"),
        "lost": _("The server does not answer; trying again"),
        "gap": _("The journal was shortened here: lines may be missing"),
        "boot": _("Boot"),
        "new": _("new"),
        "line": _("line"),
        "lines": _("lines"),
        "nothing": _("No entry fits this query."),
        "waits": _("No entry fits yet. New ones appear here."),
        "beginning": _("All that fits is shown."),
        "cut_time": _(
            "The search was ended by a limit before it was through: go on with “Earlier”, or narrow it."
        ),
        "binary": _("binary"),
        "cut": _("cut"),
        "unread": _("message could not be read"),
        "repeats": _("times in a row"),
        "dropped": _("Older lines were taken off this page; they are still in the journal."),
        "searched_here": _("This host's journalctl cannot search; nodeadmin searched for it."),
        "no_detail": _("A line of a VM's own log has no further fields."),
        "remove": _("Remove"),
    }
