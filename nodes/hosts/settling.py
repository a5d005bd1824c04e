"""What a migration that ended in whatever way has left of a VM, read from both hosts, and put right.

The rule never starts a VM that may run elsewhere and never ends one that may be the only one: it acts only
where both hosts have answered and what they say has one reading.
"""

from __future__ import annotations

import time
from enum import StrEnum

from nodes.errors import HostError, VmInBothPlaces, VmLost, VmStateUnknown
from nodes.hosts.deadlines import Clock
from nodes.hosts.domains import DomainFacts, find_domain, force_off, keep_autostart, remove_remnant, resume
from nodes.hosts.hypervisor import Hypervisor

LOOK_AGAIN_S = 0.5
READ_S = 15.0
SURE_S = 3.0
"""How long a bad state has to last to be believed: the hosts are read one after the other, and a half that is
being ended shows states of its own meanwhile."""


class Outcome(StrEnum):
    """Where the VM is: on the target, or still on the source (where a migration may be tried again).

    :func:`settle` never gives ENDED: that a VM is off on its source because somebody shut it down there is
    for who knows that the target never had anything of it.
    """

    MOVED = "moved"
    STAYED = "stayed"
    ENDED = "ended"


class Verdict(StrEnum):
    """What both sides together mean."""

    MOVED = "moved"
    STAYED = "stayed"
    FINISH = "finish"
    """It runs on the target; what stands still on the source is a remnant."""
    RESUME = "resume"
    """It stands still on the source, and the target has nothing of it."""
    WAIT = "wait"
    """libvirt itself is not done with it yet."""
    UNKNOWN = "unknown"
    BOTH = "both"
    LOST = "lost"


def settle(
    source: Hypervisor, target: Hypervisor, uuid: str, *, known_before: bool = True, timeout_s: float = 60.0
) -> Outcome:
    """Read both hosts anew, bring a migration that was cut short to its one possible end, and say which.

    ``known_before``: whether the target had a definition of the VM before the migration began. Harmless where
    none was under way. Waits up to ``timeout_s`` for libvirt to clear up by itself: the
    daemons notice after some 30 s that a client has vanished. Raises VmStateUnknown where a host does not
    answer or does not get done, VmInBothPlaces and VmLost; nothing has then been touched.
    """
    clock = Clock(timeout_s)
    acted: Verdict | None = None
    bad: Verdict | None = None
    bad_clock = Clock(SURE_S)
    while True:
        here, there = _read(source, uuid), _read(target, uuid)
        verdict = judge(here, there, patient=not clock.passed, known_before=known_before)
        if verdict in (Verdict.MOVED, Verdict.STAYED):
            if verdict is Verdict.MOVED:
                _forget_migrated(source, target, here, there)
            return Outcome(verdict.value)
        if verdict in (Verdict.FINISH, Verdict.RESUME):
            if acted is verdict:
                raise _unknown(source, target, here, there)
            acted = verdict
            _act(verdict, source, target, here, there)
            continue
        if verdict is not Verdict.WAIT:
            if verdict is not bad:
                bad, bad_clock = verdict, Clock(SURE_S)
            elif bad_clock.passed:
                raise _failure(verdict, source, target, here, there)
        time.sleep(LOOK_AGAIN_S)


def judge(
    here: DomainFacts | None,
    there: DomainFacts | None,
    *,
    patient: bool = True,
    known_before: bool = True,
) -> Verdict:
    """The reading of what source and target say of one VM (None: the host does not know it).

    Without ``patient`` nothing is waited for any more: a half that is still being received counts as active,
    and a job that is left on a VM which a migration has paused counts as none.

    A definition that the target did not have before (``known_before``) came with the end of the migration:
    the VM may have run there and ended, and must not go on at the source from before that.
    """
    here_active, there_active = _is_active(here), _is_active(there)
    if (here_active and _state(here) is None) or (there_active and _state(there) is None):
        return Verdict.WAIT if patient else Verdict.UNKNOWN
    if patient and (_is_receiving(there) or _is_sending(here)):
        return Verdict.WAIT
    if _is_receiving(there):
        return Verdict.BOTH if here_active else Verdict.UNKNOWN
    if _is_sending(here) and not _is_between(here):
        return Verdict.UNKNOWN
    if there_active and not here_active:
        return Verdict.MOVED
    if here_active and not there_active:
        if not _is_between(here):
            return Verdict.STAYED
        ran_there = there is not None and not known_before and there.reason != "failed"
        return Verdict.UNKNOWN if ran_there else Verdict.RESUME
    if here_active and there_active:
        return Verdict.FINISH if _is_between(here) and _state(there) == "running" else Verdict.BOTH
    return Verdict.LOST


