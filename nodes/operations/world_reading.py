"""The world of a plan, read: candidates from the database, everything else from the hosts, just now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache

from django.conf import settings
from django.utils import timezone
from django.utils.translation import gettext as _

from nodes.errors import NodeAdminError
from nodes.models import (
    TAKES_VMS,
    HeldAutostart,
    Node,
    Operation,
    Scheduling,
    SnapshotSection,
    User,
)
from nodes.models.node import as_uuid
from nodes.operations.candidates import Candidates, Promised, candidates, moved_away, promised
from nodes.operations.deciding import places_of
from nodes.operations.host_reading import Host, SeenHost
from nodes.operations.looking import Seen, Survey, host_state, look
from nodes.operations.options import Options
from nodes.operations.placing import need_of
from nodes.operations.plan.constraints import judge
from nodes.operations.plan.disk_paths import moved_paths
from nodes.operations.plan.encryption import Encryption, encryption
from nodes.operations.plan.host_resources import HostResources
from nodes.operations.plan.hosts_to_ask import host_of, hosts_of
from nodes.operations.plan.refusals import remembered
from nodes.operations.plan.target_search import Questions, find_targets
from nodes.operations.plan.vm_needs import demands_of, supplies_of
from nodes.operations.plans import Reason
from nodes.operations.vm_facts import planned_vm
from nodes.operations.world import PlannedVm, Reasons, Target, World
from nodes.permissions import MAINTAIN, nodes_for

Prefer = Mapping[str, str]


def read_world(
    user: User | None,
    node: Node,
    *,
    options: Options,
    prefer: Prefer,
    before: Operation | None,
) -> World:
    """The world for taking VMs off ``node``; where ``options`` migrate none, no targets are asked."""
    migrate = options.may_migrate
    found = _candidates(user, node, options, prefer, before) if migrate else Candidates((), True)
    own = host_of(node)
    if isinstance(own, NodeAdminError):
        held = held_on(node)
        return World(
            str(node.uuid),
            node.name,
            last_known(node),
            others=found.others,
            fault=_reason(own),
            held_autostart=held,
        )
    # Before the hosts are asked: a VM that arrives meanwhile may count twice, but never not at all.
    room = promised(before) if migrate else {}
    refusals = remembered() if migrate else {}
    survey = Survey([own], timeout_s=settings.NODEADMIN_HOST_TIMEOUT_S)
    known = cache(lambda: _source_world(own, survey))
    questions = Questions(
        hosts_of=lambda rows: hosts_of(rows, refusals, options),
        target_of=lambda host, seen: _target(host, seen, room.get(host.uuid, Promised())),
        unplaced=lambda targets: _unplaced(known(), targets, options, prefer),
    )
    targets = find_targets(survey, found, questions, batch_size=settings.NODEADMIN_PLAN_TARGETS)
    return replace(
        known() if survey.knows_vms else _unknown_world(node, own, survey),
        others=found.others,
        takes_vms=node.node_type in TAKES_VMS,
        targets=targets.targets,
        targets_asked=targets.asked,
        targets_eligible=targets.eligible,
        in_maintenance=node.scheduling == Scheduling.MAINTENANCE,
        held_autostart=held_on(node),
        starts_guests=survey.seen.hosts[own.uuid].starts_guests,
    )


def _candidates(
    user: User | None, node: Node, options: Options, prefer: Prefer, before: Operation | None
) -> Candidates:
    active = [need_of(vm) for vm in last_known(node) if vm.active and vm.memory_bytes is not None]
    return candidates(
        user,
        node,
        prefer,
        before,
        only=_uuids(options.targets),
        named=_uuids(options.named_targets),
        need_bytes=min(active, default=0),
    )


def _uuids(targets: Iterable[str]) -> set[str]:
    """Those that are UUIDs of nodes; a name that nobody could resolve is no candidate."""
    return {str(uuid) for name in targets if (uuid := as_uuid(name)) is not None}


def _source_world(own: Host, survey: Survey) -> World:
    """What the node itself told, without targets."""
    seen = survey.seen
    source = seen.hosts[own.uuid]
    here = host_state(source, seen)
    return World(
        node_uuid=own.uuid,
        node_name=own.name,
        vms=tuple(planned_vm(vm, here) for vm in source.domains or ()),
        boot_id=source.boot_id,
    )


def _unknown_world(node: Node, own: Host, survey: Survey) -> World:
    """The node whose VMs could not be read, with those last known."""
    source = survey.seen.hosts[own.uuid]
    return World(
        node_uuid=own.uuid,
        node_name=node.name,
        vms=last_known(node),
        fault=_reason(source.fault) if source.fault is not None else None,
        libvirt_fault=_libvirt_reason(source),
        boot_id=source.boot_id,
        in_maintenance=node.scheduling == Scheduling.MAINTENANCE,
        held_autostart=held_on(node),
        starts_guests=source.starts_guests,
    )


def _unplaced(world: World, targets: Sequence[Target], options: Options, prefer: Prefer) -> list[PlannedVm]:
    """The VMs that none of ``targets`` takes and that another one might."""
    places = places_of(replace(world, targets=tuple(targets)), options, prefer)
    return [
        vm
        for vm in world.vms
        if isinstance(places.get(vm.uuid), Reason)
        and vm.memory_bytes is not None
        and not options.wish(vm.uuid, vm.name).target
    ]


def read_return(user: User | None, node: Node, *, before: Operation | None) -> World:
    """The world for bringing back to ``node`` what was moved off it, from where it is now."""
    moved = moved_away(node)
    places = Node.objects.filter(uuid__in={row.to for row in moved.values()})
    allowed = places & nodes_for(user, MAINTAIN) if user is not None else places
    own = host_of(node, remembered())
    if isinstance(own, NodeAdminError):
        return World(str(node.uuid), node.name, fault=_reason(own))
    sources = [host for host in hosts_of(list(allowed)).values() if isinstance(host, Host)]
    room = promised(before).get(own.uuid, Promised())
    seen = look(sources, [own], timeout_s=settings.NODEADMIN_HOST_TIMEOUT_S, only=frozenset(moved))
    vms: list[PlannedVm] = []
    notes: list[str] = []
    for source in sources:
        answer = seen.hosts[source.uuid]
        wanted = {uuid for uuid, row in moved.items() if row.to == source.uuid}
        there = host_state(answer, seen)
        vms += [planned_vm(vm, there, returns=True) for vm in answer.domains or () if vm.uuid in wanted]
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
        targets=(_returning_to(node, _target(own, seen, room)),),
        fault=_reason(here.fault) if here.fault is not None else None,
        libvirt_fault=_reason(here.libvirt_fault) if here.libvirt_fault is not None else None,
        boot_id=here.boot_id,
        notes=tuple(notes),
        held_autostart=held_on(node),
    )


def _returning_to(node: Node, target: Target) -> Target:
    """A node that has become a storage node meanwhile takes no VM back."""
    if node.node_type in TAKES_VMS:
        return target
    reason = Reason(
        "storage_node",
        _("is a storage node, which takes no VMs"),
        _("Change the type of %s to compute or hybrid, or leave the VM where it is.") % node.name,
    )
    return replace(target, obstacles=(reason, *target.obstacles))


def held_on(node: Node) -> dict[str, str]:
    """The names, by UUID, of the VMs whose autostart nodeadmin holds on the node's host."""
    rows = HeldAutostart.objects.filter(node=node.pk)
    return {str(uuid): name for uuid, name in rows.values_list("vm_uuid", "vm_name")}


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
            autostart=row.get("autostart"),
            memory_bytes=row.get("memory_max_bytes"),
            vcpus=row.get("vcpus_current"),
            notes=(_("Last seen: %s.") % row["state"],) if row.get("state") else (),
        )
        for row in rows
    )


