"""Autostart that is held while a node is in maintenance: taken off its VMs, and put back.

A mark is on record before it is taken off, and leaves the record only once libvirt has it again. A process
that dies anywhere in between leaves a row that says what is owed. Doing any of this twice is harmless.

    held (due_at NULL) ──▶ due (the node left maintenance, or its operation failed) ──▶ back (no row)

What is due and cannot be put back, because the host is away, stays due: the next refresh of the node that
reaches its libvirt puts it back.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import timedelta
from typing import TYPE_CHECKING

from django.conf import settings
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from nodes.errors import HostError
from nodes.events import record
from nodes.hosts import power
from nodes.hosts.connection import HostConnection
from nodes.hosts.hypervisor import Hypervisor
from nodes.hosts.libvirt.autostart import marked_vms, set_autostart
from nodes.models import HeldAutostart, Node, Operation, StepStatus
from nodes.models.autostart import HeldAutostartQuerySet
from nodes.models.event import Severity
from nodes.operations.base import Run, StepPlan
from nodes.operations.plans import Action, Plan, VmDecision
from nodes.operations.vm_steps import hypervisor_of, vm_code

if TYPE_CHECKING:
    from nodes.operations.plan_run import PlanRun

HOLD = "autostart"
PUT_BACK = "autostart-back"


# -- taking it off ---------------------------------------------------------------------------------


def hold_steps(plan: Plan) -> tuple[StepPlan, ...]:
    """The step in which the autostart of VMs is held, where the plan has any such VM."""
    count = sum(vm.hold_autostart for vm in plan.decisions)
    title = ngettext("Hold the autostart of %d VM", "Hold the autostart of %d VMs", count)
    return (StepPlan(HOLD, title % count),) if count else ()


def hold(work: PlanRun) -> None:
    """The step that takes autostart off the VMs for which that was confirmed. Raises HostError."""
    if not work.run.status_of(HOLD) or work.done(HOLD):
        return
    with work.run.step(HOLD) as step:
        names = _hold(work, lambda words: step.report(words))
        if not names:
            step.skip(_("No VM has autostart any more."))


def ensure_held(work: PlanRun) -> None:
    """Right before the power command: hold what has come back since, by its owner or by a failure from which
    the operation was resumed. Raises HostError."""
    if work.run.status_of(HOLD):
        _hold(work, lambda words: work.run.log(words, step_code=HOLD))


def _hold(work: PlanRun, tell: Callable[[str], None]) -> list[str]:
    """Hold what is not held; gives the names of all that are."""
    wanted = {vm.vm_uuid: vm for vm in work.plan.decisions if vm.hold_autostart}
    hypervisor = hypervisor_of(work.node)
    marks = marked_vms(hypervisor)
    rows = {str(row.vm_uuid): row for row in HeldAutostart.objects.filter(node=work.node)}
    on = [vm for uuid, vm in wanted.items() if marks.get(uuid)]
    owed = [vm for uuid, vm in wanted.items() if uuid in rows and rows[uuid].due_at is not None]
    taken = {vm.vm_uuid: vm for vm in (*on, *owed)}
    if taken:
        with work.run.fenced():
            _write_down(work, taken.values(), rows)
        # On record before it is done: a resume, or whoever ends the operation, knows what is owed.
        tell(_("Autostart is held: %s.") % _names(taken.values()))
        for uuid in taken:
            set_autostart(hypervisor, uuid, False)
        _set_what_is_held_no_more(work.node, hypervisor, taken)
    return [vm.vm_name for uuid, vm in wanted.items() if uuid in taken or uuid in rows]


def _set_what_is_held_no_more(node: Node, hypervisor: Hypervisor, vm_uuids: Collection[str]) -> None:
    """A run that stood still took marks off which whoever has taken its operation over had put back."""
    rows = HeldAutostart.objects.filter(node=node, due_at=None)
    held = {str(uuid) for uuid in rows.values_list("vm_uuid", flat=True)}
    for uuid in vm_uuids:
        if uuid not in held:
            set_autostart(hypervisor, uuid, True)


def _write_down(work: PlanRun, vms: Collection[VmDecision], known: dict[str, HeldAutostart]) -> None:
    """A row for each. The event is of those that were not held before."""
    operation = work.run.operation
    for vm in vms:
        HeldAutostart.objects.update_or_create(
            node=work.node,
            vm_uuid=vm.vm_uuid,
            defaults={"vm_name": vm.vm_name, "operation": operation, "due_at": None},
        )
    fresh = [vm for vm in vms if vm.vm_uuid not in known]
    if fresh:
        record(
            "autostart_held",
            _("%(node)s: autostart is held while the node is in maintenance: %(vms)s.")
            % {"node": work.node.name, "vms": _names(fresh)},
            node=work.node,
            actor=work.run.actor,
            operation=operation,
            data={"vms": [{"uuid": vm.vm_uuid, "name": vm.vm_name} for vm in fresh]},
        )


# -- putting it back -------------------------------------------------------------------------------


def give_back(work: PlanRun) -> None:
    """Put back what this operation holds, which comes to nothing. What cannot be put back now stays due."""
    _put_back(work.run, work.node, HeldAutostart.objects.filter(operation=work.run.operation))


def put_back_owed(run: Run, node: Node) -> None:
    """Put back what is due on the node: all that was held, where it has just left maintenance."""
    _put_back(run, node, HeldAutostart.objects.filter(node=node).exclude(due_at=None))


def put_back_all(run: Run, node: Node) -> list[str]:
    """Put back all that is held on the node; gives the VMs for which that has to wait for libvirt."""
    return _put_back(run, node, HeldAutostart.objects.filter(node=node))


def _put_back(run: Run, node: Node, rows: HeldAutostartQuerySet) -> list[str]:
    if not rows.exists() and run.status_of(PUT_BACK) != StepStatus.RUNNING:
        return []
    with run.fenced():
        rows.release()
    run.add_steps((StepPlan(PUT_BACK, _("Put autostart back")),))
    try:
        with run.step(PUT_BACK, even_cancelled=True) as step:
            # None are left where an earlier run died between the last of them and the end of its step.
            back = _restore(run, hypervisor_of(node), rows) if rows.exists() else []
            words = _("Autostart is back: %s.") % ", ".join(back)
            step.report(words if back else _("Nothing is left to be put back."))
    except HostError as error:
        names = list(rows.values_list("vm_name", flat=True))
        words = _("Autostart stays held until libvirt on the host answers: %(vms)s. (%(why)s)")
        run.log(words % {"vms": ", ".join(names), "why": error.message}, "warning", step_code=PUT_BACK)
        return names
    return []


def put_back_due(run: Run, node: Node, connection: HostConnection) -> None:
    """Put back what is due on a host that answers: what could not be put back when it became due.

    On a host that is on its way down it waits: its next boot would start the VMs. A failure is a line of the
    log, for it is tried again with the next refresh.
    """
    rows = HeldAutostart.objects.filter(node=node).due()
    if not rows.exists():
        return
    try:
        if connection.has_shell and power.is_stopping(connection.shell) is True:
            return
        back = _restore(run, connection.hypervisor(), rows)
    except HostError as error:
        run.log(_("Autostart could not be put back: %s") % error.message, "warning")
        return
    if back:
        run.log(_("Autostart is back: %s.") % ", ".join(back))


def _restore(run: Run, hypervisor: Hypervisor, rows: HeldAutostartQuerySet) -> list[str]:
    """Set each mark, and then let go of its row; gives the VMs that have it again. Raises HostError."""
    back: list[str] = []
    for row in list(rows.select_related("node")):
        uuid = str(row.vm_uuid)
        there, gone = set_autostart(hypervisor, uuid, True), 0
        try:
            with run.fenced():
                # As it was read: it may be held again by now, or have followed its VM to another node.
                mine = HeldAutostart.objects.filter(pk=row.pk, node=row.node_id)
                gone, _rows = mine.exclude(due_at=None).delete()
                if gone:
                    _record_end(run, row, there)
        finally:
            if not gone and HeldAutostart.objects.filter(pk=row.pk, due_at=None).exists():
                # Another operation has begun to hold it meanwhile, and may have taken it off before we set
                # it, also where this one is ours no more.
                set_autostart(hypervisor, uuid, False)
        if gone and there:
            back.append(row.vm_name)
    return back


def _record_end(run: Run, row: HeldAutostart, there: bool) -> None:
    words = _("%(node)s: the autostart of %(vm)s is back.")
    if not there:
        words = _("%(node)s no longer defines %(vm)s: its autostart, which was held, is not put back.")
    record(
        "autostart_put_back" if there else "autostart_not_put_back",
        words % {"node": row.node.name, "vm": row.vm_name},
        node=row.node,
        actor=run.actor,
        operation=run.operation,
        severity=Severity.INFO if there else Severity.WARNING,
        data={"vms": [{"uuid": str(row.vm_uuid), "name": row.vm_name}]},
    )


# -- VMs that move, and operations that end --------------------------------------------------------


def follow(run: Run, plan: Plan) -> None:
    """The held marks of VMs that have moved go with them, and are put back there at once: the target is not
    in maintenance. Where its libvirt does not take them, they are due there."""
    for row, vm, target in _left_behind(run.operation, plan):
        with run.fenced():
            _hand_over(row, target)
        try:
            _restore(run, hypervisor_of(target), HeldAutostart.objects.filter(pk=row.pk))
        except HostError as error:
            words = _("The autostart of %(vm)s is not back yet on %(node)s: %(why)s")
            told = {"vm": row.vm_name, "node": target.name, "why": error.message}
            run.log(words % told, "warning", step_code=vm_code(vm))


def hand_over_moved(operation: Operation) -> tuple[Node, ...]:
    """Within the transaction that ends a failed or cancelled operation: the held marks of VMs that it has
    moved are due where the VMs are now; gives these nodes. Left behind they would be given up when the node
    that the VMs have left is enabled, as its host no longer defines them."""
    if operation.plan is None:
        return ()
    targets: dict[int, Node] = {}
    for row, _vm, target in _left_behind(operation, Plan.from_dict(operation.plan)):
        _hand_over(row, target)
        targets[target.pk] = target
    return tuple(targets.values())


def _left_behind(operation: Operation, plan: Plan) -> list[tuple[HeldAutostart, VmDecision, Node]]:
    """The marks that are held on a node which their VM has left by the operation, and where it is now."""
    moves = {vm.vm_uuid: vm for vm in plan.of(Action.MIGRATE)}
    found = []
    for row in HeldAutostart.objects.filter(vm_uuid__in=moves).select_related("node") if moves else ():
        vm = moves[str(row.vm_uuid)]
        if str(row.node.uuid) != (vm.source_uuid or plan.node_uuid):
            continue  # another VM that has the same UUID, or one whose mark has followed it
        data = operation.steps.filter(code=vm_code(vm)).values_list("data", flat=True).first() or {}
        target = Node.objects.filter(uuid=vm.target_uuid).first()
        if data.get("result") == "moved" and target is not None:
            found.append((row, vm, target))
    return found


def _hand_over(row: HeldAutostart, target: Node) -> None:
    HeldAutostart.objects.filter(node=target, vm_uuid=row.vm_uuid).delete()
    HeldAutostart.objects.filter(pk=row.pk).update(node=target, due_at=timezone.now())


def release_held_by(operation: Operation, *, going_down: bool) -> bool:
    """Within the transaction that ends a failed or cancelled operation: what it holds is to be put back.

    A host that has been told to go down gets the time for that: put back before its boot, the
    marks would start the VMs. True where something can be put back now.
    """
    rows = HeldAutostart.objects.filter(operation=operation.pk)
    if not rows.exists():
        return False
    if not going_down:
        rows.release()
        return True
    later = timezone.now() + timedelta(seconds=settings.NODEADMIN_POWER_OFF_S)
    rows.filter(due_at=None).update(due_at=later)
    return False


def _names(vms: Collection[VmDecision]) -> str:
    return ", ".join(vm.vm_name for vm in vms)