def _state(facts: DomainFacts | None) -> str | None:
    return "running" if facts and facts.state == "blocked" else facts.state if facts else None


def _is_active(facts: DomainFacts | None) -> bool:
    return facts is not None and facts.active


def _is_between(facts: DomainFacts | None) -> bool:
    """Whether a migration has paused it: at the source after its last memory has gone."""
    return (
        _is_active(facts) and _state(facts) == "paused" and facts is not None and facts.reason == "migration"
    )


def _is_receiving(facts: DomainFacts | None) -> bool:
    if facts is None or not facts.active:
        return False
    return facts.job == "migration_in" or (
        facts.state == "paused" and facts.reason in ("migration", "starting_up")
    )


def _is_sending(facts: DomainFacts | None) -> bool:
    return facts is not None and facts.active and facts.job == "migration_out"


def _read(hypervisor: Hypervisor, uuid: str) -> DomainFacts | None:
    try:
        return find_domain(hypervisor, uuid, timeout_s=READ_S)
    except HostError as error:
        raise VmStateUnknown(
            f"What the VM does on {hypervisor.address} could not be read: {error.message}",
            remedy="Nothing was touched. Try it again when libvirt on both hosts answers.",
        ) from error


def _act(
    verdict: Verdict,
    source: Hypervisor,
    target: Hypervisor,
    here: DomainFacts | None,
    there: DomainFacts | None,
) -> None:
    if here is None:
        return
    if verdict is Verdict.RESUME:
        resume(source, here.uuid)
        return
    keep_autostart(source, target, here.uuid)
    if here.persistent and there is not None and not there.persistent:
        # The target did not come to keep its definition: the only one left must not go.
        force_off(source, here.uuid)
    else:
        remove_remnant(source, here.uuid)


def _forget_migrated(
    source: Hypervisor, target: Hypervisor, here: DomainFacts | None, there: DomainFacts | None
) -> None:
    """Remove the definition of a VM that has left, where the source failed between ending and undefining it.

    Started by somebody, it would run twice. One that was shut down, saved or destroyed there has a story of
    its own and stays.
    """
    if here is None or here.active or there is None:
        return
    if here.persistent and there.persistent and here.reason in _LEFT_BY_MIGRATION and not here.managed_save:
        keep_autostart(source, target, here.uuid)
        remove_remnant(source, here.uuid)


_LEFT_BY_MIGRATION = ("migrated", "failed", "crashed", "daemon", None)
"""Reasons of a shut-off domain after its migration; a libvirtd that has restarted knows none (None)."""


def _failure(
    verdict: Verdict,
    source: Hypervisor,
    target: Hypervisor,
    here: DomainFacts | None,
    there: DomainFacts | None,
) -> Exception:
    found = _words(source, target, here, there)
    if verdict is Verdict.BOTH:
        return VmInBothPlaces(
            f"The VM is active on both hosts: {found}. Nothing was touched.",
            remedy="Find out on the hosts which of them is the right one, and destroy the other.",
        )
    if verdict is Verdict.LOST:
        return VmLost(
            f"The VM is active on neither host: {found}. Nothing was touched.",
            remedy="It may have been shut down from inside. Start it where its definition is.",
        )
    return _unknown(source, target, here, there)


def _unknown(
    source: Hypervisor, target: Hypervisor, here: DomainFacts | None, there: DomainFacts | None
) -> VmStateUnknown:
    if _is_between(here) and there is not None and not there.active:
        return VmStateUnknown(
            f"The VM may have run on the target after its migration: {_words(source, target, here, there)}. "
            "Nothing was touched.",
            remedy=f"If it ran on {target.address}, destroy it on {source.address} and start it there; if it "
            f"did not, let it go on with virsh resume on {source.address}.",
        )
    return VmStateUnknown(
        f"libvirt has not got done with the VM: {_words(source, target, here, there)}.",
        remedy="Look at the VM on both hosts: virsh domstate --reason, virsh domjobinfo.",
    )


def _words(
    source: Hypervisor, target: Hypervisor, here: DomainFacts | None, there: DomainFacts | None
) -> str:
    return f"on {source.address} {_of_one(here)}, on {target.address} {_of_one(there)}"


def _of_one(facts: DomainFacts | None) -> str:
    if facts is None:
        return "it is not known"
    words = facts.state or "its state is unknown"
    if facts.reason:
        words += f" ({facts.reason})"
    return words + (f", job {facts.job}" if facts.job else "")
