"""What libvirt starts by itself once the host is up again, VM by VM. Pure."""

from __future__ import annotations

from dataclasses import replace

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from nodes.operations.options import DELETE, REBOOT, RETURN, SHUTDOWN, Options
from nodes.operations.plans import Action, VmDecision
from nodes.operations.world import PlannedVm, World

POWER_KINDS = (REBOOT, SHUTDOWN)
GUESTS_SERVICE = "libvirt-guests"


def with_autostart(row: VmDecision, vm: PlannedVm, world: World, kind: str, options: Options) -> VmDecision:
    """The decision with whether the VM has autostart, and whether that is held.

    A mark that nodeadmin holds already counts as the VM's own: its owner has set it.
    """
    held = row.vm_uuid in world.held_autostart
    row = replace(row, autostart=True if held else vm.autostart)
    if kind not in POWER_KINDS or row.action == Action.MIGRATE:
        return row
    hold = row.autostart is True and holds(world, kind, options)
    note = _note(row, world, kind, hold=hold)
    return replace(row, hold_autostart=hold, notes=(*row.notes, note) if note else row.notes)


def holds(world: World, kind: str, options: Options) -> bool:
    """Whether autostart is held: as was asked for, else where the node stays in maintenance afterwards."""
    if options.hold_autostart is not None:
        return options.hold_autostart
    return kind == SHUTDOWN or world.in_maintenance


def _note(row: VmDecision, world: World, kind: str, *, hold: bool) -> str:
    if row.autostart is None:
        return _("Whether it has autostart could not be read; if it has, libvirt starts it with the host.")
    if not row.autostart:
        return ""
    if hold:
        return _("Autostart is held: it does not start with the host, until the node leaves maintenance.")
    if kind == REBOOT and not world.in_maintenance:
        return _("It has autostart: libvirt starts it once the host is up again.")
    return _("It has autostart: libvirt starts it once the host is up again, also in maintenance.")


def node_notes(world: World, kind: str) -> tuple[str, ...]:
    """What the plan says of the node as a whole."""
    found = []
    if kind in POWER_KINDS and world.starts_guests:
        found.append(
            _(
                "%s is enabled on the host with ON_BOOT=start: VMs that still run when the host goes down "
                "are started at boot, also in maintenance. nodeadmin does not change that."
            )
            % GUESTS_SERVICE
        )
    if kind in POWER_KINDS and world.starts_guests is None:
        found.append(_("Whether %s starts VMs at boot could not be read from the host.") % GUESTS_SERVICE)
    if kind in POWER_KINDS and not world.vms_known:
        found.append(
            _(
                "Autostart can be neither read nor held while libvirt does not answer: VMs that have it "
                "start with the host."
            )
        )
    if kind in (RETURN, DELETE) and world.held_autostart:
        count = len(world.held_autostart)
        text = ngettext(
            "The autostart of %d VM, which is held, is put back.",
            "The autostart of %d VMs, which is held, is put back.",
            count,
        )
        found.append(text % count)
    return tuple(found)


def lost_marks(world: World, kind: str) -> tuple[str, ...]:
    """The marks that are lost with a node that is deleted without asking its host."""
    if kind != DELETE or not world.held_autostart:
        return ()
    words = _("The autostart of these VMs is held, and stays switched off on the host: %s.")
    return (words % ", ".join(sorted(world.held_autostart.values())),)
