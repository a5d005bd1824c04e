"""The Django admin's pages of users, groups, tokens, second factors and logins. They show no secret."""

from __future__ import annotations

from typing import Any

from allauth.mfa.models import Authenticator
from allauth.usersessions.models import UserSession
from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group
from django.db import models, transaction
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from nodes.admin_access import (
    FreshFactor,
    OwnRowsAdmin,
    ReadOnlyAdmin,
    SuperusersAdmin,
    actor_of,
    may_grant,
    refuse_above,
    use_factor,
)
from nodes.engine import logins, tokens
from nodes.events import LoginsEnded, publish, told
from nodes.models import ApiToken, User


@admin.register(ApiToken)
class ApiTokenAdmin(ReadOnlyAdmin):
    """Tokens by name; what they are is known to nobody but their owner. Who may grant can revoke any."""

    list_display = (
        "name",
        "user",
        "read_only",
        "scope",
        "created_at",
        "expires_at",
        "last_used_at",
        "last_used_from",
        "revoked_at",
    )
    list_filter = ("read_only", "scope")
    search_fields = ("name", "user__username")
    exclude = ("digest",)
    actions = ("revoke",)

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[ApiToken]:
        return tokens.tokens_seen_by(request.user)  # type: ignore[arg-type]

    @admin.action(description=_("Revoke the selected tokens"), permissions=["view"])
    def revoke(self, request: HttpRequest, queryset: models.QuerySet[ApiToken]) -> None:
        ended = sum(tokens.revoke_token(actor_of(request), token) for token in queryset)
        self.message_user(request, ngettext("%d token revoked.", "%d tokens revoked.", ended) % ended)


@admin.register(User)
class UserAdmin(SuperusersAdmin, DjangoUserAdmin):
    actions = ("end_sessions", "revoke_tokens")
    change_user_password_template = "admin/user_password.html"  # noqa: S105 - a template's name

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        publish(LoginsEnded(obj.pk))  # one that was deactivated has no open socket from here on

    def user_change_password(self, request: HttpRequest, id: Any, form_url: str = "") -> Any:
        """A password that somebody sets for another ends all sessions of theirs, as one's own change does."""
        if first := self._first_factor(request):
            return first
        actor = actor_of(request)
        with transaction.atomic():
            before = User.objects.filter(pk=id).values_list("password", flat=True).first()
            with told():  # password_changed
                response = super().user_change_password(request, id, form_url)
            user = User.objects.filter(pk=id).first()
            if user is not None and user.password != before:
                use_factor(request)
                # Django has given the administrator's own session another key.
                logins.moved(actor.session_key, request.session.session_key or "")
                logins.password_changed(actor_of(request), user, tokens=bool(request.POST.get("end_tokens")))
        return response

    @admin.action(description=_("End all sessions of the selected users"), permissions=["change"])
    def end_sessions(self, request: HttpRequest, queryset: models.QuerySet[User]) -> None:
        actor = actor_of(request)
        count = sum(logins.end_other_sessions(actor, user) for user in queryset)
        self.message_user(request, _("Sessions ended: %d") % count)

    @admin.action(description=_("Revoke all API tokens of the selected users"), permissions=["change"])
    def revoke_tokens(self, request: HttpRequest, queryset: models.QuerySet[User]) -> None:
        count = sum(logins.revoke_tokens(actor_of(request), user) for user in queryset)
        self.message_user(request, _("Tokens revoked: %d") % count)


admin.site.unregister(Group)


@admin.register(Group)
class GroupAdmin(SuperusersAdmin, DjangoGroupAdmin):
    pass


@admin.register(Authenticator)
class AuthenticatorAdmin(FreshFactor, OwnRowsAdmin):
    """Removing one is what helps whoever has lost their device and their recovery codes. That of a superuser
    is removed by superusers alone."""

    list_display = ("user", "type", "created_at", "last_used_at")
    list_filter = ("type",)
    search_fields = ("user__username",)
    fields = readonly_fields = ("user", "type", "created_at", "last_used_at")

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return may_grant(request)

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[Any]:
        return super().get_queryset(request).select_related("user")

    def delete_model(self, request: HttpRequest, obj: Authenticator) -> None:
        refuse_above(request, obj.user)
        super().delete_model(request, obj)

    def delete_queryset(self, request: HttpRequest, queryset: models.QuerySet[Authenticator]) -> None:
        for row in queryset:
            refuse_above(request, row.user)
        super().delete_queryset(request, queryset)


@admin.register(UserSession)
class UserSessionAdmin(OwnRowsAdmin):
    """Sessions are ended by the action, which ends them at once and puts it on record."""

    list_display = ("user", "created_at", "last_seen_at", "ip", "user_agent")
    search_fields = ("user__username", "ip")
    fields = readonly_fields = ("user", "created_at", "last_seen_at", "ip", "user_agent")
    actions = ("end",)

    @admin.action(description=_("End the selected sessions"), permissions=["view"])
    def end(self, request: HttpRequest, queryset: models.QuerySet[UserSession]) -> None:
        actor = actor_of(request)
        rows = queryset.select_related("user")
        count = sum(logins.end_sessions(actor, row.user, [row]) for row in rows)
        self.message_user(request, _("Sessions ended: %d") % count)
