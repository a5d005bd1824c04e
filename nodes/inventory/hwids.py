"""Names of PCI and USB devices, from the databases of the ``hwdata`` package on our own side.

The hosts need no database, and all hosts get the same names. Format: the head of pci.ids
(https://pci-ids.ucw.cz) and of usb.ids (http://www.linux-usb.org/usb.ids).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

logger = logging.getLogger(__name__)

_DIRECTORIES = ("/usr/share/hwdata", "/usr/share/misc", "/var/lib/pciutils", "/var/lib/usbutils")


@dataclass(frozen=True, slots=True)
class HardwareNames:
    """Names by lower-case hexadecimal ids without ``0x``: vendors and devices of four digits, classes of two.

    Every lookup gives None for what the database does not know.
    """

    _vendors: dict[str, str] = field(default_factory=dict)
    _devices: dict[tuple[str, str], str] = field(default_factory=dict)
    _subsystems: dict[tuple[str, str, str, str], str] = field(default_factory=dict)
    _classes: dict[str, str] = field(default_factory=dict)
    """By one to three two-digit codes, one after the other."""

    def vendor(self, vendor: str) -> str | None:
        return self._vendors.get(vendor.lower())

    def device(self, vendor: str, device: str) -> str | None:
        return self._devices.get((vendor.lower(), device.lower()))

    def subsystem(self, vendor: str, device: str, subvendor: str, subdevice: str) -> str | None:
        """The name of a board: of exactly this one."""
        key = (vendor.lower(), device.lower(), subvendor.lower(), subdevice.lower())
        return self._subsystems.get(key)

    def class_name(self, base: str, subclass: str = "", interface: str = "") -> str | None:
        """The most exact class name known: of ``01``, ``08``, ``02`` it is the programming interface's."""
        for code in (base + subclass + interface, base + subclass, base):
            name = self._classes.get(code.lower())
            if name is not None:
                return name
        return None


@cache
def pci_names() -> HardwareNames:
    """The PCI database, read at the first call (some 40 ms). Empty where no package brings one."""
    return _load("pci.ids")


@cache
def usb_names() -> HardwareNames:
    """The USB database, likewise."""
    return _load("usb.ids")


def _load(name: str, directories: Sequence[str] = _DIRECTORIES) -> HardwareNames:
    for directory in directories:
        path = Path(directory, name)
        try:
            return parse_ids(path.read_text(encoding="utf-8", errors="replace"))
        except OSError:
            continue
    logger.warning("no %s found: devices are shown by their numbers; install the package hwdata", name)
    return HardwareNames()


def parse_ids(text: str) -> HardwareNames:
    """Read a pci.ids or usb.ids. Lines of other kinds (usb.ids has languages, HID usages …) are skipped."""
    names = HardwareNames()
    vendor = device = category = subclass = ""
    for line in text.splitlines():
        if not line or line[0] == "#":
            continue
        if line[0] != "\t":
            vendor = category = device = subclass = ""
            code, _, name = line.partition("  ")
            if len(code) == 4 and _is_hex(code):
                vendor = code.lower()
                names._vendors[vendor] = name.strip()
            elif code.startswith("C ") and _is_hex(code[2:]):
                category = code[2:].lower()
                names._classes[category] = name.strip()
        elif line.startswith("\t\t"):
            code, _, name = line[2:].partition("  ")
            if device:
                subvendor, _, subdevice = code.lower().partition(" ")
                names._subsystems[vendor, device, subvendor, subdevice] = name.strip()
            elif subclass:
                names._classes[category + subclass + code.lower()] = name.strip()
        else:
            code, _, name = line[1:].partition("  ")
            if vendor:
                device = code.lower()
                names._devices[vendor, device] = name.strip()
            elif category:
                subclass = code.lower()
                names._classes[category + subclass] = name.strip()
    return names


def _is_hex(text: str) -> bool:
    return bool(text) and all(character in "0123456789abcdefABCDEF" for character in text)
