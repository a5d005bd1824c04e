"""Names of libvirt's domain states and of the reasons for them: its constants' names in small letters.

Source: https://libvirt.org/html/libvirt-libvirt-domain.html, virDomainState and the enumerations
virDomain…Reason (``VIR_DOMAIN_PAUSED_IOERROR`` is state ``paused``, reason ``ioerror``).
"""

from __future__ import annotations

from collections.abc import Mapping

from nodes.inventory.document import HostDocument
from nodes.inventory.jsontext import Tree, read_objects, whole, words

STATES: Mapping[int, str] = dict(
    enumerate(
        ("nostate", "running", "blocked", "paused", "shutdown", "shutoff", "crashed", "pmsuspended"),
    )
)

REASONS: Mapping[str, tuple[str, ...]] = {
    "nostate": ("unknown",),
    "running": (
        "unknown",
        "booted",
        "migrated",
        "restored",
        "from_snapshot",
        "unpaused",
        "migration_canceled",
        "save_canceled",
        "wakeup",
        "crashed",
        "postcopy",
        "postcopy_failed",
    ),
    "blocked": ("unknown",),
    "paused": (
        "unknown",
        "user",
        "migration",
        "save",
        "dump",
        "ioerror",
        "watchdog",
        "from_snapshot",
        "shutting_down",
        "snapshot",
        "crashed",
        "starting_up",
        "postcopy",
        "postcopy_failed",
        "api_error",
    ),
    "shutdown": ("unknown", "user"),
    "shutoff": (
        "unknown",
        "shutdown",
        "destroyed",
        "crashed",
        "migrated",
        "saved",
        "failed",
        "from_snapshot",
        "daemon",
    ),
    "crashed": ("unknown", "panicked"),
    "pmsuspended": ("unknown",),
}

_ACTIVE = frozenset({"running", "blocked", "paused", "shutdown", "crashed", "pmsuspended"})


def state_name(state: int | None) -> str | None:
    """The state's name; None for a number that is none."""
    return STATES.get(state) if state is not None else None


def reason_name(state: str | None, reason: int | None) -> str | None:
    """The reason's name. ``unknown`` is libvirt's own word for none, and None here, as is a newer number."""
    names = REASONS.get(state or "", ())
    return names[reason] if reason is not None and 0 < reason < len(names) else None


def is_active(state: str | None) -> bool | None:
    """Whether the domain has a process (a crashed one may: libvirt's id tells better). None where unknown."""
    return state in _ACTIVE if state is not None and state != "nostate" else None


def row_is_active(row: Tree) -> bool | None:
    """Whether the domain of this row of ``libvirt:domains`` has a process: one with an id has. None where
    neither id nor state tells."""
    state = state_name(whole(row, "state"))
    if whole(row, "id") is not None:
        return True
    return False if "id" in row and state is not None else is_active(state)


def active_domains(document: HostDocument) -> dict[str, bool]:
    """Whether each domain of libvirt's list is active, by UUID; those of which that is unknown are left
    out.
    """
    found: dict[str, bool] = {}
    for row in read_objects(document.text("libvirt:domains")):
        uuid, active = words(row, "uuid"), row_is_active(row)
        if uuid is not None and active is not None:
            found[uuid] = active
    return found
