"""The verdict on giving a device to a VM, and who has it now: for PCI and USB alike."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext as _

from nodes.web.tones import Tone


@dataclass(frozen=True, slots=True)
class VerdictShown:
    """A verdict as a badge, with its reasons as (effect, message, remedy)."""

    tone: Tone
    icon: str
    words: str
    reasons: tuple[tuple[str, str, str | None], ...]


def verdict(passthrough: Mapping[str, Any]) -> VerdictShown:
    tone, icon, words = badge_of(passthrough["verdict"])
    reasons = tuple((r["effect"], r["message"], r["remedy"]) for r in passthrough["reasons"])
    return VerdictShown(tone, icon, words, reasons)


def badge_of(value: str) -> tuple[Tone, str, str]:
    """Blocked is no fault of a device that the host itself needs: it is grey, not red."""
    return {
        "ready": (Tone.GOOD, "circle-check", _("Ready")),
        "possible": (Tone.ACTIVE, "info-circle", _("Possible")),
        "blocked": (Tone.NEUTRAL, "ban", _("Blocked")),
    }.get(value, (Tone.UNKNOWN, "help-circle", value))


def users_of(device: Mapping[str, Any]) -> tuple[list[tuple[str, bool]], list[str]]:
    """VMs that have the device (name, running), and what the host does with it."""
    vms = list(dict.fromkeys((h["vm_name"], bool(h["running"])) for h in device["held_by"] or ()))
    return vms, uses(device["current_use"])


def uses(found: Iterable[Mapping[str, Any]]) -> list[str]:
    """The host's uses in short words: "nvme0n1: LVM vms-web"."""
    lines: dict[str, None] = {}
    for use in found:
        words = KINDS.get(use["kind"], use["kind"].replace("_", " "))
        names = ", ".join(use["names"][:3])
        lines[f"{use['device']}: {words} {names}".strip()] = None
    return list(lines)


KINDS = {
    "lvm": "LVM",
    "raid": "RAID",
    "zfs": "ZFS",
    "mount": "mounted",
    "swap": "swap",
    "default_route": "default route",
    "address": "address",
    "bridge_port": "bridge",
    "bond_slave": "bond",
    "vm_disk": "disk of",
    "stopped_vm_disk": "disk of",
    "vm_interface": "VM",
    "carries_data": "carries data",
}
