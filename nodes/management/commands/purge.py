"""Delete what the retention settings let go."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from nodes.engine.purge import purge


class Command(BaseCommand):
    help = (
        "Delete old operations, events, snapshots and idempotency keys. The server does this daily by itself."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        for name, count in purge().items():
            self.stdout.write(f"{name}: {count}")
