"""A plan as it is shown: counted in words, a line a VM, and what differs from the one shown before."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from nodes.operations.plan.told_once import CommonNote, CommonReason, common_notes, common_reasons
from nodes.operations.plans import Action, Plan, Reason, VmDecision
from nodes.web.display.target_choice import TargetOption, target_options
from nodes.web.tones import Shown, Tone, of_vm

OFF = ("shutoff", "crashed")
NAMES_SHOWN = 8
"""VMs that are named beside what holds for them; the others unfold."""


@dataclass(frozen=True, slots=True)
class PlanLine:
    """One VM. ``was`` says what the plan shown before had for it, "" where nothing differs."""

    vm: VmDecision
    state: Shown
    action: Shown
    was: str = ""
    choice: str = ""
    """What the user wants for it: ``migrate``, ``stop``, ``migrate:`` and a node's UUID, or "" for what the
    policy says."""
    can_choose: bool = False
    reasons: tuple[Reason, ...] = ()
    """Its blockers that no other VM has; ``common`` are the numbers of those that others have too."""
    common: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()
    """Its notes that no other VM has."""
    autostart: str = ""
    """Whether libvirt starts it with its host, in words; "" where it does not."""
    targets: tuple[TargetOption, ...] = ()
    """The nodes that it could be told to move to."""

    @property
    def is_new(self) -> bool:
        return self.was == "new"


@dataclass(frozen=True, slots=True)
class Common:
    """What holds for several VMs: ``number`` is what their lines call it; ``names`` are the first of them,
    and ``more`` counts the others."""

    number: int
    message: str
    remedy: str
    count: int
    names: str
    more: tuple[str, ...] = ()

    @property
    def more_names(self) -> str:
        return ", ".join(self.more)


@dataclass(frozen=True, slots=True)
class ShownPlan:
    """A whole plan. ``gone`` are the VMs that the plan shown before had and this one has not; ``reasons`` and
    ``notes`` hold for several VMs each, and are told once."""

    plan: Plan
    headline: str
    lines: tuple[PlanLine, ...]
    blockers: tuple[Reason, ...]
    gone: tuple[str, ...] = ()
    differences: tuple[str, ...] = ()
    reasons: tuple[Common, ...] = ()
    notes: tuple[Common, ...] = ()

    @property
    def blocked(self) -> bool:
        return self.plan.is_blocked

    @property
    def tone(self) -> Tone:
        if self.blocked:
            return Tone.BAD
        warns = self.plan.losses or self.plan.ignored_inhibitors or self.plan.of(Action.STOP)
        return Tone.WARN if warns else Tone.GOOD


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
    many = [row for row in common_reasons(plan.decisions) if len(row.vm_uuids) > 1]
    told = [row for row in common_notes(plan.decisions) if len(row.vm_uuids) > 1]
    lines = tuple(
        _own_words(_line(plan, vm, before, choices), many, told) for vm in sorted(plan.decisions, key=_rank)
    )
    here = {vm.vm_uuid for vm in plan.decisions}
    gone = tuple(row["name"] for uuid, row in (before or {}).items() if uuid not in here)
    return ShownPlan(
        plan,
        headline(plan),
        lines,
        plan.blockers,
        gone,
        tuple(differences),
        tuple(_common(number, row.message, row.remedy, row.vms) for number, row in enumerate(many, 1)),
        tuple(_common(number, row.message, "", row.vms) for number, row in enumerate(told, 1)),
    )


def digest_of(plan: Plan) -> dict[str, dict[str, Any]]:
    """The decisions by VM, as small as the next plan needs them to mark what differs."""
    return {
        vm.vm_uuid: {
            "name": vm.vm_name,
            "action": vm.action.value,
            "target": vm.target,
            "encrypted": vm.encrypted,
        }
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


def _line(
    plan: Plan, vm: VmDecision, before: Mapping[str, Any] | None, choices: Mapping[str, str] | None
) -> PlanLine:
    choice = (choices or {}).get(vm.vm_uuid, "")
    can_choose = choices is not None and vm.state not in OFF
    return PlanLine(
        vm=vm,
        state=of_vm(vm.state),
        action=of_action(vm.action, restart=vm.restart),
        was=_was(vm, before),
        choice=choice,
        can_choose=can_choose,
        targets=target_options(plan, vm.vm_uuid, choice) if can_choose else (),
        autostart=_autostart(vm),
    )


def _common(number: int, message: str, remedy: str, vms: Sequence[str]) -> Common:
    first, more = vms[:NAMES_SHOWN], tuple(vms[NAMES_SHOWN:])
    return Common(number, message, remedy, len(vms), ", ".join(first), more)


def _own_words(line: PlanLine, many: Sequence[CommonReason], told: Sequence[CommonNote]) -> PlanLine:
    """The line without what is told above the table, but with its numbers."""
    numbers = {(row.code, row.message, row.remedy): number for number, row in enumerate(many, 1)}
    above = {row.message for row in told}
    keyed = [((reason.code, reason.message, reason.remedy), reason) for reason in line.vm.blockers]
    return replace(
        line,
        reasons=tuple(reason for key, reason in keyed if key not in numbers),
        common=tuple(sorted({numbers[key] for key, _reason in keyed if key in numbers})),
        notes=tuple(words for words in line.vm.notes if words not in above),
    )


def _autostart(vm: VmDecision) -> str:
    if not vm.autostart:
        return ""
    return _("autostart held") if vm.hold_autostart else _("autostart")


def _was(vm: VmDecision, before: Mapping[str, Any] | None) -> str:
    if before is None:
        return ""
    old = before.get(vm.vm_uuid)
    if old is None:
        return "new"
    now = (vm.action.value, vm.target, vm.encrypted)
    if (old.get("action"), old.get("target"), old.get("encrypted", vm.encrypted)) == now:
        return ""
    if (old.get("action"), old.get("target")) == (vm.action.value, vm.target):
        return _("encrypted") if old["encrypted"] else _("not encrypted")
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
