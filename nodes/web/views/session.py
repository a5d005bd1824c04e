"""Signing in. Throttling is axes' (settings.AXES_…); signing out is Django's own view, by POST alone."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.views import LoginView
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.templatetags.static import static


class SignInForm(AuthenticationForm):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for field in self.fields.values():
            field.widget.attrs["class"] = "form-control"


class SignIn(LoginView):
    template_name = "account/login.html"
    authentication_form = SignInForm
    redirect_authenticated_user = True


def favicon(request: HttpRequest) -> HttpResponse:
    """Browsers ask for it on pages that name none: Django's admin and the API's."""
    return redirect(static("img/mark.svg"))
