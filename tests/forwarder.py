"""A TCP forwarder that can turn into a black hole: connections stay open, and nothing passes any more."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from types import TracebackType
from typing import Self

_CHUNK = 64 << 10


class Forwarder:
    """Passes everything between its own port and ``target`` on loopback.

    ``swallow`` stops that without closing anything, as a switch without power does; what is sent meanwhile
    is lost for good. After ``recover`` new connections pass again, those from before stay dead.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self._dead = threading.Event()
        self._stop = threading.Event()
        self._sockets: list[socket.socket] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def swallow(self) -> None:
        self._dead.set()

    def recover(self) -> None:
        self._dead.clear()

    def _accept(self) -> None:
        while not self._stop.is_set():
            if not select.select([self._server], [], [], 0.1)[0]:
                continue
            near, _address = self._server.accept()
            self._sockets.append(near)
            if self._dead.is_set():
                continue
            far = socket.create_connection(("127.0.0.1", self._target))
            self._sockets.append(far)
            for end in (near, far):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._pass, args=(near, far), daemon=True).start()

    def _pass(self, near: socket.socket, far: socket.socket) -> None:
        while not self._stop.is_set():
            if self._dead.is_set():
                return
            try:
                for end in select.select([near, far], [], [], 0.1)[0]:
                    data = end.recv(_CHUNK)
                    if self._dead.is_set():
                        return
                    if not data:
                        raise ConnectionError
                    (far if end is near else near).sendall(data)
            except OSError:
                for end in (near, far):
                    with contextlib.suppress(OSError):
                        end.shutdown(socket.SHUT_RDWR)
                return

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(5)
        for opened in [self._server, *self._sockets]:
            opened.close()
