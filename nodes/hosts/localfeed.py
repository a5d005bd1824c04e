"""A command on this machine whose output goes to a sink."""

from __future__ import annotations

import threading
from typing import Protocol

from nodes.errors import HostTimeout
from nodes.hosts.local import LocalStream


class LineSink(Protocol):
    def data(self, chunk: bytes) -> None: ...
    def ended(self) -> None: ...


class LocalFeed:
    """Reads a local command in one thread: there is one local node, so it is one thread in all."""

    refusal = ""
    """No login shell lies between."""

    def __init__(self, stream: LocalStream, sink: LineSink) -> None:
        self._stream = stream
        self._sink = sink
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._read, name="host: local feed", daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            while not self._closing.is_set():
                try:
                    chunk = self._stream.read(timeout_s=0.5)
                except HostTimeout:
                    continue
                if not chunk:
                    break
                self._sink.data(chunk)
        finally:
            # Closed by who reads: a pipe closed under a reader may be another file's by the next read.
            self._stream.close()
            self._sink.ended()

    def close(self) -> None:
        self._closing.set()
        if threading.current_thread() is not self._thread:
            self._thread.join(2)
