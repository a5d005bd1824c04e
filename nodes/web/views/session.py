"""Signing in; nodes/sign_in_limits.py bounds it. Signing out is Django's own view, by POST alone."""

from __future__ import annotations

from typing import Any

from allauth.account.views import LoginView
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.templatetags.static import static

from nodes.web.accounts.oidc import sign_in_button
from nodes.web.forms.account import SignInForm


class SignIn(LoginView):
    """The name and the password; allauth then asks for a second factor where the user has one."""

    template_name = "account/login.html"
    form_class = SignInForm

    def get_form_class(self) -> type[SignInForm]:
        return SignInForm

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        more = {"next": self.request.POST.get("next") or self.request.GET.get("next", "")}
        return super().get_context_data(**kwargs) | more | {"oidc": sign_in_button(self.request)}


def favicon(request: HttpRequest) -> HttpResponse:
    """Browsers ask for it on pages that name none: Django's admin and the API's."""
    return redirect(static("img/mark.svg"))
