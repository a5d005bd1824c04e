"""What each block device is part of: volume groups, arrays, pools, maps, containers.

Three witnesses, from the surest: the manager's own report, the volumes that the kernel has upon a device,
and the signature that the device carries (which stays when nobody has taken the device in).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from nodes.inventory.blocktree import BlockTree
from nodes.inventory.blockuse import BlockDevices
from nodes.inventory.disk_facts import Membership
from nodes.inventory.lvm import LvmReport, split_mapped_name
from nodes.inventory.multipath import PathState
from nodes.inventory.zpool import ZpoolList

_SIGNATURES = {
    "LVM2_member": ("lvm", "physical volume"),
    "LVM1_member": ("lvm", "physical volume"),
    "linux_raid_member": ("raid", "member"),
    "isw_raid_member": ("raid", "member"),
    "ddf_raid_member": ("raid", "member"),
    "zfs_member": ("zfs", "member"),
    "mpath_member": ("multipath", "path"),
    "crypto_LUKS": ("luks", "container"),
    "bcache": ("bcache", "member"),
    "ceph_bluestore": ("ceph", "osd"),
    "drbd": ("drbd", "member"),
    "stratis": ("stratis", "member"),
}
_CEPH_TYPES = {"block": "osd", "db": "osd db", "wal": "osd wal", "journal": "osd journal", "data": "osd"}
_PART_TYPES = {
    # Partition types that Ceph gives its own, from before it used LVM.
    "4fbd7e29-9d25-41b8-afd0-062c0ceff05d": "osd",
    "45b0969e-9b03-4f30-b4c6-b4b80ceff106": "osd journal",
    "30cd0809-c2b2-499c-8879-2d6b78529876": "osd db",
    "5ce17fce-4087-4169-b7ff-056cc58473f9": "osd wal",
}
MEMBER_TYPES = frozenset(_SIGNATURES)


@dataclass(frozen=True, slots=True)
class Managers:
    """What the managers of volumes report, with their paths resolved to kernel names."""

    lvm: LvmReport = field(default_factory=LvmReport)
    zfs: ZpoolList = field(default_factory=ZpoolList)
    multipath: Mapping[str, tuple[PathState, ...]] = field(default_factory=dict)
    missing_maps: frozenset[str] = frozenset()
    """Disks with several paths and no multipath device."""


@dataclass(frozen=True, slots=True)
class Signature:
    """What a device carries by blkid, for the part of it that memberships need."""

    type: str | None = None
    label: str | None = None
    uuid: str | None = None
    part_type: str | None = None


def read_memberships(
    name: str, signature: Signature, blocks: BlockDevices, tree: BlockTree, managers: Managers
) -> tuple[Membership, ...]:
    """All memberships of the device ``name`` itself, each kind once."""
    found: dict[str, Membership] = {}
    for membership in (
        *_by_managers(name, blocks, managers),
        *_by_holders(name, blocks, tree, managers),
        *_by_signature(signature),
    ):
        found.setdefault(membership.kind, membership)
    if name in managers.missing_maps:
        known = found.get("multipath")
        if known is None or known.name is None:
            found["multipath"] = Membership("multipath", None, "path", "missing map")
    return tuple(found.values())


def _by_managers(name: str, blocks: BlockDevices, managers: Managers) -> Iterator[Membership]:
    for path, physical in managers.lvm.physical.items():
        if blocks.aliases.get(path) == name:
            state = "missing" if physical.missing else "in use" if physical.group else "unassigned"
            yield Membership("lvm", physical.group, "physical volume", state)
    for path, device in managers.zfs.devices.items():
        if blocks.aliases.get(path) == name:
            role = "member" if device.role == "data" else device.role
            yield Membership("zfs", device.pool, role, device.state, device.group)
    split = split_mapped_name(blocks.files.text(name, "dm/name") or "") if name.startswith("dm-") else None
    logical = managers.lvm.logical.get(split) if split else None
    if logical and logical.tags.get("osd_id"):
        role = _CEPH_TYPES.get(logical.tags.get("type", ""), "osd")
        yield Membership(
            "ceph", f"osd.{logical.tags['osd_id']}", role, None, logical.tags.get("cluster_fsid")
        )


def _by_holders(name: str, blocks: BlockDevices, tree: BlockTree, managers: Managers) -> Iterator[Membership]:
    node = tree.nodes.get(name)
    for holder in node.children if node else ():
        above = tree.nodes.get(holder)
        shown = blocks.volume_name(holder)
        match above.volume if above else None:
            case "lvm":
                split = split_mapped_name(shown)
                group = split[0] if split else shown
                # Below a thin pool or a mirror are logical volumes of the same group.
                own = split_mapped_name(blocks.volume_name(name)) if node and node.volume == "lvm" else None
                if own is None or own[0] != group:
                    yield Membership("lvm", group, "physical volume", "in use")
            case "raid":
                yield _raid(name, holder, blocks)
            case "crypt":
                yield Membership("luks", shown, "container", "open")
            case "multipath":
                state = next((p for p in managers.multipath.get(holder, ()) if p.disk == name), None)
                yield Membership("multipath", shown, "path", state.mapped if state else None)
            case "bcache":
                backing = blocks.files.text(holder, "bcache/state")
                yield Membership("bcache", shown, "member", backing)
            case "drbd":
                yield Membership("drbd", shown, "member")
            case "stratis":
                yield Membership("stratis", shown, "member")
    pool = blocks.zfs.get(name)
    if pool:
        yield Membership("zfs", pool, "member")


def _raid(name: str, array: str, blocks: BlockDevices) -> Membership:
    """A member's role by its state in sysfs (Documentation/admin-guide/md.rst): ``in_sync``, ``spare`` …"""
    states = (blocks.files.text(array, f"md/dev-{name}/state") or "").split(",")
    shown = ",".join(states) or None
    for word, role in (("faulty", "faulty"), ("spare", "spare"), ("journal", "journal")):
        if word in states:
            return Membership("raid", blocks.volume_name(array), role, shown)
    return Membership("raid", blocks.volume_name(array), "member", shown)


def _by_signature(signature: Signature) -> Iterator[Membership]:
    """Whoever made the signature, nobody holds the device as far as the others know."""
    if signature.type in _SIGNATURES:
        kind, role = _SIGNATURES[signature.type]
        state = {"luks": "closed", "multipath": "missing map"}.get(kind, "inactive")
        # A member of a ZFS pool has the pool's name as its label, one of an array HOST:NAME.
        name = signature.label if kind in ("zfs", "raid") else None
        yield Membership(kind, name, role, state if kind != "ceph" else None, signature.uuid)
    role_of_part = _PART_TYPES.get((signature.part_type or "").lower())
    if role_of_part:
        yield Membership("ceph", None, role_of_part)
