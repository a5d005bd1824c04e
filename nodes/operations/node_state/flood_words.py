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
                "%(node)s: %(count)d boot ID too many in %(seconds)d s. Further ones are counted.",
                "%(node)s: %(count)d boot IDs too many in %(seconds)d s. Further ones are counted.",
                row.count,
            )
        case FloodKind.HEARTBEATS:
            text = ngettext(
                "%(node)s: %(count)d heartbeat too many in %(seconds)d s. Further ones are counted.",
                "%(node)s: %(count)d heartbeats too many in %(seconds)d s. Further ones are counted.",
                row.count,
            )
        case FloodKind.CONNECTION:
            text = ngettext(
                "%(node)s: %(count)d connection change too many in %(seconds)d s. Further ones are counted.",
                "%(node)s: %(count)d connection changes too many in %(seconds)d s. Further ones are counted.",
                row.count,
            )
        case FloodKind.CHANGES:
            text = ngettext(
                "%(node)s: %(count)d inventory change too many in %(seconds)d s. Further ones are counted.",
                "%(node)s: %(count)d inventory changes too many in %(seconds)d s. Further ones are counted.",
                row.count,
            )
        case _:
            text = ngettext(
                "%(node)s: %(count)d event too many in %(seconds)d s. Further ones are counted.",
                "%(node)s: %(count)d events too many in %(seconds)d s. Further ones are counted.",
                row.count,
            )
    return text % _facts(node, row)


def lasting(node: Node, row: HostFlood) -> str:
    """Of one that goes on."""
    match row.kind:
        case FloodKind.BOOT_IDS:
            text = ngettext(
                "%(node)s: %(count)d boot ID too many since %(since)s. Further ones are counted.",
                "%(node)s: %(count)d boot IDs too many since %(since)s. Further ones are counted.",
                row.count,
            )
        case FloodKind.HEARTBEATS:
            text = ngettext(
                "%(node)s: %(count)d heartbeat too many since %(since)s. Further ones are counted.",
                "%(node)s: %(count)d heartbeats too many since %(since)s. Further ones are counted.",
                row.count,
            )
        case FloodKind.CONNECTION:
            text = ngettext(
                "%(node)s: %(count)d connection change too many since %(since)s. Further ones are counted.",
                "%(node)s: %(count)d connection changes too many since %(since)s. Further ones are counted.",
                row.count,
            )
        case FloodKind.CHANGES:
            text = ngettext(
                "%(node)s: %(count)d inventory change too many since %(since)s. Further ones are counted.",
                "%(node)s: %(count)d inventory changes too many since %(since)s. Further ones are counted.",
                row.count,
            )
        case _:
            text = ngettext(
                "%(node)s: %(count)d event too many since %(since)s. Further ones are counted.",
                "%(node)s: %(count)d events too many since %(since)s. Further ones are counted.",
                row.count,
            )
    return text % _facts(node, row)


def ended(node: Node, row: HostFlood) -> str:
    """Of one that is over."""
    match row.kind:
        case FloodKind.BOOT_IDS:
            text = ngettext(
                "%(node)s: %(count)d boot ID too many from %(since)s to %(until)s.",
                "%(node)s: %(count)d boot IDs too many from %(since)s to %(until)s.",
                row.count,
            )
        case FloodKind.HEARTBEATS:
            text = ngettext(
                "%(node)s: %(count)d heartbeat too many from %(since)s to %(until)s.",
                "%(node)s: %(count)d heartbeats too many from %(since)s to %(until)s.",
                row.count,
            )
        case FloodKind.CONNECTION:
            text = ngettext(
                "%(node)s: %(count)d connection change too many from %(since)s to %(until)s.",
                "%(node)s: %(count)d connection changes too many from %(since)s to %(until)s.",
                row.count,
            )
        case FloodKind.CHANGES:
            text = ngettext(
                "%(node)s: %(count)d inventory change too many from %(since)s to %(until)s.",
                "%(node)s: %(count)d inventory changes too many from %(since)s to %(until)s.",
                row.count,
            )
        case _:
            text = ngettext(
                "%(node)s: %(count)d event too many from %(since)s to %(until)s.",
                "%(node)s: %(count)d events too many from %(since)s to %(until)s.",
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
