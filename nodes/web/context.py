"""What every page's frame shows. Figures that cost a query are asked for when a template first shows them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from django.db.models import Count, Q
from django.http import HttpRequest
from django.urls import reverse
from django.utils.translation import gettext as _

from nodes import permissions, second_factor
from nodes.models import StepStatus, User
from nodes.models.operation import UNFINISHED
from nodes.web import figures


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the navigation; ``here`` on the page that it leads to and those below it."""

    label: str
    icon: str
    url: str
    here: bool


@dataclass(frozen=True, slots=True)
class Running:
    """What runs: how many operations, and the share of all their steps that have ended (None: no steps)."""

    count: int
    percent: float | None


class Frame:
    """Navigation, what runs, and what the user may start from anywhere."""

    def __init__(self, request: HttpRequest) -> None:
        self._request = request

    @cached_property
    def navigation(self) -> tuple[Entry, ...]:
        path = self._request.path
        entries = (
            (_("Dashboard"), "layout-dashboard", reverse("dashboard")),
            (_("Nodes"), "server-2", reverse("node-list")),
            (_("Devices"), "cpu-2", reverse("device-search")),
            (_("Operations"), "list-check", reverse("operation-list")),
            (_("Events"), "timeline-event", reverse("event-list")),
            (_("Audit log"), "shield-check", reverse("audit-log")),
            (_("Settings"), "settings", reverse("settings")),
        )
        root = reverse("dashboard")
        if path.startswith(reverse("token-list")):
            path = reverse("account")  # whatever its address says, it is a page of the account
        return tuple(
            Entry(label, icon, url, path == url or (url != root and path.startswith(url)))
            for label, icon, url in entries
        )

    @cached_property
    def running(self) -> Running:
        """Operations under way that the user may see: one query."""
        user = self._request.user
        if not isinstance(user, User):
            return Running(0, None)
        ended = Q(steps__status__in=(StepStatus.SUCCEEDED, StepStatus.SKIPPED))
        found = (
            permissions.operations_for(user)
            .filter(status__in=UNFINISHED)
            .order_by()
            .aggregate(
                count=Count("pk", distinct=True), all=Count("steps"), ended=Count("steps", filter=ended)
            )
        )
        share = 100.0 * found["ended"] / found["all"] if found["all"] else None
        return Running(found["count"], share)

    @cached_property
    def may_add_nodes(self) -> bool:
        user = self._request.user
        return isinstance(user, User) and permissions.has_for_all(user, permissions.ADD)

    @property
    def ago_patterns(self) -> str:
        return figures.ago_patterns()


class Account:
    """What the account's pages say of the login that looks at them."""

    def __init__(self, request: HttpRequest) -> None:
        self._request = request

    @property
    def must_enrol(self) -> bool:
        return self._request.user.is_authenticated and not second_factor.may_use(self._request.session)


def account(request: HttpRequest) -> dict[str, Any]:
    """The context processor."""
    return {"account": Account(request)}


def frame(request: HttpRequest) -> dict[str, Any]:
    """The context processor."""
    return {"frame": Frame(request)}
