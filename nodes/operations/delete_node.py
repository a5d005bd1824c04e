"""delete-node: nodeadmin lets go of a host, whose VMs move away first where that was asked for."""

from __future__ import annotations

from collections.abc import Sequence

from django.utils.translation import gettext as _

from nodes import access
from nodes.errors import AutostartHeld, NodeBusy
from nodes.events import NodeChanged, publish, record
from nodes.models import Node, Operation, StepStatus
from nodes.models.event import Severity
from nodes.operations.base import JsonObject, PlannedKind, Run, StepPlan, removed
from nodes.operations.plan_run import PlanRun, check_step
from nodes.operations.plans import Plan
from nodes.operations.run.autostart import put_back_all
from nodes.operations.scheduling import cordon
from nodes.operations.slots import in_use
from nodes.operations.vm_steps import vm_step_plans
from nodes.permissions import DELETE


class DeleteNode(PlannedKind):
    """The host is left as it is. One that is gone for good, as ``force`` says and the plan has found, is not
    even asked.

    The node's row goes with its credential, BMC and inventories; events and operations stay, by name.
    """

    kind = "delete-node"
    permission = DELETE
    removes_node = True

    def title(self, operation: Operation) -> str:
        return _("Delete %s") % operation.node_name

    def steps_of(self, plan: Plan, params: JsonObject) -> Sequence[StepPlan]:
        vms = vm_step_plans(plan)
        # Otherwise VMs could come while others go.
        first = (StepPlan("cordon", _("Enter maintenance")),) if vms else ()
        return (check_step(), *first, *vms, StepPlan("remove", _("Remove the node")))

    def execute(self, run: Run) -> JsonObject:
        if run.operation.node is None:
            return self._removed_before(run)
        work = PlanRun(run)
        forced = work.options.force and not work.plan.vms_known
        if forced:
            with run.step("check") as step:
                step.skip(_("The host is gone, and is not asked."))
        else:
            work.check()
        if run.status_of("cordon") and not work.done("cordon"):
            with run.step("cordon"), run.fenced():
                reason = _("Is being deleted")
                cordon(work.node, reason=reason, actor=run.actor, operation=run.operation)
        work.deal_with_vms(go_on=False, empties=not forced)
        if not forced:
            self._put_autostart_back(work)
        with run.step("remove"):
            if not forced:
                work.ensure_empty()
            self._remove(run, work.node, forced=forced)
        return {"node": run.operation.node_name}

    def _put_autostart_back(self, work: PlanRun) -> None:
        """Raise where that fails: once the node is gone, nobody knows of what is held on its host."""
        left = put_back_all(work.run, work.node)
        if left:
            raise AutostartHeld(
                _("The held autostart of these VMs could not be put back: %s. The node is not removed.")
                % ", ".join(left),
                remedy=_("See that libvirt on the host answers, and try again."),
                extra={"vms": left},
            )

    def _remove(self, run: Run, node: Node, *, forced: bool) -> None:
        key = str(node.uuid)
        with run.fenced():
            record(
                "node_removed",
                _("%s was removed without asking its host.") % node.name
                if forced
                else _("%s was removed; its host was left as it is.") % node.name,
                node_name=node.name,
                actor=run.actor,
                operation=run.operation,
                severity=Severity.WARNING,
                data={"uuid": key, "uri": node.uri, "forced": forced},
            )
            busy = in_use(node)
            _count, gone = Node.objects.filter(pk=node.pk).delete()
            # Counted again: a place that was taken in between goes with the node.
            if (busy or gone.get("nodes.MigrationSlot")) and not forced:
                raise NodeBusy(
                    _("A VM is on its way to this node or off it, by another operation."),
                    remedy=_("Wait for it to end, and try again."),
                )
            run.operation.node = None
            publish(NodeChanged(key, node.name))
        access.pool().drop_node(key)

    def _removed_before(self, run: Run) -> JsonObject:
        """The process died after the commit that removed the node; what was left to do is little."""
        if run.status_of("remove") not in (StepStatus.RUNNING, StepStatus.SUCCEEDED):
            raise removed()
        with run.step("remove", even_cancelled=True):
            access.pool().drop_node(run.operation.plan["node_uuid"] if run.operation.plan else "")
        return {"node": run.operation.node_name}
