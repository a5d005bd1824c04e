"""Section ``pools``: libvirt's storage pools on a host.

Sources: the list of pools with their states (virStoragePoolGetInfo), each one's XML and the host's mounts
(https://libvirt.org/formatstorage.html). libvirt counts a pool's space when the pool starts and when it is
refreshed; it may be older than the rest. Of a pool that is a directory it counts the file system's, and some
give all their users the same free space: what one takes, the others' sizes lose.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lxml import etree

from nodes.inventory import sysfiles
from nodes.inventory.document import HostDocument, Problem
from nodes.inventory.domain_devices import read_hosts
from nodes.inventory.forms import json_of, xml_of
from nodes.inventory.hostuse import USE_FILES
from nodes.inventory.jsontext import Tree, read_objects, read_values, truth, whole, words
from nodes.inventory.libvirt_units import storage_bytes
from nodes.inventory.mounts import Mount, mount_of, read_mounts
from nodes.inventory.section import Parsed, Section
from nodes.inventory.source import LibvirtSource
from nodes.inventory.xmltext import child_text, parse_xml

POOLS = LibvirtSource("libvirt:pools", json_of(list, always=True))
POOL = LibvirtSource("libvirt:pool", xml_of("pool"))

_DIRECTORIES = frozenset({"dir", "fs", "netfs"})
_SHARING = frozenset(
    [
        *("zfs", "btrfs", "bcachefs", "overlay", "9p", "virtiofs"),
        *("nfs", "nfs4", "cifs", "smb3", "ceph", "glusterfs", "gpfs", "lustre"),
    ]
)
"""File systems whose size others move: a pool's other data sets, a reserve of its own, a server's users."""
_STATES = ("inactive", "building", "running", "degraded", "inaccessible")
"""virStoragePoolState, https://libvirt.org/html/libvirt-libvirt-storage.html"""


@dataclass(frozen=True, slots=True)
class PoolSource:
    """What a pool is made of: ``hosts`` as ``name:port``, ``devices`` of the host, a remote ``directory``, a
    ``name`` (volume group, Ceph pool, ZFS pool), an ``adapter`` (SCSI), an ``initiator`` (iSCSI)."""

    hosts: tuple[str, ...]
    devices: tuple[str, ...]
    directory: str | None
    name: str | None
    format: str | None
    adapter: str | None
    initiator: str | None


@dataclass(frozen=True, slots=True)
class Pool:
    """One pool.

    ``type``: ``dir``, ``fs``, ``netfs``, ``logical``, ``disk``, ``iscsi``, ``iscsi-direct``, ``scsi``,
    ``mpath``, ``rbd``, ``zfs``, ``gluster`` or ``vstorage``. ``state``: ``inactive``, ``building``,
    ``running``, ``degraded``, ``inaccessible`` or None. ``capacity_shared``: its file
    system (ZFS, NFS …) has its free space in common with others, whose use moves the capacity; None where
    that is unknown. Sizes in bytes; None for an inactive pool, whose libvirt counts as 0.
    ``used_percent`` of 0 to 100 is allocation by capacity. ``volumes`` is their
    number.
    """

    uuid: str
    name: str
    type: str | None
    state: str | None
    active: bool | None
    capacity_bytes: int | None
    capacity_shared: bool | None
    allocation_bytes: int | None
    available_bytes: int | None
    used_percent: float | None
    target_path: str | None
    source: PoolSource | None
    autostart: bool | None
    persistent: bool | None
    volumes: int | None


@dataclass(frozen=True, slots=True)
class PoolsFacts:
    """All pools by name. ``total`` and ``active`` are None where libvirt gave no list."""

    total: int | None
    active: int | None
    pools: tuple[Pool, ...]


