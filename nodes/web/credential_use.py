"""Secrets that are opened while a request is answered are opened for who sent it."""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

from nodes import credential_use
from nodes.events import Actor
from nodes.models import ApiToken, User
from nodes.models.event import Via
from nodes.web.errors import API_PREFIX


class RequestMiddleware:
    """Who it was is known once a secret is opened: the API finds the user only within its view."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        asked = credential_use.Request(lambda: _actor(request), lambda: _purpose(request))
        with credential_use.asked_by(asked):
            return self.get_response(request)


def _actor(request: HttpRequest) -> Actor:
    user = request.user if isinstance(request.user, User) else None
    address = request.META.get("REMOTE_ADDR") or None
    if not request.path.startswith(API_PREFIX):
        via = Via.ADMIN if request.resolver_match and request.resolver_match.app_name == "admin" else Via.PAGE
        return Actor(user, address, via)
    token = getattr(request, "auth", None)
    return Actor(user, address, Via.API, token.name if isinstance(token, ApiToken) else "")


def _purpose(request: HttpRequest) -> str:
    """The endpoint's or the page's name."""
    if request.path.startswith(API_PREFIX):
        return request.path.removeprefix(API_PREFIX).strip("/")
    return (request.resolver_match.url_name if request.resolver_match else "") or request.path
