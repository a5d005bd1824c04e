"""The user's own account: password, second factor and logins. allauth's views with our rules around them."""

from __future__ import annotations

import json
from typing import Any

from allauth.account.internal import flows
from allauth.account.views import PasswordChangeView, ReauthenticateView
from allauth.usersessions.models import UserSession
from django.conf import settings
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from nodes import second_factor
from nodes.engine import logins
from nodes.errors import NodeAdminError
from nodes.events import told
from nodes.web.agents import agent_name
from nodes.web.factor import factor_field
from nodes.web.forms.account import PasswordForm
from nodes.web.views.access import actor_of, user_of

MOST_ABOUT = 200


class PasswordPage(PasswordChangeView):
    """The new password ends all other logins, and the tokens where that was wished."""

    form_class = PasswordForm

    def get_form_class(self) -> type[PasswordForm]:
        return PasswordForm

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not user_of(request).has_usable_password():
            return render(request, "account/password_elsewhere.html")
        return super().dispatch(request, *args, **kwargs)

    def form_valid(self, form: Any) -> HttpResponse:
        request = self.request
        before = request.session.session_key or ""
        with transaction.atomic():
            with told():  # password_changed
                form.save()
            # Keeps this login under another key; all that were signed with the old password no longer hold.
            flows.password_change.finalize_password_change(request, form.user)
            logins.moved(before, request.session.session_key or "")
            tokens = bool(form.cleaned_data["end_tokens"])
            logins.password_changed(actor_of(request), user_of(request), tokens=tokens)
        messages.success(request, _("The password was changed. All other sessions have ended."))
        return redirect("account_change_password")


class PasswordAgain(ReauthenticateView):
    """Before a change of second factors. Who has one shows that: a password alone does not take it away."""

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if request.user.is_authenticated and second_factor.has_factor(user_of(request)):
            return redirect(self.passthrough_next_url(reverse("mfa_reauthenticate")))
        return super().dispatch(request, *args, **kwargs)


@require_GET
def sessions(request: HttpRequest) -> HttpResponse:
    """The user's logins, the newest use first."""
    rows = logins.sessions_of(user_of(request))
    key = request.session.session_key
    shown = [(row, row.session_key == key, agent_name(row.user_agent)) for row in rows]
    context = {
        "rows": shown,
        "others": sum(row.session_key != key for row in rows),
        "idle_s": settings.NODEADMIN_SESSION_IDLE_S,
        "age_s": settings.SESSION_COOKIE_AGE,
    }
    return render(request, "account/sessions.html", context)


@require_POST
def end_session(request: HttpRequest, pk: int) -> HttpResponse:
    """End one login. Another user's does not exist here."""
    user = user_of(request)
    row = UserSession.objects.filter(user=user.pk, pk=pk).first()
    if row is None:
        raise Http404
    own = row.session_key == request.session.session_key
    logins.end_sessions(actor_of(request), user, [row])
    if own:
        request.session.flush()
        return redirect("login")
    messages.success(request, _("The session was ended."))
    return redirect("usersessions_list")


@require_POST
def end_other_sessions(request: HttpRequest) -> HttpResponse:
    count = logins.end_other_sessions(actor_of(request), user_of(request))
    messages.success(request, logins.told_ended(count, 0))
    return redirect("usersessions_list")


@require_POST
def challenge(request: HttpRequest) -> HttpResponse:
    """What a passkey is to answer for the one thing that ``about`` names (static/js/factor.js)."""
    about = request.POST.get("about", "")
    if not 0 < len(about) <= MOST_ABOUT:
        raise Http404
    options = second_factor.challenge(actor_of(request), about)
    return JsonResponse(json.loads(json.dumps(dict(options))))


@require_http_methods(["GET", "POST"])
def confirm(request: HttpRequest) -> HttpResponse:
    """A second factor given beforehand, for pages whose forms have no field for it: Django's admin."""
    purpose = request.GET.get("for", "")
    if purpose not in second_factor.PURPOSES:
        raise Http404
    actor = actor_of(request)
    error: NodeAdminError | None = None
    if request.method == "POST":
        try:
            second_factor.prove(actor, purpose)
        except NodeAdminError as refused:
            error = refused
        else:
            return redirect(_next(request))
    context = {"factor": factor_field(request, about=purpose, error=error), "next": _next(request)}
    status = 422 if error is not None else 200
    return render(request, "account/confirm.html", context, status=status)


def _next(request: HttpRequest) -> str:
    """Where to go on: an address of ours, or the dashboard."""
    address = request.GET.get("next", "")
    safe = url_has_allowed_host_and_scheme(address, {request.get_host()}, require_https=request.is_secure())
    return address if safe else reverse("dashboard")


def closed(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
    """What allauth has an address for and nodeadmin does not do: signing up, mail, connecting accounts."""
    raise PermissionDenied
