"""What runs beside the web in the server process: the engine that carries operations out, and the monitor."""

from __future__ import annotations

from django.conf import settings

from nodes import access
from nodes.engine.embedded import EmbeddedRunner
from nodes.monitor.loop import Monitor


class Services:
    """Started and stopped with the server."""

    def __init__(self) -> None:
        self._runner = EmbeddedRunner(settings.DATA_DIR)
        self._monitor = Monitor() if settings.NODEADMIN_MONITOR == "embedded" else None

    def start(self) -> None:
        """Raises ImproperlyConfigured where another server holds the data directory."""
        self._runner.start()
        if self._monitor is not None:
            self._monitor.start()

    def stop(self) -> None:
        """Give nodes and unfinished operations back, and close the connections to hosts."""
        if self._monitor is not None:
            self._monitor.stop()
        self._runner.stop()
        access.close_pool()
