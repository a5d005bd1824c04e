"""What the host itself uses of its devices, found from the disks, interfaces and the like below them.

A device's place in ``/sys/devices`` is the whole trick: a file system on ``…/0000:01:00.0/nvme/nvme0/…`` is
a use of the PCI device 0000:01:00.0, and one below ``…/0000:00:14.0/usb1/1-2/…`` a use of the USB device
1-2 and of its controller both.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from nodes.inventory.blockuse import BlockDevices, is_system, read_block_devices
from nodes.inventory.document import HostDocument, SourceStatus
from nodes.inventory.forms import FILES_OF_EVERY_HOST, LISTING_OF_EVERY_HOST, json_of, xml_of
from nodes.inventory.holders import Holders, Holdings
from nodes.inventory.jsontext import read_json
from nodes.inventory.links import IP_ADDRESS
from nodes.inventory.netuse import Interfaces, read_interfaces
from nodes.inventory.parsing.numbers import capped
from nodes.inventory.pool_volumes import VolumeDevices, devices_of_volumes
from nodes.inventory.source import LibvirtSource, Source
from nodes.inventory.sysfiles import LIST_LINKS, read_links, read_values, resolve_links
from nodes.inventory.xmltext import parse_xml

USE_FILES = Source(
    name="use-files",
    command="grep -as . /proc/self/mountinfo /proc/swaps /proc/net/if_inet6"
    " /sys/class/block/*/dev /sys/class/block/*/size"
    " /sys/class/block/dm-*/dm/name /sys/class/block/dm-*/dm/uuid"
    " /sys/class/net/*/flags /sys/class/net/*/operstate /sys/class/net/*/speed /sys/class/net/*/address"
    " /sys/class/drm/card*-*/enabled /sys/class/drm/card*-*/status /sys/class/input/event*/device/name\n"
    # Of the routes only those without a gateway and the default ones; a router may have a million others.
    "grep -asHE '\t00000000\t|^0{32} 00 ' /proc/net/route /proc/net/ipv6_route\n"
    "grep -asE 'ID_FS_(TYPE|LABEL)=' /run/udev/data/b*",
    # 1: nothing found, 2: some of the files are not there.
    ok_statuses=(0, 1, 2),
    max_bytes=2 << 20,
    form=FILES_OF_EVERY_HOST,
)
USE_LINKS = Source(
    name="use-links",
    command=f"{LIST_LINKS} /sys/class/block/* /sys/class/block/*/holders/* /sys/class/net/*"
    " /sys/class/net/*/master /sys/class/net/*/upper_* /sys/class/net/*/bridge /sys/class/net/*/bonding"
    " /sys/class/nvme/* /sys/class/nvme/*/nvme* /sys/class/nvme-subsystem/*/nvme*"
    " /sys/class/drm/* /sys/class/input/event* /sys/fs/btrfs/*/devices/* /proc/spl/kstat/zfs/*"
    " /dev/disk/by-id/* /dev/disk/by-path/* /dev/zvol/*/* /dev/zvol/*/*/* /dev/zvol/*/*/*/* 2>/dev/null",
    ok_statuses=(0, 1, 2),
    max_bytes=2 << 20,
    form=LISTING_OF_EVERY_HOST,
)
POOLS = (
    LibvirtSource("libvirt:pools", json_of(list, always=True)),
    LibvirtSource("libvirt:pool", xml_of("pool")),
)

PCI_ADDRESS = re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]\Z")
USB_NAME = re.compile(r"(?:usb\d+|\d+-\d+(?:\.\d+)*)\Z", re.ASCII)
TOLD_ELSEWHERE = frozenset(
    [
        *("mount", "swap", "lvm", "raid", "encrypted", "multipath", "bcache", "stratis", "zfs", "volume"),
        *("storage_pool", "vm_disk", "stopped_vm_disk", "carries_data"),
        *("address", "bridge_port", "bond_slave", "vswitch_port", "member", "interface_up"),
        *("vm_interface", "stopped_vm_interface", "display"),
    ]
)
"""Uses that the facts of the disk, the interface or the connector itself tell: one change of the host."""
_NVME_PATH = re.compile(r"nvme(\d+)c\d+n(\d+)\Z", re.ASCII)
_NVME_HEADS = "/sys/devices/virtual/nvme-subsystem/"
_POOL_ACTIVE = frozenset({1, 2, 3})
_MOST_NAMES = 12
"""A host of containers mounts one disk a thousand times; nobody reads that many."""


@dataclass(frozen=True, slots=True)
class HostUse:
    """One thing that the host does with a device.

    ``kind``: for disks ``mount``, ``swap``, ``lvm``, ``raid``, ``encrypted``, ``multipath``, ``bcache``,
    ``stratis``, ``zfs``, ``volume``, ``storage_pool``, ``vm_disk`` (of a running VM), ``stopped_vm_disk``,
    ``carries_data``; for interfaces ``default_route``, ``address``, ``bridge_port``, ``bond_slave``,
    ``vswitch_port``, ``member``, ``interface_up``, ``vm_interface``, ``stopped_vm_interface``; ``display``;
    ``input``. ``device`` is the block device, interface, connector or input device by name; ``names`` say
    what uses it (mount points, volumes, bridges, VMs); ``through`` the volumes in between. ``system``: the
    host itself runs from it.
    """

    kind: str
    device: str
    names: tuple[str, ...] = ()
    through: tuple[str, ...] = ()
    system: bool = False


@dataclass(frozen=True, slots=True)
class Below:
    """Names of what belongs to one PCI device alone (not to one behind it)."""

    interfaces: tuple[str, ...] = ()
    disks: tuple[str, ...] = ()
    nvme_controllers: tuple[str, ...] = ()
    drm_nodes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class HostUses:
    """All uses of a host's devices, by PCI address and by USB name (``1-2.1``, ``usb1``)."""

    blocks: BlockDevices = field(default_factory=BlockDevices)
    interfaces: Interfaces = field(default_factory=Interfaces)
    values: Mapping[str, list[str]] = field(default_factory=dict)
    uses: Mapping[str, tuple[HostUse, ...]] = field(default_factory=dict)
    below: Mapping[str, Below] = field(default_factory=dict)
    complete: bool = False
    """Both sources were read: a device without a use has none."""

    def of(self, name: str) -> tuple[HostUse, ...]:
        """Uses of a device and of all that is behind it."""
        return self.uses.get(name, ())

    def attached(self, address: str) -> Below:
        return self.below.get(address, Below())


