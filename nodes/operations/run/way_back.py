"""The way back of an operation whose power command was not carried out: everything is put back as it was.

VMs that were stopped for it are started again, the node returns to the scheduling state that it had, and the
error tells VM by VM what became of each. Why it turns back is committed before anything is given back: from
then on every later run finishes the way back and ends with that error, whatever else it finds.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import structlog
from django.conf import settings
from django.utils.translation import gettext as _

from nodes.errors import NodeAdminError, by_code
from nodes.models import Node, OperationStep
from nodes.operations.base import (
    DATABASE_AWAY,
    ClaimLost,
    OperationCancelled,
    StepHandle,
    StepPlan,
    check_claim,
)
from nodes.operations.crew import Job, do_jobs
from nodes.operations.maintenance import CODE as MAINTENANCE
from nodes.operations.maintenance import was_enabled
from nodes.operations.plan_run import PlanRun
from nodes.operations.plans import Action, VmDecision
from nodes.operations.run import autostart
from nodes.operations.run.vm_outcomes import VmOutcome, in_words, outcomes
from nodes.operations.scheduling import uncordon
from nodes.operations.vm_steps import hypervisor_of, start_code, start_step, start_vm, was_stopped_by

log = structlog.get_logger(__name__)

CODE = "way_back"
WATCH_S = 30.0
"""How long a guest that was asked to shut down is waited for: one that goes off then is started again."""
PAUSE_S = 2.0
_NOT_KEPT = ("plan",)
"""What of an error's ``extra`` is too large for a step's row, and of no use to a later run."""


class WayBack:
    """The way back of one operation. What else it has taken from the node is given back in :meth:`_undo`."""

    def __init__(self, work: PlanRun) -> None:
        self.work = work
        self.run = work.run

    @property
    def begun(self) -> bool:
        """Whether this or an earlier run has turned back: nothing leads forward any more."""
        return bool(self.run.data_of(CODE).get("because"))

    def go(self, error: Exception) -> Exception:
        """Put everything back because of ``error``; gives the error to raise in its place."""
        if not self.run.data_of(MAINTENANCE) and not self._stopped():
            return error  # it has taken nothing yet
        if not self.begun:
            self._record(error)
        return self.finish(error)

    def finish(self, error: Exception | None = None) -> Exception:
        """Put back what is still to be put back, and give the error that the operation ends with: ``error``,
        or the one on record, with what became of each VM."""
        if not self.work.done(CODE):
            with self.run.step(CODE, even_cancelled=True) as step:
                self._undo(step)
        return self._told(error or _recorded(self.run.data_of(CODE)["because"]))

    # -- in order ----------------------------------------------------------------------------------

    def _record(self, error: Exception) -> None:
        steps = [StepPlan(CODE, _("Put everything back as it was"))]
        if not self.work.options.keep_stopped_on_refusal:
            steps += [start_step(vm) for vm in self._stopped()]
        with self.run.fenced():
            self.run.add_steps(steps)
            # With the step itself: a run that finds it without a cause has not turned back.
            self.run.operation.steps.filter(code=CODE).update(data={"because": _as_data(error)})

    def _undo(self, step: StepHandle) -> None:
        step.warn(_("The command was not carried out: everything is put back as it was."))
        with _carrying_on("moves that were cut off could not be settled"):
            self.work.settle_interrupted()
            autostart.follow(self.run, self.work.plan)
        if not self.work.options.keep_stopped_on_refusal:
            self._start_vms(step)
        self._put_back_scheduling(step)
        with _carrying_on("held autostart could not be put back"):
            autostart.give_back(self.work)
        step.report(in_words(self.outcomes()) or _("No VM was touched."))

    def _stopped(self) -> list[VmDecision]:
        return [vm for vm in self.work.plan.of(Action.STOP) if was_stopped_by(self.run, vm)]

    def _start_vms(self, step: StepHandle) -> None:
        waiting = [vm for vm in self._stopped() if not self.work.done(start_code(vm))]
        if not waiting:
            return
        self._await_libvirt(step)
        jobs = [Job(start_code(vm), lambda vm=vm: self._start(vm)) for vm in waiting]  # type: ignore[misc]
        do_jobs(jobs, at_once=settings.NODEADMIN_MIGRATIONS_OUT, go_on=True)

    def _start(self, vm: VmDecision) -> None:
        watch_s = min(WATCH_S, self.work.options.stop_timeout_s)
        with _carrying_on("a VM could not be started again"):
            start_vm(self.run, vm, self.work.node, watch_s=watch_s)

    def _await_libvirt(self, step: StepHandle) -> None:
        """Return once libvirt answers, or it has not for a while; the VMs' own steps then say why not."""
        end = time.monotonic() + settings.NODEADMIN_SETTLE_S
        while True:
            try:
                hypervisor_of(self.work.node)
                return
            except NodeAdminError as error:
                if not error.retryable or time.monotonic() >= end:
                    return
                step.report(_("Waits for libvirt on the host: %s") % error.message)
            check_claim(self.run)
            time.sleep(PAUSE_S)

    def _put_back_scheduling(self, step: StepHandle) -> None:
        if not was_enabled(self.work):
            return
        with self.run.fenced():
            uncordon(self.work.node, actor=self.run.actor, operation=self.run.operation)
        step.report(_("The node has left maintenance, as before the operation."))

    # -- what became of it -------------------------------------------------------------------------

    def outcomes(self) -> list[VmOutcome]:
        """What became of each VM, as the steps say now."""
        steps: dict[str, OperationStep] = {step.code: step for step in self.run.operation.steps.all()}
        return outcomes(self.work.plan, self.work.options, steps)

    def _told(self, error: Exception) -> Exception:
        found = self.outcomes()
        scheduling = Node.objects.filter(pk=self.work.node.pk).values_list("scheduling", flat=True).first()
        vms = [vm.to_dict() for vm in found]
        told = {"vms": vms, "scheduling": scheduling}
        words = in_words(found)
        if isinstance(error, OperationCancelled):
            return OperationCancelled(f"{str(error) or _('Cancelled.')} {words}".strip(), result=told)
        if isinstance(error, NodeAdminError):
            _keep_causes(vms, error.extra.get("vms", ()))
            error.extra |= told
            error.message = f"{error.message} {words}".strip()
        return error


