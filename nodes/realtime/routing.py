"""The addresses of the sockets."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import structlog
from channels.routing import URLRouter
from django.urls import path

from nodes.database_faults import unavailable
from nodes.realtime.fleet import FleetConsumer
from nodes.realtime.logs import LogConsumer

log = structlog.get_logger(__name__)

TRY_AGAIN_LATER = 1013
"""The close code of a server that cannot serve now (IANA's registry of WebSocket close codes)."""

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

websocket_urlpatterns = [
    path("ws/fleet/", FleetConsumer.as_asgi()),
    path("ws/nodes/<str:name>/logs/", LogConsumer.as_asgi()),
]


class Sockets:
    """Routes sockets; one to nowhere is closed instead of failing as an error of the server."""

    def __init__(self) -> None:
        self._router = URLRouter(websocket_urlpatterns)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        known = any(pattern.resolve(scope["path"].lstrip("/")) for pattern in websocket_urlpatterns)
        if not known:
            await receive()
            await send({"type": "websocket.close", "code": 4404})
            return
        try:
            await self._router(scope, receive, send)
        except Exception as error:
            if unavailable(error) is None:
                raise
            log.warning("the database does not answer", path=scope["path"], detail=str(error))
            await send({"type": "websocket.close", "code": TRY_AGAIN_LATER})
