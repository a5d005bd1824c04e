"""disable-node with drain: the node takes no new VMs, and those on it move away or stop."""

from __future__ import annotations

from collections.abc import Sequence

from django.utils.translation import gettext as _

from nodes.models import Operation
from nodes.operations.base import JsonObject, PlannedKind, Run, StepPlan
from nodes.operations.node_state.maintenance_vms import expect_left
from nodes.operations.plan_run import PlanRun, check_step
from nodes.operations.plans import Plan
from nodes.operations.scheduling import cordon
from nodes.operations.vm_steps import vm_step_plans
from nodes.permissions import MAINTAIN


class DisableNode(PlannedKind):
    """The cordon belongs to the call that asks for this; here it is only made sure of.

    A VM that cannot be moved does not keep the others from moving. The result names what was left on purpose.
    """

    kind = "disable-node"
    permission = MAINTAIN

    def title(self, operation: Operation) -> str:
        return _("Drain %s") % operation.node_name

    def steps_of(self, plan: Plan, params: JsonObject) -> Sequence[StepPlan]:
        return (check_step(), *vm_step_plans(plan), StepPlan("verify", _("Look at the node again")))

    def execute(self, run: Run) -> JsonObject:
        work = PlanRun(run)
        work.check()
        with run.fenced():
            cordon(work.node, reason=work.options.reason, actor=run.actor, operation=run.operation)
        work.deal_with_vms(go_on=True)
        with run.step("verify") as step:
            left = work.ensure_empty()
            with run.fenced():
                expect_left(work)
            step.report(_("Left as planned: %s.") % ", ".join(left) if left else _("No VM runs on it."))
        return {"left": left}
