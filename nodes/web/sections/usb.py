"""USB devices as the tree that they hang in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext as _

from nodes.web.sections.passthrough import VerdictShown, users_of, verdict


@dataclass(frozen=True, slots=True)
class UsbLine:
    """One device; ``rails`` says for each level above whether its line goes on (True) or ended."""

    device: Mapping[str, Any]
    name: str
    maker: str
    functions: str
    ids: str
    verdict: VerdictShown | None
    vms: list[tuple[str, bool]]
    uses: list[str]
    rails: tuple[bool, ...]
    last: bool


def prepare(facts: Mapping[str, Any]) -> dict[str, Any]:
    devices = list(facts["devices"])
    children: dict[str | None, list[Mapping[str, Any]]] = {}
    known = {device["name"] for device in devices}
    for device in devices:
        parent = device["parent"] if device["parent"] in known else None
        children.setdefault(parent, []).append(device)
    lines: list[UsbLine] = []
    _walk(children, None, (), lines)
    controllers = {controller["id"]: controller for controller in facts["controllers"]}
    plugged = [device for device in devices if not device["is_root_hub"]]
    return {"lines": lines, "controllers": controllers, "plugged": len(plugged)}


def _walk(
    children: Mapping[str | None, list[Mapping[str, Any]]],
    parent: str | None,
    rails: tuple[bool, ...],
    lines: list[UsbLine],
) -> None:
    """Depth first; a device that names itself as its hub cannot come up twice, names being unique."""
    below = children.get(parent, [])
    for position, device in enumerate(below):
        last = position == len(below) - 1
        lines.append(_line(device, rails, last))
        if device["name"] != parent:
            _walk(children, device["name"], (*rails, not last) if parent is not None else rails, lines)


def _line(device: Mapping[str, Any], rails: tuple[bool, ...], last: bool) -> UsbLine:
    vms, uses = users_of(device)
    name = device["product"] or device["product_name"] or device["class_name"] or _("Unknown device")
    if device["is_root_hub"]:
        name = _("Bus %s") % device["bus"]
    functions = dict.fromkeys(
        i["protocol_name"] or i["class_name"] for i in device["interfaces"] if not device["is_hub"]
    )
    return UsbLine(
        device=device,
        name=name,
        maker=device["manufacturer"] or device["vendor_name"] or "",
        functions=", ".join(word for word in functions if word),
        ids=f"{device['vendor_id'] or '????'}:{device['product_id'] or '????'}",
        # Whether a hub can be given away is asked by nobody.
        verdict=None if device["is_hub"] else verdict(device["passthrough"]),
        vms=vms,
        uses=uses,
        rails=rails,
        last=last,
    )
