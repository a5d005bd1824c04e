"""The API as somebody outside speaks it: HTTP, a token, a plan that is confirmed."""

from __future__ import annotations

import time
from typing import Any

import httpx

from tests.patience import Deadline

ENDED = ("succeeded", "failed", "cancelled")
_POLL_S = 0.5


class ApiClient:
    """Calls endpoints of the server at ``url``; every answer is (status, body)."""

    def __init__(self, url: str, token: str) -> None:
        self._http = httpx.Client(
            base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=90, trust_env=False
        )

    def __call__(self, endpoint: str, **body: Any) -> tuple[int, dict[str, Any]]:
        answer = self._http.post(f"/api/{endpoint}", json=body)
        return answer.status_code, answer.json()

    def plan(self, endpoint: str, **body: Any) -> dict[str, Any]:
        """The problem that carries the plan, and the token to confirm it with."""
        status, answer = self(endpoint, **body)
        assert status == 428, answer
        return answer

    def confirmed(self, endpoint: str, **body: Any) -> str:
        """Asks for the plan and confirms it; gives the operation's id."""
        token = self.plan(endpoint, **body)["confirm_token"]
        status, answer = self(endpoint, **body, confirm_token=token)
        assert status == 202, answer
        return str(answer["id"])

    def operation(self, operation: str) -> dict[str, Any]:
        status, answer = self("describe-operation", operation=operation)
        assert status == 200, answer
        return answer

    def until(self, operation: str, done: Any, what: str, timeout_s: float = 180) -> dict[str, Any]:
        """Follows the operation until ``done(answer)``; gives that answer. Waits for an absent server."""
        deadline = Deadline(timeout_s)
        answer: dict[str, Any] = {}
        while not deadline.over():
            try:
                answer = self.operation(operation)
            except httpx.TransportError:
                time.sleep(_POLL_S)
                continue
            if done(answer):
                return answer
            time.sleep(_POLL_S)
        raise AssertionError(f"{what} not within {deadline.seconds:g} s: {answer}")

    def ended(self, operation: str, timeout_s: float = 240) -> dict[str, Any]:
        """The operation, once it has ended in whatever way."""
        return self.until(operation, lambda answer: answer["status"] in ENDED, "the end", timeout_s)

    def succeeded(self, operation: str, timeout_s: float = 240) -> dict[str, Any]:
        answer = self.ended(operation, timeout_s)
        assert answer["status"] == "succeeded", answer
        return answer

    def step(self, operation: str, code: str) -> dict[str, Any]:
        (found,) = [step for step in self.operation(operation)["steps"] if step["code"] == code]
        return found
