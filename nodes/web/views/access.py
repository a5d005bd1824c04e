"""Who is asking, for views: signed in, typed, and with the address that the record keeps."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import reverse

from nodes.events import Actor, GivenFactor
from nodes.models import User
from nodes.models.event import Via

View = Callable[..., HttpResponseBase]


def signed_in(view: View) -> View:
    """Sends who is not signed in to the login page, and htmx there as a whole page.

    Otherwise a session that ended would put the login form into the middle of a page that polls.
    """

    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if request.user.is_authenticated:
            return view(request, *args, **kwargs)
        if getattr(request, "htmx", False):
            return HttpResponse(status=204, headers={"HX-Redirect": reverse("login")})
        return redirect_to_login(request.get_full_path(), reverse("login"))

    return guarded


def user_of(request: HttpRequest) -> User:
    """The signed-in user of a view behind :func:`signed_in`."""
    user = request.user
    if not isinstance(user, User):
        raise TypeError("a view that asks for its user must be behind signed_in")
    return user


def actor_of(request: HttpRequest, user: User | None = None) -> Actor:
    """The actor for the record: the user and the address they come from, with their login and the second
    factor that was sent along. ``user`` is who is about to sign in."""
    return Actor(
        user if user is not None else user_of(request),
        request.META.get("REMOTE_ADDR") or None,
        Via.PAGE,
        session_key=request.session.session_key or "",
        factor=factor_of(request),
    )


def factor_of(request: HttpRequest) -> GivenFactor:
    """The fields of templates/components/factor.html."""
    return GivenFactor(
        request.POST.get("factor_code", "").strip()[:32], request.POST.get("factor_passkey", "")[:16_384]
    )


def request_id_of(request: HttpRequest) -> str:
    """What ties an operation to this request in the logs; "" outside the server."""
    return getattr(request, "request_id", "") or ""
