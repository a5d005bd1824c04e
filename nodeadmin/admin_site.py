"""The Django admin under nodeadmin's own name, and behind its own login."""

from typing import Any

from django.contrib.admin import AdminSite
from django.contrib.admin.apps import AdminConfig
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.module_loading import autodiscover_modules
from django.utils.translation import gettext_lazy as _


class NodeadminAdminConfig(AdminConfig):
    default_site = "nodeadmin.admin_site.NodeadminAdminSite"

    def ready(self) -> None:
        super().ready()
        autodiscover_modules("admin_accounts", "admin_roles")


class NodeadminAdminSite(AdminSite):
    site_header = _("nodeadmin administration")
    site_title = _("nodeadmin")
    index_title = _("Django admin")

    def register(self, model_or_iterable: Any, admin_class: Any = None, **options: Any) -> None:
        """Not what allauth registers: its pages show and take secrets, and record nothing. Ours are in
        nodes/admin_accounts.py."""
        if admin_class is None or not admin_class.__module__.startswith("allauth."):
            super().register(model_or_iterable, admin_class, **options)

    def get_urls(self) -> list[Any]:
        """Without the address that looks up any row of any model: none of them has a page to lead to, and
        whether there is one is told to who may see it."""
        return [found for found in super().get_urls() if getattr(found, "name", "") != "view_on_site"]

    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """One login for all, so that there is one record of it; who is signed in and no staff is refused."""
        # Not at the top: this module is read before there are models.
        from django.contrib.auth.views import redirect_to_login

        index = reverse("admin:index", current_app=self.name)
        if self.has_permission(request):
            return redirect(index)
        if request.user.is_authenticated:
            raise PermissionDenied
        return redirect_to_login(request.GET.get("next") or index, reverse("login"))

    def password_change(  # type: ignore[override]
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """One page for all: it bounds how often the current password may be tried, and ends sessions."""
        return redirect("account_change_password")
