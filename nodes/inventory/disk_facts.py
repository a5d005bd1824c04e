"""The facts of the section ``disks``: disks with their partitions, the volumes upon them, and their groups.

All sizes are bytes, speeds Mbit/s, times hours, temperatures °C. None is unknown; an empty tuple is known to
be empty.
"""

from __future__ import annotations

from dataclasses import dataclass

from nodes.inventory.disk_link import Link
from nodes.inventory.multipath import PathState
from nodes.inventory.smart_facts import SmartFacts


@dataclass(frozen=True, slots=True)
class Content:
    """What a device carries.

    ``kind``: ``filesystem``, ``swap``, ``member`` (of a volume group, an array, a pool …), ``encrypted`` or
    ``other``. ``type`` is blkid's word (``ext4``, ``LVM2_member``). Sizes and use only of what is mounted
    (or of swap that is on).
    """

    kind: str
    type: str | None
    version: str | None = None
    label: str | None = None
    uuid: str | None = None
    mount_points: tuple[str, ...] = ()
    active: bool | None = None
    """Mounted, or on as swap."""
    size_bytes: int | None = None
    used_bytes: int | None = None
    available_bytes: int | None = None
    used_percent: float | None = None


@dataclass(frozen=True, slots=True)
class Membership:
    """What a device is part of.

    ``kind``: ``lvm``, ``raid``, ``zfs``, ``multipath``, ``luks``, ``bcache``, ``ceph``, ``btrfs``, ``drbd``
    or ``stratis``. ``name`` is that of the group, array, pool or map, None where nothing has taken it in;
    ``role`` as in ``physical volume``, ``member``, ``spare``, ``faulty``, ``cache``, ``path``, ``osd``;
    ``state`` the manager's own word (``in_sync``, ``ONLINE``, ``open``, ``missing map``).
    """

    kind: str
    name: str | None
    role: str
    state: str | None = None
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class VmUse:
    """A VM that has the device as its disk."""

    uuid: str
    name: str
    running: bool


@dataclass(frozen=True, slots=True)
class Use:
    """What uses a device itself, or anything that stands on it where that is said so."""

    holders: tuple[str, ...] = ()
    """Volumes directly upon it, by name."""
    pools: tuple[str, ...] = ()
    """Active storage pools made of it, or that lie on a file system on it."""
    vms: tuple[VmUse, ...] | None = ()
    """None: libvirt did not say, so that some VM may."""


@dataclass(frozen=True, slots=True)
class Partition:
    """One partition. ``type_id`` is a GUID (GPT) or a hexadecimal number (MBR)."""

    name: str
    path: str
    number: int | None
    start_bytes: int | None
    size_bytes: int | None
    type_id: str | None
    type_name: str | None
    label: str | None
    uuid: str | None
    flags: str | None
    read_only: bool | None
    content: Content | None
    memberships: tuple[Membership, ...]
    use: Use


@dataclass(frozen=True, slots=True)
class IoCounters:
    """Since the host booted, by the kernel's count (Documentation/block/stat.rst)."""

    read_operations: int
    read_bytes: int
    write_operations: int
    write_bytes: int
    busy_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Disk:
    """One disk, or a physical disk behind a RAID controller (``block_device`` False), which has no file
    systems of its own to show.

    ``id`` stays the same when names change. ``type``: ``nvme``, ``ssd``, ``hdd``, ``virtual`` or ``optical``;
    ``transport``: ``nvme``, ``sata``, ``sas``, ``usb``, ``virtio``, ``iscsi``, ``fc``, ``mmc``, ``scsi``,
    ``xen``, ``rbd`` or ``nbd``. ``emulated``: the disk is a hypervisor's. ``rotation_rpm`` 0 is a disk
    without moving parts. ``physical_disks`` are those behind the controller of a RAID volume, by name.
    """

    id: str
    name: str
    path: str
    block_device: bool
    type: str | None
    transport: str | None
    emulated: bool
    model: str | None
    vendor: str | None
    serial: str | None
    wwn: str | None
    firmware: str | None
    size_bytes: int | None
    logical_sector_bytes: int | None
    physical_sector_bytes: int | None
    rotation_rpm: int | None
    form_factor: str | None
    interface: str | None
    link: Link | None
    pci_address: str | None
    usb_path: str | None
    hctl: str | None
    driver: str | None
    removable: bool | None
    read_only: bool | None
    state: str | None
    """The kernel's word: ``running``, ``offline``, ``live`` …"""
    by_id: tuple[str, ...]
    by_path: tuple[str, ...]
    system: bool
    """The host itself runs from it."""
    table_type: str | None
    table_id: str | None
    partitions: tuple[Partition, ...]
    content: Content | None
    memberships: tuple[Membership, ...]
    use: Use
    unused: bool | None
    """Nothing is on it that anybody knows of; None where that could not be looked at."""
    multipath: str | None
    physical_disks: tuple[str, ...]
    io: IoCounters | None
    smart: SmartFacts | None
    """None for disks that have no SMART to ask for (virtual ones, LUNs of a SAN)."""


