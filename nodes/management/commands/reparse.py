"""Run today's parsers over stored documents."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from nodes.inventory.parsing.visible import visible
from nodes.models import Node, Snapshot
from nodes.operations.snapshots import parse_again


class Command(BaseCommand):
    help = "Parse the stored documents again, after an update that reads more out of them."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("node", nargs="*", help="only these nodes")
        parser.add_argument(
            "--all", action="store_true", help="every kept snapshot, not only the newest of each node"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        nodes = Node.objects.all()
        if options["node"]:
            nodes = nodes.filter(name__in=options["node"])
            missing = set(options["node"]) - set(nodes.values_list("name", flat=True))
            if missing:
                raise CommandError(f"There is no node {', '.join(sorted(missing))}.")
        failed = 0
        for node in nodes.iterator():
            rows = (
                Snapshot.objects.filter(node=node)
                if options["all"]
                else Snapshot.objects.filter(pk=node.snapshot_id or 0)
            )
            failed += sum(not self._reparse(node, pk) for pk in rows.values_list("pk", flat=True))
        if failed:
            raise CommandError(f"{failed} documents could not be read.")
        self.stdout.write(self.style.SUCCESS("Done."))

    def _reparse(self, node: Node, pk: int) -> bool:
        snapshot = Snapshot.objects.filter(pk=pk).first()
        if snapshot is None:
            return True  # purged while this ran
        try:
            parse_again(snapshot)
        except ValueError as error:
            self.stderr.write(f"{node.name}: snapshot {pk}: {visible(error)}")
            return False
        self.stdout.write(f"{node.name}: {snapshot.observed_at:%Y-%m-%d %H:%M:%S}")
        return True
