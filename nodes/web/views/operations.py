"""Operations: the list, and one with its steps live."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.contrib import messages
from django.db.models import Count, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_POST

from nodes.engine import submit
from nodes.errors import NodeAdminError, RateLimited, SecondFactorRequired, UnknownOperation
from nodes.models import Operation, OperationStatus, StepStatus, User
from nodes.models.operation import UNFINISHED
from nodes.operations.base import PlannedKind
from nodes.operations.registry import KINDS, kind_of
from nodes.permissions import ADD, VIEW_LOGS, operations_for, permissions_on, require
from nodes.web import plan_view
from nodes.web.factor import ask_for_factor
from nodes.web.listing import Column, export_rows, list_rows, named, order_rows, wanted_order
from nodes.web.operation_titles import title_of
from nodes.web.views.access import actor_of, request_id_of, user_of
from nodes.web.views.node_list import Chip
from nodes.web.waiting import listed, words_of
from nodes.web.work_view import changes_of, proof_of, shown_steps

# The credential of an unfinished add-node is sealed in the row: a page never loads it.
SHOWN_WITHOUT = ("secret",)
ENDED_WELL = (StepStatus.SUCCEEDED, StepStatus.SKIPPED)
FILTERS = ("status", "kind", "node", "user")


def columns() -> tuple[Column, ...]:
    return (
        Column(_("Status"), "status", ("status",)),
        Column(_("Operation")),
        Column(_("Node"), "node", ("node_name",)),
        Column(_("Requested by"), "user", ("requested_by_name",)),
        Column(_("Created"), "created", ("created_at",), "right", descending=True),
        Column(_("Duration"), css="right"),
    )


@require_GET
def operation_list(request: HttpRequest) -> HttpResponse:
    """Operations that the user may see, newest first."""
    everything = operations_for(user_of(request))
    filters = {name: request.GET.get(name, "").strip()[:150] for name in FILTERS}
    rows: QuerySet[Operation] = everything.defer(*SHOWN_WITHOUT)
    if filters["status"] == "running":
        rows = rows.filter(status__in=UNFINISHED)
    elif filters["status"] in OperationStatus.values:
        rows = rows.filter(status=filters["status"])
    if filters["kind"]:
        rows = rows.filter(kind=filters["kind"])
    rows = named(named(rows, "node_name", filters["node"]), "requested_by_name", filters["user"])
    shown = columns()
    rows = order_rows(rows, shown, wanted_order(request, shown))
    exported = export_rows(request, "operations", rows, record)
    if exported is not None:
        return exported
    listing = list_rows(request, rows, shown)
    counts = dict(everything.order_by().values_list("status").annotate(Count("pk")))
    context = {
        "listing": listing,
        "operations": listed(listing.page),
        "filters": filters,
        "statuses": _chips(counts, filters["status"]),
        "kinds": [kind.kind for kind in KINDS],
        "total": sum(counts.values()),
        "filtered": any(filters.values()),
    }
    template = "operations/operation_list.html"
    return render(request, f"{template}#list" if request.htmx else template, context)  # type: ignore[attr-defined]


def _chips(counts: Mapping[str, int], chosen: str) -> tuple[Chip, ...]:
    running = sum(counts.get(status, 0) for status in UNFINISHED)
    shown = [
        (_("Unfinished"), "running", running, "active"),
        (_("Failed"), "failed", counts.get(OperationStatus.FAILED, 0), "bad"),
        (_("Succeeded"), "succeeded", counts.get(OperationStatus.SUCCEEDED, 0), "good"),
        (_("Cancelled"), "cancelled", counts.get(OperationStatus.CANCELLED, 0), "neutral"),
    ]
    return tuple(
        Chip(label, count, chosen == value, None if chosen == value else value, tone)
        for label, value, count, tone in shown
    )


def record(operation: Operation) -> Mapping[str, Any]:
    return {
        "id": str(operation.pk),
        "kind": operation.kind,
        "node": operation.node_name,
        "status": operation.status,
        "requested_by": operation.requested_by_name,
        "source_ip": operation.source_ip,
        "created_at": operation.created_at.isoformat(),
        "started_at": operation.started_at.isoformat() if operation.started_at else None,
        "finished_at": operation.finished_at.isoformat() if operation.finished_at else None,
        "message": operation.message,
        "error_code": (operation.error or {}).get("code"),
    }


def find(user: User, pk: Any) -> Operation:
    """One operation with its steps. Raises UnknownOperation where the user may not see it."""
    rows = operations_for(user).select_related("node").prefetch_related("steps").defer(*SHOWN_WITHOUT)
    found = rows.filter(pk=pk).first()
    if found is None:
        raise UnknownOperation(_("There is no such operation, or you may not see it."))
    return found


def may_act(user: User, operation: Operation) -> bool:
    """Cancel and retry need what the operation itself needed."""
    kind = kind_of(operation.kind)
    if kind is None:
        return False
    if operation.node is not None:
        return kind.permission in permissions_on(user, operation.node)
    try:
        require(user, kind.permission)
    except NodeAdminError:
        return False
    return True


@require_GET
def detail(request: HttpRequest, pk: Any) -> HttpResponse:
    """One operation; while it runs, the page asks for its body again every second."""
    user = user_of(request)
    operation = find(user, pk)
    steps = list(operation.steps.all())
    may = may_act(user, operation)
    again = may and operation.status in (OperationStatus.FAILED, OperationStatus.CANCELLED)
    context = {
        "operation": operation,
        "title": title_of(operation),
        "waiting": words_of(operation),
        "steps": steps,
        "lines": shown_steps(operation, steps),
        "done": sum(step.status in ENDED_WELL for step in steps),
        "may_act": may,
        "retryable": again and is_retriable(operation),
        "retry_url": retry_url(operation) if again else "",
        "proof": proof_of(steps),
        "changes": changes_of(operation, steps),
        "shown": plan_view.show(operation.plan) if operation.plan else None,
        "reads_logs": reads_logs(user, operation),
    }
    template = "operations/operation_detail.html"
    return render(request, f"{template}#body" if request.htmx else template, context)  # type: ignore[attr-defined]


def is_retriable(operation: Operation) -> bool:
    """Whether a call without any input can repeat it."""
    kind = kind_of(operation.kind)
    can = kind is None or kind.retriable
    return can and not operation.params.get("has_secret") and operation.kind != ADD


def retry_url(operation: Operation) -> str:
    """Where a kind with a dialog is asked for again: a plan of then no longer holds, and a second factor
    counts once. "" for other kinds."""
    asked = isinstance(kind_of(operation.kind), PlannedKind) or operation.kind == "power-on-node"
    if operation.node is None or not asked:
        return ""
    address = reverse("node-service", args=[operation.node.name, operation.kind.removesuffix("-node")])
    return f"{address}?retry={operation.pk}"


def reads_logs(user: User, operation: Operation) -> bool:
    """Whether the host's journal of that time belongs on the page: it failed, and the user may read it."""
    if operation.status != OperationStatus.FAILED or operation.node is None or operation.started_at is None:
        return False
    return VIEW_LOGS in permissions_on(user, operation.node)


