"""The tab of a node's journal. Its lines come over the API and the socket; here is the frame for them."""

from __future__ import annotations

import json

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET

from nodes.permissions import VIEW_LOGS
from nodes.web.views import node_page


@require_GET
def logs(request: HttpRequest, name: str) -> HttpResponse:
    """The tab; the query stands in the address, where the script reads it."""
    page = node_page.load(request, name, "logs", VIEW_LOGS)
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
    context = {
        "page": page,
        "node": page.node,
        "levels": levels,
        "spans": spans,
        "words": json.dumps(words()),
    }
    return render(request, "nodes/node_logs.html", context)


def words() -> dict[str, str]:
    """What the script says, in the reader's language."""
    return {
        "live": _("Live"),
        "paused": _("Paused"),
        "connecting": _("Connecting"),
        "reconnecting": _("The host is lost; trying again"),
        "waiting": _("Waiting for a channel to the host"),
        "ended": _("Ended"),
        "loading": _("Loading"),
        "done": _("Loaded"),
        "error": _("Stopped"),
        "lost": _("The server does not answer; trying again"),
        "gap": _("The journal was shortened here: lines may be missing"),
        "boot": _("Boot"),
        "new": _("new"),
        "lines": _("lines"),
        "nothing": _("No entry fits this query."),
        "waits": _("No entry fits yet. New ones appear here."),
        "beginning": _("Beginning of what fits"),
        "cut_time": _("The search was ended by its time limit; scroll up to go on."),
        "binary": _("binary"),
        "cut": _("cut"),
        "repeats": _("times in a row"),
        "dropped": _("Older lines were taken off this page; they are still in the journal."),
        "searched_here": _("This host's journalctl cannot search; nodeadmin searched for it."),
        "no_detail": _("A line of a VM's own log has no further fields."),
        "remove": _("Remove"),
    }
