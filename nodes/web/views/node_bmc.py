"""A node's BMC: its page, a look at its certificate, and its removal."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables
from django.views.decorators.http import require_http_methods, require_POST

from nodes.engine import bmc
from nodes.errors import BmcFailed, NodeAdminError, PermissionDenied
from nodes.hosts.certificates import write_fingerprint
from nodes.models import Bmc, Node
from nodes.permissions import CHANGE, SCAN, get_node, has_for_all
from nodes.second_factor import of_call
from nodes.web.factor import factor_field
from nodes.web.forms.bmc import BmcForm
from nodes.web.views import node_page
from nodes.web.views.access import actor_of, user_of

PLACES = ("url", "user", "password", "system", "certificate_fingerprint")


def bmc_facts(node: Node) -> dict[str, Any] | None:
    """What is shown of the node's BMC; None where it has none. No secret is loaded for it."""
    row = Bmc.objects.filter(node=node).defer("secret").first()
    if row is None:
        return None
    pinned = row.certificate_fingerprint
    return {
        "url": row.url,
        "user": row.user,
        "system": row.system_path,
        "fingerprint": write_fingerprint(pinned) if pinned else "",
        "changed_at": row.updated_at,
    }


@sensitive_post_parameters("password")
@sensitive_variables("form")
@require_http_methods(["GET", "POST"])
def edit(request: HttpRequest, name: str) -> HttpResponse:
    """The form; a POST tries the BMC and keeps it, or says at which field what is wrong."""
    node = get_node(user_of(request), name, CHANGE)
    if request.method == "GET":
        page = node_page.load(request, name, "settings", CHANGE)
        context = {
            "page": page,
            "node": node,
            "bmc": bmc_facts(node) or {},
            "factor": factor_field(request, about=of_call("update-node", node.uuid)),
            "may_scan": has_for_all(user_of(request), SCAN),
        }
        return render(request, "nodes/node_bmc.html", context)
    form = BmcForm(request.POST)
    if not form.is_valid():
        return _refused(request, {field: str(texts[0]) for field, texts in form.errors.items()})
    actor = actor_of(request)
    try:
        bmc.keep_bmc(actor, node, *bmc.try_bmc(actor, node, form.cleaned_data))
    except NodeAdminError as error:
        return _refused(request, _placed(error), _shown(error))
    messages.success(request, _("The BMC answered and is kept."))
    return HttpResponse(status=204, headers={"HX-Redirect": reverse("node-settings", args=[node.name])})


@require_POST
def scan(request: HttpRequest, name: str) -> HttpResponse:
    """The certificate that the BMC shows, to be compared. Trusts nothing, and waits for its deadline."""
    node = get_node(user_of(request), name, CHANGE)
    context: dict[str, Any] = {}
    try:
        address, context["shown"] = bmc.scan_certificate(actor_of(request), node, request.POST.get("url", ""))
        context |= {"host": address.host, "port_text": str(address.port)}
    except PermissionDenied:
        raise
    except NodeAdminError as error:
        context["error"] = error
    return render(request, "nodes/_bmc_certificate.html", context)


@require_POST
def remove(request: HttpRequest, name: str) -> HttpResponse:
    """Forget the BMC and its password."""
    node = get_node(user_of(request), name, CHANGE)
    if bmc.remove_bmc(actor_of(request), node):
        messages.success(request, _("The BMC was removed."))
    return redirect("node-settings", name=node.name)


def _placed(error: NodeAdminError) -> dict[str, str]:
    place = error.field.removeprefix("bmc.")
    if error.extra.get("reason") == "certificate_unknown":
        return {place: _("Nobody vouches for this certificate. Compare its fingerprint, then choose it.")}
    return {place if place in PLACES else "": error.detail()}


def _shown(error: NodeAdminError) -> str:
    """The fingerprint that the BMC shows, where it is what stands in the way."""
    return str(error.extra.get("shown", "")) if isinstance(error, BmcFailed) else ""


def _refused(request: HttpRequest, errors: dict[str, str], shown: str = "") -> HttpResponse:
    """422 with each error for its own place; nothing of what was typed is sent back."""
    context = {
        "placed": [(place, errors.get(place, "")) for place in PLACES],
        "rest": [text for place, text in errors.items() if place not in PLACES],
        "count": len(errors),
        "shown": shown,
    }
    return render(request, "nodes/_bmc_refused.html", context, status=422)
