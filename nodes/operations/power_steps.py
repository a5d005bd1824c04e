"""The power command, sent at most once per confirmation, and the proof of what it did.

    intent ──▶ command ──▶ gone ──▶ back           (reboot)
                       └─▶ off                     (shutdown)

What has been committed tells a later run how far this one came: with the step ``intent`` done, the boot ID
that the command is for is on record, and the host's own boot ID says whether it was carried out. The command
itself is conditional on that boot ID, so one that is sent twice meets no host that has come up again; and it
holds no longer than the lease under which it was sent, so none comes after another run has decided otherwise.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from django.conf import settings
from django.utils import timezone
from django.utils.translation import gettext as _

from nodes import access
from nodes.errors import (
    CommandTooLate,
    HostError,
    HostKeyMismatch,
    HostKeyRequired,
    HostStayedAway,
    HostStayedUp,
    HostTimeout,
    HostUnreachable,
    PlanBlocked,
    PlanChanged,
    ShutdownInhibited,
    ShutdownUnproved,
    VmStateUnknown,
    by_code,
)
from nodes.hosts import power
from nodes.hosts.shell import CommandTimeout, Shell
from nodes.models import ConnectionReason
from nodes.operations.base import OperationCancelled, Run, StepHandle
from nodes.operations.bmc import OFF, power_state, stays_off
from nodes.operations.coming_back import wait_until_back
from nodes.operations.connection_state import note_back, note_power
from nodes.operations.plan.power_blockers import PowerQuestion, inhibitor_in_words, power_verdict
from nodes.operations.plan.power_reading import COMMANDS, ask
from nodes.operations.plan_run import PlanRun, expired
from nodes.operations.plans import new_inhibitors

LOOK_S = 2.0
FRESH_S = 60.0
"""How old what was seen of the VMs may be when the command reaches the host."""
TRIES = 5
"""A command that reaches its host too late is decided upon and sent again, so many times in all."""

Send = Callable[..., None]
"""Takes the host's shell, the boot ID and the uptime that the command is for, and ``ignore_inhibitors``."""


@dataclass(frozen=True, slots=True)
class PowerCommand:
    """What is sent; ``comes_back``: the host is expected to answer again by itself."""

    send: Send
    comes_back: bool


REBOOT = PowerCommand(power.reboot, comes_back=True)
POWER_OFF = PowerCommand(power.power_off, comes_back=False)


