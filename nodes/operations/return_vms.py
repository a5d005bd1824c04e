"""enable-node with return_vms: the VMs that a drain moved away come back."""

from __future__ import annotations

from collections.abc import Sequence

from django.utils.translation import gettext as _

from nodes.models import Operation
from nodes.operations.base import JsonObject, PlannedKind, Run, StepPlan
from nodes.operations.plan_run import PlanRun, check_step
from nodes.operations.plans import Plan
from nodes.operations.run.autostart import put_back_owed
from nodes.operations.scheduling import uncordon
from nodes.operations.vm_steps import vm_code, vm_step_plans
from nodes.permissions import MAINTAIN


class EnableNode(PlannedKind):
    """The node is enabled first, for a node in maintenance takes no VMs, not even its own."""

    kind = "enable-node"
    permission = MAINTAIN

    def title(self, operation: Operation) -> str:
        return _("Bring back the VMs of %s") % operation.node_name

    def steps_of(self, plan: Plan, params: JsonObject) -> Sequence[StepPlan]:
        return (check_step(), StepPlan("uncordon", _("Leave maintenance")), *vm_step_plans(plan))

    def execute(self, run: Run) -> JsonObject:
        work = PlanRun(run)
        work.check()
        if not work.done("uncordon"):
            with run.step("uncordon") as step, run.fenced():
                if not uncordon(work.node, actor=run.actor, operation=run.operation):
                    step.skip(_("The node is enabled already."))
        put_back_owed(run, work.node)
        work.deal_with_vms(go_on=True, empties=False)
        returned: list[str] = []
        left: list[str] = []
        for vm in work.plan.decisions:
            moved = run.data_of(vm_code(vm)).get("result") == "moved"
            (returned if moved else left).append(vm.vm_name)
        return {"returned": returned, "left": left}
