"""Taking a node in and out of service: one dialog an action, which shows the plan and asks for consent.

The dialog is one form that stays: htmx sends it, and the answer is the form again with the plan or with what
is wrong, so that nothing that was chosen or typed is lost. Once it is agreed to, the page moves on to the
operation.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods

from nodes import second_factor
from nodes.engine import bmc, service
from nodes.errors import (
    ConfirmationInvalid,
    ConfirmationRequired,
    NodeAdminError,
    PlanBlocked,
    PlanChanged,
    RateLimited,
    SecondFactorRequired,
)
from nodes.events import Actor
from nodes.models import Node, Operation
from nodes.models.node import Scheduling
from nodes.operations.node_state.meaning import MAINTENANCE
from nodes.operations.options import OVERRIDES
from nodes.operations.plans import Plan
from nodes.permissions import DELETE, MAINTAIN, POWER, get_node
from nodes.web import plan_view
from nodes.web.display.target_choice import target_rows
from nodes.web.factor import FactorField, factor_field
from nodes.web.forms import service as forms
from nodes.web.views.access import actor_of, request_id_of, user_of
from nodes.web.views.node_detail import operation_of

SEEN_CHARACTERS = 400_000
"""The decisions of the plan that was shown come back with the form; a longer text is none of ours."""


@dataclass(frozen=True, slots=True)
class Action:
    """What a button of the node's head does. ``types_name``: the node's name is asked for."""

    kind: str
    permission: str
    form: type[forms.ServiceForm]
    title: Promise
    words: Promise
    submit: Promise
    icon: str
    dangerous: bool = False
    types_name: bool = False
    plans: bool = True


ACTIONS: Mapping[str, Action] = {
    "disable": Action(
        "disable-node", MAINTAIN, forms.DisableForm,
        gettext_lazy("Maintenance of %s"),
        gettext_lazy("No new VMs come to the node until it is enabled again. Those on it stay."),
        gettext_lazy("Start maintenance"), "tool",
    ),
    "enable": Action(
        "enable-node", MAINTAIN, forms.EnableForm,
        gettext_lazy("End the maintenance of %s"),
        gettext_lazy("The node takes VMs again."),
        gettext_lazy("Enable"), "circle-check",
    ),
    "reboot": Action(
        "reboot-node", POWER, forms.RebootForm,
        gettext_lazy("Reboot %s"),
        gettext_lazy("The host restarts, in maintenance, and is enabled again if it was enabled before."),
        gettext_lazy("Reboot"), "rotate-clockwise", dangerous=True, types_name=True,
    ),
    "shutdown": Action(
        "shutdown-node", POWER, forms.ShutdownForm,
        gettext_lazy("Shut down %s"),
        gettext_lazy("The host is powered off and stays in maintenance."),
        gettext_lazy("Shut down"), "power", dangerous=True, types_name=True,
    ),
    "delete": Action(
        "delete-node", DELETE, forms.DeleteForm,
        gettext_lazy("Remove %s"),
        gettext_lazy("nodeadmin forgets the node and destroys its credential. The host is left as it is."),
        gettext_lazy("Remove"), "trash", dangerous=True, types_name=True,
    ),
    "power-on": Action(
        "power-on-node", POWER, forms.PowerOnForm,
        gettext_lazy("Power on %s"),
        gettext_lazy("The node's BMC is asked to switch the host on."),
        gettext_lazy("Power on"), "power", plans=False,
    ),
}  # fmt: skip


@require_http_methods(["GET", "POST"])
def dialog(request: HttpRequest, name: str, action: str) -> HttpResponse:
    """The dialog; a POST makes the plan, or carries out what was agreed to."""
    found = ACTIONS.get(action)
    if found is None:
        raise Http404
    node = get_node(user_of(request), name, found.permission)
    if request.method == "GET":
        return _show(request, node, action, found.form(initial=_initial(request, found)))
    form = found.form(request.POST)
    if not form.is_valid():
        return _show(request, node, action, form, status=422)
    return _act(request, node, action, form)


def _initial(request: HttpRequest, action: Action) -> dict[str, Any]:
    """What an earlier operation was asked for, where this one is its retry."""
    earlier = operation_of(user_of(request), request.GET.get("retry", ""))
    if earlier is not None and earlier.kind == action.kind:
        return action.form.again(earlier.params)
    return {"drain": True} if "drain" in request.GET else {}


def _act(request: HttpRequest, node: Node, action: str, form: forms.ServiceForm) -> HttpResponse:
    agreed = request.POST.get("step") == "confirm"
    wrong_name = agreed and ACTIONS[action].types_name and request.POST.get("typed", "").strip() != node.name
    token = request.POST.get("confirm_token", "") if agreed and not wrong_name else ""
    error: NodeAdminError | None = None
    try:
        try:
            return _done(request, node, action, _call(request, node, action, form.options(), token))
        except (ConfirmationInvalid, SecondFactorRequired, RateLimited) as refused:
            # Too old, options were changed after the plan was shown, or the second factor is wrong: here is
            # the plan as it is now.
            if not ACTIONS[action].plans:
                raise
            error = refused
            return _done(request, node, action, _call(request, node, action, form.options(), ""))
    except (ConfirmationRequired, PlanBlocked, PlanChanged) as planned:
        return _show(
            request, node, action, form,
            planned=planned, error=error, wrong_name=wrong_name, status=422 if error or wrong_name else 200,
        )  # fmt: skip
    except NodeAdminError as refused:
        if refused.field in form.fields:
            form.add_error(refused.field, refused.message)
        return _show(request, node, action, form, error=refused, status=422)


def _call(
    request: HttpRequest, node: Node, action: str, options: Mapping[str, Any], token: str
) -> Operation | Node:
    actor: Actor = actor_of(request)
    tracked: dict[str, Any] = {"request_id": request_id_of(request)}
    if action == "power-on":
        return bmc.power_on_node(actor, node, **tracked)
    calls: Mapping[str, Callable[..., Operation | Node]] = {
        "disable": service.disable_node,
        "enable": service.enable_node,
        "reboot": service.reboot_node,
        "shutdown": service.shutdown_node,
        "delete": service.delete_node,
    }
    return calls[action](actor, node, options, token, **tracked)


def _done(request: HttpRequest, node: Node, action: str, result: Operation | Node) -> HttpResponse:
    """On to the operation; what needed none is shown where it was asked for."""
    if isinstance(result, Operation):
        address = reverse("operation-detail", args=[result.pk])
        return HttpResponse(status=204, headers={"HX-Redirect": address})
    words = _("%s is in maintenance.") if action == "disable" else _("%s is enabled.")
    messages.success(request, words % node.name)
    return HttpResponse(status=204, headers={"HX-Refresh": "true"})


def _show(
    request: HttpRequest,
    node: Node,
    action: str,
    form: forms.ServiceForm,
    *,
    planned: NodeAdminError | None = None,
    error: NodeAdminError | None = None,
    wrong_name: bool = False,
    status: int = 200,
) -> HttpResponse:
    found = ACTIONS[action]
    again = action == "disable" and node.scheduling == Scheduling.MAINTENANCE
    context: dict[str, Any] = {
        "node": node,
        "slug": action,
        "action": found,
        "title": (_("Drain %s") if again else str(found.title)) % node.name,
        "words": _("The node is in maintenance already.") if again else found.words,
        "submit": found.submit,
        "form": form,
        "policies": forms.POLICIES,
        "targets_before": form.targets(form.data if form.is_bound else form.initial),
        "error": error,
        "wrong_name": wrong_name,
        "typed": request.POST.get("typed", ""),
        "maintenance_means": MAINTENANCE if action in ("disable", "reboot", "shutdown") else "",
    }
    if planned is not None:
        context |= _plan(request, found, form, planned)
    context["factor"] = _factor(request, node, found, planned, error)
    if context["factor"] is not None and context["factor"].error:
        context["error"] = None  # it stands at the field
    return render(request, "nodes/service/dialog.html", context, status=status)


def _factor(
    request: HttpRequest,
    node: Node,
    action: Action,
    planned: NodeAdminError | None,
    error: NodeAdminError | None,
) -> FactorField | None:
    """The field for a second factor, where what the button does next needs one."""
    if not action.plans:
        about = second_factor.of_call(action.kind, node.uuid)
        return factor_field(request, about=about, error=error)
    token = planned.extra.get("confirm_token", "") if planned is not None else ""
    if not token or planned is None:
        return None
    if not service.purpose_of(action.kind, Plan.from_dict(planned.extra["plan"])):
        return None
    return factor_field(request, about=second_factor.of_confirmation(token), error=error)


def _plan(
    request: HttpRequest, action: Action, form: forms.ServiceForm, planned: NodeAdminError
) -> dict[str, Any]:
    before = _seen(request.POST.get("seen", "")) if isinstance(planned, PlanChanged) else None
    choices = OVERRIDES.get(action.kind)
    shown = plan_view.show(
        planned.extra["plan"],
        before=before,
        differences=planned.extra.get("changes", ()),
        choices=form.choices(form.data) if choices else None,
    )
    chosen = form.targets(form.data)
    return {
        "shown": shown,
        "targets": target_rows(shown.plan, chosen) if choices else (),
        "targets_chosen": len(chosen),
        # A choice in the plan keeps the focus where it is.
        "replanned": request.headers.get("HX-Trigger") == "plan-choices",
        "choosing": bool(choices) and any(line.can_choose for line in shown.lines),
        "choices": plan_view.choices_of(choices or ()),
        "token": planned.extra.get("confirm_token", ""),
        "seen": json.dumps(plan_view.digest_of(shown.plan), separators=(",", ":")),
        "blocked_by": planned if isinstance(planned, PlanBlocked) else None,
    }


def _seen(text: str) -> dict[str, Any] | None:
    """The decisions of the plan that was shown, as :func:`plan_view.digest_of` wrote them."""
    if not text or len(text) > SEEN_CHARACTERS:
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or not all(isinstance(row, dict) for row in found.values()):
        return None
    return {uuid: {name: str(value) for name, value in row.items()} for uuid, row in found.items()}
