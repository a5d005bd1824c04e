"""Switching a machine on through its BMC: one command, sent again only where it was not carried out.

The action is ComputerSystem.Reset (DSP0266, section 7.6; DSP0268). Neither an error nor a missing answer
proves that nothing happened: before the command is sent again, the power state is read, for as long as a BMC
may tell of a change late.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from nodes.errors import BmcFailed
from nodes.hosts.bmc.answer import REDIRECTS, Answer
from nodes.hosts.bmc.attempts import Lost
from nodes.hosts.bmc.service import MAX_HOPS, RedfishService
from nodes.hosts.bmc.system import POWERING_OFF, System
from nodes.hosts.deadlines import Clock

_TAKEN = frozenset({200, 201, 202, 204})
_ETAG_DEMANDED = frozenset({412, 428})
"""Precondition Failed, Precondition Required (RFC 9110, section 15.5.13; RFC 6585, section 3)."""
_MAX_ETAGS = 4


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What came of one command: ``taken``, ``found_on``, or why and how long to wait before the next one."""

    taken: bool = False
    found_on: bool = False
    words: str = ""
    wait_s: float = 0.0
    asked_s: float | None = None
    doubtful: bool = False
    answered: bool = False


class SwitchOn:
    """One machine to be switched on. ``read`` gives it as it is now, and may raise as RedfishService does."""

    def __init__(
        self, service: RedfishService, read: Callable[[Clock], System], system: System, kind: str
    ) -> None:
        self._service = service
        self._read = read
        self._target = system.reset_target or ""
        self._kind = kind
        self._clock = service.call_clock()
        self._etag: str | None = None
        self._etags = 0
        self._was_going_down = False

    def run(self) -> bool:
        """Whether the BMC has taken the command; False where the machine was found on instead.

        Raises BmcFailed (reset_refused) with the BMC's words, and BmcBusy or BmcUnreachable at the deadline.
        """
        attempts, pause_s = self._service.attempts(self._clock), self._service.pace.first_pause_s
        while True:
            outcome = self._send()
            if outcome.taken or outcome.found_on:
                return outcome.taken
            if outcome.words:
                attempts.note(outcome.words, answered=outcome.answered)
                wait_s = max(pause_s, outcome.wait_s)
                if wait_s >= self._clock.left:
                    raise attempts.error(outcome.asked_s)
                self._service.sleep(wait_s)
                pause_s = min(2 * pause_s, self._service.pace.longest_pause_s)
            if self._is_on(watch=outcome.doubtful):
                return False

    def _send(self) -> _Outcome:
        """Send the command once, along redirections within the service."""
        path = self._target
        for _hop in range(MAX_HOPS):
            try:
                answer = self._service.once(
                    "POST", path, {"ResetType": self._kind}, clock=self._clock, if_match=self._etag
                )
            except Lost as lost:
                return _Outcome(words=str(lost), doubtful=lost.sent)
            if answer.status not in REDIRECTS or answer.status == 303:  # See Other: it has been carried out
                return self._judged(answer, path)
            path = self._service.redirected(path, answer)
        raise self._service.not_redfish(f"its redirections from {self._target} do not come to an end")

    def _judged(self, answer: Answer, path: str) -> _Outcome:
        if answer.status in _TAKEN or answer.status == 303:
            return _Outcome(taken=True)
        if answer.status in _ETAG_DEMANDED and self._etags < _MAX_ETAGS:
            self._etags += 1
            found_on = self._is_on(watch=False)
            if found_on or self._etag:
                return _Outcome(found_on=found_on)
        if answer.says_later:
            asked = answer.retry_after_s
            doubtful = answer.may_have_been_carried_out
            words = self._service.seen(answer, path)
            wait_s = asked or 0.0
            return _Outcome(words=words, wait_s=wait_s, asked_s=asked, doubtful=doubtful, answered=True)
        return self._conflict(answer, path)

    def _conflict(self, answer: Answer, path: str) -> _Outcome:
        """A refusal: because the machine is on already, because it is on its way down, or for good."""
        if self._is_on(watch=answer.status == 409):
            return _Outcome(found_on=True)
        if self._was_going_down:
            return _Outcome(words=self._service.seen(answer, path), answered=True)
        raise self._refused(answer)

    def _is_on(self, *, watch: bool) -> bool:
        """Whether the machine is on; with ``watch`` looked at for as long as a BMC may be late.

        One that is being switched off is waited for: it would refuse the command.
        """
        pace, self._was_going_down = self._service.pace, False
        until = Clock(min(pace.late_s, self._clock.left))
        while True:
            system = self._read(self._clock)
            self._etag = system.etag if self._etags else None
            if system.is_on:
                return True
            going_down = system.power_state == POWERING_OFF
            self._was_going_down = self._was_going_down or going_down
            clock = self._clock if going_down else until
            if not (watch or going_down) or clock.left <= pace.look_s:
                return False
            self._service.sleep(pace.look_s)

    def _refused(self, answer: Answer) -> BmcFailed:
        why = answer.said or "without a reason"
        return self._service.failed(
            "reset_refused", f"The BMC refused to switch the system on (HTTP {answer.status}): {why}"
        )
