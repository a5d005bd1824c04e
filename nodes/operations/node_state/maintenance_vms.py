"""VMs that run on a node in maintenance though nobody meant it: noticed by each inventory, told once.

What runs there when the first inventory of a maintenance comes is taken as meant, for disable-node leaves
VMs where they are. Operations that know better say so: what a drain leaves, and what is to run once the host
is up again. A VM that has ended and runs again is told again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.utils.translation import gettext as _

from nodes.inventory.build import Inventory
from nodes.inventory.domain_states import is_active
from nodes.inventory.summary import SummaryFacts
from nodes.inventory.vms import VmsFacts
from nodes.models import MaintenanceBaseline, Node, Operation, Scheduling
from nodes.models.event import Severity
from nodes.operations.node_state.floods import record_of_host
from nodes.operations.plans import Action, VmDecision

if TYPE_CHECKING:
    from nodes.operations.plan_run import PlanRun


@dataclass(frozen=True, slots=True)
class Baseline:
    """What :class:`MaintenanceBaseline` keeps."""

    vms: Mapping[str, bool]
    boot_id: str = ""
    before_boot_id: str = ""


def judge(known: Baseline | None, boot_id: str, active: Iterable[str]) -> tuple[Baseline, tuple[str, ...]]:
    """The baseline after an inventory that shows the boot ``boot_id`` ("" where unknown) and the VMs
    ``active``, and those of them that nobody meant to run."""
    running = frozenset(active)
    if known is None:
        return Baseline(dict.fromkeys(sorted(running), True), boot_id), ()
    if known.before_boot_id and boot_id in ("", known.before_boot_id):
        return known, ()
    expected = known.vms
    if not known.before_boot_id and known.boot_id and boot_id not in ("", known.boot_id):
        # The host was restarted by somebody else. What ran has ended, and whatever runs was started anew.
        expected = {}
    kept = {uuid: False for uuid, seen in expected.items() if uuid not in running and not seen}
    found = Baseline(kept | dict.fromkeys(sorted(running), True), boot_id or known.boot_id)
    return found, tuple(sorted(running - expected.keys()))


def note_running(node: Node, inventory: Inventory, *, operation: Operation | None = None) -> None:
    """Compare an inventory of a node in maintenance with what is meant to run on it, and tell the rest.

    Within the transaction that stores the inventory. Where libvirt gave no list, nothing is concluded.
    """
    active = _active(inventory)
    scheduling = Node.objects.filter(pk=node.pk).values_list("scheduling", flat=True).first()
    if active is None or scheduling != Scheduling.MAINTENANCE:
        return
    row = MaintenanceBaseline.objects.filter(pk=node.pk).first()
    known = Baseline(row.vms, row.boot_id, row.before_boot_id) if row is not None else None
    found, unmeant = judge(known, _boot_id(inventory), active)
    if found != known:
        _keep(node, found)
    for uuid in unmeant:
        record_of_host(
            "vm_runs_in_maintenance",
            _("%(vm)s runs on %(node)s, which is in maintenance; nodeadmin did not start it there.")
            % {"vm": active[uuid], "node": node.name},
            node=node,
            operation=operation,
            severity=Severity.WARNING,
            data={"vm": active[uuid], "vm_uuid": uuid},
        )


def expect_left(work: PlanRun) -> None:
    """After a drain: what was left as planned is meant to run, and nothing else."""
    left = [vm for vm in work.plan.of(Action.LEAVE) if is_active(vm.state)]
    _keep(work.node, Baseline(_unseen(left), work.plan.boot_id or ""))


def expect_after_boot(work: PlanRun) -> None:
    """Before a power command: what the plan says runs once the host is up again is meant to."""
    if not work.plan.vms_known:
        with work.run.fenced():
            forget(work.node)
        return
    coming = [
        vm
        for vm in work.plan.decisions
        if vm.restart or (vm.action != Action.MIGRATE and vm.autostart is not False and not vm.hold_autostart)
    ]
    boot_id = str(work.run.data_of("intent").get("boot_id", ""))
    with work.run.fenced():
        _keep(work.node, Baseline(_unseen(coming), before_boot_id=boot_id))


def expect_started(node: Node, vm_uuid: str) -> None:
    """Right before an operation starts a VM, within a transaction: that it runs then surprises nobody, though
    an inventory has seen it off."""
    row = MaintenanceBaseline.objects.select_for_update().filter(pk=node.pk).first()
    if row is not None and vm_uuid not in row.vms:
        row.vms = {**row.vms, vm_uuid: False}
        row.save(update_fields=["vms"])


def forget(node: Node) -> None:
    """What is meant to run is not known (any more): the next inventory shows it."""
    MaintenanceBaseline.objects.filter(pk=node.pk).delete()


def _keep(node: Node, found: Baseline) -> None:
    MaintenanceBaseline.objects.update_or_create(
        node=node,
        defaults={
            "vms": dict(found.vms),
            "boot_id": found.boot_id,
            "before_boot_id": found.before_boot_id,
        },
    )


def _unseen(vms: Iterable[VmDecision]) -> dict[str, bool]:
    return {vm.vm_uuid: False for vm in vms}


def _active(inventory: Inventory) -> dict[str, str] | None:
    """Names of the active VMs by UUID; None where libvirt gave no list."""
    result = inventory.results.get("vms")
    facts = result.facts if result is not None else None
    if not isinstance(facts, VmsFacts) or facts.total is None:
        return None
    return {vm.uuid: vm.name for vm in facts.vms if vm.active}


def _boot_id(inventory: Inventory) -> str:
    result = inventory.results.get("summary")
    facts = result.facts if result is not None else None
    return (facts.system.boot_id or "") if isinstance(facts, SummaryFacts) else ""
