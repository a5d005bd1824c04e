"""Names of PCI and USB devices, from the databases of the ``hwdata`` package on our own side.

The hosts need no database, and all hosts get the same names. Format: the head of pci.ids
(https://pci-ids.ucw.cz) and of usb.ids (http://www.linux-usb.org/usb.ids).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from pathlib import Path

logger = logging.getLogger(__name__)

_BEGIN = re.compile(rb"\n(?=[^\n\t#])")
_VENDOR = re.compile(rb"\n([0-9A-Fa-f]{4})  ")
_CAPITALS = re.compile(rb"\n\t+(?=[0-9a-f]*(?: [0-9a-f]*)?[A-F])[0-9A-Fa-f]+(?: [0-9A-Fa-f]+)?  ")
_DEVICE = re.compile(rb"\n\t([0-9a-f]+)  ")
_OTHER_DEVICE = re.compile(rb"\n\t(?!\t)")
_DIRECTORIES = ("/usr/share/hwdata", "/usr/share/misc", "/var/lib/pciutils", "/var/lib/usbutils")


@dataclass(frozen=True, slots=True)
class HardwareNames:
    """Names by hexadecimal ids without ``0x``: vendors and devices of four digits, classes of two.

    The text stays as it is and is searched within a vendor's lines: as objects, its names would take more
    memory than all that a host prints. Every lookup gives None for what the database does not know.
    """

    _text: bytes = b"\n"
    """Every line of it begins behind a line break."""
    _vendors: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Where the lines of a vendor are, from the break in front of the first to that behind the last."""
    _devices: dict[str, dict[str, int]] = field(default_factory=dict)
    """Where the lines of devices are, of the vendors that have been asked for."""
    _classes: dict[str, str] = field(default_factory=dict)
    """By one to three two-digit codes, one after the other."""

    def vendor(self, vendor: str) -> str | None:
        lines = self._vendors.get(vendor.lower())
        return None if lines is None else self._name(lines[0], len(vendor) + 1)

    def device(self, vendor: str, device: str) -> str | None:
        at = self._device(vendor, device)
        return None if at is None else self._name(at, len(device) + 2)

    def subsystem(self, vendor: str, device: str, subvendor: str, subdevice: str) -> str | None:
        """The name of a board: of exactly this one."""
        at = self._device(vendor, device)
        if at is None or not (_is_id(subvendor) and _is_id(subdevice)):
            return None
        begin = self._text.find(b"\n", at + 1)
        vendors_end = self._vendors[vendor.lower()][1]
        other = _OTHER_DEVICE.search(self._text, begin, vendors_end)
        end = other.start() if other is not None else vendors_end
        code = f"{subvendor} {subdevice}".lower()
        found = self._text.find(f"\n\t\t{code}  ".encode(), begin, end)
        return None if found < 0 else self._name(found, len(code) + 3)

    def class_name(self, base: str, subclass: str = "", interface: str = "") -> str | None:
        """The most exact class name known: of ``01``, ``08``, ``02`` it is the programming interface's."""
        for code in (base + subclass + interface, base + subclass, base):
            name = self._classes.get(code.lower())
            if name is not None:
                return name
        return None

    def _device(self, vendor: str, device: str) -> int | None:
        """Where the break in front of the device's line is."""
        lines = self._vendors.get(vendor.lower())
        if lines is None:
            return None
        known = self._devices.get(vendor.lower())
        if known is None:
            found = _DEVICE.finditer(self._text, *lines)
            known = self._devices[vendor.lower()] = {line[1].decode(): line.start() for line in found}
        return known.get(device.lower())

    def _name(self, line: int, code: int) -> str:
        """What stands behind the ``code`` bytes of the line whose break is at ``line``."""
        end = self._text.find(b"\n", line + 1)
        return self._text[line + code : end].decode("utf-8", "replace").strip()


@cache
def pci_names() -> HardwareNames:
    """The PCI database, read at the first call. Empty where no package brings one."""
    return _load("pci.ids")


@cache
def usb_names() -> HardwareNames:
    """The USB database, likewise."""
    return _load("usb.ids")


def _load(name: str, directories: Sequence[str] = _DIRECTORIES) -> HardwareNames:
    for directory in directories:
        path = Path(directory, name)
        try:
            return parse_ids(path.read_bytes())
        except OSError:
            continue
    logger.warning("no %s found: devices are shown by their numbers; install the package hwdata", name)
    return HardwareNames()


def parse_ids(text: bytes) -> HardwareNames:
    """Read a pci.ids or usb.ids. Lines of other kinds (usb.ids has languages, HID usages …) are skipped."""
    text = _CAPITALS.sub(lambda code: code[0].lower(), b"\n" + text.strip(b"\n") + b"\n")
    vendors: dict[str, tuple[int, int]] = {}
    classes: dict[str, str] = {}
    begins = [match.start() for match in _BEGIN.finditer(text)]
    for begin, end in pairwise([*begins, len(text) - 1]):
        code = _VENDOR.match(text, begin)
        if code is not None:
            vendors[code.group(1).decode().lower()] = (begin, end)
        elif text.startswith(b"\nC ", begin):
            _read_class(text[begin + 1 : end].decode("utf-8", "replace"), classes)
    return HardwareNames(text, vendors, _classes=classes)


def _read_class(text: str, classes: dict[str, str]) -> None:
    """The lines of one base class: its name, those of its subclasses, and of their interfaces."""
    codes: list[str] = []
    for line in text.removeprefix("C ").split("\n"):
        told = line.lstrip("\t")
        code, _, name = told.partition("  ")
        if _is_id(code):
            codes = [*codes[: len(line) - len(told)], code.lower()]
            classes["".join(codes)] = name.strip()


def _is_id(text: str) -> bool:
    """Not so what a host shows in place of one."""
    return text.isascii() and text.isalnum()
