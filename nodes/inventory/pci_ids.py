"""Who made a PCI device and what it is, from its modalias: one line of sysfs that carries all ids at once."""

from __future__ import annotations

import re
from dataclasses import dataclass

from nodes.inventory.hwids import HardwareNames
from nodes.inventory.pci_facts import PciKind

_MODALIAS = re.compile(
    r"pci:v0{4}([0-9A-F]{4})d0{4}([0-9A-F]{4})sv0{4}([0-9A-F]{4})sd0{4}([0-9A-F]{4})"
    r"bc([0-9A-F]{2})sc([0-9A-F]{2})i([0-9A-F]{2})"
)
_KINDS = {
    "01": PciKind.STORAGE,
    "0108": PciKind.NVME,
    "02": PciKind.NETWORK,
    "03": PciKind.GPU,
    "0c03": PciKind.USB_CONTROLLER,
}
_ACCELERATOR = "1200"
_GPU_MAKERS = frozenset({"1002", "10de"})
"""AMD and NVIDIA: their GPUs without any display call themselves processing accelerators (Instinct MI300)."""


@dataclass(frozen=True, slots=True)
class PciIds:
    """Ids in hexadecimal and their names; all None where there is no modalias."""

    vendor_id: str | None = None
    vendor_name: str | None = None
    device_id: str | None = None
    device_name: str | None = None
    subsystem_vendor_id: str | None = None
    subsystem_vendor_name: str | None = None
    subsystem_device_id: str | None = None
    subsystem_name: str | None = None
    class_id: str | None = None
    class_name: str | None = None
    programming_interface: str | None = None

    @property
    def kind(self) -> PciKind:
        code = self.class_id or ""
        if code.startswith(_ACCELERATOR) and self.vendor_id in _GPU_MAKERS:
            return PciKind.GPU
        return _KINDS.get(code[:4]) or _KINDS.get(code[:2]) or PciKind.OTHER

    @property
    def is_bridge(self) -> bool:
        return self.class_id is not None and self.class_id.startswith("06")


def read_ids(modalias: str | None, names: HardwareNames) -> PciIds:
    """Take a modalias apart and look the names up. Bridges have no subsystem: theirs is all zeroes."""
    match = _MODALIAS.match(modalias or "")
    if match is None:
        return PciIds()
    vendor, device, subvendor, subdevice, base, subclass, interface = (
        part.lower() for part in match.groups()
    )
    has_subsystem = (subvendor, subdevice) != ("0000", "0000")
    return PciIds(
        vendor_id=vendor,
        vendor_name=names.vendor(vendor),
        device_id=device,
        device_name=names.device(vendor, device),
        subsystem_vendor_id=subvendor if has_subsystem else None,
        subsystem_vendor_name=names.vendor(subvendor) if has_subsystem else None,
        subsystem_device_id=subdevice if has_subsystem else None,
        subsystem_name=names.subsystem(vendor, device, subvendor, subdevice) if has_subsystem else None,
        class_id=base + subclass + interface,
        class_name=names.class_name(base, subclass),
        programming_interface=_interface_name(names, base, subclass, interface),
    )


def _interface_name(names: HardwareNames, base: str, subclass: str, interface: str) -> str | None:
    """What tells an AHCI controller from another SATA controller; None where the class has no such thing."""
    name = names.class_name(base, subclass, interface)
    return name if name != names.class_name(base, subclass) else None
