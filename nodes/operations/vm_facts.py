"""One VM as libvirt describes it, turned into what a plan needs: what holds it, what it takes."""

from __future__ import annotations

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from nodes.hosts.domains import DomainFacts
from nodes.inventory.domain_devices import HostDevice
from nodes.operations.plan.held_storage import held_by_disks
from nodes.operations.plan.host_state import HostState
from nodes.operations.plan.libvirt_storage_check import files_unknown_to_libvirt
from nodes.operations.plan.vm_needs import demands_of, huge_page_bytes
from nodes.operations.plan.vm_shape import VmShape
from nodes.operations.plan.vm_state import VmState
from nodes.operations.plans import Reason
from nodes.operations.world import PlannedVm, Reasons


def planned_vm(vm: VmState, host: HostState, *, returns: bool = False) -> PlannedVm:
    """The VM of ``host`` for the plan; ``returns``: the plan is another node's, where it comes back to. Of
    one that is shut off nothing else is asked."""
    facts, root, xml = vm.facts, vm.element, vm.xml
    held: Reasons = ()
    notes: tuple[str, ...] = ()
    if facts.active:
        held, notes = _held(vm, host), _notes(facts)
    return PlannedVm(
        uuid=facts.uuid,
        name=facts.name,
        state=facts.state,
        active=facts.active,
        persistent=facts.persistent,
        autostart=facts.autostart,
        starts_anew=root is not None and root.findtext("on_poweroff") == "restart",
        memory_bytes=_known(facts.memory_max_bytes, xml.memory_max_bytes if xml else None),
        vcpus=_known(facts.vcpus, xml.vcpus_current if xml else None),
        huge_page_bytes=huge_page_bytes(vm),
        demands=demands_of(vm, host.resources.default_page_kib if host.resources is not None else None),
        busy=_busy(facts) if facts.active else (),
        held=held,
        notes=notes,
        skip_storage_check=facts.active and bool(files_unknown_to_libvirt(vm, host)),
        shape=VmShape.of(root) if facts.active and root is not None else VmShape(),
        source=host.name if returns else "",
        source_uuid=host.uuid if returns else "",
    )


def _known(told: int | None, written: int | None) -> int | None:
    """What libvirt tells of it now, else what its description has."""
    return written if told is None else told


def _busy(facts: DomainFacts) -> Reasons:
    """Reasons to let it alone: stopping or moving it now would break what is under way."""
    if facts.state is None:
        words = facts.problems[0] if facts.problems else ""
        text = _("Its state could not be read. %s") % words
        return (Reason("vm_state_unknown", text.strip(), _("Look at it on the host.")),)
    if facts.job in ("migration_out", "migration_in") or (facts.state, facts.reason) == (
        "paused",
        "migration",
    ):
        text = _("A migration of it is under way, or has been broken off.")
        return (Reason("migration_under_way", text, _("Wait for it to end, or abort it on the host.")),)
    if facts.job == "snapshot":
        return (Reason("snapshot_or_block_job", _("A snapshot of it is being taken."), _wait()),)
    if facts.job is not None:
        text = _("A job of libvirt's runs on it (%s).") % facts.job
        return (Reason("job_running", text, _wait()),)
    return ()


def _wait() -> str:
    return _("Wait for it to end.")


def _held(vm: VmState, host: HostState) -> Reasons:
    """Reasons that it cannot leave its host while it runs, whichever the target."""
    facts, root, xml = vm.facts, vm.element, vm.xml
    if root is None or xml is None:
        text = _("Its description could not be read.")
        return (Reason("vm_state_unknown", text, _("Look at it on the host.")),)
    found: list[Reason] = []
    if facts.state in ("crashed", "shutdown"):
        text = _("Its state is “%s”: only a VM that runs is migrated.") % facts.state
        found.append(Reason("vm_not_running", text, _("Stop it, or wait until it has ended.")))
    found += [_holds_device(device) for device in xml.host_devices if not device.missing]
    if any(interface.type == "vdpa" for interface in xml.interfaces) or xml.tpm == "passthrough":
        found.append(
            Reason("device_passthrough", _("It holds a vDPA interface or the host's TPM."), _detach())
        )
    found += held_by_disks(xml.disks, host)
    if root.find("devices/filesystem") is not None:
        text = _("It shares a folder of this host.")
        found.append(Reason("local_disk", text, _("Detach the folder, or stop the VM.")))
    if facts.snapshots:
        text = ngettext(
            "It has %d snapshot, and libvirt migrates no VM that has one.",
            "It has %d snapshots, and libvirt migrates no VM that has any.",
            facts.snapshots,
        )
        remedy = _("Delete its snapshots, or stop the VM.")
        found.append(Reason("snapshot_or_block_job", text % facts.snapshots, remedy))
    if facts.block_jobs:
        text = _("A block job runs on %s.") % ", ".join(facts.block_jobs)
        found.append(Reason("snapshot_or_block_job", text, _wait()))
    return tuple(found)


def _holds_device(device: HostDevice) -> Reason:
    where = device.address or ":".join(part for part in (device.vendor_id, device.product_id) if part)
    text = _("It holds a device of this host: %(kind)s %(where)s.") % {"kind": device.type, "where": where}
    return Reason("device_passthrough", text, _detach())


def _detach() -> str:
    return _("Detach the device, or stop the VM.")


def _notes(facts: DomainFacts) -> tuple[str, ...]:
    notes = list(facts.problems)
    if facts.state == "paused":
        notes.append(_("It is paused, and stays so where it is moved."))
    if facts.persistent is False:
        notes.append(_("It is transient: it exists only while it runs."))
    return tuple(notes)
