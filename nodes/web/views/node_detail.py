"""A node's page: its overview, one tab a section of the inventory, its operations and events."""

from __future__ import annotations

from uuid import UUID

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.template import TemplateDoesNotExist
from django.template.loader import select_template
from django.views.decorators.http import require_GET, require_POST

from nodes.engine import requests
from nodes.inventory.registry import section as section_of
from nodes.models import Operation, User
from nodes.permissions import events_for, get_node, operations_for
from nodes.web import plain_facts, sections
from nodes.web.listing import list_rows
from nodes.web.views import node_page
from nodes.web.views.access import actor_of, request_id_of, user_of
from nodes.web.views.events import columns as event_columns
from nodes.web.views.operations import columns as operation_columns
from nodes.web.waiting import listed, words_of


@require_GET
def overview(request: HttpRequest, name: str) -> HttpResponse:
    """The summary section."""
    return section(request, name, node_page.OVERVIEW)


@require_GET
def section(request: HttpRequest, name: str, slug: str) -> HttpResponse:
    """One section: its own template where it has one, else its facts as they are."""
    try:
        found = section_of(slug)
    except KeyError:
        raise Http404 from None
    page = node_page.load(request, name, slug)
    known = node_page.facts_of(page.node, slug, *sections.COMPANIONS.get(slug, ()))
    facts = known.pop(slug)
    context = {"page": page, "node": page.node, "section": found, "facts": facts}
    context["problems"] = page.problems.get(slug, [])
    if facts is not None:
        context |= sections.prepare(slug, facts, known)
    own = f"nodes/inventory/{slug}.html"
    try:
        template = select_template([own])
    except TemplateDoesNotExist:
        context["shown"] = plain_facts.to_block("", facts) if facts is not None else None
        return render(request, "nodes/node_section.html", context)
    return HttpResponse(template.render(context, request))


@require_POST
def refresh(request: HttpRequest, name: str) -> HttpResponse:
    """Ask for a new inventory; the answer is the age line, which then shows its progress."""
    node = get_node(user_of(request), name)
    operation = requests.refresh_node(actor_of(request), node, request_id=request_id_of(request))
    context = {"node": node, "refreshing": operation, "waiting": words_of(operation)}
    return render(request, "nodes/_observed.html", context)


@require_GET
def observed(request: HttpRequest, name: str) -> HttpResponse:
    """The age line again. Once the refresh has ended, the page is told to fetch its figures anew."""
    user = user_of(request)
    node = get_node(user, name)
    operation = operation_of(user, request.GET.get("operation", ""))
    ended = operation is None or operation.is_finished
    context = {
        "node": node,
        "refreshing": None if ended else operation,
        "waiting": words_of(operation),
        "ended": operation if ended else None,
    }
    response = render(request, "nodes/_observed.html", context)
    if ended:
        response["HX-Trigger"] = "inventory-refreshed"
    return response


def operation_of(user: User, text: str) -> Operation | None:
    """The operation of an id from a URL; None where it is none or none that the user may see."""
    try:
        return operations_for(user).defer("secret").filter(pk=UUID(text)).first()
    except ValueError:
        return None


@require_GET
def operations(request: HttpRequest, name: str) -> HttpResponse:
    """The node's operations, newest first."""
    page = node_page.load(request, name, "operations")
    rows = operations_for(user_of(request)).filter(node=page.node).defer("secret", "params", "result")
    listing = list_rows(request, rows, operation_columns())
    context = {"page": page, "node": page.node, "listing": listing, "operations": listed(listing.page)}
    return render(request, "nodes/node_operations.html", context)


@require_GET
def events(request: HttpRequest, name: str) -> HttpResponse:
    """The node's part of the record."""
    page = node_page.load(request, name, "events")
    listing = list_rows(request, events_for(user_of(request)).filter(node=page.node), event_columns())
    return render(request, "nodes/node_events.html", {"page": page, "node": page.node, "listing": listing})
