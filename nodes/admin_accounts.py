"""The Django admin's pages of logins and second factors: looked at, ended and removed, never edited. They
show no secret."""

from __future__ import annotations

from typing import Any

from allauth.mfa.models import Authenticator
from allauth.usersessions.models import UserSession
from django.contrib import admin
from django.db import models
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from nodes.engine import logins
from nodes.factor_admin import FreshFactor, actor_of
from nodes.permissions import GRANT, has_for_all


class Granters(admin.ModelAdmin):
    """For who may give rights: everybody's rows; for others their own. Nobody adds or changes one."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(request.user.is_authenticated)

    def has_module_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.is_authenticated)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self._grants(request)

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[Any]:
        rows = super().get_queryset(request)
        return rows if self._grants(request) else rows.filter(user=request.user.pk)

    def _grants(self, request: HttpRequest) -> bool:
        return bool(request.user.is_authenticated and has_for_all(request.user, GRANT))


@admin.register(Authenticator)
class AuthenticatorAdmin(Granters, FreshFactor):
    """Removing one is what helps whoever has lost their device and their recovery codes."""

    list_display = ("user", "type", "created_at", "last_used_at")
    list_filter = ("type",)
    search_fields = ("user__username",)
    fields = readonly_fields = ("user", "type", "created_at", "last_used_at")

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[Any]:
        return super().get_queryset(request).select_related("user")


@admin.register(UserSession)
class UserSessionAdmin(Granters):
    """Sessions are ended by the action, which ends them at once and puts it on record."""

    list_display = ("user", "created_at", "last_seen_at", "ip", "user_agent")
    search_fields = ("user__username", "ip")
    fields = readonly_fields = ("user", "created_at", "last_seen_at", "ip", "user_agent")
    actions = ("end",)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    @admin.action(description=_("End the selected sessions"), permissions=["view"])
    def end(self, request: HttpRequest, queryset: models.QuerySet[UserSession]) -> None:
        actor = actor_of(request)
        rows = queryset.select_related("user")
        count = sum(logins.end_sessions(actor, row.user, [row]) for row in rows)
        self.message_user(request, _("Sessions ended: %d") % count)
