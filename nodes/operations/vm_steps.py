"""One VM's part in an operation: its steps, and those in which it is stopped and started again.

Each looks at the real state before it acts and again after, so that doing it twice is harmless. A VM is
stopped only where the confirmed plan says so.
"""

from __future__ import annotations

import time
from datetime import datetime
from enum import Enum

from django.utils import timezone
from django.utils.translation import gettext as _

from nodes import access
from nodes.errors import (
    UnknownNode,
    VmDidNotStart,
    VmDidNotStop,
)
from nodes.hosts import domains
from nodes.hosts.deadlines import Clock
from nodes.hosts.domains import DomainFacts
from nodes.hosts.hypervisor import Hypervisor
from nodes.models import Node, StepStatus
from nodes.operations.base import OperationCancelled, Run, StepHandle, StepPlan, check_claim
from nodes.operations.node_state.maintenance_vms import expect_started
from nodes.operations.plans import Action, Plan, VmDecision

LOOK_S = 1.0
"""How often a VM that was asked to stop is looked at."""
STARTS = "start:"
"""What the codes of the steps begin with in which VMs are started again."""
ASK_AGAIN_S = 30.0
"""A guest that was still starting misses the first press of its power button."""


def vm_code(vm: VmDecision) -> str:
    return f"vm:{vm.vm_uuid}"


def start_code(vm: VmDecision) -> str:
    return f"{STARTS}{vm.vm_uuid}"


def vm_step_plans(plan: Plan) -> tuple[StepPlan, ...]:
    """A step for each VM that moves or stops, those that move first."""
    moves = tuple(
        StepPlan(
            vm_code(vm),
            _("Move %(vm)s to %(target)s") % {"vm": vm.vm_name, "target": vm.target},
            vm.vm_uuid,
            vm.vm_name,
            vm.target,
        )
        for vm in plan.of(Action.MIGRATE)
    )
    stops = tuple(
        StepPlan(vm_code(vm), _("Shut down %s") % vm.vm_name, vm.vm_uuid, vm.vm_name)
        for vm in plan.of(Action.STOP)
    )
    return (*moves, *stops)


def start_step_plans(plan: Plan) -> tuple[StepPlan, ...]:
    """A step for each VM that is started again."""
    return tuple(start_step(vm) for vm in plan.decisions if vm.restart)


def start_step(vm: VmDecision) -> StepPlan:
    return StepPlan(start_code(vm), _("Start %s again") % vm.vm_name, vm.vm_uuid, vm.vm_name)


def hypervisor_of(node: Node) -> Hypervisor:
    """libvirt of the node, over the connection there is or a new one. Raises HostError, UnknownNode."""
    return access.connect(access.target_for(node)).hypervisor()


def node_of(uuid: str, name: str) -> Node:
    """The node of a plan's decision, as it is now. Raises UnknownNode where it has been removed."""
    found = Node.objects.filter(uuid=uuid).first()
    if found is None:
        raise UnknownNode(_("The node %s has been removed.") % name)
    return found


def stop_vm(run: Run, vm: VmDecision, node: Node, *, timeout_s: float, force: bool) -> None:
    """The step in which the guest is asked to shut down, and waited for.

    Only ``force`` ends one that does not listen. Raises VmDidNotStop; the VM then still runs.
    """
    with run.step(vm_code(vm)) as step:
        found = domains.find_domain(hypervisor_of(node), vm.vm_uuid)
        ours = bool(step.data.get("asked_at"))
        if found is None and not ours:
            step.skip(_("It is no longer on this host."))
            return
        if found is None or not found.active:
            step.report(_("It is off.") if ours else _("It was off already."), data={"result": "stopped"})
            return
        if not ours:
            # Written before it is done: whoever finds it off after a crash knows that it was us.
            step.report(_("Asks the guest to shut down."), data={"asked_at": timezone.now().isoformat()})
        # Each run gives the guest the whole time: the one before may have died without having asked it.
        end = _wait_until_off(run, step, vm, node, Clock(timeout_s))
        if end is _End.OFF:
            step.report(_("It has shut down."), data={"result": "stopped"})
        elif force:
            step.warn(_("It did not shut down in %d s, and is forced off, as was confirmed.") % timeout_s)
            domains.force_off(hypervisor_of(node), vm.vm_uuid)
            _require_off(node, vm)
            step.report(_("It was forced off."), data={"result": "stopped", "forced": True})
        elif end is _End.UNASKED:
            if not ours:
                step.report(data={"asked_at": None})
            raise VmDidNotStop(
                _("%s could not be asked to shut down, as its guest does not run. It is as it was.")
                % vm.vm_name,
                remedy=_(
                    "Let it go on (virsh resume, virsh dompmwakeup), or confirm that it may be forced off."
                ),
            )
        else:
            raise VmDidNotStop(
                _("%(vm)s did not shut down in %(seconds)d s. It still runs; a slow guest may yet go off.")
                % {"vm": vm.vm_name, "seconds": timeout_s},
                remedy=_("Shut it down from inside, wait longer, or confirm that it may be forced off."),
            )


