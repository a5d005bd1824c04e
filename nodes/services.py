"""What runs beside the web in the server process: the engine that carries operations out."""

from __future__ import annotations

from django.conf import settings

from nodes import access
from nodes.engine.embedded import EmbeddedRunner


class Services:
    """Started and stopped with the server."""

    def __init__(self) -> None:
        self._runner = EmbeddedRunner(settings.DATA_DIR)

    def start(self) -> None:
        """Raises ImproperlyConfigured where another server holds the data directory."""
        self._runner.start()

    def stop(self) -> None:
        """Hand unfinished operations back and close the connections to hosts."""
        self._runner.stop()
        access.close_pool()
