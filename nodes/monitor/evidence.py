"""What the signs of one node add up to. Pure: it is told what happened and when, and says what to do next.

    dialing ──greeted──▶ connecting ──stream──▶ listening ──late beat──▶ doubting ──▶ lost: say so, wait
       ▲                                            │  ▲                    │
       └──────── waiting ◀── lost                   │  └─── a beat ─────────┘
                                                    └── stream ended ──▶ dialing

Contact counts as lost after two signs: the beats stopped, or the connection ended, and then a fresh
connection failed too. What a fresh connection is told outright (another host key, a refused login) needs no
second sign. A host that lets us in but whose streams bring no beat, twice in a row, is no more online than
one that does not answer: its disk may have died under a network that lives on.
"""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field
from enum import Enum

from nodes.inventory.beat import Beat


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds. With beats every 5 s a host that vanishes is found out within 9.5 s of its last beat."""

    period_s: float = 5.0
    grace_s: float = 1.5
    """How late a beat may be before the host is asked otherwise."""
    greeting_s: float = 3.0
    first_beat_s: float = 15.0
    """From the opened stream to its first line: a busy host takes its time to start a shell."""
    again_s: float = 1.5
    """Between the first failed attempt and the second sign."""
    shortest_s: float = 1.0
    longest_s: float = 5.0
    patient_longest_s: float = 30.0
    patient_after_s: float = 600.0
    """The longest wait between attempts, and that for hosts which have been away for long."""
    refused_longest_s: float = 60.0
    """After a refused login: attempts may lock the account. After a shell that tells nothing: each attempt
    may leave a process on the host that hangs."""
    flaps: int = 3
    flap_window_s: float = 600.0
    calm_s: float = 30.0
    """A node lost this often within the window is back only after so long without a gap."""


AWAY = ("unreachable", "jump_host_unreachable")
"""Reasons for which a host could not even be asked: trying again costs it nothing."""


class Phase(Enum):
    DIALING = "dialing"
    CONNECTING = "connecting"
    LISTENING = "listening"
    DOUBTING = "doubting"
    WAITING = "waiting"


class Do(Enum):
    """What the monitor is to do for the node."""

    NOTHING = "nothing"
    DIAL = "dial"
    CONNECT = "connect"
    """Open a stream over the connection there is, or over a new one."""
    RECONNECT = "reconnect"
    """The same, over a new one: the old one has gone silent."""


@dataclass(frozen=True, slots=True)
class State:
    """What is known of the node. ``online`` None is: nothing yet. ``reason`` is a ConnectionReason."""

    online: bool | None = None
    reason: str = ""
    detail: str = ""


@dataclass(slots=True)
class Evidence:
    """The signs of one node. Times are of one monotonic clock, in seconds."""

    timing: Timing
    direct: bool = False
    """Nothing to dial: this machine, or libvirt's test driver."""
    state: State = field(default_factory=State)
    phase: Phase = Phase.WAITING
    deadline: float = 0.0
    lost_at: float | None = None
    signs: int = 0
    attempts: int = 0
    """Losses in a row for one reason: the more of them, the longer the wait."""
    refusals: int = 0
    """The same of those for which the host let us in or turned us away, whatever lay between them: each may
    cost an account a try, or leave a process on the host."""
    calm_since: float | None = None
    last_beat: float | None = None
    losses: deque[float] = field(default_factory=lambda: deque(maxlen=16))
    opened_at: float = 0.0
    has_beaten: bool = False
    """Whether the stream that was opened last has brought a beat."""
    mute: int = 0
    """Streams in a row that stood, over a host that answers, and brought no beat when one was due."""
    is_stuck: bool = False
    """Whether the last of them still stands."""
    stalled: int = 0
    """Attempts to enter in a row that came to nothing, though the host had greeted."""
    brief: int = 0
    """Streams in a row that ended within a period."""

    # -- what happens ------------------------------------------------------------------------------

    def start(self, now: float) -> Do:
        """Begin, or begin anew because the node's address or credential has changed."""
        self.signs = self.attempts = self.refusals = self.mute = self.stalled = 0
        return self._reach(now)

    def greeted(self, now: float, refusal: str = "") -> Do:
        """The host answered a fresh dial; ``refusal`` is what its login shell said instead of a beat."""
        if self.phase is Phase.DOUBTING:
            return self._stuck(now, refusal)
        if self.phase is Phase.DIALING:
            self._enter(Phase.CONNECTING, now, None)
            # Over the same connection the sessions of commands that hang would add up to sshd's MaxSessions.
            return Do.RECONNECT if self.is_stuck else Do.CONNECT
        return Do.NOTHING

    def silent(self, now: float, detail: str, reason: str = "unreachable") -> Do:
        """The host did not answer a fresh dial, or ended the attempt to connect; ``reason`` is one of
        :data:`AWAY`."""
        if self.phase is Phase.LISTENING or self.phase is Phase.WAITING:
            return Do.NOTHING
        self.signs += 2 if self.phase is Phase.DOUBTING else 1
        self.stalled += self.phase is Phase.CONNECTING
        if self.signs >= 2 or self.state.online is False:
            return self._lost(now, State(False, reason, detail), self._longest(now))
        self._enter(Phase.WAITING, now, self.timing.again_s)
        return Do.NOTHING

    def refused(self, now: float, reason: str, detail: str) -> Do:
        """A fresh connection was told outright why not: another host key, a refused login."""
        return self._lost(now, State(False, reason, detail), self.timing.refused_longest_s)

    def postponed(self, now: float) -> Do:
        """The attempt failed for a reason of ours, which tells nothing of the host."""
        self._enter(Phase.WAITING, now, self.timing.longest_s)
        return Do.NOTHING

    def opened(self, now: float) -> Do:
        """The stream stands; its first line is awaited."""
        self.opened_at, self.has_beaten, self.is_stuck, self.stalled = now, False, False, 0
        self._enter(Phase.LISTENING, now, self.timing.first_beat_s)
        return Do.NOTHING

    def heard(self, now: float, beat: Beat) -> Do:
        """A beat came, at ``now``."""
        if self.phase not in (Phase.LISTENING, Phase.DOUBTING):
            return Do.NOTHING
        self._enter(Phase.LISTENING, now, self.timing.period_s + self.timing.grace_s)
        self.signs = self.attempts = self.refusals = self.mute = 0
        self.has_beaten = True
        self.last_beat, self.lost_at = now, None
        if self.calm_since is None:
            self.calm_since = now
        if beat.libvirt_up is False:
            self._note_loss(now)
            # The beats go on: without this a libvirt that comes and goes would always count as calm.
            self.calm_since = None
            self.state = State(False, "libvirt_down", "Nobody listens at libvirt's socket on the host.")
        elif self.state.online is not True and self._is_calm(now):
            self.state = State(True)
        return Do.NOTHING

    def ended(self, now: float, refusal: str = "") -> Do:
        """The stream ended: with the connection, or because the loop on the host was ended.

        ``refusal`` is what the login shell said instead of beginning it.
        """
        if self.phase not in (Phase.LISTENING, Phase.DOUBTING):
            return Do.NOTHING
        self.calm_since = None
        if not self.has_beaten:
            self.mute += 1
            if self._is_mute:
                ends = "The heartbeat's command ends on the host before its first line."
                return self._lost_as_mute(now, refusal or ends)
        self.brief = self.brief + 1 if now - self.opened_at < self.timing.period_s else 0
        if self.brief >= 2:
            # Streams that end as soon as they stand would otherwise be opened dozens of times a second.
            self._enter(Phase.WAITING, now, self.timing.again_s)
            return Do.NOTHING
        return self._reach(now)

    def passed(self, now: float) -> Do:
        """The deadline has passed."""
        if now < self.deadline:
            return Do.NOTHING
        if self.phase is Phase.WAITING:
            return self._reach(now)
        if self.phase is Phase.LISTENING:
            self.calm_since = None
            if self.direct:
                return self._stuck(now)
            self._enter(Phase.DOUBTING, now, None)
            return Do.DIAL
        return Do.NOTHING

    def slept(self, now: float, seconds: float) -> None:
        """The monitor itself stood still for so long: what it has not heard meanwhile tells nothing.

        What came of it before it could be told of its sleep already counts from now, and is not moved again.
        """
        listening = self.phase is Phase.LISTENING
        longest = now + (self.timing.first_beat_s if listening else self._longest(now))
        self.deadline = min(self.deadline + seconds, max(self.deadline, longest))
        if self.last_beat is not None:
            self.last_beat = min(self.last_beat + seconds, now)

    # -- what it means -----------------------------------------------------------------------------

    @property
    def in_doubt(self) -> bool:
        """Whether contact is missing just now, established or not."""
        return self.phase is not Phase.LISTENING

    def heard_after(self, moment: float) -> bool:
        return self.last_beat is not None and self.last_beat > moment

    @property
    def is_flapping(self) -> bool:
        return len(self.losses) >= self.timing.flaps

    @property
    def _is_mute(self) -> bool:
        return self.mute >= 2 or (self.mute >= 1 and self.state.online is False)

    def _stuck(self, now: float, refusal: str = "") -> Do:
        """The host answers, and a beat is overdue all the same."""
        self.mute, self.is_stuck = self.mute + 1, True
        if self._is_mute and not self.has_beaten:
            silent = "The host lets nodeadmin in, but the heartbeat's command prints nothing."
            return self._lost_as_mute(now, refusal or silent)
        self._enter(Phase.CONNECTING, now, None)
        return Do.RECONNECT

    def _lost_as_mute(self, now: float, detail: str) -> Do:
        return self._lost(now, State(False, "probe_failing", detail), self.timing.refused_longest_s)

    def _reach(self, now: float) -> Do:
        self._enter(Phase.CONNECTING if self.direct else Phase.DIALING, now, None)
        return Do.CONNECT if self.direct else Do.DIAL

    def _enter(self, phase: Phase, now: float, seconds: float | None) -> None:
        self.phase = phase
        # Dialing and connecting end by themselves: every step of them has a deadline of its own.
        self.deadline = float("inf") if seconds is None else now + seconds

    def _lost(self, now: float, state: State, longest_s: float) -> Do:
        self._note_loss(now)
        if self.lost_at is None:
            self.lost_at = now
        if state.reason != self.state.reason:
            # A host that starts is silent for long, and then refuses logins for a moment (pam_nologin(8)):
            # the patience with the one is none with the other.
            self.attempts = 0
        self.attempts += 1
        self.refusals += state.reason not in AWAY
        tries = self.attempts if state.reason in AWAY else self.refusals
        self.state = state
        self.calm_since = None
        wait_s = min(longest_s, self.timing.shortest_s * 2 ** min(tries, 10))
        # Jitter, so that a thousand hosts behind one switch do not come back in the same second.
        self._enter(Phase.WAITING, now, wait_s * random.uniform(0.6, 1.0))  # noqa: S311
        return Do.NOTHING

    def _longest(self, now: float) -> float:
        away = now - self.lost_at if self.lost_at is not None else 0.0
        patient = away > self.timing.patient_after_s
        return self.timing.patient_longest_s if patient else self.timing.longest_s

    def _note_loss(self, now: float) -> None:
        if self.state.online is True:
            self.losses.append(now)

    def _is_calm(self, now: float) -> bool:
        while self.losses and now - self.losses[0] > self.timing.flap_window_s:
            self.losses.popleft()
        if not self.is_flapping:
            return True
        return self.calm_since is not None and now - self.calm_since >= self.timing.calm_s
