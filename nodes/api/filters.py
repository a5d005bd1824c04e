"""Filters of the describe endpoints: which items of a section's facts an answer carries."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from rest_framework import serializers

from nodes.api.inputs import WholeNumber
from nodes.inventory.pci_facts import PciKind
from nodes.inventory.smart_health import Health

Facts = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Filter:
    """One filter: its input field, and which items of which lists of the facts it keeps."""

    field: Callable[[], serializers.Field]
    keeps: Callable[[Mapping[str, Any], Any], bool]
    lists: tuple[str, ...]


def _choice(*choices: str) -> Callable[[], serializers.ChoiceField]:
    return lambda: serializers.ChoiceField(choices=choices, required=False)


def _number(help_text: str) -> Callable[[], WholeNumber]:
    return lambda: WholeNumber(min_value=0, required=False, help_text=help_text)


def _equals(field: str) -> Callable[[Mapping[str, Any], Any], bool]:
    return lambda item, wanted: item.get(field) == wanted


def _in_group(item: Mapping[str, Any], wanted: int) -> bool:
    """Of devices their group; of groups themselves."""
    return item.get("iommu_group", item.get("number")) == wanted


def _verdict(item: Mapping[str, Any], wanted: str) -> bool:
    verdict = item.get("passthrough")
    return (verdict.get("verdict") if isinstance(verdict, Mapping) else verdict) == wanted


def _health(item: Mapping[str, Any], wanted: str) -> bool:
    return ((item.get("smart") or {}).get("health") or "unknown") == wanted


NET_LISTS = {
    "nic": "nics",
    "bond": "bonds",
    "bridge": "bridges",
    "vlan": "vlans",
    "tunnel": "tunnels",
    "other": "other",
    "vm-port": "vm_ports",
    "libvirt-network": "libvirt_networks",
}
PASSTHROUGH = _choice("ready", "possible", "blocked")

FILTERS: Mapping[str, Mapping[str, Filter]] = {
    "pci": {
        "kind": Filter(_choice(*(kind.value for kind in PciKind)), _equals("kind"), ("devices",)),
        "iommu_group": Filter(
            _number("The group's number; 0 is one."), _in_group, ("devices", "iommu_groups")
        ),
        "passthrough": Filter(PASSTHROUGH, _verdict, ("devices", "iommu_groups")),
    },
    "net": {"kind": Filter(_choice(*NET_LISTS), lambda _item, _wanted: True, ())},
    "usb": {"passthrough": Filter(PASSTHROUGH, _verdict, ("devices",))},
    "disks": {
        "transport": Filter(
            _choice(
                "nvme", "sata", "sas", "usb", "virtio", "iscsi", "fc", "mmc", "scsi", "xen", "rbd", "nbd"
            ),
            _equals("transport"),
            ("disks",),
        ),
        "health": Filter(_choice(*(health.value for health in Health)), _health, ("disks",)),
    },
}
"""By section and parameter. A section without an entry takes no filters."""


def filter_facts(slug: str, facts: Facts, data: Mapping[str, Any]) -> dict[str, Any]:
    """The facts with the lists that a filter names cut down to what fits all filters given."""
    shown = dict(facts)
    if slug == "net" and data.get("kind"):
        shown |= {name: [] for kind, name in NET_LISTS.items() if kind != data["kind"]}
    for name, rule in FILTERS.get(slug, {}).items():
        wanted = data.get(name)
        if wanted is None:
            continue
        for key in rule.lists:
            shown[key] = [item for item in shown.get(key) or [] if rule.keeps(item, wanted)]
    return shown