@require_POST
def cancel_one(request: HttpRequest, pk: Any) -> HttpResponse:
    operation = _for_action(request, pk)
    submit.cancel(operation, actor=actor_of(request))
    if operation.is_finished:
        messages.success(request, _("The operation was cancelled."))
    else:
        messages.info(request, _("The operation ends at its next safe point."))
    return redirect("operation-detail", pk=operation.pk)


@require_POST
def retry_one(request: HttpRequest, pk: Any) -> HttpResponse:
    operation = _for_action(request, pk)
    try:
        again = submit.retry(operation, actor=actor_of(request), request_id=request_id_of(request))
    except (SecondFactorRequired, RateLimited) as error:
        return ask_for_factor(
            request,
            error,
            about=submit.about_retry(operation),
            title=_("Retry this operation?"),
            words=title_of(operation),
            action=_("Retry"),
            back=reverse("operation-detail", args=[operation.pk]),
        )
    return redirect("operation-detail", pk=again.pk)


def _for_action(request: HttpRequest, pk: Any) -> Operation:
    user = user_of(request)
    operation = find(user, pk)
    kind = kind_of(operation.kind)
    if kind is not None:
        require(user, kind.permission, operation.node)
    return operation


@require_GET
def running(request: HttpRequest) -> HttpResponse:
    """How many operations run: the frame asks for this every few seconds."""
    return render(request, "components/running.html")
