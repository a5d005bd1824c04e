"""One call for several nodes of the list. Each is a call of its own: one that is refused stops no other."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django.views.decorators.http import require_POST

from nodes.engine import requests, service
from nodes.errors import InvalidInput, NodeAdminError
from nodes.models import Node, Operation
from nodes.operations.node_state.meaning import MAINTENANCE
from nodes.permissions import nodes_for
from nodes.web.tones import Tone
from nodes.web.views.access import actor_of, request_id_of, user_of

MOST_NODES = 100
MOST_REASON = 500


@dataclass(frozen=True, slots=True)
class BulkAction:
    """``asks``: a dialog comes first, for what belongs to the call."""

    title: Promise
    icon: str
    done: Promise
    done_before: Promise
    asks: bool = False


ACTIONS: Mapping[str, BulkAction] = {
    "refresh": BulkAction(
        gettext_lazy("Refresh"),
        "refresh",
        gettext_lazy("A new inventory is being taken"),
        gettext_lazy("A new inventory is being taken"),
    ),
    "disable": BulkAction(
        gettext_lazy("Maintenance"),
        "tool",
        gettext_lazy("In maintenance"),
        gettext_lazy("It was in maintenance already; its reason stays"),
        asks=True,
    ),
    "enable": BulkAction(
        gettext_lazy("Enable"),
        "circle-check",
        gettext_lazy("Enabled"),
        gettext_lazy("It was enabled already"),
    ),
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of the call for one node. ``url`` leads to its operation, or to the node."""

    name: str
    url: str
    tone: Tone
    words: str
    remedy: str = ""

    @property
    def refused(self) -> bool:
        return self.tone == Tone.BAD


@require_POST
def bulk(request: HttpRequest, action: str) -> HttpResponse:
    """The dialog that asks, or the outcome for each node."""
    found = ACTIONS.get(action)
    if found is None:
        raise Http404
    wanted = _wanted(request)
    nodes = list(nodes_for(user_of(request)).filter(uuid__in=wanted).order_by("name"))
    context: dict[str, Any] = {"action": found, "slug": action, "nodes": nodes, "most_reason": MOST_REASON}
    if found.asks and request.POST.get("step") != "go":
        context["maintenance_means"] = MAINTENANCE
        return render(request, "nodes/service/bulk_ask.html", context)
    outcomes = [_apply(request, action, node) for node in nodes]
    missing = len(wanted) - len(nodes)
    context |= {"outcomes": outcomes, "headline": _headline(outcomes, missing), "missing": missing}
    response = render(request, "nodes/service/bulk_done.html", context)
    # The list behind the dialog shows what has become of them.
    response["HX-Trigger-After-Swap"] = json.dumps({"fleet-changed": {}, "bulk-done": {}})
    return response


def _wanted(request: HttpRequest) -> frozenset[UUID]:
    """The nodes that were selected. Raises InvalidInput for none, for too many, and for what is no UUID."""
    try:
        found = frozenset(UUID(text) for text in request.POST.getlist("node"))
    except ValueError:
        raise InvalidInput(_("The selection names something that is no node."), field="node") from None
    if not found:
        raise InvalidInput(_("No node is selected."), field="node")
    if len(found) > MOST_NODES:
        raise InvalidInput(
            _("%(count)d nodes are selected; %(most)d at a time are possible.")
            % {"count": len(found), "most": MOST_NODES},
            field="node",
        )
    return found


def _apply(request: HttpRequest, action: str, node: Node) -> Outcome:
    url = reverse("node-detail", args=[node.name])
    before = node.scheduling
    try:
        result = _call(request, action, node)
    except NodeAdminError as error:
        return Outcome(node.name, url, Tone.BAD, error.message, error.remedy)
    if isinstance(result, Operation):
        url = reverse("operation-detail", args=[result.pk])
    changed = action == "refresh" or node.scheduling != before
    words = ACTIONS[action].done if changed else ACTIONS[action].done_before
    return Outcome(node.name, url, Tone.GOOD, str(words))


def _call(request: HttpRequest, action: str, node: Node) -> Operation | Node:
    actor = actor_of(request)
    if action == "refresh":
        return requests.refresh_node(actor, node, request_id=request_id_of(request))
    if action == "enable":
        return service.enable_node(actor, node, {})
    reason = request.POST.get("reason", "").strip()[:MOST_REASON]
    return service.disable_node(actor, node, {"reason": reason} if reason else {})


def _headline(outcomes: Sequence[Outcome], missing: int) -> str:
    """ "2 done, 1 refused"."""
    refused = sum(outcome.refused for outcome in outcomes) + missing
    done = len(outcomes) + missing - refused
    words = [ngettext("%d node done", "%d nodes done", done) % done] if done else []
    if refused:
        words.append(ngettext("%d refused", "%d refused", refused) % refused)
    return ", ".join(words)
