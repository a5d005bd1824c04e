"""One VM's move to another node: the migration under its limits, and the settling of one that broke off.

The real state is looked at before and after, so that doing it twice is harmless. A migration that fails never
becomes a shutdown.
"""

from __future__ import annotations

import time

from django.conf import settings
from django.utils.translation import gettext as _

from nodes import access
from nodes.errors import (
    HostError,
    MigrationAborted,
    MigrationFailed,
    PlanChanged,
    UnknownNode,
    VmLost,
    VmStateUnknown,
)
from nodes.hosts import domains, migration
from nodes.hosts.migration import Outcome, Progress
from nodes.models import Node, Scheduling
from nodes.operations.base import ClaimLost, JsonObject, OperationCancelled, Run, StepHandle, check_claim
from nodes.operations.plan.encryption import REQUIRE
from nodes.operations.plan.refusals import description_digest, forget, remember
from nodes.operations.plan.vm_state import VmState
from nodes.operations.plans import VmDecision
from nodes.operations.run.migration_route import pinned_address
from nodes.operations.run.vm_comparison import require_as_planned
from nodes.operations.slots import migration_place
from nodes.operations.vm_steps import hypervisor_of, vm_code

TELL_S = 1.0
"""How often a running migration's progress is written, and a cancel is looked for."""
SETTLE_PAUSE_S = 3.0


def move_vm(run: Run, vm: VmDecision, source: Node, target: Node) -> None:
    """The step in which ``vm`` moves from ``source`` to ``target``.

    Raises MigrationFailed, MigrationTimeout and other HostErrors, saying where the VM is; VmStateUnknown
    where that could not be read on both hosts; PlanChanged where the target takes no VMs any more, and
    UnknownNode where it has been removed.
    """
    with run.step(vm_code(vm)) as step:
        if was_moving(step.data):
            outcome = settle(run, vm, source, target)
            if outcome is Outcome.MOVED:
                _moved(step, _("It had arrived already."))
                return
            if outcome is Outcome.ENDED:
                _ended(step)
                return
        elif not _is_here(step, vm, source, target):
            return
        with migration_place(run, step, vm_code(vm), source, target):
            _refuse_cordoned(target, source)
            started = time.monotonic()
            if _migrate(run, step, vm, source, target) is Outcome.MOVED:
                forget(vm.vm_uuid, target)
                _moved(step, _("It runs on %s.") % target.name, seconds=time.monotonic() - started)
            else:
                _ended(step)


def was_moving(data: JsonObject) -> bool:
    """Whether the step that has reported ``data`` had come to its migration."""
    return bool(data.get("target_uuid"))


def settle_step(run: Run, vm: VmDecision, source: Node, target: Node) -> None:
    """Find out what became of a move that a crash cut off; where the VM has arrived, its step ends with that.

    Where it stayed, its step is left for its turn. Raises as :func:`settle`, with the step failed.
    """
    with run.step(vm_code(vm), even_cancelled=True) as step:
        outcome = settle(run, vm, source, target)
        if outcome is Outcome.MOVED:
            _moved(step, _("It had arrived before the server was cut off."))
        elif outcome is Outcome.ENDED:
            _ended(step)
        else:
            step.report(data={"stayed": True})
            step.postpone()


def settle(run: Run, vm: VmDecision, source: Node, target: Node) -> Outcome:
    """What became of a migration, read from both hosts, and brought to an end where it hangs half-way.

    ENDED where it was shut down meanwhile. Asks again for a while where a host does not answer. Raises
    VmStateUnknown where one still does not, and VmLost or VmInBothPlaces where there is nothing that may be
    done.
    """
    known = bool(run.data_of(vm_code(vm)).get("known_there", True))
    end = time.monotonic() + settings.NODEADMIN_SETTLE_S
    while True:
        try:
            here, there = hypervisor_of(source), hypervisor_of(target)
            return migration.settle(here, there, vm.vm_uuid, known_before=known)
        except VmLost:
            if _was_shut_down(vm, source, target):
                return Outcome.ENDED
            raise
        except HostError as error:
            unclear = isinstance(error, VmStateUnknown) or error.retryable
            if not unclear:
                raise
            if time.monotonic() >= end:
                raise VmStateUnknown(
                    _("What became of %(vm)s cannot be told: %(why)s")
                    % {"vm": vm.vm_name, "why": error.message},
                    remedy=error.remedy or _("Once both hosts answer, try again. Nothing was touched."),
                ) from error
        check_claim(run)
        time.sleep(SETTLE_PAUSE_S)


def _was_shut_down(vm: VmDecision, source: Node, target: Node) -> bool:
    """Whether it is off on its source because its guest or somebody there has ended it, and the target has
    nothing of it. Raises HostError."""
    here = domains.find_domain(hypervisor_of(source), vm.vm_uuid)
    there = domains.find_domain(hypervisor_of(target), vm.vm_uuid)
    ended = here is not None and not here.active and here.reason in ("shutdown", "destroyed")
    return ended and there is None


def _is_here(step: StepHandle, vm: VmDecision, source: Node, target: Node) -> bool:
    """Whether there is something to move; where not, the step is ended with what was found."""
    here = domains.is_active(hypervisor_of(source), vm.vm_uuid)
    if here:
        return True
    if domains.is_active(hypervisor_of(target), vm.vm_uuid):
        _moved(step, _("It runs on %s already.") % target.name)
    elif here is None:
        step.skip(_("It is no longer on this host."))
    else:
        _ended(step)
    return False


def _ended(step: StepHandle) -> None:
    step.skip(_("It has been shut down meanwhile, and stays as it is."))


