"""The record of what happened."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, time, timedelta
from typing import Any

from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.dateparse import parse_date, parse_datetime
from django.utils.timezone import get_current_timezone, is_naive, make_aware
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET

from nodes.models import Event
from nodes.models.event import Category, Severity
from nodes.permissions import events_for
from nodes.web.listing import Column, export_rows, list_rows, named, order_rows, wanted_order
from nodes.web.views.access import user_of
from nodes.web.views.node_list import Chip

FILTERS = ("category", "severity", "kind", "node", "user", "since", "until", "find")


def columns() -> tuple[Column, ...]:
    return (
        Column(_("Time"), "time", ("created_at",), descending=True),
        Column("", css="narrow"),
        Column(_("Event")),
        Column(_("Node"), "node", ("node_name",)),
        Column(_("User"), "user", ("user_name",)),
        Column(_("From")),
    )


@require_GET
def event_list(request: HttpRequest) -> HttpResponse:
    """Events that the user may see, newest first."""
    everything = events_for(user_of(request))
    filters = {name: request.GET.get(name, "").strip()[:120] for name in FILTERS}
    rows: QuerySet[Event] = everything
    for name in ("category", "severity", "kind"):
        if filters[name]:
            rows = rows.filter(**{name: filters[name]})
    rows = named(named(rows, "node_name", filters["node"]), "user_name", filters["user"])
    since, until = moment_of(filters["since"]), moment_of(filters["until"], ends=True)
    if since is not None:
        rows = rows.filter(created_at__gte=since)
    if until is not None:
        rows = rows.filter(created_at__lt=until)
    if filters["find"]:
        rows = rows.filter(message__icontains=filters["find"])
    shown = columns()
    rows = order_rows(rows, shown, wanted_order(request, shown))
    exported = export_rows(request, "events", rows, record)
    if exported is not None:
        return exported
    listing = list_rows(request, rows, shown)
    context = {
        "listing": listing,
        "filters": filters,
        "categories": [
            Chip(
                str(value.label),
                None,
                filters["category"] == value,
                None if filters["category"] == value else value,
                "neutral",
            )
            for value in Category
        ],
        "severities": severity_chips(filters["severity"]),
        "kinds": everything.order_by("kind").values_list("kind", flat=True).distinct(),
        "filtered": any(filters.values()),
    }
    template = "events/event_list.html"
    return render(request, f"{template}#list" if request.htmx else template, context)  # type: ignore[attr-defined]


def severity_chips(chosen: str) -> tuple[Chip, ...]:
    tones = {Severity.ERROR: "bad", Severity.WARNING: "warn", Severity.INFO: "neutral"}
    return tuple(
        Chip(str(value.label), None, chosen == value, None if chosen == value else value, tone)
        for value, tone in tones.items()
    )


def moment_of(text: str, *, ends: bool = False) -> datetime | None:
    """``?since=`` or ``?until=`` as a time; what is none is ignored. A day that ``ends`` a span is in it."""
    try:
        # A bare day first: to parse_datetime it would be its midnight.
        day = parse_date(text)
        found = parse_datetime(text) if day is None else None
        if day is not None:
            found = datetime.combine(day + timedelta(days=1) if ends else day, time.min)
    except (ValueError, OverflowError):
        return None
    if found is None:
        return None
    return make_aware(found, get_current_timezone()) if is_naive(found) else found


def record(event: Event) -> Mapping[str, Any]:
    return {
        "time": event.created_at.isoformat(),
        "number": event.number,
        "category": event.category,
        "kind": event.kind,
        "severity": event.severity,
        "node": event.node_name,
        "user": event.user_name,
        "source_ip": event.source_ip,
        "via": event.via,
        "token": event.token_name,
        "target_type": event.target_type,
        "target_id": event.target_id,
        "target": event.target_name,
        "message": event.message,
        "operation": event.operation_ref or (str(event.operation_id) if event.operation_id else None),
        "data": event.data,
    }
