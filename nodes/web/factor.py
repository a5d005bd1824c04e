"""The field for a second factor in a form (templates/components/factor.html)."""

from __future__ import annotations

from dataclasses import dataclass

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from nodes import second_factor
from nodes.errors import NodeAdminError, RateLimited, SecondFactorRequired
from nodes.web.views.access import actor_of, user_of


@dataclass(frozen=True, slots=True)
class FactorField:
    """``about`` is what the factor counts for; ``proved`` where a proof is there already. Without a factor
    the field leads to the page that sets one up."""

    about: str
    has_code: bool
    has_passkey: bool
    proved: bool
    error: str = ""

    @property
    def enrol(self) -> bool:
        return not (self.has_code or self.has_passkey)


def factor_field(
    request: HttpRequest, *, about: str, error: NodeAdminError | None = None
) -> FactorField | None:
    """The field, or None where the settings ask for no factor. At most two queries."""
    actor = actor_of(request)
    if not second_factor.is_required(actor):
        return None
    kinds = second_factor.factors_of(user_of(request))
    wrong = error.detail() if isinstance(error, SecondFactorRequired | RateLimited) else ""
    return FactorField(
        about,
        bool(kinds & {"totp", "recovery_codes"}),
        "webauthn" in kinds,
        second_factor.has_proof(actor, about, about=about),
        wrong,
    )


def ask_for_factor(
    request: HttpRequest,
    error: NodeAdminError,
    *,
    about: str,
    title: str,
    action: str,
    back: str,
    words: str = "",
    dangerous: bool = False,
) -> HttpResponse:
    """The answer to a button without a field for the factor: a page that has one, and the same button."""
    given = bool(actor_of(request).factor)
    context = {
        "factor": factor_field(request, about=about, error=error if given else None),
        "title": title,
        "words": words,
        "action": action,
        "back": back,
        "dangerous": dangerous,
    }
    return render(request, "account/factor_for.html", context, status=error.http_status)
