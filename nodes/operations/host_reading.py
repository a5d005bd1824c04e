"""The hosts' side of a plan: what runs on them, what room they have, and who could take which VM.

All hosts are asked side by side, each in a thread of its own, under one deadline; whoever is late is told as
such. Nothing here touches the database, and nothing is changed on a host.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from lxml import etree

from nodes import access
from nodes.errors import HostError, HostTimeout, HostUnreachable, InvalidInput, NodeAdminError
from nodes.hosts import migration
from nodes.hosts.connection import HostConnection
from nodes.hosts.deadlines import Clock
from nodes.hosts.domains import DomainFacts, Room, compare_cpu, list_domains, machine_supported, room
from nodes.hosts.hypervisor import Hypervisor
from nodes.hosts.libvirt_facts import collect
from nodes.hosts.target import HostTarget
from nodes.inventory import pools
from nodes.inventory.document import HostDocument
from nodes.inventory.libvirt_networks import NETWORK, NETWORKS, read_networks
from nodes.inventory.mounts import Mount, read_mounts
from nodes.operations.networks import HostNetworks
from nodes.operations.storage import HostStorage
from nodes.operations.vm_facts import described

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

LATE = "It did not answer in time."
LIBVIRT_S = 10.0
PROC = "cat /proc/sys/kernel/random/boot_id && cat /proc/self/mountinfo && echo && ls /sys/class/net"
"""Boot ID, mounts and, after an empty line, interfaces (random(4), proc_pid_mountinfo(5))."""


@dataclass(frozen=True, slots=True)
class Host:
    """A host to be asked; ``address`` is where its QEMU takes migrations, "" where that is unknown."""

    uuid: str
    name: str
    target: HostTarget
    address: str = ""


@dataclass(slots=True)
class SeenHost:
    """What a host said.

    ``fault``: it cannot be reached; ``libvirt_fault``: it can, but its libvirt cannot. ``domains`` and
    ``room`` are None where they were not asked for or not answered.
    """

    host: Host
    connection: HostConnection | None = None
    hypervisor: Hypervisor | None = None
    fault: NodeAdminError | None = None
    libvirt_fault: NodeAdminError | None = None
    boot_id: str | None = None
    storage: HostStorage = field(default_factory=lambda: HostStorage(None, None))
    networks: HostNetworks = field(default_factory=HostNetworks)
    domains: tuple[DomainFacts, ...] | None = None
    room: Room | None = None


@dataclass(frozen=True, slots=True)
class Verdicts:
    """Whether a target can take the VMs of one kind, as (can, why not), each None where it cannot be told."""

    machine: tuple[bool | None, str]
    cpu: tuple[bool | None, str]


@dataclass(frozen=True, slots=True)
class Seen:
    """All answers. ``fits`` by target UUID and VM UUID; ``reach`` by source UUID and target UUID."""

    hosts: Mapping[str, SeenHost]
    fits: Mapping[tuple[str, str], Verdicts]
    reach: Mapping[tuple[str, str], tuple[bool | None, str]]


def look(
    sources: Sequence[Host], targets: Sequence[Host], *, timeout_s: float, only: frozenset[str] | None = None
) -> Seen:
    """Ask ``sources`` for their VMs and ``targets`` for room, and then who can take which VM.

    ``only`` names the VMs (by UUID) that matter. Never raises for what a host does.
    """
    clock = Clock(timeout_s)
    hosts = {host.uuid: host for host in (*sources, *targets)}
    with_domains = {host.uuid for host in sources}
    with_room = {host.uuid for host in targets}
    jobs = {
        uuid: partial(_see, host, clock, domains=uuid in with_domains, wants_room=uuid in with_room)
        for uuid, host in hosts.items()
    }
    answers = side_by_side(jobs, clock)
    seen: dict[str, SeenHost] = {}
    for uuid, host in hosts.items():
        answer = answers[uuid]
        seen[uuid] = answer if isinstance(answer, SeenHost) else SeenHost(host, fault=answer)
    fits, reach = _compare(seen, sources, targets, clock, only)
    return Seen(seen, fits, reach)


def side_by_side(jobs: Mapping[K, Callable[[], V]], clock: Clock) -> dict[K, V | NodeAdminError]:
    """Run the jobs in threads of their own; by key what each gave, its error, or HostTimeout for a late one.

    An error that nobody expected is raised here.
    """
    answers: dict[K, V | NodeAdminError] = {}
    accidents: list[Exception] = []
    lock = threading.Lock()

    def run(key: K, job: Callable[[], V]) -> None:
        try:
            found: V | NodeAdminError = job()
        except NodeAdminError as error:
            found = error
        except Exception as error:  # noqa: BLE001 - handed to the caller, who raises it
            accidents.append(error)
            return
        with lock:
            answers[key] = found

    threads = [
        threading.Thread(target=run, args=item, name=f"plan: {item[0]}", daemon=True) for item in jobs.items()
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(clock.left + 0.05)
    if accidents:
        raise accidents[0]
    with lock:
        found = dict(answers)
    return {key: found.get(key, _late()) for key in jobs}


def _late() -> HostTimeout:
    return HostTimeout(LATE)


# -- one host --------------------------------------------------------------------------------------


def _see(host: Host, clock: Clock, *, domains: bool, wants_room: bool) -> SeenHost:
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
        except HostError as error:
            seen.fault = error
            return seen
    try:
        hypervisor = seen.connection.hypervisor(_within(clock))
        if domains:
            seen.domains = list_domains(hypervisor, timeout_s=_within(clock))
        if wants_room:
            seen.room = room(hypervisor, timeout_s=_within(clock))
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
    return seen


def _within(clock: Clock) -> float:
    """What one answer of libvirt may take: a daemon that hangs is told from a host that is gone by its
    ending before all else."""
    return max(0.2, min(LIBVIRT_S, clock.left - 1.0))


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


# -- who can take which VM -------------------------------------------------------------------------


def _compare(
    seen: Mapping[str, SeenHost],
    sources: Sequence[Host],
    targets: Sequence[Host],
    clock: Clock,
    only: frozenset[str] | None,
) -> tuple[dict[tuple[str, str], Verdicts], dict[tuple[str, str], tuple[bool | None, str]]]:
    kinds = _kinds(seen, sources, only)
    usable = [
        found
        for host in targets
        if (found := seen[host.uuid]).hypervisor is not None and found.room is not None
    ]
    comparing = {
        found.host.uuid: partial(_verdicts, found.hypervisor, kinds) for found in usable if found.hypervisor
    }
    reaching = {
        (source.uuid, found.host.uuid): partial(_reach, seen[source.uuid], found.host, clock)
        for source in sources
        for found in usable
        if kinds and source.uuid != found.host.uuid
    }
    answers = side_by_side({**comparing, **reaching} if kinds else {}, clock)
    fits: dict[tuple[str, str], Verdicts] = {}
    for target in comparing:
        for (_key, vms), verdicts in zip(
            kinds.items(), _or_late(answers.get(target), len(kinds)), strict=True
        ):
            fits |= {(target, facts.uuid): verdicts for facts in vms}
    reach = {}
    for pair in reaching:
        found_reach = answers.get(pair)
        reach[pair] = found_reach if isinstance(found_reach, tuple) else (None, LATE)
    return fits, reach


def _kinds(
    seen: Mapping[str, SeenHost], sources: Sequence[Host], only: frozenset[str] | None
) -> dict[bytes, list[DomainFacts]]:
    """The active VMs, those together that ask the same of a target's processor and QEMU."""
    found: dict[bytes, list[DomainFacts]] = {}
    for source in sources:
        for facts in seen[source.uuid].domains or ():
            root = described(facts) if facts.active and (only is None or facts.uuid in only) else None
            if root is not None:
                found.setdefault(_kind(root), []).append(facts)
    return found


