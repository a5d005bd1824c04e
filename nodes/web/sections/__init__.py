"""What a section's own template needs beside the facts: derived here, so that templates only show."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from nodes.web.sections import disks, pci, summary, usb

PREPARE: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    "summary": summary.prepare,
    "pci": pci.prepare,
    "usb": usb.prepare,
    "disks": disks.prepare,
}


def prepare(slug: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Further context for the section's template; nothing for one that shows its facts as they are."""
    prepared = PREPARE.get(slug)
    return prepared(facts) if prepared is not None else {}
