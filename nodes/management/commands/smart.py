"""``manage.py smart FILE…``: what nodeadmin reads in smartctl's outputs, one line a file."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from nodes.inventory.parsing.visible import visible
from nodes.inventory.smart import SmartFacts, parse_smart


class Command(BaseCommand):
    help = (
        "Shows health, temperature, power-on hours and wear in files that hold smartctl's output "
        "(smartctl -x -j DEVICE > FILE, or its text), with the reasons of the verdict. - is standard input."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("files", nargs="+", metavar="FILE")

    def handle(self, *args: Any, files: list[str], **options: Any) -> None:
        width = max(len(Path(name).name) for name in files)
        unreadable = []
        for name in files:
            try:
                text = _read(name)
            except OSError as error:
                unreadable.append(f"{visible(name)}: {error.strerror}")
                continue
            self.stdout.write(f"{visible(Path(name).name):{width}}  {describe(parse_smart(text))}")
        if unreadable:
            raise CommandError("; ".join(unreadable))


def _read(name: str) -> str:
    data = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    return data.decode("utf-8", "surrogateescape")


def describe(facts: SmartFacts) -> str:
    """One line: health, temperature, hours, wear and life, model, reasons. ``-`` is unknown."""
    figures = (
        f"{facts.health.value:8}",
        f"{_number(facts.temperature_celsius):>4} °C",
        f"{_number(facts.power_on_hours):>7} h",
        f"wear {_number(facts.wear_used_percent):>3} %",
        f"life {_number(facts.life_remaining_percent):>3} %",
        facts.model or "-",
        ", ".join(reason.code for reason in facts.reasons),
    )
    # A terminal would obey control characters that a drive, or who made the file, put into its model.
    return visible("  ".join(figures))


def _number(value: int | None) -> str:
    return "-" if value is None else str(value)
