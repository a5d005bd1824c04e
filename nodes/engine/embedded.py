"""The runner inside the server process. It starts and stops with the server.

One process only: it holds a lock on the data directory, which also proves that every claim found at the start
belongs to a process that is gone.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import structlog
from django.core.exceptions import ImproperlyConfigured

from nodes.engine.claim import expire_all
from nodes.engine.runner import Runner
from nodes.engine.submit import on_submit

log = structlog.get_logger(__name__)


class EmbeddedRunner(Runner):
    """Runs operations in this process. ``start`` raises ImproperlyConfigured where another one does."""

    def __init__(self, data_dir: Path) -> None:
        super().__init__()
        self._lock_path = data_dir / "engine.lock"
        self._lock_file: int | None = None
        self._forget_waker: Callable[[], None] = lambda: None

    def start(self) -> None:
        """Take the lock, resume what a dead process left, and begin to sweep."""
        self._take_lock()
        expired = expire_all()
        if expired:
            log.warning("operations of an ended process are resumed", count=expired)
        self._forget_waker = on_submit(lambda _operation_id: self._wake.set())
        super().start()

    def stop(self) -> None:
        """Stop claiming, give running operations a moment to end, and hand back those that have not."""
        self._forget_waker()
        super().stop()
        if self._lock_file is not None:
            os.close(self._lock_file)
            self._lock_file = None

    def _take_lock(self) -> None:
        self._lock_path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise ImproperlyConfigured(
                f"Another server runs on {self._lock_path.parent}: with the embedded engine there is one "
                "process only. Stop it, or give this one another data directory."
            ) from None
        self._lock_file = descriptor