# -- one host --------------------------------------------------------------------------------------


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
    fits = _fits(host, seen)
    memory = room.memory_free_bytes
    return Target(
        uuid=host.uuid,
        name=host.name,
        memory_free_bytes=None if memory is None else max(0, memory - taken.memory_bytes),
        vcpus_free=_vcpus_free(room.cpus, room.vcpus_in_use, taken.vcpus),
        obstacles=() if host.address else (_no_address(host.name),),
        unfit=fits.unfit,
        notes=fits.notes,
        disk_paths=fits.disk_paths,
        supplies=_supplies(answer, seen),
        encryption=fits.encryption,
    )


def _supplies(answer: SeenHost, seen: Seen) -> dict[str, int]:
    """What the target has of what the VMs share with others on a host."""
    resources = answer.more.get("resources")
    if not isinstance(resources, HostResources):
        return {}
    names = {
        name
        for other in seen.hosts.values()
        for vm in other.domains or ()
        for name in demands_of(vm, resources.default_page_kib)
    }
    return supplies_of(resources, names)


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


@dataclass(frozen=True, slots=True)
class _Fits:
    """By VM UUID what keeps it from a target, what could not be told, its disks' paths there, and how it
    would be sent."""

    unfit: dict[str, Reasons] = field(default_factory=dict)
    notes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    disk_paths: dict[str, Mapping[str, str]] = field(default_factory=dict)
    encryption: dict[str, Encryption] = field(default_factory=dict)


def _fits(target: Host, seen: Seen) -> _Fits:
    """What the constraints say of ``target`` and the VMs that were compared with it."""
    fits = _Fits()
    there = host_state(seen.hosts[target.uuid], seen)
    for answer in seen.hosts.values():
        if not answer.domains:
            continue
        source = host_state(answer, seen)
        how = encryption(source, there, mode=settings.NODEADMIN_MIGRATION_TLS, now=timezone.now())
        for vm in answer.domains:
            if vm.uuid not in there.verdicts:
                continue
            found = judge(vm, source, there)
            fits.encryption[vm.uuid] = how
            if found.reasons or how.reasons:
                fits.unfit[vm.uuid] = (*found.reasons, *how.reasons)
            if found.notes:
                fits.notes[vm.uuid] = found.notes
            if paths := moved_paths(vm, source, there):
                fits.disk_paths[vm.uuid] = paths
    return fits
