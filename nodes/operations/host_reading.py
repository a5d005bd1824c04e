"""One host's part of a plan: what runs on it, what room, storage and networks it has.

Nothing is changed on it, and the database is not touched: this runs in threads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nodes import access
from nodes.errors import HostError, HostUnreachable, NodeAdminError
from nodes.hosts.connection import HostConnection
from nodes.hosts.deadlines import Clock
from nodes.hosts.domains import Room, known_names, list_domains, room
from nodes.hosts.hypervisor import Hypervisor
from nodes.hosts.libvirt.guests_service import guests_service
from nodes.hosts.libvirt_facts import collect
from nodes.hosts.target import HostTarget
from nodes.inventory import pools
from nodes.inventory.document import HostDocument
from nodes.inventory.libvirt_networks import NETWORK, NETWORKS, read_networks
from nodes.inventory.mounts import Mount, read_mounts
from nodes.operations.networks import HostNetworks
from nodes.operations.plan.host_files import HostFile
from nodes.operations.plan.host_readers import Asking, read_more
from nodes.operations.plan.refusals import Refusal
from nodes.operations.plan.vm_state import VmState
from nodes.operations.storage import DeclaredShare, HostStorage

LIBVIRT_S = 10.0
PROC = "cat /proc/sys/kernel/random/boot_id && cat /proc/self/mountinfo && echo && ls /sys/class/net"
"""Boot ID, mounts and, after an empty line, interfaces (random(4), proc_pid_mountinfo(5))."""


@dataclass(frozen=True, slots=True)
class Host:
    """A host to be asked; ``address`` is where its QEMU takes migrations, "" where that is unknown, and
    ``address_forced`` whether an administrator has set it against the inventory.

    For the constraints: ``inventory`` are facts of its newest inventory by section, ``declared`` is storage
    that was declared shared with it, ``refusals`` are the VMs that it has refused before, and ``named_for``
    those that people want to go there.
    """

    uuid: str
    name: str
    target: HostTarget
    address: str = ""
    address_forced: bool = False
    inventory: Mapping[str, Any] = field(default_factory=dict)
    declared: tuple[DeclaredShare, ...] = ()
    refusals: Mapping[str, Refusal] = field(default_factory=dict)
    named_for: frozenset[str] = frozenset()


@dataclass(slots=True)
class SeenHost:
    """What a host said.

    ``fault``: it cannot be reached; ``libvirt_fault``: it can, but its libvirt cannot. ``domains`` and
    ``room`` are None where they were not asked for or not answered. ``names``: the UUIDs of a target's VMs by
    their names. ``more``: what the further readers gave, by field of :class:`HostState`. ``files``: what it
    has of the files that VMs name.
    ``starts_guests``: whether libvirt-guests starts VMs at boot; asked of hosts whose VMs are, None where
    that could not be read.
    """

    host: Host
    connection: HostConnection | None = None
    hypervisor: Hypervisor | None = None
    fault: NodeAdminError | None = None
    libvirt_fault: NodeAdminError | None = None
    boot_id: str | None = None
    storage: HostStorage = field(default_factory=lambda: HostStorage(None, None))
    networks: HostNetworks = field(default_factory=HostNetworks)
    domains: tuple[VmState, ...] | None = None
    room: Room | None = None
    names: Mapping[str, str] = field(default_factory=dict)
    more: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, HostFile] = field(default_factory=dict)
    starts_guests: bool | None = False


def see(host: Host, clock: Clock, *, domains: bool, wants_room: bool) -> SeenHost:
    """Ask ``host``. Never raises for what it does: that is a ``fault``."""
    seen = SeenHost(host)
    try:
        seen.connection = access.connect(host.target)
    except NodeAdminError as error:
        seen.fault = error
        return seen
    mounts: tuple[Mount, ...] | None = None
    interfaces: frozenset[str] | None = None
    if seen.connection.has_shell:
        try:
            seen.boot_id, mounts, interfaces = _proc(seen.connection, clock)
            if domains:
                seen.starts_guests = _starts_guests(seen.connection, clock)
        except HostError as error:
            seen.fault = error
            return seen
    try:
        hypervisor = seen.connection.hypervisor(_within(clock))
        if domains:
            found = list_domains(hypervisor, timeout_s=_within(clock))
            seen.domains = tuple(VmState.of(facts) for facts in found)
        if wants_room:
            seen.room = room(hypervisor, timeout_s=_within(clock))
            seen.names = known_names(hypervisor, timeout_s=_within(clock))
        seen.hypervisor = hypervisor
    except HostUnreachable as error:
        seen.fault = error
        return seen
    except NodeAdminError as error:
        seen.libvirt_fault = error
        return seen
    document = HostDocument("", collect(hypervisor, _OBJECTS, timeout_s=min(5.0, _within(clock))))
    seen.storage = HostStorage(_pools(document), mounts)
    seen.networks = HostNetworks(interfaces, _networks(document))
    seen.more = read_more(Asking(seen.connection, hypervisor, clock))
    return seen


def _within(clock: Clock) -> float:
    """What one answer of libvirt may take: a daemon that hangs is told from a host that is gone by its
    ending before all else."""
    return max(0.2, min(LIBVIRT_S, clock.left - 1.0))


def _starts_guests(connection: HostConnection, clock: Clock) -> bool | None:
    try:
        return guests_service(connection.shell, timeout_s=min(5.0, _within(clock))).starts_vms
    except HostError:
        # What else the host is asked tells whether it answers; without this a plan can be made.
        return None


def _proc(
    connection: HostConnection, clock: Clock
) -> tuple[str | None, tuple[Mount, ...] | None, frozenset[str] | None]:
    """Boot ID, mounts and names of the network interfaces, in one command; None where it failed."""
    answer = connection.shell.run(PROC, timeout_s=_within(clock))
    boot_id, _, rest = answer.stdout.decode("utf-8", "surrogateescape").partition("\n")
    if answer.exit_status != 0 or not boot_id:
        return None, None, None
    mounts, _, interfaces = rest.partition("\n\n")
    return boot_id.strip(), read_mounts(mounts.splitlines()), frozenset(interfaces.split())


_OBJECTS = (pools.POOLS.name, pools.POOL.name, NETWORKS.name, NETWORK.name)


def _pools(document: HostDocument) -> Mapping[str, pools.Pool] | None:
    """The storage pools by name; None where libvirt gave no list."""
    facts = pools.parse(document).facts
    return None if facts.total is None else {pool.name: pool for pool in facts.pools}


def _networks(document: HostDocument) -> frozenset[str] | None:
    """Names of the active networks; None where libvirt gave no list."""
    if not document.text(NETWORKS.name):
        return None
    found, _problems = read_networks(document)
    return frozenset(network.name for network in found if network.active is not False)
