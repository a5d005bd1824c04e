"""A node's settings: name, labels and notes; how it is reached; who may do what with it."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables
from django.views.decorators.http import require_http_methods

from nodes import access
from nodes.credential_use import with_uses_today
from nodes.engine import jump_hosts, requests
from nodes.errors import AddressDenied, InvalidInput, NodeAdminError, NodeExists, TrustedLabel
from nodes.models import (
    Credential,
    Node,
    NodeGroupObjectPermission,
    NodeUserObjectPermission,
    RoleAssignment,
    RoleScope,
)
from nodes.models.role import matches, selector_of
from nodes.permissions import ADD, CHANGE, NODE_PERMISSIONS, SCAN, get_node, has_for_all
from nodes.second_factor import of_call
from nodes.web.factor import factor_field
from nodes.web.forms.login import ChangeLoginForm
from nodes.web.forms.node import NodeForm
from nodes.web.views import node_page
from nodes.web.views.access import actor_of, request_id_of, user_of
from nodes.web.views.node_add import FIELDS, PLACES, SECRETS, errors_of, form_errors, refused
from nodes.web.views.node_bmc import bmc_facts


@require_http_methods(["GET", "POST"])
def edit(request: HttpRequest, name: str) -> HttpResponse:
    """The tab; a POST changes what is only ours to know."""
    page = node_page.load(request, name, "settings", CHANGE if request.method == "POST" else "view_node")
    node = page.node
    may_force = has_for_all(user_of(request), ADD)
    form = NodeForm.of(node, request.POST if request.method == "POST" else None, may_force=may_force)
    if request.method == "POST" and form.is_valid():
        try:
            changed = requests.update_node(actor_of(request), node, form.cleaned_data)
        except (AddressDenied, InvalidInput, NodeExists, TrustedLabel) as error:
            # The row in memory carries the refused values: the page's head must not show them.
            node.refresh_from_db()
            place = PLACES.get(error.field, error.field)
            words = f"{error.message} {error.remedy}".strip()
            form.add_error(place if place in form.fields else None, words)
        else:
            messages.success(request, _("Saved."))
            return redirect("node-settings", name=changed.name)
    context = {
        "page": page,
        "node": node,
        "form": form,
        "login": login_facts(node),
        "grants": grants_of(node),
        "bmc": bmc_facts(node),
        "factor": factor_field(request, about=of_call("update-node", node.uuid)) if page.may_change else None,
    }
    status = 422 if form.is_bound else 200
    return render(request, "nodes/node_settings.html", context, status=status)


def login_facts(node: Node) -> dict[str, Any]:
    """How the node is reached; no secret among it."""
    rows = Credential.objects.filter(node=node).only("kind", "updated_at", "sudo_secret")
    credential = with_uses_today(rows).first()
    return {
        "host_key_type": node.host_key.partition(" ")[0],
        "fingerprint": node.host_key_fingerprint,
        "credential": credential.get_kind_display() if credential else "",
        "has_sudo_password": bool(credential and credential.sudo_secret),
        "uses_today": credential.uses_today or 0 if credential else 0,
        "credential_changed": credential.updated_at if credential else None,
        "ssh": node.uri.startswith("qemu+ssh"),
    }


def grants_of(node: Node) -> list[tuple[str, str, list[str]]]:
    """What people have on this node by grants and by roles for it or its labels: kind of holder, name,
    permissions."""
    found: dict[tuple[str, str], list[str]] = {}
    users = NodeUserObjectPermission.objects.filter(content_object=node)
    groups = NodeGroupObjectPermission.objects.filter(content_object=node)
    for name, permission in users.values_list("user__username", "permission__codename"):
        found.setdefault(("user", name), []).append(permission)
    for name, permission in groups.values_list("group__name", "permission__codename"):
        found.setdefault(("group", name), []).append(permission)
    given = RoleAssignment.objects.in_force().exclude(scope=RoleScope.ALL)
    of_node = given.filter(Q(node=node) | Q(scope=RoleScope.LABELS)).select_related("role", "user", "group")
    for row in of_node:
        if row.scope == RoleScope.NODE or matches(selector_of(row.selector), node.labels):
            names = found.setdefault(("user" if row.user is not None else "group", row.holder), [])
            names += [one for one in row.role.permissions if one in NODE_PERMISSIONS]
    return [(kind, name, sorted(set(names))) for (kind, name), names in sorted(found.items())]


@sensitive_post_parameters(*SECRETS)
@sensitive_variables("form")
@require_http_methods(["GET", "POST"])
def connection(request: HttpRequest, name: str) -> HttpResponse:
    """Another address, host key or credential: checked against the host before they replace the old ones."""
    node = get_node(user_of(request), name, CHANGE)
    if request.method == "GET":
        page = node_page.load(request, name, "settings", CHANGE)
        context = {
            "page": page,
            "node": node,
            "login": login_facts(node),
            "fields": FIELDS,
            "factor": factor_field(request, about=of_call("update-node", node.uuid)),
            "jump_hosts": jump_hosts.choices(),
            "public_key": access.key_line(access.own_key_pair()),
            "may_scan": has_for_all(user_of(request), SCAN),
        }
        return render(request, "nodes/node_connection.html", context)
    before = node.jump_host.name if node.jump_host is not None else ""
    form = ChangeLoginForm(request.POST)
    if not form.is_valid():
        return refused(request, form_errors(form))
    data = form.cleaned_data
    try:
        operation = requests.update_connection(
            actor_of(request),
            node,
            uri=data["uri"] if data["uri"] != node.uri else "",
            fingerprint=data["fingerprint"],
            key_type=data["key_type"],
            credential=form.credential(),
            jump_host=data["jump_host"] if data["jump_host"] != before else None,
            request_id=request_id_of(request),
        )
    except NodeAdminError as error:
        return refused(request, errors_of(error))
    return HttpResponse(status=204, headers={"HX-Redirect": reverse("operation-detail", args=[operation.pk])})
