"""Show the typed inventory of a node, of this machine, or of a recorded document."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from nodes import access
from nodes.errors import NodeAdminError
from nodes.hosts.connection import connect
from nodes.hosts.network_rules import NetworkRules
from nodes.hosts.probe import collect
from nodes.hosts.target import HostTarget
from nodes.inventory.build import Inventory, build
from nodes.inventory.document import HostDocument
from nodes.inventory.parsing.visible import visible, visible_json
from nodes.inventory.reading import read_document
from nodes.inventory.registry import SECTIONS
from nodes.models import Node

MAX_FILE_BYTES = 64 << 20


class Command(BaseCommand):
    help = (
        "Show a host's inventory: that of a node's newest snapshot, of this machine (--local), of a node "
        "asked anew (--live), or of a file with the output of `manage.py probe_script` or a saved document."
    )
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        what = parser.add_mutually_exclusive_group(required=True)
        what.add_argument("node", nargs="?", help="name or UUID of a node")
        what.add_argument(
            "--from", dest="file", metavar="FILE", help="probe output or document; - is standard input"
        )
        what.add_argument("--local", action="store_true", help="this machine, asked now")
        parser.add_argument(
            "--live", action="store_true", help="ask the node now instead of reading its snapshot"
        )
        parser.add_argument("--section", choices=[section.slug for section in SECTIONS])
        parser.add_argument("--json", action="store_true")
        parser.add_argument("--document", action="store_true", help="print the raw document instead")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            document = self._document(options)
        except NodeAdminError as error:
            raise CommandError(visible(error.detail())) from error
        except OSError as error:
            raise CommandError(f"{error.filename or options['file']}: {error.strerror}") from error
        except ValueError as error:
            raise CommandError(visible(error)) from error
        if options["document"]:
            self.stdout.write(document.to_json(), ending="")
            return
        chosen = [s for s in SECTIONS if options["section"] in (None, s.slug)]
        inventory = build(document, chosen)
        if options["json"]:
            self.stdout.write(_json(inventory))
        else:
            self._show(inventory)

    def _document(self, options: dict[str, Any]) -> HostDocument:
        if options["file"]:
            raw = _read(options["file"])
            return read_document(raw)
        if options["local"]:
            with connect(HostTarget(key="", transport="local", rules=NetworkRules())) as connection:
                return collect(connection, SECTIONS)
        node = Node.objects.named(options["node"]).select_related("snapshot").first()
        if node is None:
            raise CommandError(f"There is no node “{options['node']}”.")
        if options["live"]:
            with connect(access.target_for(node)) as connection:
                return collect(connection, SECTIONS)
        if node.snapshot is None:
            raise CommandError(f"{node.name} has no snapshot yet.")
        return node.snapshot.host_document()

    def _show(self, inventory: Inventory) -> None:
        self.stdout.write(f"observed at {visible(inventory.observed_at)}")
        for slug, result in inventory.results.items():
            self.stdout.write("")
            self.stdout.write(self.style.MIGRATE_HEADING(slug))
            self._show_value(result.plain, 1)
            for problem in result.problems:
                self.stdout.write(
                    self.style.WARNING(f"  ! {visible(problem.source)}: {_text(problem.message)}")
                )

    def _show_value(self, value: Any, depth: int) -> None:
        indent = "  " * depth
        if isinstance(value, dict):
            for name, inner in value.items():
                if isinstance(inner, dict | list) and inner:
                    self.stdout.write(f"{indent}{_text(name)}:")
                    self._show_value(inner, depth + 1)
                else:
                    self.stdout.write(f"{indent}{_text(name)}: {_text(inner)}")
        elif isinstance(value, list):
            for inner in value:
                if isinstance(inner, dict | list):
                    self.stdout.write(f"{indent}-")
                    self._show_value(inner, depth + 1)
                else:
                    self.stdout.write(f"{indent}- {_text(inner)}")


def _text(value: Any) -> str:
    """A value for a terminal, which would obey control characters that a host put into its texts."""
    if value is None:
        return "–"
    if value in ([], {}):
        return "none"
    return visible(value)


def _read(name: str) -> bytes:
    if name == "-":
        raw = sys.stdin.buffer.read(MAX_FILE_BYTES + 1)
    else:
        with Path(name).open("rb") as stream:
            raw = stream.read(MAX_FILE_BYTES + 1)
    if len(raw) > MAX_FILE_BYTES:
        raise ValueError(f"{name} is larger than {MAX_FILE_BYTES >> 20} MiB: it is no probe's output.")
    return raw


def _json(inventory: Inventory) -> str:
    lines = json.dumps(_answer(inventory), indent=2, ensure_ascii=False).split("\n")
    return "\n".join(map(visible_json, lines))


def _answer(inventory: Inventory) -> dict[str, Any]:
    problems = [
        {"section": p.section, "source": p.source, "code": p.code, "message": p.message}
        for p in inventory.problems
    ]
    return {"observed_at": inventory.observed_at, "sections": inventory.plain(), "problems": problems}
