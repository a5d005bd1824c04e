"""What the API asks before an endpoint runs; what concerns a node is asked of nodes/permissions.py.

DRF's views import this module while they are themselves being imported, hence the imports for types only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.utils.translation import gettext_lazy as _
from rest_framework.permissions import BasePermission

if TYPE_CHECKING:
    from rest_framework.request import Request
    from rest_framework.views import APIView

from nodes.models import ApiToken

READING = ("list", "describe", "search", "scan", "export")


class SignedIn(BasePermission):
    """A user who is signed in; with a token for reading only, nothing but reading."""

    message = _("This token is for reading only.")

    def has_permission(self, request: Request, view: APIView) -> bool:
        if not request.user.is_authenticated:
            return False
        if isinstance(request.auth, ApiToken) and request.auth.read_only:
            action = getattr(view, "action", None) or "describe"
            return action.split("_")[0] in READING
        return True
