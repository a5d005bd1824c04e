"""What a section's own template needs beside the facts: derived here, so that templates only show."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from nodes.web.sections import disks, net, pci, summary, usb, vms

Facts = Mapping[str, Any]

PREPARE: dict[str, Callable[[Facts], dict[str, Any]]] = {
    "pci": pci.prepare,
    "usb": usb.prepare,
    "net": net.prepare,
    "disks": disks.prepare,
    "vms": vms.prepare,
}
COMPANIONS = {"summary": ("pci",), "vms": ("pools",)}
"""Sections whose facts the page of another one shows, too."""


def prepare(slug: str, facts: Facts, companions: Mapping[str, Facts | None]) -> dict[str, Any]:
    """Further context for the section's template; nothing for one that shows its facts as they are."""
    if slug == "summary":
        return summary.prepare(facts, companions.get("pci"))
    prepared = PREPARE.get(slug)
    return {**companions, **(prepared(facts) if prepared is not None else {})}
