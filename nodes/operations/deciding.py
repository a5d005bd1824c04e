"""The plan: what happens to each VM, decided by what was read. Pure: the same world gives the same plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from django.utils.translation import gettext as _

from nodes.operations.options import DELETE, DRAIN, REBOOT, RETURN, SHUTDOWN, Options
from nodes.operations.placing import Choice, place, shown_targets
from nodes.operations.plan.autostart import lost_marks, node_notes, with_autostart
from nodes.operations.plan.encryption import Encryption
from nodes.operations.plan.estimates import Pace
from nodes.operations.plan.power_blockers import with_power
from nodes.operations.plans import Action, Plan, Reason, VmDecision
from nodes.operations.world import PlannedVm, Target, World


def decide(
    world: World,
    kind: str,
    given: Mapping[str, Any],
    *,
    prefer: Mapping[str, str] | None = None,
    pace: Pace | None = None,
) -> Plan:
    """The plan of an operation of ``kind`` with the options ``given``.

    ``prefer`` are the targets of a plan that was shown before, as node UUIDs by VM UUID; ``pace`` is what
    estimates are made by.
    """
    pace = pace or Pace()
    options = Options.of(kind, given)
    plan = Plan(
        kind=kind,
        node=world.node_name,
        node_uuid=world.node_uuid,
        options=dict(given),
        notes=world.notes,
        boot_id=world.boot_id,
        vms_known=world.vms_known,
    )
    if not world.vms_known:
        return with_power(_unseen(world, plan, options), world.power, options)
    decisions = _decisions(world, kind, options, dict(prefer or {}), pace)
    made = replace(
        plan,
        decisions=decisions,
        blockers=_node_blockers(world, kind, options, decisions),
        losses=_losses(world, decisions),
        notes=(*plan.notes, *_targets_asked(world), *_notes(kind, options), *node_notes(world, kind)),
        estimate_s=pace.of_all(decisions, world.node_uuid),
        targets=shown_targets(world.targets),
        targets_asked=world.targets_asked,
        targets_eligible=world.targets_eligible,
    )
    return with_power(made, world.power, options)


def _targets_asked(world: World) -> tuple[str, ...]:
    if not world.targets_asked or world.targets_asked >= world.targets_eligible:
        return ()
    words = {"asked": world.targets_asked, "eligible": world.targets_eligible}
    return (_("%(asked)d of %(eligible)d nodes that could take VMs were asked.") % words,)


def places_of(world: World, options: Options, prefer: Mapping[str, str]) -> dict[str, Target | Reason]:
    """Where each VM that is to migrate goes, or why nowhere, by its UUID."""
    wishes = {vm.uuid: options.wish(vm.uuid, vm.name) for vm in world.vms}
    movable = [
        vm
        for vm in world.vms
        if vm.active and wishes[vm.uuid].action == "migrate" and not vm.busy and not vm.held
    ]
    choice = Choice(
        only=frozenset(options.targets),
        named={uuid: wish.target for uuid, wish in wishes.items() if wish.target},
        prefer=prefer,
    )
    return place(movable, world.targets, others=world.others, choice=choice)


# -- VM by VM --------------------------------------------------------------------------------------


def _decisions(
    world: World, kind: str, options: Options, prefer: Mapping[str, str], pace: Pace
) -> tuple[VmDecision, ...]:
    places = places_of(world, options, prefer)
    rows = (
        with_autostart(
            _decision(vm, options.wish(vm.uuid, vm.name).action, places.get(vm.uuid), kind, options, pace),
            vm,
            world,
            kind,
            options,
        )
        for vm in world.vms
    )
    return tuple(sorted(rows, key=lambda row: (row.vm_name, row.vm_uuid)))


def _decision(
    vm: PlannedVm,
    wish: str,
    place: Target | Reason | None,
    kind: str,
    options: Options,
    pace: Pace,
) -> VmDecision:
    row = VmDecision(
        vm_uuid=vm.uuid,
        vm_name=vm.name,
        state=vm.state,
        action=Action.LEAVE,
        source=vm.source,
        source_uuid=vm.source_uuid,
        notes=vm.notes,
        memory_bytes=vm.memory_bytes,
        vcpus=vm.vcpus,
    )
    if not vm.active:
        return _at_rest(row, vm, options)
    if wish == "leave":
        return replace(row, notes=(*row.notes, _("It goes on running here.")))
    if wish == "refuse":
        return _blocked(row, (_runs_here(),))
    if wish == "stop":
        return _blocked(row, vm.busy) if vm.busy else _stopped(row, vm, kind, options)
    if not isinstance(place, Target):
        reasons = (*vm.busy, *vm.held) or ((place,) if place is not None else ())
        # A VM that cannot come back is no reason to keep its node out of service.
        return replace(row, blockers=reasons) if kind == RETURN else _blocked(row, reasons)
    sent = place.encryption.get(vm.uuid, Encryption())
    return replace(
        row,
        action=Action.MIGRATE,
        target=place.name,
        target_uuid=place.uuid,
        notes=(*row.notes, *place.notes.get(vm.uuid, ()), *sent.notes),
        encrypted=sent.encrypted,
        verified_name=sent.verified_name,
        auto_converge=options.auto_converge,
        shape=vm.shape.digest,
        parts=vm.shape.parts,
        estimate_s=pace.of_vm(vm.memory_bytes),
        disk_paths=place.disk_paths.get(vm.uuid, {}),
        skip_storage_check=vm.skip_storage_check,
    )


def _at_rest(row: VmDecision, vm: PlannedVm, options: Options) -> VmDecision:
    override = options.override(vm.uuid, vm.name)
    if override is not None and override.action == "migrate":
        text = _("It is shut off; only running VMs are migrated.")
        return _blocked(row, (Reason("override_not_possible", text, _("Leave it out of vm_overrides.")),))
    return row


def _stopped(row: VmDecision, vm: PlannedVm, kind: str, options: Options) -> VmDecision:
    notes = list(row.notes)
    restart = kind == REBOOT and options.restart_vms
    if restart and vm.persistent is False:
        restart = False
        notes.append(_("It cannot be started again: its definition ends with it."))
    if vm.state in ("paused", "crashed", "pmsuspended") and not options.force_stop:
        notes.append(_("Its guest does not run, so it may not react when asked to shut down."))
    if vm.starts_anew and not options.force_stop:
        # on_poweroff (https://libvirt.org/formatdomain.html#events-configuration)
        notes.append(
            _("libvirt starts it again whenever it shuts down (on_poweroff), so it must be forced off.")
        )
    return replace(row, action=Action.STOP, restart=restart, notes=tuple(notes))


def _blocked(row: VmDecision, reasons: tuple[Reason, ...]) -> VmDecision:
    return replace(row, action=Action.BLOCKED, blockers=reasons)


def _runs_here() -> Reason:
    return Reason(
        "running_vm",
        _("It runs on this node."),
        _("Choose to migrate or to stop VMs."),
    )


# -- the node as a whole ---------------------------------------------------------------------------


def _node_blockers(
    world: World, kind: str, options: Options, decisions: tuple[VmDecision, ...]
) -> tuple[Reason, ...]:
    found = []
    running = sum(reason.code == "running_vm" for vm in decisions for reason in vm.blockers)
    if running:
        text = _("%d VMs run on the node.") % running if running > 1 else _("A VM runs on the node.")
        found.append(
            Reason(
                "node_has_running_vms",
                text,
                _("Choose to move or to stop VMs (vm_policy), or do it yourself."),
            )
        )
    if kind == DRAIN and options.may_migrate and world.takes_vms and not world.others:
        found.append(
            Reason(
                "last_eligible_node",
                _("No other compute or hybrid node is enabled and online that could take over."),
                _("Enable or add another compute or hybrid node, or disable the node without draining it."),
            )
        )
    return tuple(found)


def _losses(world: World, decisions: tuple[VmDecision, ...]) -> tuple[str, ...]:
    transient = {vm.uuid for vm in world.vms if vm.persistent is False}
    return tuple(
        _("The VM “%s” is transient: when it stops, its definition is lost.") % vm.vm_name
        for vm in decisions
        if vm.action == Action.STOP and vm.vm_uuid in transient
    )


def _notes(kind: str, options: Options) -> tuple[str, ...]:
    if kind != DELETE:
        return ()
    if options.remove_key:
        return (
            _(
                "nodeadmin's own key is removed from authorized_keys on the host if the host answers. The "
                "node's credential and inventory are deleted; events stay."
            ),
        )
    return (_("The host is left as it is. The node's credential and inventory are deleted; events stay."),)


# -- where the VMs cannot be seen ------------------------------------------------------------------


def _unseen(world: World, plan: Plan, options: Options) -> Plan:
    """The plan where the VMs' states are unknown: blocked, unless that was accepted."""
    fault = world.fault or world.libvirt_fault
    if fault is None:
        return plan
    libvirt_alone = world.fault is None
    if plan.kind in (REBOOT, SHUTDOWN) and libvirt_alone and options.accept_unknown_vms:
        note = _("The VMs' states are unknown (%s). Those that run go down with the host.") % fault.message
        return replace(
            plan,
            decisions=tuple(_unknown(vm, Action.LEAVE) for vm in world.vms),
            losses=(_("What the VMs on this host have not written to disk is lost."),),
            notes=(*plan.notes, note, *node_notes(world, plan.kind)),
        )
    if plan.kind == DELETE and options.force:
        return replace(
            plan,
            decisions=tuple(_unknown(vm, Action.LEAVE) for vm in world.vms),
            losses=(*_lost_with_the_node(world), *lost_marks(world, plan.kind)),
            notes=(*plan.notes, fault.message, *_notes(DELETE, options)),
        )
    return replace(
        plan,
        decisions=tuple(_unknown(vm, Action.BLOCKED) for vm in world.vms),
        blockers=(_why_unseen(plan.kind, fault, libvirt_alone),),
    )


