"""A WebSocket client that speaks ASGI to the application, without a server between them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from asgiref.testing import ApplicationCommunicator
from django.conf import settings
from django.test import Client

from nodeadmin.asgi import application
from nodes.models import User

OWN = [(b"host", b"localhost"), (b"origin", b"http://localhost")]
Headers = list[tuple[bytes, bytes]]


def cookie_of(user: User) -> tuple[bytes, bytes]:
    """The header with which a browser that has signed in comes."""
    client = Client()
    client.force_login(user)
    value = client.cookies[settings.SESSION_COOKIE_NAME].value
    return b"cookie", f"{settings.SESSION_COOKIE_NAME}={value}".encode()


class Socket:
    """One open socket."""

    def __init__(self, path: str, headers: Headers) -> None:
        scope = {
            "type": "websocket",
            "path": path,
            "headers": headers,
            "query_string": b"",
            "subprotocols": [],
        }
        self._communicator = ApplicationCommunicator(application, scope)

    async def open(self) -> dict[str, Any]:
        """Connect; gives the server's answer."""
        await self._communicator.send_input({"type": "websocket.connect"})
        return await self._communicator.receive_output(5)

    async def send(self, text: str) -> None:
        await self._communicator.send_input({"type": "websocket.receive", "text": text})

    async def event(self, within_s: float = 8) -> dict[str, Any]:
        """Whatever comes next: a message, or the end."""
        return dict(await self._communicator.receive_output(within_s))

    async def message(self, within_s: float = 8) -> dict[str, Any]:
        return self.read(await self.event(within_s))

    @staticmethod
    def read(event: dict[str, Any]) -> dict[str, Any]:
        assert event["type"] == "websocket.send", event
        found = json.loads(event["text"])
        assert isinstance(found, dict)
        return found

    async def close_code(self) -> int:
        event = await self._communicator.receive_output(8)
        assert event["type"] == "websocket.close", event
        return int(event["code"])

    async def is_quiet(self, seconds: float) -> bool:
        return bool(await self._communicator.receive_nothing(seconds))

    async def close(self) -> None:
        await self._communicator.send_input({"type": "websocket.disconnect", "code": 1000})
        await self._communicator.wait(5)


@asynccontextmanager
async def opened(path: str, headers: Headers) -> AsyncIterator[Socket]:
    socket = Socket(path, headers)
    await socket.open()
    try:
        yield socket
    finally:
        await socket.close()
