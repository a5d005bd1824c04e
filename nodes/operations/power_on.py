"""power-on-node: switched on through its BMC, and done when the host's own system and libvirt answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from django.conf import settings
from django.utils.translation import gettext as _

from nodes import access
from nodes.errors import BmcFailed, BmcMissing, BmcUnreachable
from nodes.hosts.bmc.system import POWERING_OFF, POWERING_ON
from nodes.hosts.deadlines import Clock
from nodes.models import ConnectionReason, Node, Operation, User
from nodes.operations.base import JsonObject, OperationKind, Run, StepHandle, StepPlan, removed
from nodes.operations.bmc import OFF, ON, has_bmc, open_bmc, power_state, stays_off
from nodes.operations.coming_back import Back, answering_boot_id, wait_until_back
from nodes.operations.connection_state import note_back, note_power
from nodes.operations.snapshots import store_snapshot, take_inventory
from nodes.permissions import POWER

SWITCH_S = 180.0
"""For the command, and from it to the BMC's word that the power is on. A busy BMC is asked again so long."""
POLL_S = 2.0
LOOK_AGAIN_S = 20.0


class PowerOnNode(OperationKind):
    """Safe to run again from the beginning: the BMC is asked for the state first, each time, and a machine
    that is on gets no command."""

    kind = "power-on-node"
    permission = POWER
    patient = True

    def title(self, operation: Operation) -> str:
        return _("Power on %s") % operation.node_name

    def steps(self, node: Node | None, params: JsonObject) -> Sequence[StepPlan]:
        return (
            StepPlan("state", _("Ask the BMC and the host")),
            StepPlan("switch", _("Switch on")),
            StepPlan("power", _("Wait for power")),
            StepPlan("back", _("Wait for the host")),
            StepPlan("inventory", _("Take the inventory")),
        )

    def check(self, user: User, node: Node | None, node_name: str, params: JsonObject) -> None:
        if node is not None and not has_bmc(node):
            raise BmcMissing(
                _("%s has no BMC: nothing could switch it on.") % node.name,
                remedy=_("Set its address and credential in the node's settings."),
                field="node",
            )

    def execute(self, run: Run) -> JsonObject:
        node = run.operation.node
        if node is None:
            raise removed()
        run.check_request()
        boot_id_before, was_on = self._ask(run, node)
        if not was_on:
            self._switch(run, node)
            self._wait_for_power(run, node)
        else:
            for code in ("switch", "power"):
                with run.step(code) as step:
                    step.skip(_("The power was on already."))
        back = self._wait_for_host(run, node, "" if was_on else boot_id_before)
        changes = self._take_inventory(run, node, back)
        return {"node": node.name, "boot_id": back.boot_id, "was_on": was_on, "changes": changes}

    def _ask(self, run: Run, node: Node) -> tuple[str, bool]:
        """The boot ID of the host's last run, "" where it is not known, and whether the power was on at the
        beginning of the operation."""
        with run.step("state") as step:
            if step.done_before:
                return str(step.data["boot_id_before"]), bool(step.data["was_on"])
            with open_bmc(node, clock=Clock(SWITCH_S), sleep=_pausing(run)) as bmc:
                state = bmc.power_state()
            answering = answering_boot_id(node)
            if state == OFF and answering is not None:
                state, answering = _looked_at_again(run, node, step)
            was_on = state == ON or answering is not None
            step.report(
                _("The BMC says %(state)s; the host %(answer)s.")
                % {
                    "state": state or _("nothing of the power"),
                    "answer": _("is silent") if answering is None else _("answers"),
                },
                data={"power_state": state, "was_on": was_on, "boot_id_before": node.boot_id},
            )
            return node.boot_id, was_on

    def _switch(self, run: Run, node: Node) -> None:
        with (
            run.step("switch") as step,
            # Twice: it may first have to be waited for, until it is off.
            open_bmc(node, clock=Clock(2 * SWITCH_S), sleep=_pausing(run)) as bmc,
        ):
            system = bmc.system()
            if system.power_state == POWERING_OFF:
                step.report(_("It is just being switched off."))
                _until(run, lambda: bmc.power_state() != POWERING_OFF, step)
                system = bmc.system()
            if system.power_state in (ON, POWERING_ON):
                step.report(_("The power is on already: no command was sent."))
                return
            step.report(
                _("The power is off. Sending the command."), data={"state_before": system.power_state}
            )
            try:
                kind = bmc.switch_on(system)
            except BmcUnreachable as error:
                # It may have been carried out all the same; the next step sees that.
                step.warn(_("The BMC has not confirmed the command: %s") % error.message)
            else:
                step.report(
                    _("The BMC has taken the command “%s”.") % kind
                    if kind
                    else _("The power is on; the BMC has not confirmed the command."),
                    data={"reset_type": kind},
                )

    def _wait_for_power(self, run: Run, node: Node) -> None:
        with run.step("power") as step:
            with open_bmc(node, sleep=_pausing(run)) as bmc:
                _until(run, lambda: bmc.power_state() == ON, step)
            with run.fenced():
                node.refresh_from_db(fields=["connection_reason"])
                if node.connection_reason == ConnectionReason.POWERED_OFF:
                    note_power(
                        node, ConnectionReason.REBOOTING, _("Switched on through its BMC; it is starting.")
                    )
            step.report(_("The BMC says that the power is on."))

    def _wait_for_host(self, run: Run, node: Node, boot_id_before: str) -> Back:
        with run.step("back") as step:
            back = wait_until_back(
                run,
                step,
                node,
                boot_id_before=boot_id_before,
                timeout_s=settings.NODEADMIN_REBOOT_S,
                look=_looking_at_power(run, node),
            )
            step.report(
                _("Back after %(seconds)d s, boot ID %(now)s (before: %(before)s).")
                % {"seconds": back.waited_s, "now": back.boot_id, "before": boot_id_before or _("unknown")},
                data={"boot_id": back.boot_id, "boot_id_before": boot_id_before, "waited_s": back.waited_s},
            )
        return back

    def _take_inventory(self, run: Run, node: Node, back: Back) -> int:
        with run.step("inventory") as step:
            taken = take_inventory(back.connection, access.last_good(node), node)
            with run.fenced():
                _snapshot, changes = store_snapshot(node, taken)
                note_back(node)
            step.report(_("%d changes") % len(changes))
        return len(changes)


