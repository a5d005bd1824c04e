"""The tab of a node's journal. Its lines come over the API and the socket; here is the frame for them."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from nodes.permissions import VIEW_LOGS
from nodes.web.views import node_page


@require_GET
def logs(request: HttpRequest, name: str) -> HttpResponse:
    """The tab; the query stands in the address, where the script reads it."""
    page = node_page.load(request, name, "logs", VIEW_LOGS)
    return render(request, "nodes/node_logs.html", {"page": page, "node": page.node})
