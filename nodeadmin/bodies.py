"""Request bodies, before the application sees them: bounded, and with their length said.

Django reads a whole body, to disk where it is long, before anything of ours can refuse it. And a body sent in
chunks (RFC 9112, section 7.1) comes without a length, which the application would take for no body at all: a
filter would be passed over in silence.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from django.utils.translation import gettext as _

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Any, Any, Any], Awaitable[None]]


class BoundedBodies:
    """The application, whose requests have a body of ``limit`` bytes at most and a ``Content-Length``.

    Longer ones are answered with 413 and a problem document, without having been kept anywhere.
    """

    def __init__(self, application: Application, limit: int) -> None:
        self._application = application
        self._limit = limit

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        headers = dict(scope["headers"])
        if b"transfer-encoding" in headers:
            await self._with_whole_body(scope, receive, send)
        elif _length(headers) > self._limit:
            await self._refuse(send)
        else:
            await self._application(scope, receive, send)

    async def _with_whole_body(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return  # half a body is none, and nobody waits for an answer
            body += message.get("body", b"")
            if len(body) > self._limit:
                await self._refuse(send)
                return
            if not message.get("more_body", False):
                break
        await self._application(_with_length(scope, len(body)), _replay(bytes(body), receive), send)

    async def _refuse(self, send: Send) -> None:
        problem = {
            "type": "urn:nodeadmin:problem:body_too_large",
            "title": _("The body is too large"),
            "status": 413,
            "detail": _("A body has %d bytes at most.") % self._limit,
            "code": "body_too_large",
            "errors": [],
        }
        content = json.dumps(problem).encode()
        headers = [
            (b"content-type", b"application/problem+json"),
            (b"content-length", str(len(content)).encode()),
            # The rest of the body is still on its way, and nobody reads it.
            (b"connection", b"close"),
        ]
        await send({"type": "http.response.start", "status": 413, "headers": headers})
        await send({"type": "http.response.body", "body": content})


def _length(headers: MutableMapping[bytes, bytes]) -> int:
    value = headers.get(b"content-length", b"0")
    return int(value) if value.isdigit() else 0


def _with_length(scope: MutableMapping[str, Any], length: int) -> MutableMapping[str, Any]:
    named: Iterable[tuple[bytes, bytes]] = scope["headers"]
    kept = [(name, value) for name, value in named if name not in (b"transfer-encoding", b"content-length")]
    return {**scope, "headers": [*kept, (b"content-length", str(length).encode())]}


def _replay(body: bytes, receive: Receive) -> Receive:
    """``receive`` that gives the body once, and then what the server tells (that the client has left)."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
