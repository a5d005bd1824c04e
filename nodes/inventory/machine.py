"""The machine itself: who made it, its board, chassis and firmware.

Sources: the DMTF's SMBIOS specification (DSP0134), as the kernel shows it in /sys/class/dmi/id; the UEFI
specification's SecureBoot variable; the device tree of boards without SMBIOS.
"""

from __future__ import annotations

from dataclasses import dataclass

from nodes.inventory import privileged
from nodes.inventory.forms import FILES
from nodes.inventory.procfiles import Files
from nodes.inventory.source import Source
from nodes.inventory.xmltext import parse_xml

MACHINE_IDENTITY = Source(
    "machine-identity",
    privileged.MACHINE_IDENTITY,
    needs_root=True,
    ok_statuses=(0, 1, 2),
    form=FILES,
)

_DMI = "/sys/class/dmi/id/"
_SECURE_BOOT = "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"

# What vendors leave in their tables where they should have written something.
_PLACEHOLDERS = frozenset(
    {
        "",
        "0",
        "00000000",
        "0123456789",
        "123456789",
        "1234567890",
        "base board serial number",
        "chassis serial number",
        "default",
        "default string",
        "empty",
        "n/a",
        "na",
        "no asset tag",
        "none",
        "not applicable",
        "not available",
        "not present",
        "not settable",
        "not specified",
        "o.e.m.",
        "oem",
        "sku",
        "system manufacturer",
        "system product name",
        "system serial number",
        "system version",
        "type1family",
        "type1productconfigid",
        "type1sku0",
        "undefined",
        "unknown",
        "xxxxxxxx",
    }
)

CHASSIS_TYPES = {
    3: "Desktop",
    4: "Low-profile desktop",
    5: "Pizza box",
    6: "Mini tower",
    7: "Tower",
    8: "Portable",
    9: "Laptop",
    10: "Notebook",
    11: "Hand-held",
    12: "Docking station",
    13: "All-in-one",
    14: "Sub-notebook",
    15: "Space-saving",
    16: "Lunch box",
    17: "Main server chassis",
    18: "Expansion chassis",
    19: "Sub-chassis",
    20: "Bus expansion chassis",
    21: "Peripheral chassis",
    22: "RAID chassis",
    23: "Rack-mount chassis",
    24: "Sealed-case PC",
    25: "Multi-system chassis",
    26: "Compact PCI",
    27: "Advanced TCA",
    28: "Blade",
    29: "Blade enclosure",
    30: "Tablet",
    31: "Convertible",
    32: "Detachable",
    33: "IoT gateway",
    34: "Embedded PC",
    35: "Mini PC",
    36: "Stick PC",
}
"""SMBIOS 3.7, section 7.4.1; 1 and 2 are "other" and "unknown"."""


@dataclass(frozen=True, slots=True)
class MachineFacts:
    """Serial numbers and ``firmware_uuid`` are for root alone; ``chassis`` is the type's name."""

    vendor: str | None
    product: str | None
    version: str | None
    family: str | None
    sku: str | None
    serial: str | None
    firmware_uuid: str | None
    """As the firmware has it, unjudged: see identity.py for what it is worth."""
    board_vendor: str | None
    board_product: str | None
    board_version: str | None
    board_serial: str | None
    chassis: str | None
    chassis_vendor: str | None
    chassis_serial: str | None
    asset_tag: str | None


@dataclass(frozen=True, slots=True)
class FirmwareFacts:
    """``kind``: ``uefi``, ``bios`` or ``device-tree``. ``secure_boot`` is None where no UEFI can be asked."""

    kind: str | None
    secure_boot: bool | None
    vendor: str | None
    version: str | None
    date: str | None
    release: str | None


def named(text: str | None) -> str | None:
    """``text`` without blanks around it; None for what is a vendor's placeholder."""
    stripped = (text or "").strip(" \t\r\0.")
    lowered = stripped.lower()
    if lowered in _PLACEHOLDERS or "to be filled" in lowered or "tobefilled" in lowered:
        return None
    # A row of one character ("........", "00000000") is not a name either.
    return None if len(stripped) > 3 and len(set(stripped)) == 1 else (text or "").strip(" \t\r\0")


