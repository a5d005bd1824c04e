"""Roles and their assignments in the Django admin: for who may grant, and through the engine's own calls."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.db import models
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from nodes.admin_access import GrantersAdmin, actor_of
from nodes.engine import grants
from nodes.engine.grants import Scope
from nodes.errors import NodeAdminError
from nodes.events import Actor
from nodes.models import Role, RoleAssignment, RoleScope
from nodes.permissions import ALL_PERMISSIONS


class RoleForm(forms.ModelForm):
    permissions = forms.MultipleChoiceField(
        label=_("Permissions"),
        choices=[(name, name) for name in ALL_PERMISSIONS],
        widget=forms.CheckboxSelectMultiple,
    )

    class Meta:
        model = Role
        fields = ("name", "permissions")


@admin.register(Role)
class RoleAdmin(GrantersAdmin):
    form = RoleForm
    list_display = ("name", "builtin", "permissions_shown")
    search_fields = ("name",)

    class Media:
        css = {"all": ("css/admin.css",)}

    @admin.display(description=_("permissions"))
    def permissions_shown(self, role: Role) -> str:
        return ", ".join(role.permissions)

    def has_change_permission(self, request: HttpRequest, obj: Role | None = None) -> bool:
        return super().has_change_permission(request, obj) and not (obj is not None and obj.builtin)

    def has_delete_permission(self, request: HttpRequest, obj: Role | None = None) -> bool:
        return super().has_delete_permission(request, obj) and not (obj is not None and obj.builtin)

    def save_model(self, request: HttpRequest, obj: Role, form: Any, change: bool) -> None:
        actor, data = actor_of(request), form.cleaned_data
        if change:
            stored = Role.objects.get(pk=obj.pk)
            grants.change_role(actor, stored, name=data["name"], permissions=data["permissions"])
            return
        obj.pk = grants.make_role(actor, data["name"], data["permissions"]).pk

    def delete_model(self, request: HttpRequest, obj: Role) -> None:
        grants.remove_role(actor_of(request), obj)

    def delete_queryset(self, request: HttpRequest, queryset: models.QuerySet[Role]) -> None:
        grants.remove_roles(actor_of(request), queryset)


class RoleAssignmentForm(forms.ModelForm):
    class Meta:
        model = RoleAssignment
        fields = ("role", "user", "group", "scope", "selector", "node", "expires_at")

    actor: Actor
    """Who gives it: set by the admin for each request."""

    def clean(self) -> dict[str, Any]:
        data: dict[str, Any] = super().clean() or {}
        if bool(data.get("user")) == bool(data.get("group")):
            self.add_error("user", _("Choose a user or a group, and not both."))
        scope = data.get("scope")
        if (scope == RoleScope.NODE) != bool(data.get("node")):
            self.add_error("node", _("A node goes with the choice “One node”, and that with a node."))
        if bool(data.get("selector")) != (scope == RoleScope.LABELS):
            self.add_error("selector", _('Labels, such as {"rack": "a1"}, go with “Nodes with labels”.'))
        if not self.errors:
            try:
                grants.check_assignment(
                    self.actor, data["role"], self.scope(data), expires_at=data.get("expires_at")
                )
            except NodeAdminError as error:
                place = {"labels": "selector"}.get(error.field, error.field)
                self.add_error(place if place in self.fields else None, error.detail())
        return data

    def scope(self, data: dict[str, Any]) -> Scope:
        return Scope(data.get("node"), data["selector"] or None)


@admin.register(RoleAssignment)
class RoleAssignmentAdmin(GrantersAdmin):
    """Granted and revoked, never changed: what somebody had and when is then in the record."""

    form = RoleAssignmentForm
    list_display = ("role", "holder", "scope_words", "granted_by", "created_at", "expires_at")
    list_filter = ("role", "scope")
    list_select_related = ("role", "user", "group", "node", "granted_by")
    search_fields = ("user__username", "group__name", "node__name")
    raw_id_fields = ("node",)

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        found = super().get_form(request, obj, change=change, **kwargs)
        return type(found.__name__, (found,), {"actor": actor_of(request)})

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: RoleAssignment, form: Any, change: bool) -> None:
        data = form.cleaned_data
        made = grants.assign_role(
            actor_of(request),
            data["role"],
            data["user"] or data["group"],
            form.scope(data),
            expires_at=data["expires_at"],
        )
        obj.pk = made.pk

    def delete_model(self, request: HttpRequest, obj: RoleAssignment) -> None:
        grants.revoke_role(actor_of(request), obj)

    def delete_queryset(self, request: HttpRequest, queryset: models.QuerySet[RoleAssignment]) -> None:
        grants.revoke_roles(actor_of(request), queryset.select_related("role", "user", "group", "node"))
