"""API tokens of the signed-in user: made, shown once, revoked."""

from __future__ import annotations

from datetime import timedelta

from django import forms
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from nodes.events import record
from nodes.models import ApiToken
from nodes.web.forms.fields import control
from nodes.web.views.access import actor_of, user_of

DAYS: tuple[tuple[int, object], ...] = (
    (7, gettext_lazy("7 days")),
    (30, gettext_lazy("30 days")),
    (90, gettext_lazy("90 days")),
    (365, gettext_lazy("1 year")),
)


class TokenForm(forms.Form):
    name = forms.CharField(
        label=gettext_lazy("Name"),
        max_length=80,
        widget=control(placeholder=gettext_lazy("What it is for"), autocomplete="off"),
    )
    days = forms.TypedChoiceField(
        label=gettext_lazy("Valid for"), coerce=int, choices=DAYS, initial=90,
        widget=forms.Select(attrs={"class": "form-select"}),
    )  # fmt: skip
    read_only = forms.BooleanField(required=False, label=gettext_lazy("May only read"), initial=True)


@never_cache
@require_http_methods(["GET", "POST"])
def token_list(request: HttpRequest) -> HttpResponse:
    """The tokens, and the making of one. Its text is in the answer to the POST alone and nowhere after."""
    user = user_of(request)
    form = TokenForm(request.POST or None)
    made = ""
    if request.method == "POST" and form.is_valid():
        data = form.cleaned_data
        expires_at = timezone.now() + timedelta(days=data["days"])
        token, made = ApiToken.make(user, data["name"], expires_at, read_only=data["read_only"])
        record("token_made", _("API token “%s” made") % token.name, actor=actor_of(request))
        form = TokenForm()
    context = {"form": form, "made": made, "tokens": ApiToken.objects.filter(user=user, revoked_at=None)}
    return render(request, "settings/tokens.html", context)


@require_POST
def revoke(request: HttpRequest, pk: int) -> HttpResponse:
    """End a token at once. Another user's token does not exist here."""
    token = ApiToken.objects.filter(user=user_of(request), pk=pk, revoked_at=None).first()
    if token is None:
        raise Http404
    token.revoked_at = timezone.now()
    token.save(update_fields=["revoked_at"])
    record("token_revoked", _("API token “%s” revoked") % token.name, actor=actor_of(request))
    messages.success(request, _("The token “%s” no longer works.") % token.name)
    return redirect("token-list")
