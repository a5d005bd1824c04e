"""Find a device across nodes: a free GPU, a drive by its serial, all cards of one driver."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET

from nodes.models import Device
from nodes.permissions import VIEW, has_for_all, nodes_for
from nodes.selection import select_devices
from nodes.web.listing import Column, export_rows, list_rows, order_rows, wanted_order
from nodes.web.tones import Tone
from nodes.web.views.access import user_of
from nodes.web.views.node_list import Chip
from nodes.web.views.node_page import section_url

TEXTS = ("text", "vendor", "model", "driver")
KINDS = ("gpu", "network", "nvme", "storage", "usb-controller", "usb", "disk", "other")


def kind_labels() -> dict[str, str]:
    return {
        "gpu": _("GPUs"),
        "network": _("Network"),
        "nvme": _("NVMe"),
        "storage": _("Storage"),
        "usb-controller": _("USB controllers"),
        "usb": _("USB devices"),
        "disk": _("Disks"),
        "other": _("Other PCI"),
    }


def columns() -> tuple[Column, ...]:
    return (
        Column(_("Device"), "model", ("vendor", "model")),
        Column(_("Kind"), "kind", ("kind",)),
        Column(_("Node"), "node", ("node__name",)),
        Column(_("Address"), "address", ("key",)),
        Column(_("Driver"), "driver", ("driver",)),
        Column(_("NUMA"), "numa", ("numa_cell",), css="right"),
        Column(_("Passthrough"), "passthrough", ("passthrough",)),
        Column(_("Held by")),
    )


@require_GET
def device_search(request: HttpRequest) -> HttpResponse:
    """Devices of all nodes that the user may see."""
    user = user_of(request)
    rows = Device.objects.select_related("node").defer("text")
    if not has_for_all(user, VIEW):
        rows = rows.filter(node__in=nodes_for(user))
    filters = _filters(request)
    rows = select_devices(rows, filters)
    shown = columns()
    rows = order_rows(rows, shown, wanted_order(request, shown))
    exported = export_rows(request, "devices", rows, record)
    if exported is not None:
        return exported
    listing = list_rows(request, rows, shown)
    context = {
        "listing": listing,
        "devices": [
            (device, section_url(device.node, device.section), _verdict(device)) for device in listing.page
        ],
        "filters": filters,
        "kinds": _kinds(filters),
        "filtered": any(value not in (None, "") for value in filters.values()),
    }
    template = "devices/device_search.html"
    return render(request, f"{template}#list" if request.htmx else template, context)  # type: ignore[attr-defined]


def _filters(request: HttpRequest) -> dict[str, Any]:
    """What the URL asks for; what it has wrong is left out, and shown nowhere as set."""
    filters: dict[str, Any] = {name: request.GET.get(name, "").strip()[:120] for name in TEXTS}
    kind, cell = request.GET.get("kind", ""), request.GET.get("numa_cell", "")
    filters["kind"] = kind if kind in KINDS else ""
    filters["numa_cell"] = int(cell) if cell.isascii() and cell.isdigit() and len(cell) < 5 else None
    filters["free"] = True if request.GET.get("free") == "1" else None
    return filters


def _kinds(filters: Mapping[str, Any]) -> tuple[Chip, ...]:
    chosen = filters["kind"]
    return tuple(
        Chip(label, None, chosen == kind, None if chosen == kind else kind)
        for kind, label in kind_labels().items()
    )


def _verdict(device: Device) -> tuple[str, str, str]:
    """Tone, words and icon of whether a VM could have it."""
    if device.section == "disks":
        if device.free is None:
            return Tone.UNKNOWN, _("Use unknown"), ""
        return (Tone.GOOD, _("Unused"), "") if device.free else (Tone.NEUTRAL, _("In use"), "")
    known = {
        "ready": (Tone.GOOD, _("Ready"), ""),
        "possible": (Tone.ACTIVE, _("Possible"), "info-circle"),
        "blocked": (Tone.NEUTRAL, _("Blocked"), "ban"),
    }
    return known.get(device.passthrough, (Tone.UNKNOWN, _("Unknown"), ""))


def record(device: Device) -> Mapping[str, Any]:
    return {
        "node": device.node.name,
        "section": device.section,
        "key": device.key,
        "kind": device.kind,
        "vendor": device.vendor,
        "model": device.model,
        "serial": device.serial,
        "ids": f"{device.vendor_id}:{device.device_id}" if device.vendor_id else "",
        "driver": device.driver,
        "numa_cell": device.numa_cell,
        "iommu_group": device.iommu_group,
        "passthrough": device.passthrough,
        "held_by": device.held_by,
        "free": device.free,
        "size_bytes": device.size_bytes,
        "health": device.health,
    }
