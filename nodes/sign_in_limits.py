"""How often a password may be tried: by address and by name, and nobody is locked out of their own name.

Failures are counted in the database, so that a restart forgets none and all web processes count together.
Each count sinks with time; beyond its limit the next try has to wait, twice as long with each failure, up to
a bound. A try that comes too early is refused before any hashing, and counts for nothing: it makes nobody
wait longer.

A name that is attacked from many addresses would keep its owner out. So a device that has signed in to the
name before (a signed cookie says so) is not held up by the counts of name and address, but by one of its own.
Anybody else who is refused for the name's sake gets a ticket, bound to their address: after :data:`TICKET_S`
it lets them try once, whatever the name's count says.

Names that nobody has are treated alike. All of it stands at the level of ``authenticate()``, by axes'
backend, signals and middleware: whichever form a password comes from.
"""

from __future__ import annotations

import secrets
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from axes.handlers.base import AxesHandler
from axes.signals import user_locked_out
from django.conf import settings
from django.core import signing
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.crypto import salted_hmac
from django.utils.translation import gettext as _

from nodeadmin.callers import address_key
from nodes.errors import RateLimited
from nodes.models import SignInCount
from nodes.password_hashing import hashing_for

DEVICE_COOKIE, DEVICE_AGE_S = "nodeadmin_device", 180 * 24 * 3600
TICKET_COOKIE, TICKET_S, TICKET_AGE_S = "nodeadmin_ticket", 300.0, 900
_DEVICE_SALT, _TICKET_SALT, _NAME_SALT = "nodes.sign_in.device", "nodes.sign_in.ticket", "nodes.sign_in.name"
MOST_NAME = 150


@dataclass(frozen=True, slots=True)
class Limit:
    """``failures`` are free, and one more every ``sink_s``. Then a try waits ``first_s``, and twice as long
    after each failure, ``longest_s`` at most."""

    failures: float
    sink_s: float
    first_s: float
    longest_s: float

    def wait_s(self, level: float) -> float:
        """How long the next try waits at this level."""
        # Half of one is what the count sinks by while one goes on failing.
        over = level + 0.5 - self.failures
        return 0.0 if over < 0 else min(self.longest_s, self.first_s * 2.0 ** min(over, 30.0))


def limit_of(key: str) -> Limit:
    kind = key.partition(":")[0]
    longest_s = settings.NODEADMIN_LOGIN_PAUSE_H * 3600
    if kind == "pair":
        return Limit(0, TICKET_S, TICKET_S, TICKET_S)
    if kind == "address":
        return Limit(settings.NODEADMIN_LOGIN_FAILURES_PER_ADDRESS, 60.0, 2.0, min(300.0, longest_s))
    return Limit(settings.NODEADMIN_LOGIN_FAILURES, 60.0, 2.0, longest_s)


@dataclass(frozen=True, slots=True)
class Attempt:
    """Who tries to sign in: name and address as keys, and what the browser has to show."""

    name: str
    address: str
    device: str = ""
    has_ticket: bool = False

    @classmethod
    def of(cls, request: HttpRequest, name: str) -> Attempt:
        key = name_key(name)
        address = address_key(request.META.get("REMOTE_ADDR") or "")
        device = _read(request, DEVICE_COOKIE, _DEVICE_SALT, DEVICE_AGE_S)
        ticket = _read(request, TICKET_COOKIE, _TICKET_SALT, TICKET_AGE_S)
        known = device.get("name") == key
        waited = (
            ticket.get("name") == key
            and ticket.get("address") == address
            and float(ticket.get("at", "inf")) <= timezone.now().timestamp()
        )
        return cls(key, address, str(device.get("id", "")) if known else "", waited)

    @property
    def keys(self) -> tuple[str, ...]:
        """The counts that may refuse it."""
        if self.device:
            return (f"device:{self.device}",)
        of_name = f"pair:{self.name}@{self.address}" if self.has_ticket else f"name:{self.name}"
        return (f"address:{self.address}", of_name)


def name_key(name: str) -> str:
    """What stands for a name: the same for all ways to write it, and not to be read back."""
    plain = unicodedata.normalize("NFKC", name[:MOST_NAME]).casefold().strip()
    return salted_hmac(_NAME_SALT, plain, algorithm="sha256").hexdigest()[:40]


def check(attempt: Attempt) -> None:
    """Raise RateLimited, with ``retry_after_s`` and ``of_name``, where a try has to wait. One query."""
    now = timezone.now()
    late = SignInCount.objects.filter(key__in=attempt.keys, next_at__gt=now)
    rows = [(key, at) for key, at in late.values_list("key", "next_at") if at is not None]
    if not rows:
        return
    wait_s = int((max(at for _key, at in rows) - now).total_seconds()) + 1
    raise RateLimited(
        _("There were too many wrong passwords for this name or from your address."),
        remedy=_("Wait %d s, then try again.") % wait_s,
        extra={"retry_after_s": wait_s, "of_name": all(key.startswith("name:") for key, _at in rows)},
    )


def failed(attempt: Attempt) -> float:
    """Count a wrong password; gives the seconds that the next try has to wait."""
    now, waits = timezone.now(), [0.0]
    of_others = (f"name:{attempt.name}", f"address:{attempt.address}")
    with transaction.atomic():
        # In one order, so that two failures never wait for each other.
        for key in sorted({*attempt.keys, *of_others}):
            wait_s = _count(key, now)
            waits.append(wait_s if key in attempt.keys else 0.0)
    return max(waits)


def succeeded(attempt: Attempt) -> None:
    """Forget the device's failures. Those of the address and the name stay: who attacks may have a login of
    their own, and the owner now has a device that is known."""
    if attempt.device:
        SignInCount.objects.filter(key=f"device:{attempt.device}").delete()


