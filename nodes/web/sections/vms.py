"""VMs, and the storage pools that they live on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nodes.web.tones import Tone, of_vm

Facts = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class VmLine:
    vm: Facts
    tone: Tone
    icon: str
    state: str
    devices: tuple[str, ...]


def prepare(facts: Facts) -> dict[str, Any]:
    lines = [vm_line(vm) for vm in facts["vms"]]
    return {
        "lines": lines,
        "vcpus": sum(vm["vcpus_current"] or 0 for vm in facts["vms"] if vm["active"]),
        "memory_bytes": sum(vm["memory_current_bytes"] or 0 for vm in facts["vms"] if vm["active"]),
    }


def vm_line(vm: Facts) -> VmLine:
    shown = of_vm(vm["state"])
    devices = tuple(_device(device) for device in vm["host_devices"])
    return VmLine(vm, shown.tone, shown.icon, shown.words, devices)


def _device(device: Facts) -> str:
    """A device of the host by its kind and what names it there."""
    named = device["address"]
    if named is None and device["vendor_id"]:
        named = f"{device['vendor_id']}:{device['product_id'] or ''}"
    return f"{device['type']} {named or ''}".strip()
