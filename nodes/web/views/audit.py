"""The audit log: who did what, from where and how, with what was before and after; and whether it
verifies."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET

from nodes.audit.exporter import export_states
from nodes.models import AuditHead, Event
from nodes.models.event import Category, Via
from nodes.permissions import AUDIT, events_for, has_for_all
from nodes.web.display.entry_changes import changes_of
from nodes.web.listing import Column, export_rows, list_rows, named, order_rows, wanted_order
from nodes.web.views.access import user_of
from nodes.web.views.events import moment_of, record, severity_chips

FILTERS = (
    *("severity", "kind", "via", "node", "user", "token", "target_type", "target", "source_ip"),
    *("since", "until", "number", "operation", "find"),
)
EQUAL = {
    "severity": "severity",
    "kind": "kind",
    "via": "via",
    "target_type": "target_type",
    "operation": "operation_ref",
}
NAMED = {"node": "node_name", "user": "user_name", "token": "token_name", "target": "target_name"}
HIDDEN = ("severity", "target_type", "operation", "order_by")
LARGEST = 2**63 - 1


def columns() -> tuple[Column, ...]:
    return (
        Column(_("No."), "number", ("number",), css="num", descending=True),
        Column(_("Time"), "time", ("created_at", "number"), descending=True),
        Column("", css="narrow"),
        Column(_("Entry")),
        Column(_("User"), "user", ("user_name",)),
        Column(_("From")),
        Column(_("Changed")),
    )


@require_GET
def audit_log(request: HttpRequest) -> HttpResponse:
    """Entries that the user may see, newest first."""
    user = user_of(request)
    everything = events_for(user).filter(category=Category.AUDIT)
    filters = {name: request.GET.get(name, "").strip()[:255] for name in FILTERS}
    shown = columns()
    rows = order_rows(_filtered(everything, filters).newest_first(), shown, wanted_order(request, shown))
    exported = export_rows(request, "audit-log", rows, record)
    if exported is not None:
        return exported
    listing = list_rows(request, rows, shown)
    reads_all = has_for_all(user, AUDIT)
    context = {
        "listing": listing,
        "entries": [(entry, changes_of(entry)) for entry in listing.page],
        "filters": filters,
        "hidden": [(name, filters.get(name) or request.GET.get(name, "")) for name in HIDDEN],
        "severities": severity_chips(filters["severity"]),
        "ways": Via.choices,
        "kinds": everything.order_by("kind").values_list("kind", flat=True).distinct(),
        "filtered": any(filters.values()),
        "reads_all": reads_all,
        "head": AuditHead.objects.first() if reads_all else None,
        "newest": Event.objects.sealed().last() if reads_all else None,
        "exports": export_states() if reads_all else (),
    }
    template = "events/audit_log.html"
    return render(request, f"{template}#list" if request.htmx else template, context)  # type: ignore[attr-defined]


def _filtered(rows: Any, filters: dict[str, str]) -> Any:
    for name, column in EQUAL.items():
        if filters[name]:
            rows = rows.filter(**{column: filters[name]})
    for name, column in NAMED.items():
        rows = named(rows, column, filters[name])
    if filters["source_ip"]:
        # As text: a part of an address finds those that begin with it.
        rows = rows.filter(source_ip__startswith=filters["source_ip"])
    since, until = moment_of(filters["since"]), moment_of(filters["until"], ends=True)
    if since is not None:
        rows = rows.filter(created_at__gte=since)
    if until is not None:
        rows = rows.filter(created_at__lt=until)
    first, _dash, last = filters["number"].partition("-")
    if first.isascii() and first.isdigit():
        rows = rows.filter(number__gte=min(int(first[:20]), LARGEST))
        end = last if last.isascii() and last.isdigit() else ("" if _dash else first)
        rows = rows.filter(number__lte=min(int(end[:20]), LARGEST)) if end else rows
    if filters["find"]:
        rows = rows.filter(message__icontains=filters["find"])
    return rows
