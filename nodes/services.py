"""What runs beside the web, a Celery worker or a monitor of its own: engine, monitor, audit log, and news."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING

from django.conf import settings

from nodeadmin.memory import give_back_holes, give_back_memory, leave_out_what_stays
from nodes import access, credential_use
from nodes.audit.keeper import AuditKeeper
from nodes.engine.embedded import EmbeddedRunner
from nodes.engine.runner import Runner
from nodes.monitor.loop import Monitor
from nodes.news import NewsSender

if TYPE_CHECKING:
    from nodes.engine.celery_runner import WakeUps

TURN_S = 0.0005
"""How long a thread computes while another one waits for its turn. A request gives its turn away some hundred
times, at each look into the database and at each write to a socket: with Python's 5 ms, one host that sends
without end would hold up every page by a second."""


class Services:
    """Started and stopped with the process.

    With the embedded engine the web runs operations itself; with Celery every process only tells the workers.
    """

    def __init__(self, part: str, *, runner: Runner | None, monitor: Monitor | None) -> None:
        self._news = NewsSender()
        self._wake_ups = _wake_ups()
        self._runner = runner
        self._monitor = monitor
        self._audit = AuditKeeper(part)
        self._closing = threading.Event()
        self._stop_guard = threading.Lock()
        self._stopped = False

    @classmethod
    def of_web(cls) -> Services:
        embedded = settings.NODEADMIN_ENGINE == "embedded"
        watches = settings.NODEADMIN_MONITOR == "embedded"
        return cls(
            "web",
            runner=EmbeddedRunner(settings.DATA_DIR) if embedded else None,
            monitor=Monitor() if watches else None,
        )

    @classmethod
    def of_monitor(cls) -> Services:
        return cls("monitor", runner=None, monitor=Monitor())

    @classmethod
    def of_worker(cls) -> Services:
        from nodes.engine.celery_runner import worker_runner

        return cls("worker", runner=worker_runner(), monitor=None)

    def start(self) -> None:
        """Raises ImproperlyConfigured where another server holds the data directory."""
        give_back_memory()
        sys.setswitchinterval(TURN_S)
        leave_out_what_stays()
        threading.Thread(target=give_back_holes, args=(self._closing,), name="memory", daemon=True).start()
        if self._runner is not None:
            self._runner.start()
        self._news.start()
        self._audit.start()
        if self._wake_ups is not None:
            self._wake_ups.start()
        if self._monitor is not None:
            self._monitor.start()

    def stop(self) -> None:
        """Give nodes and unfinished operations back, and close the connections to hosts."""
        with self._stop_guard:
            if self._stopped:
                return
            self._stopped = True
            self._closing.set()
            if self._monitor is not None:
                self._monitor.stop()
            if self._runner is not None:
                self._runner.stop()
            if self._wake_ups is not None:
                self._wake_ups.stop()
            self._audit.stop()
            self._news.stop()
            access.close_pool()
            credential_use.flush()


def _wake_ups() -> WakeUps | None:
    """What tells Celery's workers of new work; None with the embedded engine, which needs no Celery."""
    if settings.NODEADMIN_ENGINE != "celery":
        return None
    from nodeadmin.celery import app
    from nodes.engine.celery_runner import WakeUps

    return WakeUps(app)
