"""A ceiling on requests a user, high enough for any honest program."""

from __future__ import annotations

from typing import Any

from rest_framework.request import Request
from rest_framework.throttling import UserRateThrottle


class UserThrottle(UserRateThrottle):
    """By user, or by address for who is not signed in."""

    def get_cache_key(self, request: Request, view: Any) -> str | None:
        key: str | None = super().get_cache_key(request, view)
        return key
