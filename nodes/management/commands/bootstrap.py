"""Groups and the first administrator, for an installation that migrates and serves by itself."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from nodes.management.setup import ADMIN, ensure_administrator, ensure_groups


class Command(BaseCommand):
    help = "Make the groups and the first administrator where they are missing. Run it after `migrate`."

    def handle(self, *args: Any, **options: Any) -> None:
        for name in ensure_groups():
            self.stdout.write(f"Group made: {name}")
        ensure_administrator(self._show)

    def _show(self, password: str) -> None:
        self.stdout.write(f"Administrator made: {ADMIN}\nPassword, shown only now: {password}")
        self.stdout.flush()
