"""A node's past: what changed in its hardware, and how its disks have aged."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET

from nodes.inventory.registry import SECTIONS
from nodes.models import InventoryChange, SmartReading
from nodes.models.history import ChangeKind
from nodes.permissions import get_node
from nodes.web import plain_facts
from nodes.web.listing import Column, list_rows
from nodes.web.pictures import trend
from nodes.web.views import node_page
from nodes.web.views.access import user_of
from nodes.web.views.node_list import Chip

MOST_READINGS = 400
SHORT = 160


@dataclass(frozen=True, slots=True)
class Line:
    """One change, in words."""

    kind: str
    tone: str
    icon: str
    section: str
    section_url: str
    subject: str
    label: str
    fact: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True)
class Moment:
    """All changes that one inventory found."""

    observed_at: datetime
    lines: tuple[Line, ...]


@require_GET
def changes(request: HttpRequest, name: str) -> HttpResponse:
    """The node's changes as a timeline, newest first."""
    page = node_page.load(request, name, "changes")
    rows = InventoryChange.objects.filter(node=page.node)
    section, kind = request.GET.get("section", ""), request.GET.get("kind", "")
    known = section_titles()
    if section in known:
        rows = rows.filter(section=section)
    if kind in ChangeKind.values:
        rows = rows.filter(kind=kind)
    listing = list_rows(request, rows, (Column(_("Time")),), size=200)
    moments = tuple(
        Moment(at, tuple(line_of(page.node, row, known) for row in group))
        for at, group in groupby(listing.page, key=lambda row: row.observed_at)
    )
    context = {
        "page": page,
        "node": page.node,
        "listing": listing,
        "moments": moments,
        "sections": tuple(
            Chip(label, None, section == slug, None if section == slug else slug)
            for slug, label in known.items()
        ),
        "filtered": section in known or kind in ChangeKind.values,
    }
    return render(request, "nodes/node_changes.html", context)


def section_titles() -> dict[str, str]:
    return {found.slug: _(found.title) for found in SECTIONS}


def line_of(node: Any, row: InventoryChange, known: dict[str, str]) -> Line:
    """A change in words; ``known`` are the titles of sections."""
    tone, icon = {
        ChangeKind.ADDED: ("good", "plus"),
        ChangeKind.REMOVED: ("bad", "trash"),
        ChangeKind.CHANGED: ("neutral", "edit"),
    }[ChangeKind(row.kind)]
    whole = row.kind != ChangeKind.CHANGED
    name = row.path.rpartition(".")[2]
    # What has no key of its own is known by all that it says, which reads better in words.
    subject, _brace, unnamed = row.subject.partition("{")
    label = plain_facts.in_words(name, row.after or row.before) if unnamed else row.label
    return Line(
        str(row.get_kind_display()),
        tone,
        icon,
        known.get(row.section, row.section),
        node_page.section_url(node, row.section),
        subject.rstrip("/"),
        _short(label) if label != subject else "",
        _fact(row),
        None if whole else _short(plain_facts.in_words(name, row.before)),
        None if whole else _short(plain_facts.in_words(name, row.after)),
    )


def _fact(row: InventoryChange) -> str:
    """What changed, from the outside in; "" for a section's own list, which the section's name says."""
    if row.path == row.section:
        return ""
    return " › ".join(plain_facts.words(part) for part in row.path.split("."))


def _short(text: str) -> str:
    """A fact in one line that fits; "" is shown as unknown by the template."""
    return text if len(text) <= SHORT else text[:SHORT] + "…"


@require_GET
def disk_history(request: HttpRequest, name: str) -> HttpResponse:
    """SMART of one disk over time: the part of the page that its details open."""
    node = get_node(user_of(request), name)
    disk = request.GET.get("disk", "")[:255]
    rows = SmartReading.objects.filter(node=node, disk_id=disk)[:MOST_READINGS]
    readings = list(reversed(rows))
    plots = (
        trend.draw(_("Temperature"), "°C", [(r.observed_at, r.temperature_celsius) for r in readings]),
        trend.draw(_("Wear used"), "%", [(r.observed_at, r.wear_used_percent) for r in readings]),
        trend.draw(_("Reallocated sectors"), "", [(r.observed_at, r.reallocated_sectors) for r in readings]),
        trend.draw(_("Pending sectors"), "", [(r.observed_at, r.pending_sectors) for r in readings]),
        trend.draw(_("Media errors"), "", [(r.observed_at, r.media_errors) for r in readings]),
    )
    context = {"readings": readings[::-1], "plots": [plot for plot in plots if plot is not None]}
    return render(request, "nodes/_disk_history.html", context)
