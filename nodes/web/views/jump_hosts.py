"""Jump hosts: the list, and the form that adds or changes one."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from nodes import access
from nodes.engine import jump_hosts, scans
from nodes.errors import (
    HostKeyRequired,
    InvalidInput,
    JumpHostInUse,
    NodeAdminError,
    RateLimited,
    SecondFactorRequired,
)
from nodes.models import JumpHost
from nodes.permissions import MANAGE_SSH, SCAN, has_for_all
from nodes.web.factor import ask_for_factor, factor_field
from nodes.web.forms.jump_host import JumpHostForm
from nodes.web.views.access import actor_of, user_of
from nodes.web.views.node_add import PLACES, SECRETS, errors_of, form_errors, refused

PAGE = 50
FIELDS = ("name", "host", "port", "through", "fingerprint", "kind", "user", "private_key", "password")


@require_GET
def listing(request: HttpRequest) -> HttpResponse:
    user = user_of(request)
    jump_hosts.require_sight(user)
    rows = jump_hosts.counted(jump_hosts.visible_to(user))
    page = Paginator(rows, PAGE).get_page(request.GET.get("page"))
    context = {"page": page, "may_manage": has_for_all(user, MANAGE_SSH)}
    return render(request, "settings/jump_hosts.html", context)


@sensitive_post_parameters(*SECRETS)
@sensitive_variables("form")
@require_http_methods(["GET", "POST"])
def add(request: HttpRequest) -> HttpResponse:
    jump_hosts.require_management(user_of(request))
    if request.method == "GET":
        return _form(request, None)
    form = JumpHostForm(request.POST)
    if not form.is_valid():
        return refused(request, form_errors(form), FIELDS)
    data = form.cleaned_data
    try:
        credential = form.credential()
        if credential is None:
            raise InvalidInput(_("Choose how to log in."), field="credential.kind")
        row = jump_hosts.add(
            actor_of(request),
            name=data["name"],
            host=data["host"],
            port=data["port"] or 22,
            fingerprint=data["fingerprint"],
            key_type=data["key_type"],
            credential=credential,
            jump_host=_front(data["through"]),
        )
    except NodeAdminError as error:
        return refused(request, _placed(error), FIELDS)
    messages.success(request, _("Jump host %s added.") % row.name)
    return HttpResponse(status=204, headers={"HX-Redirect": reverse("jump-hosts")})


@sensitive_post_parameters(*SECRETS)
@sensitive_variables("form")
@require_http_methods(["GET", "POST"])
def change(request: HttpRequest, pk: int) -> HttpResponse:
    jump_hosts.require_management(user_of(request))
    row = _find(pk)
    if request.method == "GET":
        return _form(request, row)
    form = JumpHostForm(request.POST)
    if not form.is_valid():
        return refused(request, form_errors(form), FIELDS)
    data = form.cleaned_data
    try:
        changed = jump_hosts.update(
            actor_of(request),
            row,
            name=data["name"],
            host=data["host"],
            port=data["port"],
            user=data["user"],
            fingerprint=data["fingerprint"],
            key_type=data["key_type"],
            credential=form.credential(),
            jump_host=_front(data["through"]),
        )
    except NodeAdminError as error:
        return refused(request, _placed(error), FIELDS)
    messages.success(request, _("Jump host %s changed.") % changed.name)
    return HttpResponse(status=204, headers={"HX-Redirect": reverse("jump-hosts")})


@require_POST
def remove(request: HttpRequest, pk: int) -> HttpResponse:
    jump_hosts.require_management(user_of(request))
    row = _find(pk)
    try:
        jump_hosts.remove(actor_of(request), row)
    except (SecondFactorRequired, RateLimited) as error:
        return ask_for_factor(
            request,
            error,
            about=jump_hosts.about_removal(row),
            title=_("Remove the jump host “%s”?") % row.name,
            action=_("Remove"),
            back=reverse("jump-hosts"),
            dangerous=True,
        )
    except JumpHostInUse as error:
        messages.error(request, error.detail())
    else:
        messages.success(request, _("Jump host %s removed.") % row.name)
    return redirect("jump-hosts")


@require_POST
def scan(request: HttpRequest) -> HttpResponse:
    """The keys that the jump host shows, to be compared. Trusts nothing; waits for it for its deadline."""
    jump_hosts.require_management(user_of(request))
    context: dict[str, Any] = {}
    try:
        given = request.POST.get("port", "")
        uri = jump_hosts.checked_address(
            request.POST.get("host", ""), int(given) if given.isdecimal() else 22
        )
        front = _front(request.POST.get("through", ""))
        through = front.name if front is not None else ""
        uri, found = scans.scan_host_key(actor_of(request), uri.canonical(), through)
        context |= {
            "keys": found.keys,
            "host": uri.host,
            "missing_types": [kind for item in found.missing for kind in item.types],
            "missing_reasons": list(dict.fromkeys(item.error.detail() for item in found.missing)),
        }
    except NodeAdminError as error:
        context["error"] = error
    return render(request, "nodes/_host_keys.html", context)


def _find(pk: int) -> JumpHost:
    row = jump_hosts.all_rows().filter(pk=pk).first()
    if row is None:
        raise Http404
    return row


def _front(name: str) -> JumpHost | None:
    return jump_hosts.named(name) if name else None


def _form(request: HttpRequest, row: JumpHost | None) -> HttpResponse:
    words = row.name if row is not None else _("Add jump host")
    context = {
        "row": row,
        "factor": factor_field(
            request, about=jump_hosts.about_update(row) if row is not None else jump_hosts.ADDED
        ),
        "choices": [name for name in jump_hosts.choices() if row is None or name != row.name],
        "may_scan": has_for_all(user_of(request), SCAN),
        "public_key": access.key_line(access.own_key_pair()),
        "crumbs": (
            (_("Settings"), reverse("settings")),
            (_("Jump hosts"), reverse("jump-hosts")),
            (words, ""),
        ),
    }
    return render(request, "settings/jump_host_form.html", context)


def _placed(error: NodeAdminError) -> dict[str, str]:
    """An error by the place where it is shown; "" for one that belongs to no field."""
    if error.field == "jump_host":
        return {"through": error.detail()}
    place = PLACES.get(error.field, error.field)
    if isinstance(error, HostKeyRequired):
        return errors_of(error)
    return {place: error.detail()} if place in FIELDS else errors_of(error)
