"""Storage that was declared shared: the list, and for administrators a form and a button to withdraw."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST

from nodes.engine import shared_storage
from nodes.errors import NodeAdminError, PermissionDenied
from nodes.models import User
from nodes.permissions import get_node, nodes_for
from nodes.web.forms.shared_storage import SharedStorageForm
from nodes.web.views.access import actor_of, user_of


@require_http_methods(["GET", "POST"])
def declarations(request: HttpRequest) -> HttpResponse:
    user = user_of(request)
    form = SharedStorageForm(request.POST or None)
    if request.method == "POST" and form.is_valid() and _declared(request, form):
        return redirect("shared-storage")
    context = {
        "form": form,
        "rows": _rows(user),
        "may_declare": shared_storage.may(user, "add"),
        "may_withdraw": shared_storage.may(user, "delete"),
    }
    status = 422 if form.errors else 200
    return render(request, "settings/shared_storage.html", context, status=status)


def _declared(request: HttpRequest, form: SharedStorageForm) -> bool:
    """Whether it was declared; where not, the form says why. Raises PermissionDenied."""
    data, user = form.cleaned_data, user_of(request)
    try:
        row = shared_storage.declare(
            actor_of(request),
            kind=data["kind"],
            name=data["name"],
            nodes=[get_node(user, name) for name in data["nodes"]],
            comment=data["comment"],
        )
    except PermissionDenied:
        raise
    except NodeAdminError as error:
        form.add_error(error.field if error.field in form.fields else "nodes", error.detail())
        return False
    messages.success(request, _("“%s” is declared shared.") % row.name)
    return True


def _rows(user: User) -> list[dict[str, Any]]:
    seen = nodes_for(user)
    return [
        {"row": row, "nodes": row.nodes.filter(pk__in=seen.values("pk")).order_by("name")}
        for row in shared_storage.visible_to(user)
    ]


@require_POST
def withdraw(request: HttpRequest, pk: int) -> HttpResponse:
    row = shared_storage.visible_to(user_of(request)).filter(pk=pk).first()
    if row is None:
        raise Http404
    shared_storage.withdraw(actor_of(request), row)
    messages.success(request, _("“%s” is no longer declared shared.") % row.name)
    return redirect("shared-storage")
