"""Floods in words: of each kind and each moment one sentence, as languages build them differently."""

from __future__ import annotations

from datetime import UTC
from typing import Any

from django.utils.translation import ngettext

from nodes.models import FloodKind, HostFlood, Node


def begun(node: Node, row: HostFlood) -> str:
    """Of a flood that begins."""
    match row.kind:
        case FloodKind.BOOT_IDS:
            text = ngettext(
                "%(node)s sent %(count)d surplus boot ID in %(seconds)d s. More are counted.",
                "%(node)s sent %(count)d surplus boot IDs in %(seconds)d s. More are counted.",
                row.count,
            )
        case FloodKind.HEARTBEATS:
            text = ngettext(
                "%(node)s sent %(count)d surplus heartbeat in %(seconds)d s. More are counted.",
                "%(node)s sent %(count)d surplus heartbeats in %(seconds)d s. More are counted.",
                row.count,
            )
        case FloodKind.CONNECTION:
            text = ngettext(
                "%(node)s caused %(count)d surplus connection change in %(seconds)d s. More are counted.",
                "%(node)s caused %(count)d surplus connection changes in %(seconds)d s. More are counted.",
                row.count,
            )
        case FloodKind.CHANGES:
            text = ngettext(
                "%(node)s caused %(count)d surplus inventory change in %(seconds)d s. More are counted.",
                "%(node)s caused %(count)d surplus inventory changes in %(seconds)d s. More are counted.",
                row.count,
            )
        case _:
            text = ngettext(
                "%(node)s caused %(count)d surplus event in %(seconds)d s. More are counted.",
                "%(node)s caused %(count)d surplus events in %(seconds)d s. More are counted.",
                row.count,
            )
    return text % _facts(node, row)


def lasting(node: Node, row: HostFlood) -> str:
    """Of one that goes on."""
    match row.kind:
        case FloodKind.BOOT_IDS:
            text = ngettext(
                "%(node)s has sent %(count)d surplus boot ID since %(since)s. More are counted.",
                "%(node)s has sent %(count)d surplus boot IDs since %(since)s. More are counted.",
                row.count,
            )
        case FloodKind.HEARTBEATS:
            text = ngettext(
                "%(node)s has sent %(count)d surplus heartbeat since %(since)s. More are counted.",
                "%(node)s has sent %(count)d surplus heartbeats since %(since)s. More are counted.",
                row.count,
            )
        case FloodKind.CONNECTION:
            text = ngettext(
                "%(node)s has caused %(count)d surplus connection change since %(since)s. More are counted.",
                "%(node)s has caused %(count)d surplus connection changes since %(since)s. More are counted.",
                row.count,
            )
        case FloodKind.CHANGES:
            text = ngettext(
                "%(node)s has caused %(count)d surplus inventory change since %(since)s. More are counted.",
                "%(node)s has caused %(count)d surplus inventory changes since %(since)s. More are counted.",
                row.count,
            )
        case _:
            text = ngettext(
                "%(node)s has caused %(count)d surplus event since %(since)s. More are counted.",
                "%(node)s has caused %(count)d surplus events since %(since)s. More are counted.",
                row.count,
            )
    return text % _facts(node, row)


def ended(node: Node, row: HostFlood) -> str:
    """Of one that is over."""
    match row.kind:
        case FloodKind.BOOT_IDS:
            text = ngettext(
                "%(node)s sent %(count)d surplus boot ID from %(since)s to %(until)s.",
                "%(node)s sent %(count)d surplus boot IDs from %(since)s to %(until)s.",
                row.count,
            )
        case FloodKind.HEARTBEATS:
            text = ngettext(
                "%(node)s sent %(count)d surplus heartbeat from %(since)s to %(until)s.",
                "%(node)s sent %(count)d surplus heartbeats from %(since)s to %(until)s.",
                row.count,
            )
        case FloodKind.CONNECTION:
            text = ngettext(
                "%(node)s caused %(count)d surplus connection change from %(since)s to %(until)s.",
                "%(node)s caused %(count)d surplus connection changes from %(since)s to %(until)s.",
                row.count,
            )
        case FloodKind.CHANGES:
            text = ngettext(
                "%(node)s caused %(count)d surplus inventory change from %(since)s to %(until)s.",
                "%(node)s caused %(count)d surplus inventory changes from %(since)s to %(until)s.",
                row.count,
            )
        case _:
            text = ngettext(
                "%(node)s caused %(count)d surplus event from %(since)s to %(until)s.",
                "%(node)s caused %(count)d surplus events from %(since)s to %(until)s.",
                row.count,
            )
    return text % _facts(node, row)


def _facts(node: Node, row: HostFlood) -> dict[str, Any]:
    return {
        "node": node.name,
        "count": row.count,
        "seconds": max(1, round((row.last_at - row.since).total_seconds())),
        "since": f"{row.since.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC",
        "until": f"{row.last_at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC",
    }
