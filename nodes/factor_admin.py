"""Who acts in the Django admin, and the fresh second factor that changes there need."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db import transaction
from django.http import HttpRequest, HttpResponseRedirect
from django.urls import reverse
from django.utils.http import urlencode

from nodes import second_factor
from nodes.events import Actor
from nodes.models.event import Via

GRANT_FACTOR = second_factor.GRANT


def actor_of(request: HttpRequest) -> Actor:
    address = request.META.get("REMOTE_ADDR") or None
    key = request.session.session_key or ""
    return Actor(request.user, address, Via.ADMIN, session_key=key)  # type: ignore[arg-type]


class FreshFactor(admin.ModelAdmin):
    """Changes here need a fresh second factor where the settings ask for one. It is given on a page before,
    as Django's forms have no field for it, and used up in the transaction of the change."""

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        return self._first_factor(request) or super().changeform_view(request, *args, **kwargs)

    def delete_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        return self._first_factor(request) or super().delete_view(request, *args, **kwargs)

    def _first_factor(self, request: HttpRequest) -> HttpResponseRedirect | None:
        """Where the factor is to be given; None where there is nothing to give."""
        may = self.has_change_permission(request) or self.has_delete_permission(request)
        if not may or second_factor.has_proof(actor_of(request), GRANT_FACTOR):
            return None
        query = urlencode({"for": GRANT_FACTOR, "next": request.get_full_path()})
        return HttpResponseRedirect(f"{reverse('factor-confirm')}?{query}")

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        second_factor.require_fresh(actor_of(request), GRANT_FACTOR)
        super().save_model(request, obj, form, change)

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        with transaction.atomic():
            second_factor.require_fresh(actor_of(request), GRANT_FACTOR)
            super().delete_model(request, obj)

    def delete_queryset(self, request: HttpRequest, queryset: Any) -> None:
        with transaction.atomic():
            second_factor.require_fresh(actor_of(request), GRANT_FACTOR)
            super().delete_queryset(request, queryset)