def _unknown(vm: PlannedVm, action: Action) -> VmDecision:
    remedy = _("See what stands in the way of the node as a whole.")
    reason = Reason("vm_state_unknown", _("Its state cannot be read now."), remedy)
    return VmDecision(
        vm_uuid=vm.uuid,
        vm_name=vm.name,
        state=None,
        action=action,
        blockers=(reason,) if action == Action.BLOCKED else (),
        notes=vm.notes,
        memory_bytes=vm.memory_bytes,
        vcpus=vm.vcpus,
    )


def _lost_with_the_node(world: World) -> tuple[str, ...]:
    vms = ", ".join(vm.name for vm in world.vms[:20])
    more = len(world.vms) - 20
    listed = f"{vms} …" if more > 0 else vms
    found = [_("Nobody can see whether VMs still run on the host, and nothing is moved off it.")]
    if world.vms:
        found.append(
            _("Last known on it were %(count)d VMs: %(names)s.") % {"count": len(world.vms), "names": listed}
        )
    return tuple(found)


def _why_unseen(kind: str, fault: Reason, libvirt_alone: bool) -> Reason:
    if kind == DELETE:
        remedy = _("If the host is gone for good, say so (force): the plan then names what is lost.")
        return Reason("vm_state_unknown" if libvirt_alone else fault.code, fault.message, remedy)
    if kind in (REBOOT, SHUTDOWN) and libvirt_alone:
        remedy = _("Start libvirt on the host, or choose to go on all the same (accept_unknown_vms).")
        return Reason("vm_state_unknown", fault.message, remedy)
    return fault
