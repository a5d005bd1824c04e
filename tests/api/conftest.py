"""An API client for each person, speaking JSON with a bearer token."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from nodes.models import ApiToken, User


class Api:
    """Calls endpoints as one user; every answer is (status, body)."""

    def __init__(self, user: User | None, *, read_only: bool = False) -> None:
        self.client = Client(raise_request_exception=False)
        self.headers: dict[str, str] = {}
        if user is not None:
            _row, token = ApiToken.make(
                user, "test", timezone.now() + timedelta(hours=1), read_only=read_only
            )
            self.headers["Authorization"] = f"Bearer {token}"

    def raw(self, endpoint: str, body: Any = None, **headers: str) -> Any:
        return self.client.post(
            f"/api/{endpoint}",
            data=json.dumps({} if body is None else body),
            content_type="application/json",
            headers={**self.headers, **{name.replace("_", "-"): value for name, value in headers.items()}},
        )

    def __call__(self, endpoint: str, body: Any = None, **headers: str) -> tuple[int, dict[str, Any]]:
        response = self.raw(endpoint, body, **headers)
        return response.status_code, response.json()


@pytest.fixture
def api() -> Callable[..., Api]:
    return Api
