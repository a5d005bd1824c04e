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

READING = ("list", "describe", "search", "export")
REACHING_OUT = ("list_log_sources", "describe_log_entry")
"""Endpoints that read from a host while they are answered. A token for reading only has the server connect
nowhere: an address that it could name, or a host that it could keep busy, is more than reading. The one
exception is describe-node-logs, for which there is a permission of its own."""


class SignedIn(BasePermission):
    """A user who is signed in; with a token for reading only, nothing but reading what is stored."""

    message = _("This token is for reading only.")

    def has_permission(self, request: Request, view: APIView) -> bool:
        if not request.user.is_authenticated:
            return False
        limits = getattr(request.user, "token_limits", None)
        if limits is None or not limits.read_only:
            return True
        action = getattr(view, "action", None) or "describe"
        return action.split("_")[0] in READING and action not in REACHING_OUT