def purge() -> int:
    """Delete counts that have sunk to nothing."""
    now = timezone.now()
    most = max(settings.NODEADMIN_LOGIN_FAILURES, settings.NODEADMIN_LOGIN_FAILURES_PER_ADDRESS)
    sunk = now - timedelta(seconds=60.0 * most + settings.NODEADMIN_LOGIN_PAUSE_H * 3600 + 3600)
    return SignInCount.objects.filter(updated_at__lt=sunk).delete()[0]


def _count(key: str, now: datetime) -> float:
    limit = limit_of(key)
    row = SignInCount.objects.select_for_update().filter(key=key).first()
    if row is None:
        row = SignInCount(key=key, level=0.0, updated_at=now)
    sunk = (now - row.updated_at).total_seconds() / limit.sink_s
    # Bounded, so that the wait ends soon after an attack does.
    row.level = min(max(0.0, row.level - sunk) + 1.0, limit.failures + 12.0)
    wait_s = limit.wait_s(row.level)
    row.updated_at, row.next_at = now, now + timedelta(seconds=wait_s) if wait_s else None
    row.save()
    return wait_s


def _read(request: HttpRequest, cookie: str, salt: str, age_s: int) -> Mapping[str, Any]:
    try:
        found = signing.loads(request.COOKIES.get(cookie, ""), salt=salt, max_age=age_s)
    except signing.BadSignature:
        return {}
    return found if isinstance(found, dict) else {}


# -- axes -------------------------------------------------------------------------------------------


class SignInHandler(AxesHandler):
    """The policy above, called by axes' backend before any other, and by Django's signals."""

    def is_allowed(self, request: HttpRequest, credentials: dict[str, Any] | None = None) -> bool:
        attempt = Attempt.of(request, _name(credentials))
        hashing_for(attempt.address)
        try:
            check(attempt)
        except RateLimited as error:
            request._sign_in_unseen = True  # type: ignore[attr-defined]
            _refuse(request, int(error.extra["retry_after_s"]), credentials)
            if error.extra["of_name"] and not _has_ticket(request, attempt):
                _set_later(request, TICKET_COOKIE, _ticket(attempt), _TICKET_SALT, TICKET_AGE_S)
            return False
        return True

    def user_login_failed(
        self, sender: Any, credentials: dict[str, Any], request: Any = None, **kwargs: Any
    ) -> None:
        if request is None or getattr(request, "axes_locked_out", False):
            return
        attempt = Attempt.of(request, _name(credentials))
        wait_s = failed(attempt)
        if attempt.has_ticket:
            _set_later(request, TICKET_COOKIE, {}, _TICKET_SALT, 0)
        if wait_s:
            _refuse(request, int(wait_s) + 1, credentials)

    def user_logged_in(self, sender: Any, request: Any, user: Any, **kwargs: Any) -> None:
        if request is None:
            return
        attempt = Attempt.of(request, user.get_username())
        succeeded(attempt)
        remember_device(request, user.get_username(), attempt.device)


def remember_device(request: HttpRequest, name: str, device: str = "") -> None:
    """Have the answer say that this device has signed in to ``name``. For forms that sign in without Django's
    signal ``user_logged_in``; otherwise that does it."""
    known = {"name": name_key(name), "id": device or secrets.token_urlsafe(16)}
    _set_later(request, DEVICE_COOKIE, known, _DEVICE_SALT, DEVICE_AGE_S)


def retry_after_s(request: HttpRequest) -> int | None:
    """How long the sign-in that was refused on this request has to wait; None where none was."""
    found: int | None = getattr(request, "_sign_in_wait_s", None)
    return found


def was_refused_unseen(request: HttpRequest | None) -> bool:
    """Whether a sign-in on this request was refused before its password was looked at: it is no wrong one."""
    return getattr(request, "_sign_in_unseen", False)


def _refuse(request: Any, wait_s: int, credentials: Mapping[str, Any] | None) -> None:
    """Have axes' middleware answer with ``AXES_LOCKOUT_CALLABLE``, and tell who listens (the audit log)."""
    request._sign_in_wait_s = wait_s
    request.axes_locked_out = True
    request.axes_credentials = credentials
    address = request.META.get("REMOTE_ADDR") or None
    user_locked_out.send("axes", request=request, username=_name(credentials), ip_address=address)


def _has_ticket(request: HttpRequest, attempt: Attempt) -> bool:
    """Whether one for this name and address is waiting already."""
    ticket = _read(request, TICKET_COOKIE, _TICKET_SALT, TICKET_AGE_S)
    return (ticket.get("name"), ticket.get("address")) == (attempt.name, attempt.address)


def _ticket(attempt: Attempt) -> dict[str, Any]:
    at = timezone.now().timestamp() + TICKET_S
    return {"name": attempt.name, "address": attempt.address, "at": at}


def _name(credentials: Mapping[str, Any] | None) -> str:
    """The name that was typed; forms of other packages may call it a login or an address."""
    given = credentials or {}
    return str(given.get("username") or given.get("login") or given.get("email") or "")


def _set_later(request: HttpRequest, cookie: str, value: Mapping[str, Any], salt: str, age_s: int) -> None:
    later: dict[str, tuple[str, int]] = request.__dict__.setdefault("_sign_in_cookies", {})
    later[cookie] = (signing.dumps(dict(value), salt=salt) if age_s else "", age_s)


class SignInMiddleware:
    """Sets the cookies that signing in, or being refused, has left."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        for cookie, (value, age_s) in request.__dict__.get("_sign_in_cookies", {}).items():
            response.set_cookie(
                cookie,
                value,
                max_age=age_s,
                httponly=True,
                secure=settings.SESSION_COOKIE_SECURE,
                samesite="Lax",
            )
        return response