def was_stopped_by(run: Run, vm: VmDecision) -> bool:
    """Whether this operation asked the VM to stop: one that was off before is not started after."""
    return bool(run.data_of(vm_code(vm)).get("asked_at"))


def start_vm(run: Run, vm: VmDecision, node: Node, *, watch_s: float = 0.0) -> None:
    """The step in which a VM that was stopped for the operation is started again, also after a cancel.

    One that was asked to shut down and still runs is watched for ``watch_s`` from when it was asked: it may
    just be going off.
    """
    with run.step(start_code(vm), even_cancelled=True) as step:
        if not was_stopped_by(run, vm):
            step.skip(_("It was not stopped by this operation."))
            return
        if _active(node, vm) and run.status_of(vm_code(vm)) == StepStatus.SUCCEEDED:
            step.report(_("It runs already."), data={"result": "started"})
            return
        if not _goes_off(run, step, vm, node, watch_s):
            step.report(data={"result": "still_running"})
            step.warn(_("It still runs, and may yet go off, as it was asked to."))
            return
        if domains.find_domain(hypervisor_of(node), vm.vm_uuid) is None:
            raise VmDidNotStart(
                _("%s is no longer known to libvirt here, as a transient VM once it is off.") % vm.vm_name,
                remedy=_("Create it again from its definition."),
            )
        with run.fenced():
            expect_started(node, vm.vm_uuid)
        domains.start(hypervisor_of(node), vm.vm_uuid)
        if not _active(node, vm):
            raise VmDidNotStart(_("%s was started, and is off again.") % vm.vm_name)
        step.report(_("It runs."), data={"result": "started"})


def _goes_off(run: Run, step: StepHandle, vm: VmDecision, node: Node, watch_s: float) -> bool:
    """Whether it is off, or becomes so within ``watch_s`` of having been asked to shut down."""
    asked_at = datetime.fromisoformat(str(run.data_of(vm_code(vm))["asked_at"]))
    clock = Clock(max(0.0, watch_s - max(0.0, (timezone.now() - asked_at).total_seconds())))
    while _active(node, vm):
        if clock.passed:
            return False
        step.report(_("Waits whether it still shuts down, as it was asked to."))
        check_claim(run)
        time.sleep(LOOK_S)
    return True


class _End(Enum):
    """What came of asking a guest to shut down. UNASKED: at no time did it run and could be asked."""

    OFF = "off"
    STAYED = "stayed"
    UNASKED = "unasked"


def _wait_until_off(run: Run, step: StepHandle, vm: VmDecision, node: Node, clock: Clock) -> _End:
    """Ask the guest, again and again, until it is off or the ``clock`` has passed; at least once."""
    asked: float | None = None
    while True:
        if asked is None or time.monotonic() - asked >= ASK_AGAIN_S:
            if domains.shut_down(hypervisor_of(node), vm.vm_uuid):
                asked = time.monotonic()
            else:
                step.report(_("Its guest does not run, and cannot be asked to shut down."))
        if not _active(node, vm):
            return _End.OFF
        if clock.passed:
            return _End.UNASKED if asked is None else _End.STAYED
        time.sleep(LOOK_S)
        # After the pause, however long it has become: who has lost the claim asks for nothing any more.
        try:
            run.check_cancelled()
        except OperationCancelled:
            step.warn(_("Cancelled while the guest was shutting down: it may still go off."))
            raise


def _active(node: Node, vm: VmDecision) -> bool:
    found: DomainFacts | None = domains.find_domain(hypervisor_of(node), vm.vm_uuid)
    return found is not None and found.active


def _require_off(node: Node, vm: VmDecision) -> None:
    if _active(node, vm):
        raise VmDidNotStop(_("%s runs although it was forced off.") % vm.vm_name)