def parse(document: HostDocument) -> Parsed[PoolsFacts]:
    """The pools of ``document``. Never raises."""
    described: dict[str, etree._Element] = {}
    problems: list[Problem] = []
    for uuid, output in document.items(POOL.name):
        root = parse_xml(output.stdout) if output.usable else None
        if root is not None and root.tag == "pool":
            described[uuid] = root
        elif output.usable:
            message = f"The description of the pool {uuid} is no XML that can be read."
            problems.append(Problem("pools", f"{POOL.name}:{uuid}", "unreadable", message))
    text = document.text(POOLS.name)
    files = sysfiles.read_values(document.text(USE_FILES.name))
    mounts = read_mounts(files.get("/proc/self/mountinfo", []))
    rows: Mapping[str, Tree] = {
        name: row for row in read_objects(text) if (name := words(row, "uuid")) is not None
    }
    values = read_values(text)
    listing = bool(values) and isinstance(values[0], list)
    if text and not listing:
        message = "libvirt's list of storage pools cannot be read."
        problems.append(Problem("pools", POOLS.name, "unreadable", message))
    found = (
        _pool(uuid, rows.get(uuid, {}), described.get(uuid), mounts)
        for uuid in dict.fromkeys((*rows, *described))
    )
    pools = tuple(sorted(found, key=lambda pool: (pool.name, pool.uuid)))
    total = len(pools) if listing else None
    active = sum(pool.active is True for pool in pools) if listing else None
    return Parsed(PoolsFacts(total, active, pools), tuple(problems))


def _shares_capacity(kind: str | None, target: str | None, mounts: Sequence[Mount]) -> bool | None:
    if kind is None:
        return None
    if kind not in _DIRECTORIES:
        return False
    mount = mount_of(target, mounts) if target else None
    if mount is None:
        return True if kind == "netfs" else None
    return mount.fs_type in _SHARING or mount.fs_type.startswith("fuse")


def _pool(uuid: str, row: Tree, root: etree._Element | None, mounts: Sequence[Mount]) -> Pool:
    number = whole(row, "state")
    state = _STATES[number] if number is not None and 0 <= number < len(_STATES) else None
    active = state != "inactive" if state is not None else None
    sizes = [_size(row, root, name, active) for name in ("capacity", "allocation", "available")]
    capacity, allocation, available = sizes
    kind, target = (root.get("type"), child_text(root, "target/path")) if root is not None else (None, None)
    return Pool(
        uuid=uuid,
        name=words(row, "name") or child_text(root, "name") or uuid,
        type=kind,
        state=state,
        active=active,
        capacity_bytes=capacity,
        capacity_shared=_shares_capacity(kind, target, mounts),
        allocation_bytes=allocation,
        available_bytes=available,
        used_percent=round(100 * allocation / capacity, 1) if capacity and allocation is not None else None,
        target_path=target,
        source=_source(root) if root is not None else None,
        autostart=truth(row, "autostart"),
        persistent=truth(row, "persistent"),
        volumes=whole(row, "volumes"),
    )


def _size(row: Tree, root: etree._Element | None, name: str, active: bool | None) -> int | None:
    """A size by the list, else by the XML. libvirt says 0 of a pool that is not active."""
    if active is False:
        return None
    listed = whole(row, f"{name}_bytes")
    if listed is not None and 0 <= listed < 1 << 64:
        return listed
    described = storage_bytes(root.find(name)) if root is not None else None
    unseen = active is None and root is not None and not storage_bytes(root.find("capacity"))
    return None if unseen else described


def _source(root: etree._Element) -> PoolSource:
    source_format, directory = root.find("source/format"), root.find("source/dir")
    adapter, initiator = root.find("source/adapter"), root.find("source/initiator/iqn")
    devices = (element.get("path") for element in root.iterfind("source/device"))
    adapter_name = None
    if adapter is not None:
        adapter_name = adapter.get("name") or adapter.get("wwpn") or adapter.get("parent")
    return PoolSource(
        hosts=tuple(read_hosts(root.find("source"))),
        devices=tuple(device for device in devices if device),
        directory=directory.get("path") if directory is not None else None,
        name=child_text(root, "source/name"),
        format=source_format.get("type") if source_format is not None else None,
        adapter=adapter_name,
        initiator=initiator.get("name") if initiator is not None else None,
    )


SECTION = Section(
    slug="pools",
    title="Storage pools",
    sources=(USE_FILES,),
    parse=parse,
    libvirt=(POOLS, POOL),
    tab=False,
    identity={"pools": "uuid"},
    volatile=frozenset(
        {
            "total",
            "active",
            "allocation_bytes",
            "available_bytes",
            "used_percent",
            "volumes",
            "capacity_shared",
        },
    ),
    moving={"pools.capacity_bytes": "capacity_shared"},
    presence=frozenset({POOLS.name}),
)
