"""Names of disks that are the same on every host, and which of them are made up.

A name that its maker gave to every unit, or that was never set, would make two different disks one: a VM that
was moved would write into another one's disk.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from nodes.inventory.disk_paths import is_plausible_serial
from nodes.inventory.parsing.numbers import integer

_HEX = re.compile(r"[0-9a-f]+\Z")
_ISCSI = re.compile(r"-iscsi-((?:iqn|eui|naa)\..{1,256})-lun-(\d{1,20}|0x[0-9a-f]{1,16})\Z")
"""udev's ``/dev/disk/by-path/ip-192.0.2.1:3260-iscsi-iqn.2026-01.org.example:a-lun-4``."""
_FEWEST_DIGITS = 3
_NO_VENDOR = "000000"


def world_wide_name(text: str) -> str | None:
    """The name as ``naa.…``, ``eui.…``, ``uuid.…`` or ``nvme.…``; None where it is none to rely on.

    ``text`` as the kernel (``wwid``), udev (``0x…``) or lsblk write it.
    """
    told = text.strip().lower()
    kind, dot, body = told.partition(".")
    if told.startswith("0x"):
        return _naa(told[2:])
    if not dot:
        return None
    match kind:
        case "naa":
            return _naa(body)
        case "eui":
            return _eui(body)
        case "uuid":
            digits = body.replace("-", "")
            return f"uuid.{digits}" if len(digits) == 32 and _varied(digits) else None
        case "nvme":
            return told if _is_named_by_serial(body) else None
        case _:
            return None


def map_name(uuid: str) -> str | None:
    """The name in device-mapper's UUID of a multipath device: ``mpath-3`` and a NAA, ``mpath-2`` and an EUI,
    ``mpath-eui.…`` of NVMe (scsi_id(8))."""
    told = uuid.strip().lower().removeprefix("mpath-")
    if told.startswith("3"):
        return _naa(told[1:])
    return _eui(told[1:]) if told.startswith("2") else world_wide_name(told)


def iscsi_units(aliases: Mapping[str, str]) -> dict[str, str]:
    """``iscsi.TARGET,UNIT`` by device, by udev's paths."""
    found: dict[str, str] = {}
    for path, device in sorted(aliases.items()):
        match = _ISCSI.search(path)
        if match is not None:
            unit = integer(match.group(2), 16 if match.group(2).startswith("0x") else 10)
            if unit is not None:
                found[device] = f"iscsi.{match.group(1)},{unit}"
    return found


def _naa(digits: str) -> str | None:
    """Types 2, 5 and 6, with a vendor's number in them; type 3 is assigned locally."""
    if not _HEX.match(digits):
        return None
    lengths = {"2": 16, "5": 16, "6": 32}
    if lengths.get(digits[0]) != len(digits):
        return None
    vendor, own = (digits[4:10], digits[10:]) if digits[0] == "2" else (digits[1:7], digits[7:])
    if vendor == _NO_VENDOR or len(set(own)) < 2 or not _varied(digits):
        return None
    return f"naa.{digits}"


def _eui(digits: str) -> str | None:
    if not _HEX.match(digits) or len(digits) not in (16, 24, 32) or not _varied(digits):
        return None
    if len(digits) == 16 and digits.startswith(_NO_VENDOR):
        return None
    return f"eui.{digits}"


def _varied(digits: str) -> bool:
    return bool(_HEX.match(digits)) and len(set(digits)) >= _FEWEST_DIGITS


def _is_named_by_serial(body: str) -> bool:
    """The kernel's own name of a namespace without any: vendor, serial and model in hexadecimal, number."""
    parts = body.split("-")
    if len(parts) != 4 or not _HEX.match(parts[1]) or len(parts[1]) % 2:
        return False
    return is_plausible_serial(bytes.fromhex(parts[1]).decode("ascii", "replace"))
