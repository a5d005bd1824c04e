"""What is told by signals: the start of a login, and the use of second factors. What is added and removed of
those, whoever does it, the audit log's watch records (nodes/audit/watched.py)."""

from __future__ import annotations

from typing import Any

from allauth.account.internal.flows.login import record_authentication
from allauth.account.signals import user_logged_in as signed_in
from allauth.mfa import signals as factors
from allauth.mfa.models import Authenticator
from allauth.socialaccount import providers
from allauth.usersessions.models import UserSession
from django.contrib.auth.signals import user_logged_in, user_logged_out
from django.http import HttpRequest
from django.utils.translation import gettext as _

from nodes.engine.logins import moved
from nodes.events import LoginsEnded, publish, record, target_of
from nodes.login_age import start
from nodes.models import User
from nodes.models.event import Severity
from nodes.second_factor import told_use
from nodes.web.accounts.oidc import claims_of, proved_factor
from nodes.web.views.access import actor_of


def connect() -> None:
    """Called once, when the app is ready."""
    providers.registry.load()
    user_logged_in.connect(_login_started, dispatch_uid="nodeadmin.login")
    user_logged_out.connect(_signed_out, dispatch_uid="nodeadmin.signed_out")
    signed_in.connect(_signed_in, dispatch_uid="nodeadmin.signed_in")
    factors.authenticator_added.connect(_shown, dispatch_uid="nodeadmin.factor_shown")
    factors.authenticator_used.connect(_used, dispatch_uid="nodeadmin.factor_used")
    factors.authentication_failed.connect(_failed, dispatch_uid="nodeadmin.factor_failed")


def _login_started(request: HttpRequest, **kwargs: Any) -> None:
    start(request.session)


def _signed_out(request: HttpRequest, user: User | None, **kwargs: Any) -> None:
    UserSession.objects.filter(session_key=request.session.session_key or "").delete()
    if isinstance(user, User):
        publish(LoginsEnded(user.pk))


def _signed_in(request: HttpRequest, user: User, sociallogin: Any = None, **kwargs: Any) -> None:
    """Over the identity provider: its second factor counts here where it is believed."""
    if sociallogin is not None and proved_factor(claims_of(sociallogin)):
        record_authentication(request, user, "provider_mfa")


def _shown(request: HttpRequest, user: User, authenticator: Authenticator, **kwargs: Any) -> None:
    """Whoever has just set up a factor has shown that they have it: their login is verified from here on,
    under another key, so that the cookie of before is worth no more than it was."""
    if authenticator.type == Authenticator.Type.RECOVERY_CODES:
        return
    before = request.session.session_key
    request.session.cycle_key()
    moved(before or "", request.session.session_key or "")
    record_authentication(request, user, "mfa", id=authenticator.pk, type=authenticator.type)


def _used(request: HttpRequest, user: User, authenticator: Authenticator, **kwargs: Any) -> None:
    told_use(actor_of(request, user), user, authenticator)


def _failed(request: HttpRequest, user: User, authenticator: Authenticator, **kwargs: Any) -> None:
    text = _("A second factor of %s did not count") % user.get_username()
    actor = actor_of(request, user)
    record("second_factor_failed", text, actor=actor, target=target_of(user), severity=Severity.WARNING)
