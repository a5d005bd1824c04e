"""A monitor in a process of its own, as many times as wanted: they share the nodes among themselves."""

from __future__ import annotations

import signal
import threading
from typing import Any

from django.core.management.base import BaseCommand

from nodes.services import Services


class Command(BaseCommand):
    help = "Watch nodes until ended by SIGTERM or SIGINT. Several of these share the nodes among themselves."

    def handle(self, *args: Any, **options: Any) -> None:
        ended = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: ended.set())
        services = Services.of_monitor()
        services.start()
        self.stdout.write("The monitor runs.")
        self.stdout.flush()
        ended.wait()
        services.stop()
