"""shutdown-node: no VM is hurt, and the host is called off only once that is proved."""

from __future__ import annotations

from collections.abc import Sequence

from django.utils.translation import gettext as _

from nodes.models import Operation
from nodes.operations.base import JsonObject, OperationCancelled, PlannedKind, Run, StepPlan
from nodes.operations.maintenance import maintenance_step
from nodes.operations.plan_run import PlanRun, check_step
from nodes.operations.plans import Plan
from nodes.operations.power_steps import POWER_OFF, PowerSteps
from nodes.operations.reboot import empty_and_send, owes, wait_for
from nodes.operations.run import autostart
from nodes.operations.vm_steps import vm_step_plans
from nodes.permissions import POWER


class ShutdownNode(PlannedKind):
    """The node stays in maintenance: somebody enables it once it is on again. A failure or a cancel before
    the command is carried out puts everything back as it was.
    """

    kind = "shutdown-node"
    permission = POWER

    def title(self, operation: Operation) -> str:
        return _("Shut down %s") % operation.node_name

    def steps_of(self, plan: Plan, params: JsonObject) -> Sequence[StepPlan]:
        return (
            check_step(),
            maintenance_step(),
            *autostart.hold_steps(plan),
            *vm_step_plans(plan),
            StepPlan("intent", _("Look at the VMs and the boot ID")),
            StepPlan("command", _("Send the command to shut down")),
            StepPlan("off", _("Make sure that the host is off")),
        )

    def execute(self, run: Run) -> JsonObject:
        work = PlanRun(run)
        power = PowerSteps(work)
        empty_and_send(work, power, POWER_OFF, _("Is being shut down"))
        wait_for(work, power, lambda: self._wait(power))
        return {name: run.data_of("off").get(name) for name in ("off", "accepted_at", "silent_s")}

    def denied(self, run: Run) -> bool:
        return owes(run)

    def _wait(self, power: PowerSteps) -> None:
        try:
            power.off()
        except OperationCancelled:
            raise power.let_go() from None