def _until(run: Run, done: Callable[[], bool], step: StepHandle) -> None:
    """Ask the BMC until ``done``, for :data:`SWITCH_S` at most; one that does not answer is asked again."""
    clock, last = Clock(SWITCH_S), ""
    while True:
        run.check_cancelled()
        try:
            if done():
                return
            last = _("it says another state")
        except BmcUnreachable as error:
            last = error.message
            step.warn(last)
        if clock.passed:
            raise BmcFailed(
                _("The BMC did not tell of the power within %(seconds)d s as it should: %(why)s.")
                % {"seconds": SWITCH_S, "why": last},
                remedy=_("Look at the BMC's own log: a machine may refuse for a fault of its power."),
                extra={"reason": "not_on"},
            )
        time.sleep(POLL_S)


def _pausing(run: Run) -> Callable[[float], None]:
    """A sleep that ends where the operation is cancelled."""

    def sleep(seconds: float) -> None:
        clock = Clock(seconds)
        while not clock.passed:
            run.check_cancelled()
            time.sleep(min(POLL_S, clock.left))

    return sleep


def _looked_at_again(run: Run, node: Node, step: StepHandle) -> tuple[str | None, str | None]:
    """The power state and the boot ID of a host that answers though its BMC says Off, once they agree.

    One of them is over: a machine that has just been switched on or off. Raises BmcFailed where they go on
    contradicting each other: then the BMC is another machine's.
    """
    step.report(_("The BMC says Off, but the host answers. Looking again."))
    if stays_off(node, run.check_cancelled):
        answering = answering_boot_id(node)
        if answering is not None:
            raise _other_machine(node)
        return OFF, None
    return power_state(node), answering_boot_id(node)


def _looking_at_power(run: Run, node: Node) -> Callable[[], None]:
    """A look at the power now and then; it ends the wait for a machine that has gone off again."""
    clock = Clock(LOOK_AGAIN_S)

    def look() -> None:
        nonlocal clock
        if not clock.passed:
            return
        clock = Clock(LOOK_AGAIN_S)
        # Not by one look: a BMC may still tell of the time before it was switched on.
        if stays_off(node, run.check_cancelled) and answering_boot_id(node) is None:
            raise BmcFailed(
                _("The machine was on and has gone off again."),
                remedy=_("Look at the BMC's own log, and at the machine's console."),
                extra={"reason": "off_again"},
            )

    return look


def _other_machine(node: Node) -> BmcFailed:
    return BmcFailed(
        _("The BMC says that the machine is off, but %s answers: the BMC belongs to another machine.")
        % node.name,
        remedy=_("Correct the BMC's address or system in the node's settings. Nothing was switched."),
        extra={"reason": "other_system"},
    )
