"""What became of each VM of an operation that did not do what it was asked for, read from its steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from django.utils.translation import gettext as _

from nodes.models import OperationStep, StepStatus
from nodes.operations.options import Options
from nodes.operations.plans import Action, Plan, VmDecision
from nodes.operations.vm_steps import start_code, vm_code

NAMED_AT_MOST = 20
"""VMs named in a sentence; an operation's ``error`` lists all."""


class Outcome(StrEnum):
    """Where a VM has ended. ``still_running``: it was asked to shut down, and has not done so yet."""

    STARTED_AGAIN = "started_again"
    START_FAILED = "start_failed"
    LEFT_OFF = "left_off"
    STILL_RUNNING = "still_running"
    MIGRATED = "migrated"
    UNTOUCHED = "untouched"


@dataclass(frozen=True, slots=True)
class VmOutcome:
    """One VM. ``code`` is that of the error that its own step ended with, "" where it had none."""

    vm: str
    uuid: str
    outcome: Outcome
    message: str
    target: str = ""
    code: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As it stands in an operation's ``error``."""
        found = {"vm": self.vm, "uuid": self.uuid, "outcome": self.outcome.value, "message": self.message}
        return found | ({"code": self.code} if self.code else {})


def outcomes(plan: Plan, options: Options, steps: Mapping[str, OperationStep]) -> list[VmOutcome]:
    """What became of each VM that the plan was to move or to stop. ``steps`` are the operation's, by code."""
    acting = (*plan.of(Action.MIGRATE), *plan.of(Action.STOP))
    return [_outcome(vm, options, steps) for vm in sorted(acting, key=lambda vm: (vm.vm_name, vm.vm_uuid))]


def in_words(found: list[VmOutcome]) -> str:
    """The same as sentences, one an outcome."""
    sentences = {
        Outcome.STARTED_AGAIN: _("Started again: %s."),
        Outcome.START_FAILED: _("Not started again: %s."),
        Outcome.LEFT_OFF: _("Left off: %s."),
        Outcome.STILL_RUNNING: _("Asked to shut down, and still running: %s."),
        Outcome.MIGRATED: _("Migrated, and left there: %s."),
        Outcome.UNTOUCHED: _("Untouched: %s."),
    }
    told = {outcome: [_named(vm) for vm in found if vm.outcome is outcome] for outcome in sentences}
    return " ".join(sentences[outcome] % _listed(names) for outcome, names in told.items() if names)


def _listed(names: list[str]) -> str:
    more = len(names) - NAMED_AT_MOST
    listed = ", ".join(names[:NAMED_AT_MOST])
    return _("%(names)s and %(count)d more") % {"names": listed, "count": more} if more > 0 else listed


def _named(vm: VmOutcome) -> str:
    if vm.outcome is Outcome.MIGRATED:
        return f"{vm.vm} ({vm.target})"
    return f"{vm.vm} ({vm.message})" if vm.outcome is Outcome.START_FAILED else vm.vm


def _outcome(vm: VmDecision, options: Options, steps: Mapping[str, OperationStep]) -> VmOutcome:
    own = steps.get(vm_code(vm))
    data = own.data if own is not None else {}
    failed = own is not None and own.status == StepStatus.FAILED
    words = own.message if own is not None else ""
    code = str(data.get("error", "")) if failed else ""
    if data.get("result") == "moved":
        text = _("It runs on %s, and stays there.") % vm.target
        return VmOutcome(vm.vm_name, vm.vm_uuid, Outcome.MIGRATED, text, vm.target)
    if not data.get("asked_at"):
        text = words if failed or data.get("result") else _("It was not touched.")
        return VmOutcome(vm.vm_name, vm.vm_uuid, Outcome.UNTOUCHED, text, code=code)
    outcome, text = _after_the_stop(steps.get(start_code(vm)), options)
    if failed and outcome is Outcome.STILL_RUNNING:
        text = words
    return VmOutcome(vm.vm_name, vm.vm_uuid, outcome, text, code=code)


def _after_the_stop(start: OperationStep | None, options: Options) -> tuple[Outcome, str]:
    if start is not None and start.status == StepStatus.FAILED:
        return Outcome.START_FAILED, start.message
    result = start.data.get("result") if start is not None else None
    if start is not None and result == "started":
        return Outcome.STARTED_AGAIN, _("It was stopped, and runs again.")
    if start is not None and result == "still_running":
        return Outcome.STILL_RUNNING, start.message
    if options.keep_stopped_on_refusal:
        return Outcome.LEFT_OFF, _("It was stopped, and stays off as was asked for.")
    return Outcome.LEFT_OFF, _("It was stopped, and is off.")
