"""What a login may still do: it ends when nobody has used it for long, and at a certain age, and without a
second factor where one is required it leads to the page that sets one up.

A page that is left open asks for news all the time. Those requests say so in a header
(static/js/nodeadmin.js) and count as no use; whoever leaves it out has the cookie anyway.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

from allauth.usersessions.models import UserSession
from django.contrib import auth
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.cache import add_never_cache_headers
from django.utils.translation import gettext as _

from nodes import second_factor
from nodes.events import record, target_of, told
from nodes.login_age import STARTED, USED, ended
from nodes.models import User
from nodes.web.views.access import actor_of

BACKGROUND = "X-Background"
TOUCH_S = 60
"""A login's use is noted at most once a minute: a page with thirty requests is one write."""
PRIVATE = ("/login/", "/logout/", "/account/", "/settings/tokens/")
ENROLMENT = (
    "/account/second-factor/",
    "/account/password-again/",
    "/logout/",
    "/login/",
    "/static/",
    "/favicon.ico",
)
"""What a login without a required second factor may reach. The API and the sockets ask for themselves."""


class LoginGuardMiddleware:
    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        answer = self._guard(request) or self.get_response(request)
        if request.path.startswith(PRIVATE):
            add_never_cache_headers(answer)
        return answer

    def _guard(self, request: HttpRequest) -> HttpResponse | None:
        if not request.session.get(auth.SESSION_KEY) or not request.user.is_authenticated:
            return None
        over = ended(request.session)
        if over:
            end(request, over)
            return None  # the view says what it says to anybody who is not signed in
        if BACKGROUND not in request.headers:
            touch(request)
        if second_factor.may_use(request.session) or _asks_itself(request.path):
            return None
        address = reverse("mfa_index")
        if getattr(request, "htmx", False) or request.headers.get("HX-Request"):
            return HttpResponse(status=204, headers={"HX-Redirect": address})
        return redirect(address)


def _asks_itself(path: str) -> bool:
    # The API's documentation is a page for people: there its refusal would find no page to be shown on.
    return path.startswith(ENROLMENT) or (path.startswith("/api/") and path != reverse("api-docs"))


def touch(request: HttpRequest) -> None:
    """Note the use of a login, and from where."""
    now = int(time.time())
    session = request.session
    if STARTED not in session:
        session[STARTED] = now  # it began before its age was noted
    elif now - session.get(USED, 0) < TOUCH_S:
        return
    session[USED] = now
    seen = {"last_seen_at": datetime.fromtimestamp(now, UTC), "ip": request.META.get("REMOTE_ADDR")}
    known = UserSession.objects.filter(session_key=session.session_key, user=request.user.pk)
    if not known.update(**{name: value for name, value in seen.items() if value}):
        UserSession.objects.create_from_request(request)


def end(request: HttpRequest, reason: str) -> None:
    """End the request's login, and say so in the record."""
    user = request.user
    if isinstance(user, User):
        words = {
            "idle": _("The session of %s ended: it was not used"),
            "age": _("The session of %s ended: it reached its age"),
        }
        text = words[reason] % user.get_username()
        record(
            "session_ended", text, actor=actor_of(request), target=target_of(user), data={"reason": reason}
        )
    with told():  # above
        auth.logout(request)