class PowerSteps:
    def __init__(self, work: PlanRun) -> None:
        self.work = work
        self.run: Run = work.run
        self.node = work.node
        self._ignores = False

    # -- before ------------------------------------------------------------------------------------

    @property
    def sent(self) -> bool:
        """Whether the command was sent, as far as is known; then the steps before it are over for good."""
        return bool(self.run.data_of("command").get("sent_at")) or self.work.done("command")

    def intent(self) -> None:
        """The step that puts on record which boot of the host is to end, with no VM on it.

        Raises ConfirmationExpired, PlanChanged, VmStateUnknown, HostError, and PlanBlocked or
        InsufficientRightsOnHost where the host says that it would refuse the command.
        """
        if self.work.done("intent"):
            return
        with self.run.step("intent") as step:
            self._ensure_not_refused()
            boot_id = power.boot_id(self._shell())
            checked = self.run.data_of("check").get("boot_id")
            if checked and checked != boot_id:
                raise PlanChanged(
                    _("The host has been restarted since the plan was checked."),
                    remedy=_("Ask for a new plan."),
                )
            uptime_s = power.uptime_s(self._shell())
            self._ensure_fit()
            step.report(_("Boot %s is to end.") % boot_id, data={"boot_id": boot_id, "uptime_s": uptime_s})

    def _ensure_fit(self) -> None:
        """Raise where the command may not be sent (any more)."""
        self.work.require_fresh()
        try:
            self.work.ensure_idle()
        except VmStateUnknown:
            # libvirt down was known, and accepted, when the plan was confirmed.
            if self.work.plan.vms_known:
                raise
            self.run.log(_("The VMs' states are unknown, as was accepted."), "warning", step_code="intent")

    def _ensure_not_refused(self) -> None:
        """Raise, with the code of the first blocker, where the host says that it would refuse the command."""
        options = self.work.options
        connection = access.connect(access.target_for(self.node))
        try:
            facts = ask(
                connection,
                COMMANDS[self.run.operation.kind],
                ignore_inhibitors=options.ignore_inhibitors,
            )
        except CommandTimeout as error:
            self.run.log(_("Not verified: whether the host would refuse the command (%s).") % error.message)
            return
        found = power_verdict(PowerQuestion(facts), options)
        for reason in found.blockers:
            raise by_code(reason.code)(reason.message, remedy=reason.remedy)
        if strange := new_inhibitors(self.work.plan, found.ignored):
            words = [inhibitor_in_words(row) for row in strange]
            raise ShutdownInhibited(" ".join(words), remedy=_("Ask for a new plan, which names it."))
        self._ignores = bool(found.ignored)

    # -- the command -------------------------------------------------------------------------------

    def command(self, what: PowerCommand) -> None:
        """The step in which the command is sent, unless an earlier run's has been carried out.

        Raises what :meth:`intent` raises, and PermissionDenied, PowerRefused, BootIdChanged, CommandTooLate,
        InsufficientRightsOnHost.
        """
        if self.work.done("command"):
            return
        boot_id = str(self.run.data_of("intent")["boot_id"])
        with self.run.step("command") as step:
            if self.run.resumed and self._carried_out(step, what, boot_id):
                step.report(_("It had been sent before the server was cut off."), data={"found_done": True})
            else:
                if self.run.resumed:
                    step.report(_("It has not been carried out."), data={"sent_at": None})
                    # What was sent is waited for whoever asked for it. It is not sent anew without the right.
                    self.run.require_rights()
                self._send(step, what, boot_id)
        if what.comes_back:
            with self.run.fenced():
                note_power(self.node, ConnectionReason.REBOOTING, _("Rebooted by an operation."))

    def _send(self, step: StepHandle, what: PowerCommand, boot_id: str) -> None:
        for left in reversed(range(TRIES)):
            try:
                self._send_once(step, what, boot_id)
                return
            except CommandTooLate:
                if not left:
                    raise

    def _send_once(self, step: StepHandle, what: PowerCommand, boot_id: str) -> None:
        shell, until_s = self._cleared()
        step.report(_("Sends the command."), data={"sent_at": _now(), "until_s": until_s})
        send = partial(what.send, ignore_inhibitors=True) if self._ignores else what.send
        try:
            send(shell, boot_id, until_s)
        except CommandTooLate as error:
            step.report(error.message, data={"sent_at": None})
            raise
        except (HostUnreachable, HostTimeout) as error:
            # It may have arrived all the same; the boot ID will tell.
            step.warn(_("It is not known whether the host has taken the command: %s") % error.message)
            return
        except (HostError, PlanBlocked):
            step.report(_("It was refused."), data={"sent_at": None})
            raise
        step.report(_("The host has taken the command."), data={"accepted_at": _now()})

    def _cleared(self) -> tuple[Shell, float]:
        """The host's shell, and the uptime of the host up to which the command may come: until then what was
        seen of the VMs is fresh, nobody else can have taken the operation over, and the intent holds.

        How old the intent is, the host's own uptime tells, which no clock of ours can set back.

        Raises where the command may not be sent.
        """
        self._ensure_not_refused()
        looked_at_s = power.uptime_s(self._shell())
        intended_s = self.run.data_of("intent").get("uptime_s", looked_at_s)
        holds_until_s = float(intended_s) + settings.NODEADMIN_CONFIRMATION_LIFE_S
        if looked_at_s > holds_until_s:
            raise expired(
                _("The host has been up for %d minutes since this was decided; it may have filled again.")
                % ((looked_at_s - float(intended_s)) / 60)
            )
        self._ensure_fit()
        shell = self._shell()
        leased_until_s = power.uptime_s(shell) + settings.NODEADMIN_LEASE_S
        until_s = min(looked_at_s + FRESH_S, leased_until_s, holds_until_s)
        self.run.check_cancelled()
        self.run.renew()
        return shell, until_s

    def _carried_out(self, step: StepHandle, what: PowerCommand, boot_id: str) -> bool:
        """Whether the boot on record has ended or is ending. Waits for the host where it does not answer.

        Raises HostStayedAway or ShutdownUnproved where it never does, for then nothing can be told, and
        PlanChanged where the host was restarted by somebody else.
        """
        sent = bool(step.data.get("sent_at"))
        patience = (
            settings.NODEADMIN_REBOOT_S if what.comes_back or not sent else settings.NODEADMIN_SILENCE_S
        )
        end = time.monotonic() + patience
        while True:
            try:
                shell = self._shell()
                ended = power.boot_id(shell) != boot_id
                if ended and not sent:
                    raise PlanChanged(
                        _("The host has been restarted before the command was sent."),
                        remedy=_("Ask for a new plan."),
                    )
                return ended or (sent and power.is_stopping(shell) is True)
            except HostError as error:
                if time.monotonic() >= end:
                    raise self._untold(what, error) from error
                step.report(_("Waits for the host, whose boot ID tells whether the command was carried out."))
            self.run.check_cancelled()
            time.sleep(LOOK_S)

    def _untold(self, what: PowerCommand, error: HostError) -> HostError:
        kind = HostStayedAway if what.comes_back else ShutdownUnproved
        return kind(
            _("The host does not answer (%s): whether the command reached it cannot be told.")
            % error.message,
            remedy=_("Look at its console. Nothing more was sent."),
        )

    # -- after -------------------------------------------------------------------------------------

    def let_go(self) -> OperationCancelled:
        """What a cancel after the command comes to: the host does what it was told to do."""
        words = _("%s has been told to go down, which a cancel does not undo. It is no longer waited for.")
        words %= self.node.name
        owed = ", ".join(vm.vm_name for vm in self.work.stopped_here())
        return OperationCancelled(f"{words} {_('Stopped for it, and off: %s.') % owed}" if owed else words)

    def gone(self, code: str = "gone") -> None:
        """The step in which the host ends its boot. Raises HostStayedUp."""
        if self.work.done(code):
            return
        with self.run.step(code) as step:
            self._wait_until_gone(step)

    def _wait_until_gone(self, step: StepHandle) -> bool:
        """Wait until the host answers no more; True where it is back already with another boot."""
        boot_id = str(self.run.data_of("intent")["boot_id"])
        end = time.monotonic() + settings.NODEADMIN_POWER_OFF_S
        while True:
            try:
                if power.boot_id(self._shell()) != boot_id:
                    # When it went was not seen: it was away and is back.
                    step.report(_("It has ended that boot."))
                    return True
            except HostError as error:
                if _is_gone(error):
                    step.report(_("It answers no more."), data={"gone_at": _now()})
                    return False
                step.report(_("It still answers: %s") % error.message)
                access.pool().drop_node(str(self.node.uuid))
            if time.monotonic() >= end:
                raise self._stayed_up()
            self.run.check_cancelled()
            time.sleep(LOOK_S)

    def is_going_on(self) -> bool:
        """Whether the host has not carried out the command, and will not: it is in the boot that was to end,
        says that it is not on its way down, and what was sent to it holds no longer."""
        command, boot_id = self.run.data_of("command"), str(self.run.data_of("intent")["boot_id"])
        until_s = float(command.get("until_s") or 0.0)
        try:
            shell = self._shell()
            if not command.get("accepted_at") and (early_s := until_s - power.uptime_s(shell)) > 0:
                time.sleep(min(early_s + 1.0, settings.NODEADMIN_LEASE_S + 1.0))
                if power.uptime_s(shell) <= until_s:
                    return False
            return power.is_stopping(shell) is False and power.boot_id(shell) == boot_id
        except HostError:
            return False

    def _stayed_up(self) -> HostStayedUp:
        if self.run.data_of("command").get("accepted_at"):
            return HostStayedUp(
                _("%s took the command and still runs.") % self.node.name,
                remedy=_("Something holds up its shutdown. Look at its console or journal."),
            )
        return HostStayedUp(
            _("%s still runs; whether the command has reached it is not known.") % self.node.name,
            remedy=_("Look at its console or journal. If it is not on its way down, ask for a new plan."),
        )

    def back(self) -> None:
        """The step in which the host is back: another boot ID, and libvirt answers. Raises HostError."""
        if self.work.done("back"):
            return
        with self.run.step("back") as step:
            before = str(self.run.data_of("intent")["boot_id"])
            back = wait_until_back(
                self.run, step, self.node, boot_id_before=before, timeout_s=settings.NODEADMIN_REBOOT_S
            )
            seconds = self._seconds_down()
            step.report(
                _("Back after %d s: another boot ID, and libvirt answers.") % math.ceil(seconds)
                if seconds is not None
                else _("Back: another boot ID, and libvirt answers."),
                data={"boot_id": back.boot_id, "boot_id_before": before, "down_s": seconds},
            )
            with self.run.fenced():
                note_back(self.node)

    def _seconds_down(self) -> float | None:
        """From when it fell silent until now; where that was not seen (a host that was back before anyone
        looked, or the one that nodeadmin itself runs on), from when it took the command.

        Rounded up: what was away was so for longer than 0 s. None where the clock tells nothing, as on a
        host whose own was set in between.
        """
        gone, command = self.run.data_of("gone"), self.run.data_of("command")
        since = gone.get("gone_at") or command.get("accepted_at") or command.get("sent_at")
        if not since:
            return None
        seconds = (timezone.now() - datetime.fromisoformat(str(since))).total_seconds()
        return math.ceil(seconds * 10) / 10 if seconds > 0 else None

    def off(self) -> bool:
        """The step that proves that the host is off; False where it is up again with another boot.

        It took the command, its connection ended, and it has answered nothing for a while; its BMC, where it
        has one, says the same. Raises HostStayedUp, ShutdownUnproved.
        """
        if self.work.done("off"):
            return bool(self.run.data_of("off").get("off"))
        with self.run.step("off") as step:
            silent_s = None if self._wait_until_gone(step) else self._stays_silent(step)
            if silent_s is None:
                step.report(_("It was off, and has been started again."), data={"off": False})
                with self.run.fenced():
                    note_back(self.node)
                return False
            proof = self._proof()
            words = _("It is off: nothing has answered for %d s.") % silent_s
            if silent_s < settings.NODEADMIN_SILENCE_S:
                words, silent_s, proof["bmc"] = _("It is off: its BMC says so."), None, OFF
            step.report(words, data={"off": True, **proof, "silent_s": silent_s})
            with self.run.fenced():
                note_power(self.node, ConnectionReason.POWERED_OFF, _("Shut down by an operation."))
            return True

    def _proof(self) -> dict[str, str | None]:
        """What stands beside the silence. Raises ShutdownUnproved where it is too little."""
        known = self.run.data_of("command")
        said = self._asked_bmc()
        if said not in (None, OFF):
            raise ShutdownUnproved(
                _("Nothing answers any more, but the BMC of %(node)s says: %(said)s.")
                % {"node": self.node.name, "said": said},
                remedy=_("Look at its console: it may hang on its way down."),
            )
        if said is None and not known.get("accepted_at") and not known.get("found_done"):
            raise ShutdownUnproved(
                _("%s has fallen silent, but whether it took the command is not known.") % self.node.name,
                remedy=_("Look at its console."),
            )
        return {"accepted_at": known.get("accepted_at"), "bmc": said}

    def _asked_bmc(self) -> str | None:
        """The BMC's word, which may lag a little behind the host; None where there is none."""
        end = time.monotonic() + settings.NODEADMIN_SILENCE_S
        while (said := power_state(self.node)) not in (None, OFF) and time.monotonic() < end:
            self.run.check_cancelled()
            time.sleep(LOOK_S)
        return said

    def _stays_silent(self, step: StepHandle) -> float | None:
        """Seconds for which nothing at all has answered: those of the proof, fewer where its BMC has ended
        the wait; None where another boot answers.

        A host that answers with the boot that is to end has not ended it: the time begins anew. What lets
        nobody in may be the host on its way, or a gateway before it, which goes on answering for it when it
        is off: there only a BMC can tell.
        """
        before = str(self.run.data_of("intent")["boot_id"])
        target = access.target_for(self.node)
        last = time.monotonic() + settings.NODEADMIN_POWER_OFF_S
        since = time.monotonic()
        while time.monotonic() - since < settings.NODEADMIN_SILENCE_S:
            if power.answers(target, LOOK_S):
                since = time.monotonic()
                try:
                    if power.boot_id(self._shell()) != before:
                        return None
                except HostError:
                    # Something answers, so the BMC's word is not taken at once.
                    if stays_off(self.node, self.run.check_cancelled):
                        return time.monotonic() - since
                if time.monotonic() >= last:
                    raise HostStayedUp(
                        _("%s goes on answering.") % self.node.name, remedy=_("Look at its console.")
                    )
            self.run.check_cancelled()
            step.report(progress=(time.monotonic() - since) / settings.NODEADMIN_SILENCE_S)
            time.sleep(LOOK_S)
        return settings.NODEADMIN_SILENCE_S

    def _shell(self) -> Shell:
        return access.connect(access.target_for(self.node)).shell


def _is_gone(error: HostError) -> bool:
    """Whether the error proves that the host answers no more, or that another system answers in its place.

    One that refuses users (pam_nologin(8)), whose command hangs or whose output cannot be read, still runs.
    So does one that opens no session, or that is not asked because all channels to it are in use.
    """
    if error.extra.get("reason") in ("no_session", "channels_busy"):
        return False
    lost = isinstance(error, (HostUnreachable, HostTimeout)) and not isinstance(error, CommandTimeout)
    return lost or isinstance(error, (HostKeyMismatch, HostKeyRequired))


def _now() -> str:
    return timezone.now().isoformat()