def _kind(root: etree._Element) -> bytes:
    parts = [root.get("type", "").encode(), root.findtext("devices/emulator", "").encode()]
    for path in ("os/type", "cpu"):
        element = root.find(path)
        if element is not None:
            parts.append(etree.tostring(element, method="c14n"))
    return b"\0".join(parts)


def _verdicts(target: Hypervisor, kinds: Mapping[bytes, Sequence[DomainFacts]]) -> list[Verdicts]:
    """One verdict a kind, in their order: asked for by one VM of each."""
    found = []
    for vms in kinds.values():
        xml = vms[0].xml or ""
        machine = machine_supported(target, xml)
        cpu = compare_cpu(target, xml) if machine[0] is not False else (None, "")
        found.append(Verdicts(machine, cpu))
    return found


def _or_late(answer: object, count: int) -> list[Verdicts]:
    if isinstance(answer, list):
        return answer
    return [Verdicts((None, LATE), (None, LATE))] * count


def _reach(source: SeenHost, target: Host, clock: Clock) -> tuple[bool | None, str]:
    """Whether the source's host reaches the address at which the target takes migrations."""
    if not target.address:
        return False, ""
    if source.connection is None or not source.connection.has_shell:
        return None, ""
    try:
        return migration.reachable(source.connection.shell, target.address, timeout_s=min(5.0, clock.left))
    except InvalidInput as error:
        return False, error.message
    except HostError as error:
        return None, error.message
