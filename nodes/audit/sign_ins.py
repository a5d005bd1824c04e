"""Entries of people who sign in, fail to, are locked out, and sign out: by Django's and axes' own signals, so
that every way to sign in is covered."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from axes.signals import user_locked_out
from django.conf import settings
from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed
from django.http import HttpRequest
from django.utils.translation import gettext as _

from nodes.audit.counted import count, network_of
from nodes.audit.requests import address_of, via_of
from nodes.events import Actor, Target, current_actor, is_told, record
from nodes.models import User
from nodes.sign_in_limits import was_refused_unseen


def install() -> None:
    user_logged_in.connect(_signed_in, dispatch_uid="audit: signed in")
    user_logged_out.connect(_signed_out, dispatch_uid="audit: signed out")
    user_login_failed.connect(_failed, dispatch_uid="audit: sign-in failed")
    user_locked_out.connect(_locked_out, dispatch_uid="audit: locked out")


def _actor(request: HttpRequest | None, user: User | None = None) -> Actor:
    if request is None:
        return Actor(user, via=current_actor().via)
    return Actor(user, address_of(request), via_of(request))


def _signed_in(request: HttpRequest | None = None, user: Any = None, **_more: Any) -> None:
    if isinstance(user, User) and not is_told():
        record("signed_in", _("Signed in."), actor=_actor(request, user), target=_target(user))


def _signed_out(request: HttpRequest | None = None, user: Any = None, **_more: Any) -> None:
    if isinstance(user, User) and not is_told():
        record("signed_out", _("Signed out."), actor=_actor(request, user), target=_target(user))


def _failed(credentials: Any = None, request: HttpRequest | None = None, **_more: Any) -> None:
    if was_refused_unseen(request):
        return  # no password was looked at: that signing in is paused has an entry of its own
    actor, user = _actor(request), _named(credentials)
    known = user is not None
    words = (
        _("Sign-in failed for “%s”: wrong password.") % user.get_username()
        if user is not None
        else _("Sign-in failed for an unknown name.")
    )
    count(
        "sign_in_failed",
        words,
        key=(network_of(actor.source_ip), str(user.pk) if user is not None else ""),
        actor=actor,
        target=_target(user),
        data={"known_name": known},
    )


def _locked_out(request: HttpRequest | None = None, username: Any = None, **_more: Any) -> None:
    actor, user = _actor(request), _named({"username": username})
    words = (
        _("Too many wrong passwords for “%s”: signing in is paused.") % user.get_username()
        if user is not None
        else _("Too many wrong passwords for an unknown name: signing in is paused.")
    )
    count(
        "sign_in_paused",
        words,
        key=(network_of(actor.source_ip), str(user.pk) if user is not None else ""),
        actor=actor,
        target=_target(user),
        window=timedelta(hours=settings.NODEADMIN_LOGIN_PAUSE_H),
    )


def _named(credentials: Any) -> User | None:
    """The user of that name. One that nobody has is in no entry: it may be a password in the wrong field."""
    told = credentials if isinstance(credentials, dict) else {}
    name = told.get("username") or told.get("login") or told.get("email")
    return User.objects.filter(username=str(name)[:150]).first() if name else None


def _target(user: User | None) -> Target | None:
    return Target("user", str(user.pk), user.get_username()) if user is not None else None
