"""The world of a plan, read: candidates from the database, everything else from the hosts, just now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from django.conf import settings
from django.utils.translation import gettext as _

from nodes import access
from nodes.errors import NodeAdminError
from nodes.hosts.domains import DomainFacts
from nodes.inventory.domain_xml import read_domain
from nodes.models import Node, Operation, SnapshotSection, User
from nodes.operations.candidates import Candidates, Promised, candidates, moved_away, promised
from nodes.operations.host_reading import Host, SeenHost
from nodes.operations.looking import Seen, Verdicts, look
from nodes.operations.networks import missing_networks
from nodes.operations.plans import Reason
from nodes.operations.storage import missing_on_target
from nodes.operations.vm_facts import described, planned_vm
from nodes.operations.world import PlannedVm, Reasons, Target, World
from nodes.permissions import MAINTAIN, nodes_for

Prefer = Mapping[str, str]


def read_world(
    user: User | None, node: Node, *, targets: bool, prefer: Prefer, before: Operation | None
) -> World:
    """The world for taking VMs off ``node``; with ``targets`` False nobody asks where they could go."""
    found = candidates(user, node, prefer, before) if targets else Candidates((), True)
    own = _host(node)
    if isinstance(own, NodeAdminError):
        return World(str(node.uuid), node.name, last_known(node), others=found.others, fault=_reason(own))
    hosts = [host for row in found.nodes if isinstance(host := _host(row), Host)]
    # Before the hosts are asked: a VM that arrives meanwhile may count twice, but never not at all.
    room = promised(before) if targets else {}
    seen = look([own], hosts, timeout_s=settings.NODEADMIN_HOST_TIMEOUT_S)
    source = seen.hosts[own.uuid]
    known = source.domains is not None
    vms = tuple(planned_vm(facts, source.storage) for facts in source.domains or ())
    return World(
        node_uuid=own.uuid,
        node_name=node.name,
        vms=vms if known else last_known(node),
        targets=tuple(_target(host, seen, room.get(host.uuid, Promised())) for host in hosts),
        others=found.others,
        fault=_reason(source.fault) if source.fault is not None else None,
        libvirt_fault=_libvirt_reason(source),
        boot_id=source.boot_id,
    )


def read_return(user: User | None, node: Node, *, before: Operation | None) -> World:
    """The world for bringing back to ``node`` what was moved off it, from where it is now."""
    moved = moved_away(node)
    places = Node.objects.filter(uuid__in={row.to for row in moved.values()})
    allowed = places & nodes_for(user, MAINTAIN) if user is not None else places
    own = _host(node)
    if isinstance(own, NodeAdminError):
        return World(str(node.uuid), node.name, fault=_reason(own))
    sources = [host for row in allowed if isinstance(host := _host(row), Host)]
    room = promised(before).get(own.uuid, Promised())
    seen = look(sources, [own], timeout_s=settings.NODEADMIN_HOST_TIMEOUT_S, only=frozenset(moved))
    vms: list[PlannedVm] = []
    notes: list[str] = []
    for source in sources:
        answer = seen.hosts[source.uuid]
        wanted = {uuid for uuid, row in moved.items() if row.to == source.uuid}
        facts = [row for row in answer.domains or () if row.uuid in wanted]
        vms += [planned_vm(row, answer.storage, source=source.name, source_uuid=source.uuid) for row in facts]
        if answer.domains is None:
            notes.append(_("What is on %s cannot be seen; its VMs stay there.") % source.name)
    returning = {vm.uuid for vm in vms}
    gone = sorted(row.vm_name for uuid, row in moved.items() if uuid not in returning)
    if gone:
        notes.append(_("No longer where they were moved to, or not to be seen: %s.") % ", ".join(gone))
    here = seen.hosts[own.uuid]
    return World(
        node_uuid=own.uuid,
        node_name=node.name,
        vms=tuple(vms),
        targets=(_target(own, seen, room),),
        fault=_reason(here.fault) if here.fault is not None else None,
        libvirt_fault=_reason(here.libvirt_fault) if here.libvirt_fault is not None else None,
        boot_id=here.boot_id,
        notes=tuple(notes),
    )


def last_known(node: Node) -> tuple[PlannedVm, ...]:
    """The VMs of the newest inventory, their states unknown."""
    section = SnapshotSection.objects.filter(snapshot=node.snapshot_id, slug="vms").first()
    rows = (section.facts or {}).get("vms", []) if section is not None else []
    return tuple(
        PlannedVm(
            uuid=row["uuid"],
            name=row["name"],
            state=None,
            active=bool(row.get("active")),
            persistent=row.get("persistent"),
            memory_bytes=row.get("memory_max_bytes"),
            vcpus=row.get("vcpus_current"),
            notes=(_("Last seen: %s.") % row["state"],) if row.get("state") else (),
        )
        for row in rows
    )


# -- one host --------------------------------------------------------------------------------------


def _host(node: Node) -> Host | NodeAdminError:
    try:
        target = access.target_for(node)
    except NodeAdminError as error:
        return error
    address = node.migration_address or access.read_uri(node.uri).host
    return Host(str(node.uuid), node.name, target, address)


def _reason(error: NodeAdminError) -> Reason:
    remedy = str(error.remedy) or _("See that the host and its libvirt answer, and ask for a new plan.")
    return Reason(error.code, str(error.message), remedy)


def _libvirt_reason(source: SeenHost) -> Reason | None:
    if source.libvirt_fault is not None:
        return _reason(source.libvirt_fault)
    if source.fault is None and source.domains is None:
        remedy = _("See that libvirt on the host answers, and ask for a new plan.")
        return Reason("libvirt_unavailable", _("libvirt gave no list of VMs."), remedy)
    return None


def _target(host: Host, seen: Seen, taken: Promised) -> Target:
    answer = seen.hosts[host.uuid]
    room = answer.room
    fault = answer.fault or answer.libvirt_fault
    if fault is not None or room is None:
        reason = _reason(fault) if fault is not None else Reason("no_room", _("tells no room"))
        return Target(host.uuid, host.name, None, None, (reason,))
    unfit, notes = _fits(host, seen)
    memory = room.memory_free_bytes
    return Target(
        uuid=host.uuid,
        name=host.name,
        memory_free_bytes=None if memory is None else max(0, memory - taken.memory_bytes),
        vcpus_free=_vcpus_free(room.cpus, room.vcpus_in_use, taken.vcpus),
        obstacles=() if host.address else (_no_address(host.name),),
        unfit=unfit,
        notes=notes,
    )


def _vcpus_free(cpus: int | None, in_use: int | None, taken: int) -> int | None:
    if cpus is None or in_use is None:
        return None
    return max(0, int(cpus * settings.NODEADMIN_VCPU_OVERCOMMIT) - in_use - taken)


def _no_address(name: str) -> Reason:
    return Reason(
        "migration_network",
        _("has no address for migrations"),
        _("Set the migration address of %s.") % name,
    )


# -- VM against target -----------------------------------------------------------------------------


def _fits(target: Host, seen: Seen) -> tuple[dict[str, Reasons], dict[str, tuple[str, ...]]]:
    unfit: dict[str, Reasons] = {}
    notes: dict[str, tuple[str, ...]] = {}
    there = seen.hosts[target.uuid]
    for source in seen.hosts.values():
        reach = seen.reach.get((source.host.uuid, target.uuid), (None, ""))
        for facts in source.domains or ():
            verdicts = seen.fits.get((target.uuid, facts.uuid))
            if verdicts is None:
                continue
            root = described(facts)
            if root is None:
                continue
            xml = read_domain(root)
            reasons = (
                *_refused(verdicts),
                *_name_taken(facts, there),
                *missing_on_target(xml.disks, source.storage, there.storage),
                *missing_networks(xml.interfaces, there.networks),
                *_unreachable(reach, source.host, target),
            )
            if reasons:
                unfit[facts.uuid] = reasons
            if told := _untold(verdicts, reach):
                notes[facts.uuid] = told
    return unfit, notes


def _refused(verdicts: Verdicts) -> Iterable[Reason]:
    if verdicts.machine[0] is False:
        remedy = _("Install the same QEMU on another node, or stop the VM.")
        yield Reason("hypervisor_differs", verdicts.machine[1], remedy)
    if verdicts.cpu[0] is False:
        remedy = _("Give the VM a processor model that another node offers as well, or stop it.")
        yield Reason("cpu_incompatible", verdicts.cpu[1], remedy)


def _name_taken(facts: DomainFacts, there: SeenHost) -> Iterable[Reason]:
    """libvirt takes in no VM whose name another one has, be that one switched off."""
    if there.names.get(facts.name, facts.uuid) != facts.uuid:
        yield Reason(
            "name_taken_on_target",
            _("has another VM of the name “%s”") % facts.name,
            _("Rename one of the two, or remove the other one where it is of no use."),
        )


def _unreachable(reach: tuple[bool | None, str], source: Host, target: Host) -> Iterable[Reason]:
    if reach[0] is False and target.address:
        text = _("%(source)s does not reach it at %(address)s") % {
            "source": source.name,
            "address": target.address,
        }
        yield Reason(
            "migration_network",
            f"{text} ({reach[1]})" if reach[1] else text,
            _("Open the network between the hosts, or set the target's migration address."),
        )


def _untold(verdicts: Verdicts, reach: tuple[bool | None, str]) -> tuple[str, ...]:
    found = []
    if verdicts.cpu[0] is None and verdicts.cpu[1]:
        found.append(_("Whether the processor fits cannot be told: %s") % verdicts.cpu[1])
    if verdicts.machine[0] is None and verdicts.machine[1]:
        found.append(_("Whether its QEMU fits cannot be told: %s") % verdicts.machine[1])
    if reach[0] is None and reach[1]:
        found.append(_("Whether the network fits cannot be told: %s") % reach[1])
    return tuple(found)
