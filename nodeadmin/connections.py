"""Connections of the server that end in time, whatever the client does or leaves undone.

uvicorn waits for the rest of a request for ever. Here the head of a request, its body and the reading of the
answer have deadlines, heads have a bounded size, and one address has a bounded number of connections. Trusted
proxies have as many as they need: it is for them to bound their clients.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections import Counter
from typing import Any

import structlog
from django.conf import settings
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from nodeadmin.callers import address_key
from nodeadmin.proxies import UNIX, read_address

log = structlog.get_logger(__name__)

HEAD_S = 10.0
"""From the first moment of a connection, or the first byte of a further request, to the end of its head."""
HEAD_BYTES = 64 * 1024
BODY_STEP_S = 10.0
BODY_STEP_BYTES = 4096
"""A body brings so much in each step, or its end."""
BODY_S = 60.0
"""For a whole body, which has 2.5 MB at most."""
WRITE_S = 120.0
"""A client that takes nothing of its answer for so long gets no more of it."""


class Places:
    """Connections that are open, by the address that they come from."""

    def __init__(self) -> None:
        self._open: Counter[str] = Counter()

    def take(self, client: tuple[str, int] | None) -> str | None:
        """A key to give back, or None where there is no place. Called in the server's loop alone."""
        address = read_address(client[0]) if client else None
        if _is_proxy(address):
            key = ""
        else:
            key = address_key(str(address) if address else "")
            if self._open[key] >= settings.NODEADMIN_CONNECTIONS_PER_ADDRESS:
                return None
        if self._open.total() >= settings.NODEADMIN_CONNECTIONS:
            return None
        self._open[key] += 1
        return key

    def give_back(self, key: str | None) -> None:
        if key is not None:
            self._open[key] -= 1
            if self._open[key] <= 0:
                del self._open[key]


def _is_proxy(address: ipaddress.IPv4Address | ipaddress.IPv6Address | None) -> bool:
    proxies: list[str] = settings.NODEADMIN_TRUSTED_PROXIES
    if address is None:
        return UNIX in proxies
    return any(address in ipaddress.ip_network(text) for text in proxies if text != UNIX)


PLACES = Places()


class Bounded:
    """What requests and sockets have in common: a place, and a bound on the client's slowness in reading."""

    _place: str | None = None
    _has_place = False
    _write_timer: asyncio.TimerHandle | None = None

    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport

    def _enter(self, client: tuple[str, int] | None) -> bool:
        self._place = PLACES.take(client)
        self._has_place = self._place is not None
        if not self._has_place:
            log.warning("too many connections", address=client[0] if client else "unix")
        return self._has_place

    def _leave(self) -> None:
        if self._has_place:
            self._has_place = False
            PLACES.give_back(self._place)
        self._stop_write_timer()

    def _start_write_timer(self) -> None:
        if self._write_timer is None:
            self._write_timer = self.loop.call_later(WRITE_S, self._abort)

    def _stop_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def _abort(self) -> None:
        # close() would wait until the client has read what is on its way.
        self.transport.abort()


class BoundedHttp(Bounded, HttpToolsProtocol):
    """uvicorn's protocol for HTTP/1.1, with deadlines."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._timer: asyncio.TimerHandle | None = None
        self._in_head = True
        self._head_bytes = 0
        self._body_bytes = 0
        self._body_began = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if not self._enter(self.client):
            self._refuse(503, b"Retry-After: 5\r\n")
            return
        self._arm(HEAD_S, self._head_is_late)

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        self._leave()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        if self._in_head:
            if self._timer is None:
                self._arm(HEAD_S, self._head_is_late)
            self._head_bytes += len(data)
        else:
            self._body_bytes += len(data)
        super().data_received(data)
        # A head that came whole was not too long to be read, whatever came with it.
        if self._in_head and self._head_bytes > HEAD_BYTES and not self.transport.is_closing():
            self._refuse(431)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True

    def on_headers_complete(self) -> None:
        self._in_head, self._head_bytes, self._body_bytes = False, 0, 0
        self._body_began = self.loop.time()
        self._arm(BODY_STEP_S, self._look_at_body)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._disarm()
        self._in_head, self._head_bytes = True, 0
        super().on_message_complete()

    def handle_websocket_upgrade(self) -> None:
        self._disarm()
        self._leave()  # the socket takes a place of its own
        super().handle_websocket_upgrade()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._start_write_timer()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop_write_timer()

    def _arm(self, seconds: float, then: Any) -> None:
        self._disarm()
        self._timer = self.loop.call_later(seconds, then)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _head_is_late(self) -> None:
        self._timer = None
        if self._head_bytes:
            self._refuse(408)
        else:
            self.transport.close()

    def _look_at_body(self) -> None:
        self._timer = None
        late = self.loop.time() - self._body_began >= BODY_S
        if not self.flow.read_paused and (late or self._body_bytes < BODY_STEP_BYTES):
            if self.cycle is not None and not self.cycle.response_started:
                self._refuse(408)
            else:
                self._abort()
            return
        self._body_bytes = 0
        self._arm(BODY_STEP_S, self._look_at_body)

    def _refuse(self, status: int, headers: bytes = b"") -> None:
        """A short answer, and the end of the connection. Whatever of an answer is begun is cut off."""
        self._disarm()
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        head = STATUS_LINE[status] + headers + b"Content-Length: 0\r\nConnection: close\r\n\r\n"
        self.transport.write(head)
        self.transport.close()


class BoundedSocket(Bounded, WebSocketsSansIOProtocol):
    """uvicorn's protocol for WebSockets, with a place and a bound on slow readers."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if not self._enter(self.client):
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._start_write_timer()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop_write_timer()
