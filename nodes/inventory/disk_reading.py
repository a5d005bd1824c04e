"""A document's sources become what the section ``disks`` looks its facts up in."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from nodes.inventory.blocktree import build_tree
from nodes.inventory.blockuse import BlockDevices, read_block_devices
from nodes.inventory.disk_device import Hardware
from nodes.inventory.disk_link import read_buses
from nodes.inventory.disk_parts import HostBlocks, read_swaps
from nodes.inventory.disk_paths import broken_multipath
from nodes.inventory.disk_pools import devices_below, pools_by_device
from nodes.inventory.disk_smart import read_smart_outputs
from nodes.inventory.disk_sources import DISK_FILES, DISK_LSBLK, DISK_LVM, DISK_MULTIPATH, DISK_ZPOOL
from nodes.inventory.document import HostDocument, SourceStatus
from nodes.inventory.holders import DOMAIN, DOMAINS, read_holdings
from nodes.inventory.hostuse import USE_FILES, USE_LINKS, disk_holders, volume_devices
from nodes.inventory.lsblk import LsblkDevice, read_lsblk
from nodes.inventory.lvm import read_lvm
from nodes.inventory.membership import Managers
from nodes.inventory.mounts import Mount, fs_types, mount_of, read_mounts
from nodes.inventory.multipath import read_multipath
from nodes.inventory.pools import POOL, POOLS
from nodes.inventory.sysfiles import read_links, read_values, resolve_links
from nodes.inventory.zpool import read_zpool

SYSTEM_POINTS = ("/", "/boot", "/boot/efi", "/efi", "/usr")
_BTRFS = "/sys/fs/btrfs/"
_SILENT = frozenset(
    [
        *(SourceStatus.FAILED, SourceStatus.DENIED, SourceStatus.TIMEOUT),
        *(SourceStatus.TRUNCATED, SourceStatus.UNREADABLE),
    ]
)
"""Of a libvirt that is there but did not say; a host without one has no VMs to miss."""


def read_hardware(document: HostDocument) -> Hardware:
    """Everything of ``document`` that the section reads. Never raises."""
    own, shared = document.text(DISK_FILES.name), document.text(USE_FILES.name)
    values = {**read_values(shared), **read_values(own)}
    links = read_links(document.text(USE_LINKS.name))
    paths = resolve_links(links)
    lsblk = read_lsblk(document.text(DISK_LSBLK.name))
    blocks = _with_names(read_block_devices(values, paths, links, shared), lsblk)
    tree = build_tree(blocks, lsblk)
    buses = read_buses(values, own, links, paths, blocks.paths)
    mounts = read_mounts(values.get("/proc/self/mountinfo", []))
    broken = broken_multipath(blocks, tree, lsblk, buses)
    managers = Managers(
        lvm=read_lvm(document.text(DISK_LVM.name)),
        zfs=read_zpool(document.text(DISK_ZPOOL.name)),
        multipath=read_multipath(document.text(DISK_MULTIPATH.name)),
        missing_maps=frozenset(name for names in broken.values() for name in names),
    )
    holdings = read_holdings(document)
    volumes = volume_devices(document, blocks, holdings)
    swaps = read_swaps(values.get("/proc/swaps", []))
    host = HostBlocks(
        blocks=blocks,
        tree=tree,
        lsblk=lsblk,
        managers=managers,
        all_swaps=swaps,
        swaps={name: swap for swap in swaps if (name := blocks.aliases.get(swap.path)) is not None},
        pools=pools_by_device(document, blocks, tree, managers, mounts),
        vm_disks=disk_holders(blocks, holdings, volumes),
        # A VM's volume whose device is not known may be any of them.
        vms_known=_said(document, DOMAINS.name, DOMAIN.name) and not volumes.untraced,
        pools_known=_said(document, POOLS.name, POOL.name),
        fs_types=fs_types(mounts, blocks),
        btrfs=_btrfs(links),
        btrfs_labels={
            path[len(_BTRFS) :].removesuffix("/label"): lines[0]
            for path, lines in values.items()
            if path.startswith(_BTRFS) and path.endswith("/label") and lines
        },
        broken_multipath=broken,
    )
    return Hardware(
        host=host,
        buses=buses,
        smart=read_smart_outputs(document, blocks.paths),
        by_id=_links_to(paths, "/dev/disk/by-id"),
        by_path=_links_to(paths, "/dev/disk/by-path"),
        system=_system_disks(host, mounts),
        carried_known=bool(lsblk) or bool(blocks.signatures),
    )


def _said(document: HostDocument, listing: str, items: str) -> bool:
    """Whether libvirt, where there is one, told all of these."""
    statuses = {document.get(listing).status, *(output.status for _, output in document.items(items))}
    return not statuses & _SILENT


def _with_names(blocks: BlockDevices, lsblk: Mapping[str, LsblkDevice]) -> BlockDevices:
    """Devices that only lsblk knows have a path below ``/dev`` too."""
    aliases = {f"/dev/{name.replace('!', '/')}": name for name in lsblk}
    return replace(blocks, aliases={**aliases, **blocks.aliases})


def _links_to(paths: Mapping[str, str], directory: str) -> Mapping[str, tuple[str, ...]]:
    """Names in ``directory`` of each device, shortest first."""
    found: dict[str, list[str]] = {}
    for link, real in paths.items():
        if posixpath.dirname(link) == directory:
            name = real.removeprefix("/dev/").replace("/", "!")
            found.setdefault(name, []).append(posixpath.basename(link))
    return {name: tuple(sorted(names, key=lambda text: (len(text), text))) for name, names in found.items()}


def _btrfs(links: Iterable[str]) -> Mapping[str, tuple[str, ...]]:
    members: dict[str, list[str]] = {}
    for path in links:
        uuid, mark, name = path.removeprefix(_BTRFS).partition("/devices/")
        if path.startswith(_BTRFS) and mark and name:
            members.setdefault(uuid, []).append(name)
    return {uuid: tuple(names) for uuid, names in members.items()}


def _system_disks(host: HostBlocks, mounts: Sequence[Mount]) -> frozenset[str]:
    """Disks below the file systems that the host runs from; those of one btrfs or pool all count."""
    found: set[str] = set()
    for point in SYSTEM_POINTS:
        mount = mount_of(point, mounts)
        if mount is None or mount.point != point:
            continue
        for name in devices_below(point, host.blocks, host.managers, mounts):
            beside = next((names for names in host.btrfs.values() if name in names), (name,))
            found.update(disk for other in beside for disk in host.tree.disks_of(other))
    return frozenset(found)
