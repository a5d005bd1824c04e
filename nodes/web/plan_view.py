"""A plan as it is shown: counted in words, a line a VM, and what differs from the one shown before."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from nodes.operations.plans import Action, Plan, Reason, VmDecision
from nodes.web.tones import Shown, Tone, of_vm

OFF = ("shutoff", "crashed")


@dataclass(frozen=True, slots=True)
class PlanLine:
    """One VM. ``was`` says what the plan shown before had for it, "" where nothing differs."""

    vm: VmDecision
    state: Shown
    action: Shown
    was: str = ""
    choice: str = ""
    """What the user wants for it: ``migrate``, ``stop``, or "" for what the policy says."""
    can_choose: bool = False

    @property
    def is_new(self) -> bool:
        return self.was == "new"


@dataclass(frozen=True, slots=True)
class ShownPlan:
    """A whole plan. ``gone`` are the VMs that the plan shown before had and this one has not."""

    plan: Plan
    headline: str
    lines: tuple[PlanLine, ...]
    blockers: tuple[Reason, ...]
    gone: tuple[str, ...] = ()
    differences: tuple[str, ...] = ()

    @property
    def blocked(self) -> bool:
        return self.plan.is_blocked

    @property
    def tone(self) -> Tone:
        if self.blocked:
            return Tone.BAD
        return Tone.WARN if self.plan.losses or self.plan.of(Action.STOP) else Tone.GOOD


def show(
    data: Mapping[str, Any] | Plan,
    *,
    before: Mapping[str, Any] | None = None,
    differences: Iterable[str] = (),
    choices: Mapping[str, str] | None = None,
) -> ShownPlan:
    """The plan as it is shown.

    ``before`` are the decisions of the plan that the user has seen, by VM (see :func:`digest_of`);
    ``choices`` what they want for single VMs, None where nothing can be chosen.
    """
    plan = data if isinstance(data, Plan) else Plan.from_dict(data)
    lines = tuple(_line(vm, before, choices) for vm in sorted(plan.decisions, key=_rank))
    here = {vm.vm_uuid for vm in plan.decisions}
    gone = tuple(row["name"] for uuid, row in (before or {}).items() if uuid not in here)
    return ShownPlan(plan, headline(plan), lines, plan.blockers, gone, tuple(differences))


def digest_of(plan: Plan) -> dict[str, dict[str, str]]:
    """The decisions by VM, as small as the next plan needs them to mark what differs."""
    return {
        vm.vm_uuid: {"name": vm.vm_name, "action": vm.action.value, "target": vm.target}
        for vm in plan.decisions
    }


def choices_of(names: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """What may be asked for a single VM, with its word."""
    words = {"migrate": _("Move"), "stop": _("Stop"), "leave": _("Leave")}
    return tuple((name, words.get(name, name)) for name in names)


def headline(plan: Plan) -> str:
    """What will happen, counted: "12 VMs move, 1 is stopped, 1 stands in the way"."""
    words: list[str] = []
    for action in (Action.MIGRATE, Action.STOP, Action.LEAVE, Action.BLOCKED):
        if count := len(plan.of(action)):
            # The first figure names what is counted, the others follow it.
            words.append((_rest if words else _first)(action, count) % {"n": count})
    if words:
        return ", ".join(words)
    return _("No VM is touched") if plan.vms_known else _("The VMs could not be read")


def _first(action: Action, n: int) -> str:
    if action == Action.MIGRATE:
        return ngettext("%(n)d VM moves", "%(n)d VMs move", n)
    if action == Action.STOP:
        return ngettext("%(n)d VM is stopped", "%(n)d VMs are stopped", n)
    if action == Action.LEAVE:
        return ngettext("%(n)d VM stays as it is", "%(n)d VMs stay as they are", n)
    return ngettext("%(n)d VM stands in the way", "%(n)d VMs stand in the way", n)


def _rest(action: Action, n: int) -> str:
    if action == Action.STOP:
        return ngettext("%(n)d is stopped", "%(n)d are stopped", n)
    if action == Action.LEAVE:
        return ngettext("%(n)d stays as it is", "%(n)d stay as they are", n)
    return ngettext("%(n)d stands in the way", "%(n)d stand in the way", n)


def _rank(vm: VmDecision) -> tuple[int, str]:
    """What stands in the way comes first, what stays as it is last."""
    order = (Action.BLOCKED, Action.STOP, Action.MIGRATE, Action.LEAVE)
    return order.index(vm.action), vm.vm_name


def _line(vm: VmDecision, before: Mapping[str, Any] | None, choices: Mapping[str, str] | None) -> PlanLine:
    return PlanLine(
        vm=vm,
        state=of_vm(vm.state),
        action=of_action(vm.action, restart=vm.restart),
        was=_was(vm, before),
        choice=(choices or {}).get(vm.vm_uuid, ""),
        can_choose=choices is not None and vm.state not in OFF,
    )


def _was(vm: VmDecision, before: Mapping[str, Any] | None) -> str:
    if before is None:
        return ""
    old = before.get(vm.vm_uuid)
    if old is None:
        return "new"
    if (old.get("action"), old.get("target")) == (vm.action.value, vm.target):
        return ""
    words = of_action(Action(old["action"])).words if old.get("action") in list(Action) else ""
    return f"{words} → {old['target']}" if old.get("target") else words


def of_action(action: Action, *, restart: bool = False) -> Shown:
    """What happens to a VM."""
    if action == Action.MIGRATE:
        return Shown(Tone.ACTIVE, _("Move"), "arrow-right")
    if action == Action.STOP:
        return Shown(Tone.WARN, _("Stop, start again") if restart else _("Stop"), "player-stop")
    if action == Action.LEAVE:
        return Shown(Tone.NEUTRAL, _("Stays"), "point")
    return Shown(Tone.BAD, _("In the way"), "hand-stop")
