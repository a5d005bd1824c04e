"""SMART facts by disk: whose output is whose, also behind RAID controllers, and why a disk has none."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from nodes.inventory.disk_sources import DISK_SMART
from nodes.inventory.document import HostDocument, SourceOutput, SourceStatus
from nodes.inventory.parsing.numbers import integer
from nodes.inventory.smart import SmartFacts, SmartState, parse_smart, unread
from nodes.inventory.smart_health import Findings, verdict
from nodes.inventory.smart_tree import whole

_PHYSICAL = re.compile(r"(/dev/\S+) -d (\S+)\Z")
_NUMBERED = re.compile(r"/dev/bus/(\d{1,6})\Z", re.ASCII)
_HOST = re.compile(r"/host(\d{1,6})/", re.ASCII)
_UNREAD = {
    SourceStatus.TIMEOUT: SmartState.TIMEOUT,
    SourceStatus.DENIED: SmartState.DENIED,
    SourceStatus.MISSING: SmartState.MISSING,
}


@dataclass(frozen=True, slots=True)
class PhysicalDisk:
    """A disk that only its RAID controller sees: smartctl's ``path`` and ``device_type`` for it, and the SCSI
    host (None where the path does not tell it)."""

    name: str
    path: str
    device_type: str
    scsi_host: int | None
    smart: SmartFacts


@dataclass(frozen=True, slots=True)
class SmartOutputs:
    """``by_disk`` by kernel name; ``unread`` stands for all disks where nobody could be asked."""

    by_disk: Mapping[str, SmartFacts] = field(default_factory=dict)
    physical: tuple[PhysicalDisk, ...] = ()
    unread: SmartFacts | None = None


def read_smart_outputs(document: HostDocument, places: Mapping[str, str]) -> SmartOutputs:
    """All SMART facts of ``document``; ``places`` are block devices in ``/sys/devices``. Never raises."""
    by_disk: dict[str, SmartFacts] = {}
    physical: list[PhysicalDisk] = []
    for item, output in document.items(DISK_SMART.name):
        facts = _facts(output)
        match = _PHYSICAL.match(item)
        if match:
            path, kind = match.group(1), match.group(2)
            host = _scsi_host(path, places)
            name = path.removeprefix("/dev/") if host is None else f"host{host}"
            physical.append(PhysicalDisk(f"{name} {kind}", path, kind, host, facts))
        elif " " not in item:
            by_disk[item.removeprefix("/dev/").replace("/", "!")] = facts
    listing = document.get(DISK_SMART.name).status
    state = _UNREAD.get(listing)
    return SmartOutputs(by_disk, tuple(physical), unread(state) if state else None)


def _scsi_host(path: str, places: Mapping[str, str]) -> int | None:
    """The controller that ``path`` leads to: by its number, or as the host of one of its volumes."""
    match = _NUMBERED.match(path) or _HOST.search(f"{places.get(path.removeprefix('/dev/'), '')}/")
    return integer(match.group(1)) if match else None


def _facts(output: SourceOutput) -> SmartFacts:
    state = _UNREAD.get(output.status)
    if state is not None and not output.stdout.lstrip().startswith("{"):
        return unread(state)
    return parse_smart(output.stdout, output.exit_status, cut=output.status is SourceStatus.TRUNCATED)


def same_disk(one: SmartFacts, serial: str | None, wwn: str | None) -> bool:
    """Whether SMART facts are of the disk with that serial number or world wide name."""
    return _alike(one.serial, serial) or _alike(one.wwn, wwn)


def _alike(one: str | None, other: str | None) -> bool:
    if not one or not other:
        return False
    return re.sub(r"^0x|^naa\.|[\s-]", "", one.lower()) == re.sub(r"^0x|^naa\.|[\s-]", "", other.lower())


def emmc_facts(life_time: str | None, pre_eol: str | None) -> SmartFacts | None:
    """What an eMMC tells instead of SMART; None for cards that tell nothing.

    JESD84-B51, EXT_CSD bytes 267 to 269: the life time used in tenths for each kind of cell (11 is beyond
    all of it), and the state of the spare blocks (1 normal, 2 most are used, 3 nearly all are).
    """
    tenths = [whole(word, 1, 11) for word in (life_time or "").split()[:2]]
    known = [number for number in tenths if number is not None]
    state = whole(pre_eol, 1, 3)
    if not known and state is None:
        return None
    used = 10 * max(known) if known else None
    spare = {1: None, 2: "spare_blocks_low", 3: "spare_below_threshold"}.get(state or 1)
    warnings = (spare,) if spare else ()
    health, reasons = verdict(
        Findings(SmartState.READ, passed=not warnings or None, critical_warnings=warnings, wear=used)
    )
    return SmartFacts(
        SmartState.READ,
        health,
        reasons,
        protocol="mmc",
        rotation_rpm=0,
        wear_used_percent=used,
        life_remaining_percent=None if used is None else max(0, 100 - used),
        wear_source="life_time" if known else None,
        critical_warnings=warnings,
    )
