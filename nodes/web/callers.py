"""Tells nodeadmin/callers.py whether a request was somebody's who is signed in."""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse
from django.utils.functional import LazyObject, empty

from nodeadmin.callers import known


class CallerMiddleware:
    """Behind AuthenticationMiddleware, and behind django_structlog's, which wraps the user once more. Asks
    for no user that the view did not ask for."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        # DRF sets the user that a token stands for in place of the session's.
        user = request.__dict__.get("user")
        if isinstance(user, LazyObject):
            user = None if user._wrapped is empty else user._wrapped
        if user is not None and user.is_authenticated:
            known(request)
        return response
