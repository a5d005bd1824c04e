"""Section ``disks``: every disk with its health, its partitions, what stands on it and who uses it.

Sources: sysfs and ``/proc`` (the kernel's Documentation/ABI and Documentation/block/stat.rst), udev's links
below ``/dev/disk``, ``lsblk``, ``smartctl``, and the tools of LVM, ZFS and multipath where the host has
them; from libvirt the storage pools and the VMs' disks. Every one of them may be missing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

from nodes.inventory.blocktree import BlockKind, natural
from nodes.inventory.disk_device import (
    Hardware,
    hidden_reason,
    is_seen_as_block_device,
    read_disk,
    read_physical_disk,
)
from nodes.inventory.disk_facts import BrokenMultipath, Disk, DisksFacts, HiddenDevice
from nodes.inventory.disk_groups import read_groups
from nodes.inventory.disk_link import RAID_DRIVERS
from nodes.inventory.disk_parts import read_volume, shown
from nodes.inventory.disk_reading import read_hardware
from nodes.inventory.disk_sources import DISK_FILES, DISK_LSBLK, DISK_SMART, OPTIONAL, SOURCES
from nodes.inventory.document import HostDocument, Problem, SourceStatus
from nodes.inventory.holders import DOMAIN, DOMAINS
from nodes.inventory.hostuse import USE_FILES, USE_LINKS
from nodes.inventory.pools import POOL, POOLS
from nodes.inventory.section import Parsed, Section
from nodes.inventory.smart_health import SmartState

_SHARED_SERIAL = re.compile(r"serial-(?:.*-)?(?:(\w)\1{3,}|0?1234567\w*)\Z", re.ASCII)
"""Serial numbers that makers of bridges put into all of theirs: such a disk has twins elsewhere."""
_NO_DISK = (SmartState.UNSUPPORTED, SmartState.UNKNOWN_BRIDGE)
"""How a volume of a RAID controller answers for itself."""


def parse(document: HostDocument) -> Parsed[DisksFacts]:
    """The disks of ``document``. Never raises: what cannot be read is None or absent."""
    hardware = read_hardware(document)
    host = hardware.host
    shown_disks: list[Disk] = []
    hidden: list[HiddenDevice] = []
    for node in host.tree.of_kind(BlockKind.DISK):
        reason = hidden_reason(node.name, hardware)
        if reason is None:
            shown_disks.append(read_disk(node.name, hardware))
        else:
            hidden.append(HiddenDevice(shown(node.name), *reason))
    disks = tuple(shown_disks)
    physical = (
        read_physical_disk(found, hardware)
        for found in hardware.smart.physical
        if not is_seen_as_block_device(found, disks)
    )
    facts = DisksFacts(
        disks=_with_unique_ids((*disks, *physical)),
        volumes=tuple(read_volume(node, host) for node in host.tree.of_kind(BlockKind.VOLUME)),
        groups=read_groups(host),
        swaps=host.all_swaps,
        broken_multipath=tuple(
            BrokenMultipath(wwn, tuple(shown(name) for name in names))
            for wwn, names in host.broken_multipath.items()
        ),
        hidden=tuple(hidden),
    )
    problems: tuple[Problem, ...] = ()
    if document.text(DISK_LSBLK.name) and not host.lsblk:
        message = "What lsblk printed cannot be read; file systems and labels are unknown."
        problems = (Problem("disks", DISK_LSBLK.name, "unreadable", message),)
    return Parsed(facts, (*problems, *_not_listed(disks, hardware, document)))


def _not_listed(disks: Iterable[Disk], hardware: Hardware, document: HostDocument) -> Iterable[Problem]:
    """RAID controllers with volumes here and no disk known behind them, which would read as all well."""
    listed = {str(physical.scsi_host) for physical in hardware.smart.physical}
    hidden: dict[str, None] = {}
    for disk in disks if document.get(DISK_SMART.name).status is SourceStatus.OK else ():
        mute = disk.smart is None or disk.smart.state in _NO_DISK
        if disk.driver in RAID_DRIVERS and mute and (disk.hctl or "").partition(":")[0] not in listed:
            hidden[f"{disk.driver} at {disk.pci_address}" if disk.pci_address else disk.driver] = None
    for controller in hidden:
        message = (
            f"The disks behind the RAID controller ({controller}) cannot be listed with smartctl: "
            "their health is unknown. Ask the tool of the controller's maker."
        )
        yield Problem("disks", DISK_SMART.name, "not_listed", message)


def _with_unique_ids(disks: Iterable[Disk]) -> tuple[Disk, ...]:
    """Ways to the same disk share its world wide name: their addresses on the bus tell them apart, of twins
    on USB their ports, as hosts of SCSI get a new number at each plugging in.

    The first way keeps the plain name: else the loss of one would read as that of both, and as a new disk.
    Twins on USB are disks of their own, of which none may take over another's name and history.
    """
    found = tuple(disks)
    first: dict[str, Disk] = {}
    twins = {disk.id for disk in found if disk.usb_path and _SHARED_SERIAL.match(disk.id)}
    for disk in sorted(found, key=lambda disk: natural(_place_of(disk))):
        if first.setdefault(disk.id, disk) is not disk and disk.usb_path:
            twins.add(disk.id)
    return tuple(
        disk
        if first[disk.id] is disk and not (disk.usb_path and disk.id in twins)
        else replace(disk, id=f"{disk.id}@{_place_of(disk)}")
        for disk in found
    )


def _place_of(disk: Disk) -> str:
    return disk.usb_path or disk.hctl or disk.name


_VOLATILE = (
    "temperature_celsius power_on_hours power_cycles start_stop_cycles load_cycles unsafe_shutdowns"
    " read_operations write_operations read_bytes written_bytes write_bytes busy_ms error_log_count"
    " interface_crc_errors attributes self_tests messages values_observed_at used_bytes available_bytes"
    # The VMs tell that one has started.
    " used_percent running free_bytes data_percent metadata_percent done_percent exit_status exit_bits"
    " disks.name disks.path disks.hctl disks.smart.state"
    " disks.smart.reasons.message disks.smart.reasons.value"
    " disks.partitions.name disks.partitions.path volumes.kernel_name volumes.disks volumes.parents"
    # Names of disks, other ones at each start of the host; each disk tells what it is in.
    " disks.physical_disks volumes.paths groups.members groups.disks broken_multipath.disks hidden.name"
)
_CARRIERS = ("disks", "disks.partitions", "volumes")
SECTION = Section(
    slug="disks",
    title="Disks",
    sources=(USE_FILES, USE_LINKS, *SOURCES),
    parse=parse,
    libvirt=(POOLS, POOL, DOMAINS, DOMAIN),
    optional=OPTIONAL,
    identity={
        "disks": "id",
        "disks.partitions": "number",
        "volumes": "id",
        "groups": "name",
        "swaps": "path",
        "broken_multipath": "wwn",
        "hidden": "reason,model",
        **{f"{path}.memberships": "kind" for path in _CARRIERS},
        "disks.smart.reasons": "code",
        **{f"{path}.use.vms": "uuid" for path in _CARRIERS},
    },
    volatile=frozenset(_VOLATILE.split()),
    # An array is active while it is written to (Documentation/admin-guide/md.rst), a cache dirty after that.
    alike={
        "volumes.raid.state": frozenset({"clean", "active", "active-idle", "write-pending", "read-auto"}),
        **{
            f"{path}.state": frozenset({"clean", "dirty"})
            for path in ("volumes", *(f"{path}.memberships" for path in _CARRIERS))
        },
    },
    # smartctl says of each command by itself that the drive refused it (bit 2 of its exit status).
    fitful=frozenset({"disks.smart"}),
    # Notes change no verdict, and one of them is that a command was refused.
    # A partition tells itself that it is swap, under a name that lasts.
    passing={
        "disks.smart.reasons": {"severity": frozenset({"note"})},
        "swaps": {"kind": frozenset({"partition"})},
    },
    # DISK_SMART alone shows the disks behind RAID controllers; a disk that hangs hides nothing but itself.
    presence=frozenset(
        (
            *(USE_FILES.name, USE_LINKS.name, DISK_FILES.name, DISK_LSBLK.name, DISK_SMART.name),
            f"{DISK_SMART.name}:* -d *",
        )
    ),
)