def read_machine(files: Files, identity: Files, sysinfo: str) -> MachineFacts:
    """From the system's files, root's (``MACHINE_IDENTITY``), and libvirt's sysinfo for what those lack."""
    told = _sysinfo(sysinfo)

    def dmi(name: str, entry: str) -> str | None:
        return named(files.get(_DMI + name)) or named(identity.get(_DMI + name)) or named(told.get(entry))

    chassis = files.integer(_DMI + "chassis_type")
    return MachineFacts(
        vendor=dmi("sys_vendor", "system/manufacturer") or _tree_vendor(files),
        product=dmi("product_name", "system/product") or files.get("/proc/device-tree/model"),
        version=dmi("product_version", "system/version"),
        family=dmi("product_family", "system/family"),
        sku=dmi("product_sku", "system/sku"),
        serial=dmi("product_serial", "system/serial") or named(files.get("/proc/device-tree/serial-number")),
        firmware_uuid=identity.get(_DMI + "product_uuid") or told.get("system/uuid"),
        board_vendor=dmi("board_vendor", "baseBoard/manufacturer"),
        board_product=dmi("board_name", "baseBoard/product"),
        board_version=dmi("board_version", "baseBoard/version"),
        board_serial=dmi("board_serial", "baseBoard/serial"),
        # The highest bit says that the chassis has a lock.
        chassis=CHASSIS_TYPES.get(chassis & 0x7F) if chassis is not None else None,
        chassis_vendor=dmi("chassis_vendor", "chassis/manufacturer"),
        chassis_serial=dmi("chassis_serial", "chassis/serial"),
        asset_tag=dmi("chassis_asset_tag", "chassis/asset"),
    )


def read_firmware(files: Files, sysinfo: str) -> FirmwareFacts:
    """Facts about the firmware, from the system's files and libvirt's sysinfo."""
    told = _sysinfo(sysinfo)
    return FirmwareFacts(
        kind=_kind(files),
        secure_boot=_secure_boot(files),
        vendor=named(files.get(_DMI + "bios_vendor")) or named(told.get("bios/vendor")),
        version=named(files.get(_DMI + "bios_version")) or named(told.get("bios/version")),
        date=named(files.get(_DMI + "bios_date")) or named(told.get("bios/date")),
        release=named(files.get(_DMI + "bios_release")) or named(told.get("bios/release")),
    )


def _kind(files: Files) -> str | None:
    if "there./sys/firmware/efi" in files:
        return "uefi"
    if "there./proc/device-tree" in files:
        return "device-tree"
    return "bios" if _DMI + "bios_vendor" in files else None


def _secure_boot(files: Files) -> bool | None:
    """The variable is four bytes of attributes and one of value; UEFI without it has no Secure Boot."""
    lines = files.lines(_SECURE_BOOT)
    if lines and len(lines[0]) >= 5:
        return lines[0][4] == "\x01"
    return False if "there./sys/firmware/efi" in files else None


def _tree_vendor(files: Files) -> str | None:
    """``raspberrypi`` of ``raspberrypi,4-model-b``: the device tree names no vendor but this."""
    compatible = files.get("/proc/device-tree/compatible") or ""
    return compatible.partition(",")[0] or None if "," in compatible else None


def _sysinfo(text: str) -> dict[str, str]:
    """Entries of libvirt's sysinfo by ``part/name``; the first board where there are several."""
    root = parse_xml(text)
    entries: dict[str, str] = {}
    if root is None:
        return entries
    for part in root:
        for entry in part.iterfind("entry"):
            value, name = (entry.text or "").strip(), str(entry.get("name", ""))
            if value and isinstance(part.tag, str):
                entries.setdefault(f"{part.tag}/{name}", value)
    return entries