@dataclass(frozen=True, slots=True)
class Raid:
    """An md array: ``level`` as in ``raid1``, devices it should have, how many are missing, its states
    (``clean``, ``active``, ``inactive``; ``idle``, ``resync``, ``recover``), and how far that has come."""

    level: str | None
    devices: int | None
    missing: int | None
    state: str | None
    action: str | None
    done_percent: float | None
    metadata: str | None


@dataclass(frozen=True, slots=True)
class LvmVolume:
    """A logical volume's place and state; see lvm.LogicalVolume."""

    group: str
    name: str
    layout: str | None
    role: str | None
    health: str | None
    data_percent: float | None
    metadata_percent: float | None


@dataclass(frozen=True, slots=True)
class Volume:
    """A device that stands on others.

    ``kind``: ``lvm``, ``crypt``, ``raid``, ``multipath``, ``bcache``, ``zvol``, ``drbd``, ``partition`` (of a
    volume) or ``other``. ``parents`` are the devices right below, ``disks`` those at the very bottom.
    ``paths`` of a multipath device; where their states could not be read, its disks without states.
    """

    id: str
    name: str
    kernel_name: str
    path: str
    kind: str
    size_bytes: int | None
    read_only: bool | None
    parents: tuple[str, ...]
    disks: tuple[str, ...]
    content: Content | None
    memberships: tuple[Membership, ...]
    use: Use
    lvm: LvmVolume | None = None
    raid: Raid | None = None
    paths: tuple[PathState, ...] = ()
    state: str | None = None


@dataclass(frozen=True, slots=True)
class StorageGroup:
    """A volume group, ZFS pool or btrfs of several devices: ``kind`` ``lvm``, ``zfs``, ``btrfs``.

    ``members`` are devices by name, ``disks`` those below them; ``missing`` members that are gone;
    ``health`` the manager's own word.
    """

    kind: str
    name: str
    uuid: str | None
    size_bytes: int | None
    free_bytes: int | None
    health: str | None
    missing: int | None
    members: tuple[str, ...]
    disks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Swap:
    """A swap area that is on: a partition, a file or compressed memory, by its path."""

    path: str
    kind: str | None
    size_bytes: int | None
    used_bytes: int | None
    priority: int | None


@dataclass(frozen=True, slots=True)
class BrokenMultipath:
    """Several paths to the same disk that no multipath device holds together. ``wwn`` is the name that they
    share: the world wide name, or ``serial-`` and the serial number of a disk that has none."""

    wwn: str
    disks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class HiddenDevice:
    """A device left out of the list: ``reason`` is ``no_medium`` or ``virtual_media`` (a BMC's)."""

    name: str
    reason: str
    model: str | None


@dataclass(frozen=True, slots=True)
class DisksFacts:
    """All disks in natural order, physical ones behind RAID controllers last."""

    disks: tuple[Disk, ...]
    volumes: tuple[Volume, ...]
    groups: tuple[StorageGroup, ...]
    swaps: tuple[Swap, ...]
    broken_multipath: tuple[BrokenMultipath, ...]
    hidden: tuple[HiddenDevice, ...]
