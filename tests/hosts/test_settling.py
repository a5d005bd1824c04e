"""The one reading of what two hosts say of a VM; where there are two, nothing is concluded."""

from __future__ import annotations

import pytest

from nodes.hosts.domains import DomainFacts
from nodes.hosts.settling import Verdict, judge


def vm(state: str | None, reason: str | None = None, *, job: str | None = None) -> DomainFacts:
    return DomainFacts(
        uuid="6b1b7b8e-8f3d-4f57-8b53-0a4bb2a0f0a1",
        name="web",
        state=state,
        reason=reason,
        active=state != "shutoff",
        persistent=True,
        managed_save=False,
        memory_max_bytes=None,
        vcpus=None,
        xml=None,
        job=job,
        block_jobs=(),
        snapshots=0,
    )


RUNS, OFF = vm("running", "booted"), vm("shutoff", "shutdown")
BETWEEN = vm("paused", "migration")
SENDS = vm("running", "booted", job="migration_out")
RECEIVES = vm("paused", "migration", job="migration_in")
PAUSED = vm("paused", "user")


@pytest.mark.parametrize(
    ("here", "there", "verdict"),
    [
        (None, RUNS, Verdict.MOVED),
        (OFF, RUNS, Verdict.MOVED),
        (None, PAUSED, Verdict.MOVED),
        (RUNS, None, Verdict.STAYED),
        (RUNS, OFF, Verdict.STAYED),
        (PAUSED, None, Verdict.STAYED),
        (vm("paused", "ioerror"), OFF, Verdict.STAYED),
        (BETWEEN, RUNS, Verdict.FINISH),
        (BETWEEN, vm("blocked"), Verdict.FINISH),
        (BETWEEN, None, Verdict.RESUME),
        (BETWEEN, OFF, Verdict.RESUME),
        (RUNS, RUNS, Verdict.BOTH),
        (PAUSED, RUNS, Verdict.BOTH),
        (BETWEEN, PAUSED, Verdict.BOTH),
        (RUNS, PAUSED, Verdict.BOTH),
        (None, None, Verdict.LOST),
        (OFF, None, Verdict.LOST),
        (None, OFF, Verdict.LOST),
    ],
)
def test_what_is_done_has_one_reading(
    here: DomainFacts | None, there: DomainFacts | None, verdict: Verdict
) -> None:
    assert judge(here, there) is verdict
    assert judge(here, there, patient=False) is verdict


@pytest.mark.parametrize(
    ("there", "verdict"),
    [
        (None, Verdict.RESUME),
        (vm("shutoff", "failed"), Verdict.RESUME),
        (OFF, Verdict.UNKNOWN),
        (vm("shutoff", "crashed"), Verdict.UNKNOWN),
        (vm("shutoff", "unknown"), Verdict.UNKNOWN),
        (vm("shutoff"), Verdict.UNKNOWN),
        (RUNS, Verdict.FINISH),
    ],
)
def test_what_may_have_run_at_the_target_does_not_go_on_at_the_source(
    there: DomainFacts | None, verdict: Verdict
) -> None:
    assert judge(BETWEEN, there, known_before=False) is verdict
    assert judge(BETWEEN, there, known_before=False, patient=False) is verdict
    # A VM that was never paused for its last memory cannot have run anywhere else.
    assert judge(RUNS, OFF, known_before=False) is Verdict.STAYED


@pytest.mark.parametrize(
    ("here", "there", "at_last"),
    [
        (SENDS, RECEIVES, Verdict.BOTH),
        (RUNS, RECEIVES, Verdict.BOTH),
        (BETWEEN, RECEIVES, Verdict.BOTH),
        (RUNS, vm("paused", "starting_up"), Verdict.BOTH),
        (None, RECEIVES, Verdict.UNKNOWN),
        (SENDS, None, Verdict.UNKNOWN),
        (SENDS, RUNS, Verdict.UNKNOWN),
        (vm("paused", "migration", job="migration_out"), RUNS, Verdict.FINISH),
        (vm("paused", "migration", job="migration_out"), None, Verdict.RESUME),
        (vm(None), RUNS, Verdict.UNKNOWN),
        (RUNS, vm(None), Verdict.UNKNOWN),
    ],
)
def test_what_is_under_way_is_waited_for_and_then_never_guessed(
    here: DomainFacts | None, there: DomainFacts | None, at_last: Verdict
) -> None:
    assert judge(here, there) is Verdict.WAIT
    assert judge(here, there, patient=False) is at_last
