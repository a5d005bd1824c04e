"""PCI devices: by kind as a table, or by IOMMU group."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext as _

from nodes.web.sections.passthrough import VerdictShown, badge_of, users_of, verdict


@dataclass(frozen=True, slots=True)
class DeviceLine:
    """One device, ready to be shown. ``device`` are its plain facts."""

    device: Mapping[str, Any]
    name: str
    maker: str
    kind: str
    ids: str
    verdict: VerdictShown
    vms: list[tuple[str, bool]]
    uses: list[str]
    link: str
    link_reduced: bool
    notes: list[str]


@dataclass(frozen=True, slots=True)
class GroupCard:
    """An IOMMU group with its devices; they go to a VM together."""

    number: int
    isolated: bool
    tone: str
    icon: str
    words: str
    lines: list[DeviceLine]
    bridges: list[str]


def prepare(facts: Mapping[str, Any]) -> dict[str, Any]:
    lines = [device_line(device) for device in facts["devices"]]
    by_address = {line.device["address"]: line for line in lines}
    groups = []
    for group in facts["iommu_groups"]:
        alone = [address for address in group["devices"] if address not in group["bridges"]]
        members = [by_address[address] for address in alone if address in by_address]
        tone, icon, words = badge_of(group["passthrough"])
        groups.append(
            GroupCard(group["number"], group["isolated"], tone, icon, words, members, group["bridges"])
        )
    labels = kind_labels()
    order = list(labels)
    lines.sort(key=lambda line: order.index(line.device["kind"]) if line.device["kind"] in labels else 99)
    return {
        "lines": [line for line in lines if not line.device["is_bridge"]],
        "bridges": [line for line in lines if line.device["is_bridge"]],
        "groups": groups,
        "kinds": [(labels.get(kind, kind), count) for kind, count in facts["counts"].items() if count],
    }


def kind_labels() -> dict[str, str]:
    return {
        "gpu": _("GPU"),
        "network": _("Network"),
        "nvme": _("NVMe"),
        "storage": _("Storage"),
        "usb-controller": _("USB controller"),
        "other": _("Other"),
    }


def device_line(device: Mapping[str, Any]) -> DeviceLine:
    vms, uses = users_of(device)
    link = device["link"] or {}
    return DeviceLine(
        device=device,
        name=device["device_name"] or device["class_name"] or _("Unknown device"),
        maker=device["vendor_name"] or "",
        kind=kind_labels().get(device["kind"], device["kind"]),
        ids=f"{device['vendor_id'] or '????'}:{device['device_id'] or '????'}",
        verdict=verdict(device["passthrough"]),
        vms=vms,
        uses=uses,
        link=_link_words(link),
        # Graphics cards lower their link while they have nothing to do: that is no trouble.
        link_reduced=bool(link.get("reduced")) and device["kind"] != "gpu",
        notes=list(_notes(device)),
    )


def _link_words(link: Mapping[str, Any]) -> str:
    """ "16 GT/s ×4"; with the most it could where that is more."""
    speed, width = link.get("speed_gtps"), link.get("width")
    if not speed or not width:
        return ""
    words = f"{speed:g} GT/s ×{width}"
    if link.get("reduced") and link.get("max_speed_gtps") and link.get("max_width"):
        words += f" ({link['max_speed_gtps']:g} GT/s ×{link['max_width']})"
    return words


def _notes(device: Mapping[str, Any]) -> Any:
    """What a device is besides: virtual functions, interfaces, disks."""
    function, virtual = device["physical_function"], device["virtual_function"]
    if function:
        configured = function["configured_vfs"]
        shown = "?" if configured is None else configured
        yield _("SR-IOV: %(n)s of %(all)s VFs") % {"n": shown, "all": function["total_vfs"]}
    if virtual:
        yield _("VF %(n)s of %(of)s") % {"n": virtual["index"], "of": virtual["physical_function"]}
    yield from (port["name"] for port in device["interfaces"])
    yield from (disk["name"] for disk in device["disks"])
