"""Base classes of the Django admin's pages: who acts there and may do what, and the fresh second factor that
changes need."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db import models, transaction
from django.db.models.constants import LOOKUP_SEP
from django.http import HttpRequest, HttpResponseRedirect
from django.urls import reverse
from django.utils.http import urlencode

from nodes import second_factor
from nodes.events import Actor
from nodes.models.event import Via
from nodes.permissions import GRANT, has_for_all


def actor_of(request: HttpRequest) -> Actor:
    address = request.META.get("REMOTE_ADDR") or None
    key = request.session.session_key or ""
    return Actor(request.user, address, Via.ADMIN, session_key=key)  # type: ignore[arg-type]


def may_grant(request: HttpRequest) -> bool:
    user: Any = request.user
    return bool(user.is_authenticated and has_for_all(user, GRANT))


def factor_first(request: HttpRequest) -> HttpResponseRedirect | None:
    """Where a fresh second factor is to be given; None where one is waiting to be used, or none is needed."""
    if second_factor.has_proof(actor_of(request), second_factor.GRANT):
        return None
    query = urlencode({"for": second_factor.GRANT, "next": request.get_full_path()})
    return HttpResponseRedirect(f"{reverse('factor-confirm')}?{query}")


def use_factor(request: HttpRequest) -> None:
    """Use the factor up: in the transaction of the change, once its form is valid."""
    second_factor.require_fresh(actor_of(request), second_factor.GRANT)


class OfferedFilters(admin.ModelAdmin):
    """Lists are filtered by what they offer. Django takes any column of the model from the address: who finds
    a row by the beginning of what is not shown (the key of somebody's session) has read it in the end."""

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest) -> bool:
        key = self.opts.pk.name if self.opts.pk is not None else "pk"
        offered = [self.date_hierarchy, *(one for one in self.list_filter if isinstance(one, str))]
        names = {key, "pk", *(one.split(LOOKUP_SEP)[0] for one in offered if one)}
        known = lookup.split(LOOKUP_SEP)[0] in names
        return known and super().lookup_allowed(lookup, value, request)


class ReadOnlyAdmin(OfferedFilters):
    """Rows to look at: nothing is added, changed or deleted."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(request.user.is_authenticated)

    def has_module_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.is_authenticated)


class FreshFactor(OfferedFilters):
    """Changes here need a fresh second factor where the settings ask for one. It is given on a page before,
    as Django's forms have no field for it, and used up in the transaction of the change: one factor for one
    form, and for all rows that are deleted at once."""

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        return self._first_factor(request) or super().changeform_view(request, *args, **kwargs)

    def delete_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        return self._first_factor(request) or super().delete_view(request, *args, **kwargs)

    def changelist_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """Before rows are deleted; all of them or none."""
        if request.POST.get("action") != "delete_selected":
            return super().changelist_view(request, *args, **kwargs)
        with transaction.atomic():
            return self._first_factor(request) or super().changelist_view(request, *args, **kwargs)

    def _first_factor(self, request: HttpRequest) -> HttpResponseRedirect | None:
        may = self.has_change_permission(request) or self.has_delete_permission(request)
        return factor_first(request) if may else None

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        use_factor(request)
        super().save_model(request, obj, form, change)

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        with transaction.atomic():
            use_factor(request)
            super().delete_model(request, obj)

    def delete_queryset(self, request: HttpRequest, queryset: Any) -> None:
        with transaction.atomic():
            use_factor(request)
            super().delete_queryset(request, queryset)


class GrantersAdmin(FreshFactor):
    """Who may grant sees and changes it; Django's own permissions for it count for nothing."""

    def has_module_permission(self, request: HttpRequest) -> bool:
        return may_grant(request)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return may_grant(request)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return may_grant(request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return may_grant(request)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return may_grant(request)


class OwnRowsAdmin(ReadOnlyAdmin):
    """Everybody's rows for who may grant; for others their own."""

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[Any]:
        rows = super().get_queryset(request)
        return rows if may_grant(request) else rows.filter(user=request.user.pk)


class SuperusersAdmin(FreshFactor):
    """Superusers alone change it: Django's own right to change users or groups would let its holder take
    every other right as well."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return self._may(request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self._may(request)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self._may(request)

    def _may(self, request: HttpRequest) -> bool:
        return bool(request.user.is_active and request.user.is_superuser)


def refuse_above(request: HttpRequest, user: Any) -> None:
    """Raise PermissionDenied where ``user`` is a superuser and who acts is none: who may grant has less than
    a superuser, and must not weaken the account of one."""
    if user.is_superuser and not request.user.is_superuser:
        raise PermissionDenied
