"""reboot-node: no VM is hurt, the boot ID proves it, and what was stopped for it comes back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from django.utils.translation import gettext as _

from nodes import access
from nodes.errors import HostError, VmStepsFailed
from nodes.models import Operation
from nodes.operations.base import (
    DATABASE_AWAY,
    ClaimLost,
    JsonObject,
    OperationCancelled,
    PlannedKind,
    Run,
    StepPlan,
)
from nodes.operations.maintenance import enter_maintenance, maintenance_step, was_enabled
from nodes.operations.plan_run import PlanRun, check_step
from nodes.operations.plans import Plan
from nodes.operations.power_steps import REBOOT, PowerCommand, PowerSteps
from nodes.operations.scheduling import uncordon
from nodes.operations.snapshots import store_snapshot, take_inventory
from nodes.operations.vm_steps import start_step_plans, vm_step_plans
from nodes.permissions import POWER

CHANGES_SHOWN = 100


class RebootNode(PlannedKind):
    """A failure or a cancel before the command starts the VMs again that were stopped for it and were to come
    back. The node then stays in maintenance, as it does where it comes back in bad health.
    """

    kind = "reboot-node"
    permission = POWER

    def title(self, operation: Operation) -> str:
        return _("Reboot %s") % operation.node_name

    def steps_of(self, plan: Plan, params: JsonObject) -> Sequence[StepPlan]:
        return (
            check_step(),
            maintenance_step(),
            *vm_step_plans(plan),
            StepPlan("intent", _("Look at the VMs and the boot ID")),
            StepPlan("command", _("Send the command to reboot")),
            StepPlan("gone", _("Wait until the host goes down")),
            StepPlan("back", _("Wait until the host is back")),
            StepPlan("inventory", _("Take the inventory")),
            *start_step_plans(plan),
            StepPlan("uncordon", _("Leave maintenance")),
        )

    def execute(self, run: Run) -> JsonObject:
        work = PlanRun(run)
        power = PowerSteps(work)
        empty_and_send(work, power, REBOOT, _("Is being rebooted"))
        self._wait(run, power)
        problems = self._inventory(work)
        problems += work.start_again()
        self._uncordon(work, healthy=not problems)
        if problems:
            raise VmStepsFailed(
                _("The host has been rebooted, but: %s") % "; ".join(problems),
                remedy=_("The node stays in maintenance. Put right what failed, and enable it."),
                extra={"problems": problems},
            )
        return self._result(run)

    def denied(self, run: Run) -> bool:
        if run.operation.node is None:
            return False
        work = PlanRun(run)
        if PowerSteps(work).sent:
            return True
        _give_back(work)
        return False

    def _wait(self, run: Run, power: PowerSteps) -> None:
        """Until the host is back. Only this may be cancelled after the command: what follows is owed."""
        try:
            power.gone()
            power.back()
        except OperationCancelled:
            raise power.let_go() from None
        except HostError:
            owed = ", ".join(vm.vm_name for vm in power.work.stopped_here())
            if owed:
                run.log(_("These VMs were stopped for the reboot, and stay off: %s.") % owed, "warning")
            raise

    def _inventory(self, work: PlanRun) -> list[str]:
        """Keep what the host is now, with what the reboot has changed; gives what went wrong."""
        if work.done("inventory"):
            return []
        try:
            with work.run.step("inventory", even_cancelled=True) as step:
                connection = access.connect(access.target_for(work.node))
                taken = take_inventory(connection, access.last_good(work.node))
                with work.run.fenced():
                    snapshot, changes = store_snapshot(work.node, taken)
                shown: list[dict[str, Any]] = [asdict(change) for change in changes[:CHANGES_SHOWN]]
                step.report(
                    _("%d changes since the last inventory.") % len(changes),
                    data={"snapshot": snapshot.pk, "changes": shown, "change_count": len(changes)},
                )
        except HostError as error:
            return [_("the inventory could not be taken: %s") % error.message]
        return []

    def _uncordon(self, work: PlanRun, *, healthy: bool) -> None:
        if work.done("uncordon"):
            return
        with work.run.step("uncordon", even_cancelled=True) as step, work.run.fenced():
            if not was_enabled(work):
                step.skip(_("It was in maintenance before."))
            elif not healthy:
                step.skip(_("It stays in maintenance: not everything came back."))
            else:
                uncordon(work.node, actor=work.run.actor, operation=work.run.operation)

    def _result(self, run: Run) -> JsonObject:
        back = run.data_of("back")
        return {
            "boot_id_before": back.get("boot_id_before"),
            "boot_id": back.get("boot_id"),
            "down_s": back.get("down_s"),
            "changes": run.data_of("inventory").get("change_count"),
        }


def empty_and_send(work: PlanRun, power: PowerSteps, command: PowerCommand, reason: str) -> None:
    """All that comes before the power command, and the command. Where that was not carried out, what was
    stopped for it is started again."""
    try:
        if not power.sent:
            work.check()
            enter_maintenance(work, reason)
            work.deal_with_vms(go_on=False)
            power.intent()
        power.command(command)
    except (ClaimLost, *DATABASE_AWAY):
        raise
    except Exception as error:
        if not power.sent:
            _give_back(work)
        elif isinstance(error, OperationCancelled):
            raise power.let_go() from None
        raise


def _give_back(work: PlanRun) -> None:
    """Start the VMs again that were to come back: the reboot that they were stopped for does not happen."""
    if not work.stopped_here():
        return
    work.run.log(_("There is no reboot: the VMs that were stopped for it are started again."), "warning")
    for problem in work.start_again():
        work.run.log(problem, "error")
