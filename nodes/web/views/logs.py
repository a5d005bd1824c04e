"""The tab of a node's journal. Its lines come over the API and the socket; here are the frame, and files."""

from __future__ import annotations

from typing import cast

from django.http import HttpRequest, HttpResponse, QueryDict, StreamingHttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET

from nodes.errors import InvalidInput
from nodes.hosts.journal_filters import JournalFilters, read_filters
from nodes.hosts.log_cursor import LogCursor
from nodes.permissions import VIEW_LOGS, get_node
from nodes.web import log_download
from nodes.web.views import node_page
from nodes.web.views.access import user_of

_ONE = ("since", "until", "last", "level", "keyword", "boot", "vm")


@require_GET
def logs(request: HttpRequest, name: str) -> HttpResponse:
    """The tab; the query stands in the address, where the script reads it."""
    page = node_page.load(request, name, "logs", VIEW_LOGS)
    return render(request, "nodes/node_logs.html", {"page": page, "node": page.node})


@require_GET
def download(request: HttpRequest, name: str) -> StreamingHttpResponse:
    """All that a query finds, as a file: the parameters of the tab's address, and ``format``."""
    user = user_of(request)
    node = get_node(user, name, VIEW_LOGS)
    form = request.GET.get("format", "text")
    if form not in log_download.FORMS:
        raise InvalidInput(_("format is text or json."), field="format")
    start = LogCursor(_filters(request.GET))
    session_key = request.session.session_key or ""
    file = log_download.begin(user, session_key, node, start, cast(log_download.Form, form))
    media_type, ending = log_download.FORMS[form]
    stamp = timezone.now().strftime("%Y%m%dT%H%M%SZ")
    return StreamingHttpResponse(
        file,
        content_type=media_type,
        headers={"Content-Disposition": f'attachment; filename="{node.name}-{stamp}.{ending}"'},
    )


def _filters(given: QueryDict) -> JournalFilters:
    values: dict[str, object] = {name: given[name] for name in _ONE if given.get(name)}
    return read_filters({**values, "services": given.getlist("service"), "regex": "regex" in given})
