"""The server's entry: HTTP, sockets, and the lifespan that starts and stops what runs beside them.

Channels' router does not know the ASGI lifespan protocol, so a thin wrapper answers it: the engine starts
when the server does, and never because somebody imported a module.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "nodeadmin.settings.local")
_http = get_asgi_application()

from channels.routing import ProtocolTypeRouter  # noqa: E402 - models are ready only now
from django.conf import settings  # noqa: E402

from nodeadmin.bodies import BoundedBodies  # noqa: E402
from nodeadmin.callers import BoundedCallers  # noqa: E402
from nodeadmin.proxies import TrustedProxies  # noqa: E402
from nodes.hosts.host_budget import budgets  # noqa: E402
from nodes.rate_limit import read_rate  # noqa: E402
from nodes.realtime.routing import Sockets  # noqa: E402
from nodes.services import Services  # noqa: E402

PR_SET_PDEATHSIG = 1

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class WithPrecedence:
    """The application, whose requests come before the reading of hosts that send much."""

    def __init__(self, application: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        self._application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        budgets.precede()
        await self._application(scope, receive, send)


class WithLifespan:
    """The application, with the services of this process started before its first request."""

    def __init__(self, application: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        self._application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        else:
            await self._application(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        _end_with_parent()
        services = Services.of_web()
        await receive()
        try:
            await asyncio.to_thread(services.start)
        except Exception as error:  # noqa: BLE001 - whatever it is, uvicorn is to say it and stop
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await asyncio.to_thread(services.stop)
        await send({"type": "lifespan.shutdown.complete"})


def _end_with_parent() -> None:
    """Among several workers: end when the process that started them is killed, as nobody else would end them
    (prctl(2), PR_SET_PDEATHSIG)."""
    if settings.NODEADMIN_WEB_WORKERS > 1:
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


_bounded = WithPrecedence(BoundedBodies(_http, settings.DATA_UPLOAD_MAX_MEMORY_SIZE))
_routed = ProtocolTypeRouter({"http": _bounded, "websocket": Sockets()})
_counted = BoundedCallers(
    _routed,
    read_rate(settings.NODEADMIN_ANONYMOUS_RATE),
    settings.NODEADMIN_REQUESTS,
    free=(settings.STATIC_URL, "/favicon.ico"),
    cookie=settings.SESSION_COOKIE_NAME,
)
application = WithLifespan(TrustedProxies(_counted, settings.NODEADMIN_TRUSTED_PROXIES))
