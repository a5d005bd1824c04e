"""allauth's account hooks: nobody signs up, no mail is sent."""

from __future__ import annotations

import time
from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from allauth.account.internal.flows.login import get_authentication_records
from allauth.account.internal.flows.reauthentication import get_reauthentication_flows
from allauth.core import context
from django.conf import settings
from django.db import transaction
from django.http import HttpRequest
from django.utils.translation import gettext_lazy

BACKEND = "django.contrib.auth.backends.ModelBackend"


class AccountAdapter(DefaultAccountAdapter):
    """Its hooks (allauth's documentation, Account, Adapter)."""

    error_messages = DefaultAccountAdapter.error_messages | {
        "username_password_mismatch": gettext_lazy(
            "Please enter a correct username and password. Note that both fields may be case-sensitive."
        ),
        "too_many_login_attempts": gettext_lazy("Too many attempts. Wait five minutes, and try again."),
        "incorrect_password": gettext_lazy("The password is wrong."),
        "enter_current_password": gettext_lazy("The current password is wrong."),
    }

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        return False

    def send_mail(self, template_prefix: str, email: str, context: Any) -> None:
        """There is no mail."""

    def send_notification_mail(self, *args: Any, **kwargs: Any) -> None:
        """There is no mail."""

    def add_message(self, request: HttpRequest, level: int, *args: Any, **kwargs: Any) -> None:
        """allauth's own messages have other words than ours; the pages say what has happened."""
        if kwargs.get("message"):
            super().add_message(request, level, *args, **kwargs)

    def get_client_ip(self, request: HttpRequest) -> str:
        return request.META.get("REMOTE_ADDR") or "0.0.0.0"  # noqa: S104 - no address is listened on

    def pre_authenticate(self, request: HttpRequest, **credentials: Any) -> None:
        """Wrong passwords are counted by axes alone: allauth's count by name would lock a victim out."""
        self._login_failed_rl_usage = None

    def _rollback_login_failed_rl_usage(self) -> None:
        """Nothing was counted."""

    def login(self, request: HttpRequest, user: Any) -> None:
        if not hasattr(user, "backend"):
            user.backend = BACKEND
        with transaction.atomic():
            super().login(request, user)  # nodes/audit/sign_ins.py records it, in this transaction

    def is_reauthentication_required(self, *, app: str, **kwargs: Any) -> bool:
        """Who has neither password nor factor here can only sign in again, at the identity provider: that
        sign-in counts as long as a typed password does."""
        request = context.request
        if super().is_reauthentication_required(app=app, **kwargs) is False:
            return False
        if request is None or get_reauthentication_flows(request.user):
            return True
        records = get_authentication_records(request, request.user)
        newest = max((row.get("at", 0) for row in records), default=0)
        return bool(time.time() - newest > settings.ACCOUNT_REAUTHENTICATION_TIMEOUT)
