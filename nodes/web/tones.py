"""What colour, icon and word a state has: green well, amber needs a look, red broken, grey unknown.

A tone never stands alone; every one comes with an icon and a word.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from django.utils.translation import gettext as _

from nodes.models import Connection, ConnectionReason, OperationStatus, Status, StepStatus
from nodes.models.event import Severity

WARN_PERCENT, FULL_PERCENT = 80.0, 95.0


class Tone(StrEnum):
    GOOD = "good"
    WARN = "warn"
    BAD = "bad"
    ACTIVE = "active"
    """Something is going on right now."""
    NEUTRAL = "neutral"
    UNKNOWN = "unknown"


ICONS = {
    Tone.GOOD: "circle-check",
    Tone.WARN: "alert-triangle",
    Tone.BAD: "alert-circle",
    Tone.ACTIVE: "loader-2",
    Tone.NEUTRAL: "point",
    Tone.UNKNOWN: "help-circle",
}


@dataclass(frozen=True, slots=True)
class Shown:
    """A state as it is shown."""

    tone: Tone
    words: str
    icon: str = ""
    reason: str = ""


def of_node(node: Any) -> Shown:
    """A node's status; in maintenance its connection is told as the reason."""
    reason = _reason(node)
    if node.status == Status.MAINTENANCE:
        return Shown(Tone.WARN, _("Maintenance"), "tool", reason or node.scheduling_reason)
    if node.status == Status.ONLINE and getattr(node, "flood", ""):
        return Shown(Tone.WARN, _("Online"), reason=_("Sends too much"))
    if node.status == Status.ONLINE:
        return Shown(Tone.GOOD, _("Online"))
    if node.connection == Connection.UNKNOWN:
        return Shown(Tone.UNKNOWN, _("Offline"), reason=reason)
    return Shown(Tone.BAD, _("Offline"), reason=reason)


def _reason(node: Any) -> str:
    code = node.status_reason
    return str(ConnectionReason(code).label) if code in ConnectionReason.values else str(code)


def of_work(status: str) -> Shown:
    """An operation's or a step's status."""
    words = {
        OperationStatus.QUEUED: Shown(Tone.NEUTRAL, _("Queued"), "clock"),
        StepStatus.PENDING: Shown(Tone.NEUTRAL, _("Pending"), "circle-dashed"),
        OperationStatus.RUNNING: Shown(Tone.ACTIVE, _("Running")),
        OperationStatus.SUCCEEDED: Shown(Tone.GOOD, _("Succeeded")),
        OperationStatus.FAILED: Shown(Tone.BAD, _("Failed"), "circle-x"),
        StepStatus.SKIPPED: Shown(Tone.NEUTRAL, _("Skipped"), "circle-minus"),
        OperationStatus.CANCELLED: Shown(Tone.NEUTRAL, _("Cancelled"), "ban"),
    }
    return words.get(status) or Shown(Tone.UNKNOWN, status)  # type: ignore[call-overload]


def of_vm(state: str | None) -> Shown:
    """A VM's state, by its word of inventory/domain_states.py; None where it could not be read."""
    words = {
        "running": Shown(Tone.GOOD, _("Running"), "player-play"),
        "blocked": Shown(Tone.GOOD, _("Running"), "player-play"),
        "paused": Shown(Tone.WARN, _("Paused"), "player-pause"),
        "shutdown": Shown(Tone.ACTIVE, _("Shutting down"), "loader-2"),
        "shutoff": Shown(Tone.NEUTRAL, _("Off"), "player-stop"),
        "crashed": Shown(Tone.BAD, _("Crashed"), "alert-circle"),
        "pmsuspended": Shown(Tone.WARN, _("Suspended"), "player-pause"),
    }
    return words.get(state or "") or Shown(Tone.UNKNOWN, _("Unknown"), "help-circle")


def of_severity(value: str) -> Shown:
    """An event's severity."""
    if value == Severity.ERROR:
        return Shown(Tone.BAD, _("Error"))
    if value == Severity.WARNING:
        return Shown(Tone.WARN, _("Warning"))
    return Shown(Tone.NEUTRAL, _("Info"), "info-circle")


def use_level(percent: float) -> str:
    """How full something is: plain, high (a look), full (trouble)."""
    if percent >= FULL_PERCENT:
        return "full"
    return "high" if percent >= WARN_PERCENT else "plain"
