"""Adding a node: address, host key, credential and checks on one page.

The page is one form that stays where it is: htmx sends parts of it and swaps the answers in beside what was
typed, so a failure loses nothing and no secret is ever sent back.
"""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from nodes import access
from nodes.engine import jump_hosts, requests, scans
from nodes.errors import HostKeyRequired, InvalidUri, NodeAdminError, PermissionDenied
from nodes.models import Node, NodeType
from nodes.models.node import name_validator
from nodes.permissions import ADD, SCAN, has_for_all, require
from nodes.web.factor import factor_field
from nodes.web.forms.login import AddNodeForm, LoginForm
from nodes.web.views.access import actor_of, request_id_of, user_of
from nodes.web.views.operations import find
from nodes.web.waiting import words_of
from nodes.web.work_view import shown_steps

SECRETS = ("private_key", "passphrase", "password", "sudo_password")
FIELDS = (
    "name",
    "uri",
    "jump_host",
    "type",
    "labels",
    "fingerprint",
    "kind",
    "user",
    "private_key",
    "password",
    "sudo_password",
)
# What the API calls a field, and the place in the form where its error is shown.
PLACES = {
    "host_key_fingerprint": "fingerprint",
    "credential": "kind",
    "credential.kind": "kind",
    "credential.user": "user",
    "credential.private_key": "private_key",
    "credential.passphrase": "private_key",
    "credential.password": "password",
    "credential.sudo_password": "sudo_password",
    "node_type": "type",
}


@sensitive_post_parameters(*SECRETS)
@require_http_methods(["GET", "POST"])
def add(request: HttpRequest) -> HttpResponse:
    """The form, and its sending off: the answer is the list of checks, or what is wrong with the input."""
    require(user_of(request), ADD)
    if request.method == "POST":
        return _submit(request)
    context = {
        "form": AddNodeForm(),
        "factor": factor_field(request, about="add-node"),
        "fields": FIELDS,
        "public_key": access.key_line(access.own_key_pair()),
        "jump_hosts": jump_hosts.choices(),
        "types": NodeType.choices,
        "allow_test": settings.NODEADMIN_ALLOW_TEST_URI,
        "may_scan": has_for_all(user_of(request), SCAN),
        "crumbs": ((_("Nodes"), reverse("node-list")), (_("Add node"), "")),
    }
    return render(request, "nodes/node_add.html", context)


@sensitive_variables("form", "credential")
def _submit(request: HttpRequest) -> HttpResponse:
    form = AddNodeForm(request.POST)
    if not form.is_valid():
        return refused(request, form_errors(form))
    data = form.cleaned_data
    try:
        operation = requests.add_node(
            actor_of(request),
            name=data["name"],
            uri=data["uri"],
            node_type=data["type"],
            labels=data["labels"],
            fingerprint=data["fingerprint"],
            key_type=data["key_type"],
            credential=form.credential(),
            jump_host=data["jump_host"],
            request_id=request_id_of(request),
        )
    except NodeAdminError as error:
        return refused(request, errors_of(error))
    return render(request, "nodes/_add_started.html", _progress(operation) | {"fields": FIELDS})


def form_errors(form: LoginForm) -> dict[str, str]:
    """The first error of each field of the form, by the place where it is shown."""
    return {PLACES.get(name, name): str(texts[0]) for name, texts in form.errors.items()}


def errors_of(error: NodeAdminError) -> dict[str, str]:
    """An error by the place where it is shown; "" for one that belongs to no field."""
    if isinstance(error, HostKeyRequired):
        return {"fingerprint": _("Scan the host's key, compare it with what the host says, and choose it.")}
    found = {PLACES.get(e["field"], e["field"]): e["message"] for e in error.errors if e.get("field")}
    place = PLACES.get(error.field, error.field)
    found.setdefault(place if place in FIELDS else "", error.detail())
    return found


def refused(request: HttpRequest, errors: dict[str, str], fields: tuple[str, ...] = FIELDS) -> HttpResponse:
    """422 with each error for its own place; nothing of what was typed is sent back."""
    placed = [(name, errors.get(name, "")) for name in fields]
    rest = [text for name, text in errors.items() if name not in fields]
    context = {"placed": placed, "rest": rest, "count": len(errors)}
    return render(request, "nodes/_add_refused.html", context, status=422)


@require_POST
def check(request: HttpRequest) -> HttpResponse:
    """What is wrong with the address and the name so far, while they are typed. Reaches no host."""
    require(user_of(request), ADD)
    uri, name = request.POST.get("uri", "").strip(), request.POST.get("name", "").strip()
    context: dict[str, Any] = {"uri_error": "", "canonical": "", "transport": "", "name_error": ""}
    if uri:
        try:
            parsed = access.read_uri(uri)
        except InvalidUri as error:
            context |= {"uri_error": error.message, "uri_remedy": error.remedy}
        else:
            context |= {"canonical": parsed.canonical(), "transport": parsed.transport, "uri": parsed}
    if name:
        context["name_error"] = _name_error(name)
    return render(request, "nodes/_add_check.html", context)


def _name_error(name: str) -> str:
    try:
        name_validator(name)
    except ValidationError as error:
        return str(error.messages[0])
    return _("This name is taken.") if Node.objects.filter(name=name).exists() else ""


@require_POST
def scan(request: HttpRequest) -> HttpResponse:
    """The keys that the host shows, to be compared. Trusts nothing; waits for the host for its deadline."""
    context: dict[str, Any] = {}
    try:
        jump_host = request.POST.get("jump_host", "")
        uri, found = scans.scan_host_key(actor_of(request), request.POST.get("uri", ""), jump_host)
        context |= {
            "keys": found.keys,
            "host": uri.host,
            "missing_types": [kind for item in found.missing for kind in item.types],
            "missing_reasons": list(dict.fromkeys(item.error.detail() for item in found.missing)),
        }
    except PermissionDenied:
        raise
    except NodeAdminError as error:
        context["error"] = error
    return render(request, "nodes/_host_keys.html", context)


@require_GET
def progress(request: HttpRequest, pk: Any) -> HttpResponse:
    """The checks of one attempt, asked for every second until it has ended."""
    return render(request, "nodes/_add_progress.html", _progress(find(user_of(request), pk)))


def _progress(operation: Any) -> dict[str, Any]:
    steps = list(operation.steps.all())
    return {
        "operation": operation,
        "steps": steps,
        "lines": shown_steps(operation, steps),
        "waiting": words_of(operation),
    }
