"""Rows of the device index from an inventory: PCI functions, USB devices, disks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from nodes.inventory.build import Inventory
from nodes.models import Device, Node
from nodes.operations.columns import fitting

Facts = Mapping[str, Any]


def devices_of(node: Node, inventory: Inventory) -> dict[str, list[Device]]:
    """Unsaved rows by section; a section that could not be parsed is left out."""
    readers: dict[str, Callable[[Facts], Iterator[dict[str, Any]]]] = {
        "pci": _pci,
        "usb": _usb,
        "disks": _disks,
    }
    found: dict[str, list[Device]] = {}
    for slug, reader in readers.items():
        result = inventory.results.get(slug)
        if result is None or result.plain is None:
            continue
        rows: dict[str, Device] = {}
        for values in reader(result.plain):
            row = _row(node, slug, values)
            rows.setdefault(row.key, row)
        found[slug] = list(rows.values())
    return found


def _row(node: Node, section: str, values: dict[str, Any]) -> Device:
    row = Device(node=node, section=section)
    for field in Device._meta.concrete_fields:
        if field.name in values:
            setattr(row, field.name, fitting(row, field.name, values[field.name]))
    words = [node.name, row.key, row.vendor, row.model, row.serial, row.driver, *values.get("words", ())]
    if row.vendor_id:
        words.append(f"{row.vendor_id}:{row.device_id}")
    row.text = " ".join(str(word) for word in words if word).lower()
    return row


def _pci(facts: Facts) -> Iterator[dict[str, Any]]:
    for device in facts.get("devices") or []:
        verdict, holder = _verdict(device), _holder(device)
        yield {
            "key": device["address"],
            "kind": device["kind"],
            "vendor_id": device["vendor_id"],
            "device_id": device["device_id"],
            "vendor": device["vendor_name"],
            "model": device["device_name"] or device["class_name"],
            "driver": device["driver"],
            "numa_cell": device["numa_cell"],
            "iommu_group": device["iommu_group"],
            "passthrough": verdict,
            "held_by": holder,
            "free": _free(device, verdict),
            "words": [device["class_name"], device["subsystem_name"], *_names(device["interfaces"])],
        }


def _usb(facts: Facts) -> Iterator[dict[str, Any]]:
    for device in facts.get("devices") or []:
        if device["is_root_hub"]:
            continue
        verdict, holder = _verdict(device), _holder(device)
        yield {
            "key": device["name"],
            "kind": "usb",
            "vendor_id": device["vendor_id"],
            "device_id": device["product_id"],
            "vendor": device["manufacturer"] or device["vendor_name"],
            "model": device["product"] or device["product_name"],
            "serial": device["serial"],
            "driver": ", ".join(sorted({part["driver"] or "" for part in device["interfaces"]} - {""})),
            "passthrough": verdict,
            "held_by": holder,
            "free": _free(device, verdict),
            "words": [device["class_name"], device["vendor_name"], device["product_name"]],
        }


def _disks(facts: Facts) -> Iterator[dict[str, Any]]:
    for disk in facts.get("disks") or []:
        smart = disk["smart"] or {}
        yield {
            "key": disk["id"],
            "kind": "disk",
            "vendor": disk["vendor"],
            "model": disk["model"],
            "serial": disk["serial"],
            "driver": disk["driver"],
            "size_bytes": disk["size_bytes"],
            "health": smart.get("health"),
            "free": disk["unused"],
            "words": [disk["name"], disk["wwn"], disk["type"], disk["transport"], disk["firmware"]],
        }


def _verdict(device: Facts) -> str:
    return str((device.get("passthrough") or {}).get("verdict") or "")


def _holder(device: Facts) -> str:
    """The VMs that hold the device, by name; "" where none does or nobody knows."""
    return ", ".join(holder["vm_name"] for holder in device.get("held_by") or [])


def _free(device: Facts, verdict: str) -> bool | None:
    """Whether a VM could have it: not blocked and held by none. None where libvirt told no holders."""
    if verdict == "blocked":
        return False
    return None if device.get("held_by") is None else not _holder(device)


def _names(interfaces: Any) -> list[str]:
    return [interface["name"] for interface in interfaces or []]
