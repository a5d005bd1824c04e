"""The hosts' side of a plan: what runs where, and who could take which VM.

All hosts are asked side by side under one deadline; whoever is late is told as such.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from django.utils.translation import gettext as _
from lxml import etree

from nodes.errors import HostError, InvalidInput
from nodes.hosts import migration
from nodes.hosts.deadlines import Clock
from nodes.hosts.domains import compare_cpu, machine_supported
from nodes.hosts.hypervisor import Hypervisor
from nodes.hosts.name_lookup import addresses_there
from nodes.hosts.shell import Shell
from nodes.operations.host_reading import Host, SeenHost, see
from nodes.operations.plan.host_files import READ_S, paths_of, read_files
from nodes.operations.plan.host_state import HostState, Verdict, Verdicts
from nodes.operations.plan.migration_address import leads_nowhere, literal, shown_addresses
from nodes.operations.plan.vm_state import VmState
from nodes.operations.side_by_side import LATE, side_by_side


@dataclass(frozen=True, slots=True)
class Seen:
    """All answers. ``fits`` by target UUID and VM UUID; ``reach`` by source UUID and target UUID."""

    hosts: Mapping[str, SeenHost]
    fits: Mapping[tuple[str, str], Verdicts]
    reach: Mapping[tuple[str, str], Verdict]


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
        uuid: partial(see, host, clock, domains=uuid in with_domains, wants_room=uuid in with_room)
        for uuid, host in hosts.items()
    }
    answers = side_by_side(jobs, clock)
    seen: dict[str, SeenHost] = {}
    for uuid, host in hosts.items():
        answer = answers[uuid]
        seen[uuid] = answer if isinstance(answer, SeenHost) else SeenHost(host, fault=answer)
    fits, reach = _compare(seen, sources, targets, clock, only)
    if reach:
        _read_files(seen, sources, clock, only)
    return Seen(seen, fits, reach)


def host_state(answer: SeenHost, seen: Seen) -> HostState:
    """What ``answer`` and the comparisons told of a host, for the constraints."""
    host = answer.host
    return HostState(
        uuid=host.uuid,
        name=host.name,
        address=host.address,
        address_forced=host.address_forced,
        storage=answer.storage,
        networks=answer.networks,
        names=answer.names,
        room=answer.room,
        verdicts={vm: verdicts for (target, vm), verdicts in seen.fits.items() if target == host.uuid},
        reaches={target: reach for (source, target), reach in seen.reach.items() if source == host.uuid},
        inventory=host.inventory,
        declared=host.declared,
        files=answer.files,
        **answer.more,
    )


def _read_files(
    seen: Mapping[str, SeenHost], sources: Sequence[Host], clock: Clock, only: frozenset[str] | None
) -> None:
    """Look on every host for the files that the VMs name; what is late is unknown."""
    moving = [vm for host in sources for vm in seen[host.uuid].domains or () if _may_move(vm, only)]
    paths = paths_of(moving)
    asked = {
        uuid: partial(read_files, answer.connection.shell, paths, min(READ_S, clock.left))
        for uuid, answer in seen.items()
        if paths and answer.connection is not None and answer.connection.has_shell and not answer.fault
    }
    for uuid, found in side_by_side(asked, clock).items():
        if isinstance(found, dict):
            seen[uuid].files = found


# -- who can take which VM -------------------------------------------------------------------------


def _compare(
    seen: Mapping[str, SeenHost],
    sources: Sequence[Host],
    targets: Sequence[Host],
    clock: Clock,
    only: frozenset[str] | None,
) -> tuple[dict[tuple[str, str], Verdicts], dict[tuple[str, str], Verdict]]:
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
            fits |= {(target, vm.uuid): verdicts for vm in vms}
    reach = {}
    for pair in reaching:
        found_reach = answers.get(pair)
        reach[pair] = found_reach if isinstance(found_reach, tuple) else (None, LATE)
    return fits, reach


def _kinds(
    seen: Mapping[str, SeenHost], sources: Sequence[Host], only: frozenset[str] | None
) -> dict[bytes, list[VmState]]:
    """The active VMs, those together that ask the same of a target's processor and QEMU."""
    found: dict[bytes, list[VmState]] = {}
    for source in sources:
        for vm in seen[source.uuid].domains or ():
            if _may_move(vm, only) and vm.element is not None:
                found.setdefault(_kind(vm.element), []).append(vm)
    return found


def _may_move(vm: VmState, only: frozenset[str] | None) -> bool:
    return vm.facts.active and (only is None or vm.uuid in only)


def _kind(root: etree._Element) -> bytes:
    parts = [root.get("type", "").encode(), root.findtext("devices/emulator", "").encode()]
    for path in ("os/type", "cpu"):
        element = root.find(path)
        if element is not None:
            parts.append(etree.tostring(element, method="c14n"))
    return b"\0".join(parts)


def _verdicts(target: Hypervisor, kinds: Mapping[bytes, Sequence[VmState]]) -> list[Verdicts]:
    """One verdict a kind, in their order: asked for by one VM of each."""
    found = []
    for vms in kinds.values():
        xml = vms[0].facts.xml or ""
        machine = machine_supported(target, xml)
        cpu = compare_cpu(target, xml) if machine[0] is not False else (None, "")
        found.append(Verdicts(machine, cpu))
    return found


def _or_late(answer: object, count: int) -> list[Verdicts]:
    if isinstance(answer, list):
        return answer
    return [Verdicts((None, LATE), (None, LATE))] * count


def _leads_elsewhere(shell: Shell, target: Host, clock: Clock) -> str:
    """Why the name at which the target takes migrations is, on the source, no address of the target's; ""
    where it is one, an address itself, or where that cannot be told. Raises InvalidInput."""
    if target.address_forced or literal(target.address) is not None:
        return ""
    found = addresses_there(shell, target.address, timeout_s=min(5.0, clock.left))
    shown = shown_addresses(target.inventory.get("net"))
    for text in found or ():
        address = literal(text)
        if address is not None and (leads_nowhere(address) or (shown is not None and address not in shown)):
            words = {"address": text, "node": target.name}
            return _("the name leads to %(address)s, which is no address of %(node)s") % words
    return ""


def _reach(source: SeenHost, target: Host, clock: Clock) -> Verdict:
    """Whether the source's host reaches the address at which the target takes migrations."""
    if not target.address:
        return False, ""
    if source.connection is None or not source.connection.has_shell:
        return None, ""
    try:
        elsewhere = _leads_elsewhere(source.connection.shell, target, clock)
        if elsewhere:
            return False, elsewhere
        return migration.reachable(source.connection.shell, target.address, timeout_s=min(5.0, clock.left))
    except InvalidInput as error:
        return False, error.message
    except HostError as error:
        return None, error.message
