"""What the operations that empty a node share: the plan is checked, its VMs are dealt with, and the end is
compared with it.

A run that follows a crash does not ask for consent again. It first finds out what became of the moves that
were cut off, and then refuses to go on where it finds a VM that nobody decided about.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Max
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from nodes.errors import (
    ConfirmationExpired,
    HostError,
    NodeAdminError,
    PlanChanged,
    VmStateUnknown,
    VmStepsFailed,
)
from nodes.hosts import domains
from nodes.hosts.domains import DomainFacts
from nodes.inventory.domain_states import is_active
from nodes.models import Node, Operation, StepStatus
from nodes.operations.base import CLOCKS_DIFFER, Run, StepPlan, removed
from nodes.operations.crew import Job, do_jobs
from nodes.operations.options import Options
from nodes.operations.planning import plan_changed, plan_for
from nodes.operations.plans import Action, Plan, VmDecision
from nodes.operations.run import autostart
from nodes.operations.slots import release_left_over
from nodes.operations.vm_moves import move_vm, settle_step, was_moving
from nodes.operations.vm_steps import (
    STARTS,
    hypervisor_of,
    node_of,
    start_code,
    start_vm,
    stop_vm,
    vm_code,
    was_stopped_by,
)

ENDED_WELL = (StepStatus.SUCCEEDED, StepStatus.SKIPPED)


def check_step() -> StepPlan:
    return StepPlan("check", _("Check that the plan still holds"))


class PlanRun:
    """One run of an operation that has a confirmed plan. Raises UnknownNode where its node is gone."""

    def __init__(self, run: Run) -> None:
        node = run.operation.node
        if node is None:
            raise removed()
        self.run = run
        self.node: Node = node
        self.plan = Plan.from_dict(run.operation.plan or {})
        self.options = Options.of(run.operation.kind, run.operation.params)
        self._given_up: set[str] = set()

    def done(self, code: str) -> bool:
        return self.run.status_of(code) in ENDED_WELL

    # -- before the first VM -----------------------------------------------------------------------

    def check(self) -> None:
        """The step ``check``, once: the plan made anew asks for the same consent as the confirmed one.

        Raises PlanChanged with what differs, ConfirmationExpired where the operation waited too long.
        """
        if self.done("check"):
            return
        with self.run.step("check") as step:
            self.require_fresh()
            operation = self.run.operation
            found = plan_for(
                operation.kind, operation.requester, self.node, operation.params, before=operation
            )
            if found.digest() != self.plan.digest():
                # Who sees the operation need not be one who may know the nodes that could have been targets.
                raise plan_changed(self.plan, replace(found, targets=()))
            for note in found.notes:
                if note not in self.plan.notes:
                    self.run.log(note, "warning", step_code="check")
            count = len(found.decisions)
            text = ngettext("%d VM, as confirmed.", "%d VMs, as confirmed.", count) % count
            step.report(text, data={"boot_id": found.boot_id})

    def require_fresh(self) -> None:
        """Raise ConfirmationExpired where the last step that leads on ended longer ago than a confirmation
        lives, or nobody has gone on with the operation for that long in all.

        What it has refused once, every later run refuses: until then no further such step ends, and the time
        without anybody only grows. VMs that are started again are the way back, and make nothing fresh.
        """
        self._require_attended()
        ended = self.run.operation.steps.filter(status__in=ENDED_WELL).exclude(code__startswith=STARTS)
        since: datetime = ended.aggregate(at=Max("finished_at"))["at"] or self.run.operation.created_at
        age = timezone.now() - since
        if not -CLOCKS_DIFFER <= age <= timedelta(seconds=settings.NODEADMIN_CONFIRMATION_LIFE_S):
            raise expired(
                _("The last step ended at %s; what was confirmed then may no longer hold.")
                % since.isoformat(timespec="seconds")
            )

    def _require_attended(self) -> None:
        """Raise ConfirmationExpired where nobody has gone on with the operation for longer than a
        confirmation lives, at once or bit by bit: a server that was down for hours neither stops a VM nor
        takes a host down as soon as it is back."""
        # Adds what this process has just slept through, which only the next renewal would.
        self.run.renew()
        row = Operation.objects.filter(pk=self.run.operation.pk)
        away_s: float = row.values_list("unattended_s", flat=True).first() or 0.0
        if away_s > settings.NODEADMIN_CONFIRMATION_LIFE_S:
            raise expired(
                _("For %d minutes nobody went on with this; what was confirmed before may no longer hold.")
                % (away_s / 60)
            )

    # -- the VMs -----------------------------------------------------------------------------------

    def deal_with_vms(self, *, go_on: bool, empties: bool = True) -> None:
        """The steps of all VMs. After a failure others are begun only if ``go_on``.

        ``empties``: a VM on the node that the plan does not know is in the way.

        Raises VmStepsFailed with what was done and what not, PlanChanged for a VM that nobody decided about.
        """
        if self.run.resumed:
            self._settle_interrupted(go_on=go_on)
            release_left_over(self.run)
        left = [vm for vm in self._acting() if not self.done(vm_code(vm))]
        if not go_on and any(self.run.status_of(vm_code(vm)) == StepStatus.FAILED for vm in left):
            raise self._failure()
        if self.run.resumed:
            # First of all: what a failure or a cancel has begun to give back is no VM that is in the way.
            self.run.check_cancelled()
            if not go_on or self.plan.of(Action.STOP):
                self._require_attended()
            if empties:
                self.ensure_fits()
        failed = self._do([vm for vm in left if vm_code(vm) not in self._given_up], self._act, go_on=go_on)
        autostart.follow(self.run, self.plan)
        for error in failed.values():
            if isinstance(error, ConfirmationExpired):
                raise error
        if any(not self.done(vm_code(vm)) for vm in left):
            raise self._failure(failed)

    def settle_interrupted(self) -> None:
        """Find out what became of moves that a crash of an earlier run has cut off. Raises nothing for what
        cannot be told: the steps then say so."""
        if self.run.resumed:
            self._settle_interrupted(go_on=True)
            release_left_over(self.run)

    def _acting(self) -> tuple[VmDecision, ...]:
        return (*self.plan.of(Action.MIGRATE), *self.plan.of(Action.STOP))

    def _settle_interrupted(self, *, go_on: bool) -> None:
        cut_off = [
            vm
            for vm in self.plan.of(Action.MIGRATE)
            if self.run.status_of(vm_code(vm)) == StepStatus.RUNNING
            and was_moving(self.run.data_of(vm_code(vm)))
        ]
        failed = self._do(cut_off, lambda vm: settle_step(self.run, vm, *self._ends_of(vm)), go_on=True)
        self._given_up.update(failed)
        if failed and not go_on:
            raise self._failure()

    def _do(
        self, vms: Sequence[VmDecision], act: Callable[[VmDecision], None], *, go_on: bool
    ) -> Mapping[str, NodeAdminError]:
        """Do it for each, some at once; what failed, by the code of its step."""
        jobs = [Job(vm_code(vm), _bound(act, vm)) for vm in vms]
        return do_jobs(jobs, at_once=settings.NODEADMIN_MIGRATIONS_OUT, go_on=go_on)

    def _act(self, vm: VmDecision) -> None:
        if vm.action == Action.MIGRATE:
            move_vm(self.run, vm, *self._ends_of(vm))
        else:
            self._require_attended()
            wait_s, force = self.options.stop_timeout_s, self.options.force_stop
            stop_vm(self.run, vm, self.node, timeout_s=wait_s, force=force)

    def _ends_of(self, vm: VmDecision) -> tuple[Node, Node]:
        """Where the VM is and where it goes."""
        source = node_of(vm.source_uuid, vm.source) if vm.source_uuid else self.node
        return source, node_of(vm.target_uuid, vm.target)

    def _failure(self, errors: Mapping[str, NodeAdminError] | None = None) -> VmStepsFailed:
        """What was done and what not, out of the steps' rows; ``errors`` are those of steps that could not
        even begin, too."""
        rows = {step.code: step for step in self.run.operation.steps.exclude(vm_uuid=None)}
        steps = [(vm, rows[vm_code(vm)]) for vm in self._acting() if vm_code(vm) in rows]
        failed = [(vm, row) for vm, row in steps if row.status == StepStatus.FAILED]
        done = [vm.vm_name for vm, row in steps if row.status in ENDED_WELL]
        left = [vm.vm_name for vm, row in steps if row.status == StepStatus.PENDING]
        unbegun = [
            (vm, error)
            for vm, row in steps
            if row.status != StepStatus.FAILED and (error := (errors or {}).get(vm_code(vm))) is not None
        ]
        causes = [(vm, str(row.data.get("error", "")), row.message) for vm, row in failed]
        causes += [(vm, error.code, str(error.message)) for vm, error in unbegun]
        message = " ".join(f"{vm.vm_name}: {words}" for vm, _code, words in causes)
        if done:
            message += " " + _("Done: %s.") % ", ".join(done)
        if left:
            message += " " + _("Not begun: %s.") % ", ".join(left)
        vms = [
            {"vm": vm.vm_name, "uuid": vm.vm_uuid, "code": code, "message": words}
            for vm, code, words in causes
        ]
        return VmStepsFailed(
            message.strip(),
            remedy=_("Nothing else was touched. A new plan takes up what is left."),
            extra={"vms": vms, "done": done, "not_begun": left},
        )

    # -- what is found -----------------------------------------------------------------------------

    def active_vms(self) -> list[DomainFacts]:
        """The VMs that have a process on the node now. Raises VmStateUnknown where that cannot be read."""
        try:
            found = domains.list_domains(hypervisor_of(self.node))
        except HostError as error:
            raise VmStateUnknown(
                _("The VMs of %(node)s cannot be read: %(why)s")
                % {"node": self.node.name, "why": error.message},
                remedy=_("Nothing was done. Once libvirt answers, ask for a new plan."),
            ) from error
        return [domain for domain in found if domain.active]

    def ensure_fits(self) -> None:
        """Raise PlanChanged where a VM runs on the node that nobody decided about, or that has come back."""
        if self.plan.vms_known:
            self._refuse(self.active_vms(), {vm.vm_uuid for vm in self.plan.decisions if self._may_run(vm)})

    def _may_run(self, vm: VmDecision) -> bool:
        return _stays(vm) or (vm.action in (Action.MIGRATE, Action.STOP) and not self.done(vm_code(vm)))

    def ensure_empty(self) -> list[str]:
        """Raise PlanChanged where a VM runs on the node that was not to be left; gives those that were."""
        active = self.active_vms()
        self._refuse(active, {vm.vm_uuid for vm in self.plan.decisions if _stays(vm)})
        return [domain.name for domain in active]

    def ensure_idle(self) -> None:
        """Raise PlanChanged where any VM runs on the node: before its power goes, none may."""
        self._refuse(self.active_vms(), set())

    def _refuse(self, active: Iterable[DomainFacts], allowed: set[str]) -> None:
        strange = sorted(domain.name for domain in active if domain.uuid not in allowed)
        if strange:
            raise _changed(
                [_("%s runs on the node, which the plan does not provide for") % vm for vm in strange]
            )

    # -- starting again ----------------------------------------------------------------------------

    def start_again(self) -> list[str]:
        """The steps of the VMs that come back; gives those that did not, and why."""
        known = set(self.run.operation.steps.values_list("code", flat=True))
        coming = [vm for vm in self.plan.decisions if vm.restart and start_code(vm) in known]
        waiting = [vm for vm in coming if not self.done(start_code(vm))]
        jobs = [Job(vm.vm_name, _bound(lambda vm: start_vm(self.run, vm, self.node), vm)) for vm in waiting]
        failed = do_jobs(jobs, at_once=settings.NODEADMIN_MIGRATIONS_OUT, go_on=True)
        return [f"{name}: {error.message}" for name, error in failed.items()]

    def stopped_here(self) -> list[VmDecision]:
        """The VMs that were to come back and that this operation has asked to stop."""
        return [vm for vm in self.plan.decisions if vm.restart and was_stopped_by(self.run, vm)]


def expired(message: str) -> ConfirmationExpired:
    """The error of an operation that came to act too late after it was confirmed."""
    return ConfirmationExpired(message, remedy=_("Ask for a new plan."))


def _stays(vm: VmDecision) -> bool:
    """Whether it was confirmed that it goes on running here; one that was off has no such word."""
    return vm.action == Action.LEAVE and is_active(vm.state) is True


def _bound(act: Callable[[VmDecision], None], vm: VmDecision) -> Callable[[], None]:
    return lambda: act(vm)


def _changed(changes: Sequence[str]) -> PlanChanged:
    return PlanChanged(
        _("What was found differs from what was confirmed: %s.") % "; ".join(changes),
        remedy=_("Ask for a new plan."),
        extra={"changes": list(changes)},
    )