def read_host_uses(document: HostDocument, holdings: Holdings) -> HostUses:
    """Everything the host and its VMs use, from the sources above and libvirt's pools."""
    text = document.text(USE_FILES.name)
    values = read_values(text)
    links = read_links(document.text(USE_LINKS.name))
    paths = resolve_links(links)
    blocks = read_block_devices(values, paths, links, text)
    interfaces = read_interfaces(values, links, paths, document.text(IP_ADDRESS.name))
    found = _Found(blocks, _nvme_heads(links, paths))
    pools = _pool_devices(document, blocks)
    vm_disks = disk_holders(blocks, holdings, volume_devices(document, blocks, holdings))
    for name in blocks.paths:
        for use in _block_uses(blocks, name, pools, vm_disks):
            found.note(found.block_paths(name), use)
    for name, path in interfaces.paths.items():
        for use in _interface_uses(interfaces, name, holdings):
            found.note((path,), use)
    for use_path, use in _console_uses(values, paths):
        found.note((use_path,), use)
    uses = {name: tuple(of_device) for name, of_device in found.uses.items()}
    complete = all(document.get(source.name).status is SourceStatus.OK for source in (USE_FILES, USE_LINKS))
    return HostUses(blocks, interfaces, values, uses, _attached(found, interfaces, paths), complete)


def pci_address_of(path: str) -> str | None:
    """The PCI device that a path in ``/sys/devices`` belongs to: the deepest in it."""
    for part in reversed(path.split("/")):
        if PCI_ADDRESS.match(part):
            return part
    return None


@dataclass(slots=True)
class _Found:
    blocks: BlockDevices
    heads: Mapping[str, tuple[str, ...]]
    uses: dict[str, list[HostUse]] = field(default_factory=dict)

    def note(self, paths: Iterable[str], use: HostUse) -> None:
        devices = {part: None for path in paths for part in path.split("/") if _is_device(part)}
        for device in devices:
            known = self.uses.setdefault(device, [])
            if use not in known:
                known.append(use)

    def block_paths(self, name: str) -> tuple[str, ...]:
        """Where a block device is attached: a multipath NVMe namespace at each of its controllers."""
        path = self.blocks.paths[name]
        if not path.startswith(_NVME_HEADS):
            return (path,)
        return next((self.heads[part] for part in path.split("/") if part in self.heads), ())


def _is_device(part: str) -> bool:
    return bool(PCI_ADDRESS.match(part) or USB_NAME.match(part))