def _refuse_cordoned(target: Node, source: Node) -> None:
    """Nothing moves to a node that was put into maintenance since the plan was made."""
    scheduling = Node.objects.filter(pk=target.pk).values_list("scheduling", flat=True).first()
    if scheduling is None:
        raise UnknownNode(_("The node %s has been removed.") % target.name, remedy=_("Ask for a new plan."))
    if scheduling != Scheduling.ENABLED:
        raise PlanChanged(
            _("%(target)s is in maintenance now; the VM runs on %(source)s as before.")
            % {"target": target.name, "source": source.name},
            remedy=_("Ask for a new plan."),
        )


def _migrate(run: Run, step: StepHandle, vm: VmDecision, source: Node, target: Node) -> Outcome:
    """MOVED, or ENDED where the VM was shut down on its way; raises where it stayed."""
    known = domains.is_active(hypervisor_of(target), vm.vm_uuid) is not None
    _require_encrypted(vm, source)
    require_as_planned(hypervisor_of(source), vm, source.name)
    step.report(
        _("Moves to %s.") % target.name,
        data={
            "target_uuid": str(target.uuid),
            "known_there": known,
            "result": "",
            "encrypted": vm.encrypted,
            "auto_converge": vm.auto_converge,
        },
    )
    pulse = _Pulse(run, step)
    try:
        address = pinned_address(
            access.connect(access.target_for(source)),
            target,
            name_is_verified=vm.encrypted is True and not vm.verified_name,
        )
        migration.migrate(
            hypervisor_of(source),
            hypervisor_of(target),
            vm.vm_uuid,
            address=address,
            timeout_s=settings.NODEADMIN_MIGRATION_TIMEOUT_S,
            manner=_manner(vm),
            patience=migration.Patience(
                settings.NODEADMIN_MIGRATION_STALL_S, settings.NODEADMIN_MIGRATION_STALL_PASSES
            ),
            on_progress=pulse.progress,
            should_stop=pulse.should_stop,
        )
        error: HostError | None = None
    except HostError as caught:
        error = caught
    # Whoever has taken the operation over settles it; two who do at once would be in each other's way.
    check_claim(run)
    outcome = settle(run, vm, source, target)
    if outcome is not Outcome.STAYED:
        return outcome
    if isinstance(error, MigrationAborted):
        run.check_cancelled()
    if isinstance(error, MigrationFailed) and error.refusal:
        _remember_refusal(run, vm, source, target, error)
    if error is None:
        error = MigrationFailed(_("libvirt called the migration done, but the VM has not arrived."))
    # The cause first, and then what everybody wants to know: where the VM is.
    error.message = _("%(why)s It runs on %(source)s as before.") % {
        "why": error.message if error.message.endswith((".", "!", "?")) else f"{error.message}.",
        "source": source.name,
    }
    raise error


def _require_encrypted(vm: VmDecision, source: Node) -> None:
    """Nothing is sent plain once encryption is required, whatever was confirmed before: by a plan of an older
    version, or under another setting."""
    if vm.encrypted is not True and settings.NODEADMIN_MIGRATION_TLS == REQUIRE:
        raise PlanChanged(
            _(
                "The plan sends %(vm)s without encryption, but NODEADMIN_MIGRATION_TLS is “require”. "
                "It runs on %(source)s as before."
            )
            % {"vm": vm.vm_name, "source": source.name},
            remedy=_("Re-plan."),
        )


def _manner(vm: VmDecision) -> migration.Manner:
    """As it was confirmed: what is to be encrypted is sent encrypted, or not at all."""
    return migration.Manner(
        encrypted=vm.encrypted is True,
        verified_name=vm.verified_name,
        auto_converge=vm.auto_converge,
        bandwidth_mib_s=settings.NODEADMIN_MIGRATION_BANDWIDTH_MIB_S or None,
        disk_paths=vm.disk_paths,
        skip_storage_check=vm.skip_storage_check,
    )


def _remember_refusal(run: Run, vm: VmDecision, source: Node, target: Node, error: MigrationFailed) -> None:
    """Keep the VM from the target in the next plans, as long as neither changes."""
    try:
        facts = domains.find_domain(hypervisor_of(source), vm.vm_uuid)
    except HostError:
        return
    state = VmState.of(facts) if facts is not None else None
    if state is None or state.element is None:
        return
    digest = description_digest(state.element)
    with run.fenced():
        remember(vm.vm_uuid, vm.vm_name, target, error.refusal, error.message, digest)


class _Pulse:
    """What a running migration tells and is told, about once a second."""

    def __init__(self, run: Run, step: StepHandle) -> None:
        self._run = run
        self._step = step
        self._written_at = 0.0
        self._asked_at = time.monotonic()
        self._stop = False

    def progress(self, progress: Progress) -> None:
        now = time.monotonic()
        if now - self._written_at < TELL_S:
            return
        self._written_at = now
        self._step.report(
            progress=progress.fraction,
            data={
                "remaining_bytes": progress.remaining_bytes,
                "speed_bytes_s": progress.speed_bytes_s,
                "elapsed_s": round(progress.elapsed_s, 1),
                "dirty_bytes_s": progress.dirty_bytes_s,
                "throttle_percent": progress.throttle_percent,
            },
        )

    def should_stop(self) -> bool:
        now = time.monotonic()
        if not self._stop and now - self._asked_at >= TELL_S:
            self._asked_at = now
            try:
                self._run.check_cancelled()
            except (OperationCancelled, ClaimLost):
                self._stop = True
        return self._stop


def _moved(step: StepHandle, message: str, **data: float) -> None:
    step.report(message, progress=1.0, data={"result": "moved", **data})
