"""Print what runs on a managed host."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from nodes.inventory.registry import all_sources
from nodes.inventory.script import build_script


class Command(BaseCommand):
    help = (
        "Print the script that a probe feeds to `sh -s` on a host. Run it there by hand and give its output "
        "to `manage.py inventory --from FILE`."
    )
    requires_system_checks = ()

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(build_script(all_sources()), ending="")
