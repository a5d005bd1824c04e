"""reboot-node: no VM is hurt, the boot ID proves it, and what was stopped for it comes back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from django.utils.translation import gettext as _

from nodes import access
from nodes.errors import HostError, HostStayedUp, PermissionDenied, VmStepsFailed
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
from nodes.operations.connection_state import note_back
from nodes.operations.maintenance import enter_maintenance, maintenance_step, was_enabled
from nodes.operations.node_state.maintenance_vms import expect_after_boot, note_running
from nodes.operations.plan_run import PlanRun, check_step
from nodes.operations.plans import Plan
from nodes.operations.power_steps import REBOOT, PowerCommand, PowerSteps
from nodes.operations.run import autostart
from nodes.operations.run.way_back import WayBack
from nodes.operations.scheduling import uncordon
from nodes.operations.snapshots import store_snapshot, take_inventory
from nodes.operations.vm_steps import start_step_plans, vm_step_plans
from nodes.permissions import POWER

CHANGES_SHOWN = 100


class RebootNode(PlannedKind):
    """A failure or a cancel before the command is carried out puts everything back as it was. A node that
    comes back in bad health stays in maintenance.
    """

    kind = "reboot-node"
    permission = POWER

    def title(self, operation: Operation) -> str:
        return _("Reboot %s") % operation.node_name

    def steps_of(self, plan: Plan, params: JsonObject) -> Sequence[StepPlan]:
        return (
            check_step(),
            maintenance_step(),
            *autostart.hold_steps(plan),
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
        wait_for(work, power, lambda: self._wait(power))
        problems = self._inventory(work)
        problems += work.start_again()
        self._uncordon(work, healthy=not problems)
        autostart.put_back_owed(run, work.node)
        if problems:
            raise VmStepsFailed(
                _("The host has been rebooted, but: %s") % "; ".join(problems),
                remedy=_("The node stays in maintenance. Put right what failed, and enable it."),
                extra={"problems": problems},
            )
        return self._result(run)

    def denied(self, run: Run) -> bool:
        return owes(run)

    def _wait(self, power: PowerSteps) -> None:
        """Until the host is back. Only this may be cancelled after the command: what follows is owed."""
        try:
            power.gone()
            power.back()
        except OperationCancelled:
            raise power.let_go() from None

    def _inventory(self, work: PlanRun) -> list[str]:
        """Keep what the host is now, with what the reboot has changed; gives what went wrong."""
        if work.done("inventory"):
            return []
        try:
            with work.run.step("inventory", even_cancelled=True) as step:
                connection = access.connect(access.target_for(work.node))
                taken = take_inventory(connection, access.last_good(work.node), work.node)
                with work.run.fenced():
                    snapshot, changes = store_snapshot(work.node, taken)
                    note_running(work.node, taken.inventory, operation=work.run.operation)
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
    """All that comes before the power command, and the command. Where that was not carried out, everything is
    put back as it was."""
    back = WayBack(work)
    if back.begun:
        raise back.finish()
    try:
        if not power.sent:
            work.check()
            enter_maintenance(work, reason)
            autostart.hold(work)
            work.deal_with_vms(go_on=False)
            power.intent()
            autostart.ensure_held(work)
            expect_after_boot(work)
        power.command(command)
    except (ClaimLost, *DATABASE_AWAY):
        raise
    except Exception as error:
        if not power.sent:
            raise back.go(error) from error
        if isinstance(error, OperationCancelled):
            raise power.let_go() from None
        if isinstance(error, HostError):
            _name_left_off(work, error)
        raise


def wait_for(work: PlanRun, power: PowerSteps, wait: Callable[[], None]) -> None:
    """Wait for what the command is to bring about. A host that has proved to go on running has not carried it
    out: then everything is put back. Of another that fails, the VMs that stay off are named."""
    try:
        wait()
    except HostError as error:
        if isinstance(error, HostStayedUp) and power.is_going_on():
            with work.run.fenced():
                note_back(work.node)  # it counted as away since it was told to go
            raise WayBack(work).go(error) from error
        _name_left_off(work, error)
        raise


def _name_left_off(work: PlanRun, error: HostError) -> None:
    """Of a host that was told to go down and of which nothing more is known: what became of its VMs."""
    owed = ", ".join(vm.vm_name for vm in work.stopped_here())
    if owed:
        work.run.log(_("These VMs were stopped for the reboot, and stay off: %s.") % owed, "warning")
    error.extra["vms"] = [vm.to_dict() for vm in WayBack(work).outcomes()]


def owes(run: Run) -> bool:
    """Whether a power operation goes on though a resume finds the rights withdrawn from who asked for it.

    It does once its command was sent, or it is on its way back. Where neither, it turns back now, and raises
    why.
    """
    if run.operation.node is None:
        return False
    work = PlanRun(run)
    back = WayBack(work)
    if back.begun or PowerSteps(work).sent:
        return True
    words = _("The permission for this was revoked while the operation was interrupted.")
    raise back.go(PermissionDenied(words))