def _nvme_heads(links: Iterable[str], paths: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """Paths of the controllers behind each multipath namespace, by the namespace's block device."""
    heads: dict[str, tuple[str, ...]] = {}
    for path in links:
        controller, entry = posixpath.split(path)
        match = _NVME_PATH.match(entry)
        if match is not None and controller.startswith("/sys/class/nvme/") and controller in paths:
            head = f"nvme{match.group(1)}n{match.group(2)}"
            heads[head] = (*heads.get(head, ()), paths[controller])
    return heads


def volume_devices(document: HostDocument, blocks: BlockDevices, holdings: Holdings) -> VolumeDevices:
    """The block devices that VMs have by pool and volume."""
    running = {
        volume: any(holder.running for holder in holders) for volume, holders in holdings.volumes.items()
    }
    return devices_of_volumes(document, blocks, running)


def disk_holders(blocks: BlockDevices, holdings: Holdings, volumes: VolumeDevices) -> dict[str, Holders]:
    """The VMs that have a block device as their disk, also by pool and volume; by its kernel name."""
    found: dict[str, Holders] = {}
    for path, holders in holdings.block_devices.items():
        name = blocks.aliases.get(posixpath.normpath(path))
        if name is not None:
            found[name] = (*found.get(name, ()), *holders)
    for volume, name in volumes.found.items():
        found[name] = (*found.get(name, ()), *holdings.volumes[volume])
    for name, path in blocks.paths.items() if holdings.scsi_addresses else ():
        parent, entry = posixpath.split(path)
        device, directory = posixpath.split(parent)
        if directory == "block" and entry == name:
            holders = holdings.scsi_addresses.get(posixpath.basename(device), ())
            found[name] = (*found.get(name, ()), *holders)
    return found


def _block_uses(
    blocks: BlockDevices, name: str, pools: Mapping[str, tuple[str, ...]], vm_disks: Mapping[str, Holders]
) -> Iterator[HostUse]:
    shown = name.replace("!", "/")
    used = False
    for use in blocks.uses(name):
        used = True
        yield HostUse(use.kind, shown, use.names[:_MOST_NAMES], use.through, is_system(use))
    volumes = blocks.standing_on(name)
    if taken := {pool: None for volume in volumes for pool in pools.get(volume, ())}:
        used = True
        yield HostUse("storage_pool", shown, tuple(taken))
    for vm_use in _vm_uses("vm_disk", shown, [vm_disks[volume] for volume in volumes if volume in vm_disks]):
        used = True
        yield vm_use
    signature = blocks.signatures.get(name)
    if signature and not used:
        yield HostUse("carries_data", shown, (signature,))


def _interface_uses(interfaces: Interfaces, name: str, holdings: Holdings) -> Iterator[HostUse]:
    for use in interfaces.uses(name):
        yield HostUse(use.kind, name, use.names, system=use.kind == "default_route")
    yield from _vm_uses("vm_interface", name, [holdings.interfaces.get(name, ())])


def _vm_uses(kind: str, device: str, holders: Iterable[Holders]) -> Iterator[HostUse]:
    running: dict[str, None] = {}
    stopped: dict[str, None] = {}
    for holder in (holder for several in holders for holder in several):
        (running if holder.running else stopped)[holder.vm_name] = None
    if running:
        yield HostUse(kind, device, tuple(running))
    if stopped:
        yield HostUse(f"stopped_{kind}", device, tuple(stopped))


def _console_uses(values: Mapping[str, list[str]], paths: Mapping[str, str]) -> Iterator[tuple[str, HostUse]]:
    """Monitors that show something, and USB keyboards and mice (a sound card's inputs are none)."""
    for link, path in paths.items():
        directory, name = posixpath.split(link)
        if directory == "/sys/class/drm" and values.get(f"{link}/enabled") == ["enabled"]:
            yield path, HostUse("display", name)
        elif directory == "/sys/class/input" and "/usb" in path:
            yield path, HostUse("input", name, tuple(values.get(f"{link}/device/name", ())[:1]))


def _pool_devices(document: HostDocument, blocks: BlockDevices) -> dict[str, tuple[str, ...]]:
    """Names of the active storage pools by the block device that they are made of."""
    active: dict[str, str] = {}
    try:
        listed = read_json(document.text("libvirt:pools") or "[]")
    except ValueError:
        listed = []
    for pool in listed if isinstance(listed, list) else []:
        state = pool.get("state") if isinstance(pool, dict) else None
        if isinstance(state, int) and state in _POOL_ACTIVE:
            active[str(pool.get("uuid"))] = str(pool.get("name"))
    found: dict[str, tuple[str, ...]] = {}
    for uuid, output in document.items("libvirt:pool"):
        root = parse_xml(output.stdout) if output.usable and uuid in active else None
        for element in root.iterfind("source/device") if root is not None else ():
            name = blocks.aliases.get(posixpath.normpath(element.get("path") or "/"))
            if name is not None:
                found[name] = (*found.get(name, ()), active[uuid])
    return found


def _attached(found: _Found, interfaces: Interfaces, paths: Mapping[str, str]) -> dict[str, Below]:
    kinds: dict[str, tuple[list[str], list[str], list[str], list[str]]] = {}

    def add(path: str, position: int, name: str) -> None:
        address = pci_address_of(path)
        if address is not None:
            kinds.setdefault(address, ([], [], [], []))[position].append(name)

    for name, path in interfaces.paths.items():
        add(path, 0, name)
    for name, path in found.blocks.paths.items():
        whole = posixpath.basename(posixpath.dirname(path)) not in found.blocks.paths
        if whole and not _NVME_PATH.match(name):
            for attached in found.block_paths(name):
                add(attached, 1, name)
    for link, path in paths.items():
        directory, name = posixpath.split(link)
        if directory == "/sys/class/nvme":
            add(path, 2, name)
        elif directory == "/sys/class/drm" and re.fullmatch(r"(?:card|renderD)\d+", name):
            add(path, 3, name)
    return {
        address: Below(*(tuple(sorted(names, key=_natural)) for names in several))
        for address, several in kinds.items()
    }


def _natural(name: str) -> tuple[tuple[int, int, str], ...]:
    """So that ``sd2`` comes before ``sd10``."""
    parts = re.findall(r"\d{1,9}|\D+", name)
    return tuple((0, capped(part), "") if part.isdecimal() else (1, 0, part) for part in parts)
