"""The step that puts a node into maintenance for an operation, and remembers whether it was enabled."""

from __future__ import annotations

from django.utils.translation import gettext as _

from nodes.models import Node, Scheduling
from nodes.operations.base import StepPlan
from nodes.operations.plan_run import PlanRun
from nodes.operations.scheduling import cordon

CODE = "cordon"


def maintenance_step() -> StepPlan:
    return StepPlan(CODE, _("Enter maintenance"))


def enter_maintenance(work: PlanRun, reason: str) -> None:
    """Cordon the node, once; whether it was enabled is written in the same transaction."""
    run = work.run
    if work.done(CODE):
        return
    with run.step(CODE) as step:
        if "was_enabled" not in step.data:
            # Before the change: a run after a crash in between would take our own cordon for a person's.
            enabled = Node.objects.filter(pk=work.node.pk, scheduling=Scheduling.ENABLED).exists()
            step.report(_("Enters maintenance."), data={"was_enabled": enabled})
        with run.fenced():
            if not cordon(work.node, reason=reason, actor=run.actor, operation=run.operation):
                step.skip(_("It is in maintenance already."))


def was_enabled(work: PlanRun) -> bool:
    """Whether the node was enabled before the operation."""
    return bool(work.run.data_of(CODE).get("was_enabled"))