@contextmanager
def _carrying_on(words: str) -> Iterator[None]:
    """Whatever fails here keeps nothing else from being put back. What was expected stands in its step; the
    rest is logged."""
    try:
        yield
    except (ClaimLost, *DATABASE_AWAY):
        raise
    except NodeAdminError as error:
        log.info(words, reason=error.code)
    except Exception:
        log.exception(words)


def _keep_causes(told: list[dict[str, Any]], causes: Any) -> None:
    """Add the errors of steps that could not even begin: no row tells of them."""
    by_uuid = {row["uuid"]: row for row in causes if isinstance(row, Mapping) and "uuid" in row}
    for row in told:
        cause = by_uuid.get(row["uuid"])
        if cause is not None and "code" not in row and cause.get("code"):
            row["code"] = cause["code"]
            if row["outcome"] == "untouched":
                row["message"] = cause.get("message", row["message"])


def _as_data(error: Exception) -> dict[str, Any]:
    if isinstance(error, OperationCancelled):
        return {"cancelled": True, "message": str(error)}
    if isinstance(error, NodeAdminError):
        extra = {name: value for name, value in error.extra.items() if name not in _NOT_KEPT}
        return {
            "code": error.code,
            "message": str(error.message),
            "remedy": str(error.remedy),
            "field": error.field,
            "extra": extra,
        }
    return {"code": "internal_error", "message": _("An unexpected error; the log has the details.")}


def _recorded(because: Mapping[str, Any]) -> Exception:
    if because.get("cancelled"):
        return OperationCancelled(str(because.get("message", "")))
    return by_code(str(because["code"]))(
        str(because["message"]),
        remedy=str(because.get("remedy", "")),
        field=str(because.get("field", "")),
        extra=because.get("extra") or {},
    )
