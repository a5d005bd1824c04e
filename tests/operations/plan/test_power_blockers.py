"""What a host says of a power command, as blockers, notes and consent of the plan."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from nodes.hosts.power_preflight import Inhibitor, PackageLock, PowerPreflight, ScheduledShutdown
from nodes.operations.deciding import decide
from nodes.operations.plan.power_blockers import PowerQuestion
from nodes.operations.plans import Plan, drift
from nodes.operations.world import World

WELL = PowerPreflight("root", "systemctl reboot", "b", True, True, inhibitors=(), stopping=False)
BACKUP = Inhibitor("Backup", "a restore is running", "block", 0, 4711, "root")
UPGRADE = Inhibitor("Upgrade", "packages", "block", 1000, 4712)


def plan_with(facts: PowerPreflight | None = WELL, *, kind: str = "reboot-node", **options: Any) -> Plan:
    asked = PowerQuestion(
        facts, **{name: options.pop(name) for name in ("fault", "allowed_before") if name in options}
    )
    return decide(World("n", "kvm-01", power=asked), kind, options)


def test_a_host_that_refuses_nothing_blocks_nothing_and_needs_no_note() -> None:
    plan = plan_with()
    assert (plan.blockers, plan.notes, plan.ignored_inhibitors) == ((), (), ())


@pytest.mark.parametrize("kind", ["reboot-node", "shutdown-node"])
@pytest.mark.parametrize(
    ("facts", "code", "words"),
    [
        ({"boot_id": None}, "boot_id_unreadable", "boot ID cannot be read"),
        ({"has_systemctl": False}, "power_command_missing", "no systemctl"),
        ({"stopping": True}, "shutdown_already_scheduled", "on its way down"),
        (
            {"scheduled": ScheduledShutdown("poweroff", datetime(2030, 1, 2, 3, 4, tzinfo=UTC))},
            "shutdown_already_scheduled",
            "at 2030-01-02 03:04:00+00:00 (poweroff)",
        ),
        (
            {"allowed": False, "refusal": "sudo: a password is required"},
            "insufficient_rights_on_host",
            "“sudo -n systemctl reboot” on the host: sudo: a password is required.",
        ),
        (
            {"inhibitors": (BACKUP,)},
            "shutdown_inhibited",
            "“Backup” inhibits the shutdown: “a restore is running” (process 4711 of user root).",
        ),
    ],
)
def test_what_the_host_would_refuse_blocks_the_plan_and_says_what_helps(
    kind: str, facts: dict[str, Any], code: str, words: str
) -> None:
    plan = plan_with(replace(WELL, **facts), kind=kind)
    (reason,) = plan.blockers
    assert (reason.code, plan.is_blocked) == (code, True)
    assert words in reason.message
    assert reason.remedy


def test_no_other_operation_asks_the_host_for_power() -> None:
    assert decide(World("n", "kvm-01"), "disable-node", {}).notes == ()


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"inhibitors": None, "untold": "it has no busctl"}, "inhibits the shutdown (it has no busctl)"),
        ({"allowed": None}, "whether the user may give the command."),
        (
            {"package_locks": (PackageLock("/var/lib/dpkg/lock", 7, "apt"),)},
            "apt (process 7) holds /var/lib/dpkg",
        ),
    ],
)
def test_what_cannot_be_told_or_is_a_warning_blocks_nothing_and_is_noted(
    facts: dict[str, Any], words: str
) -> None:
    plan = plan_with(replace(WELL, **facts))
    (note,) = plan.notes
    assert words in note
    assert not plan.is_blocked
    assert plan.digest() == plan_with().digest(), "nobody is asked again for a note"


def test_what_was_found_when_the_node_was_added_is_a_hint_where_the_host_tells_nothing() -> None:
    (note,) = plan_with(replace(WELL, allowed=None), allowed_before=False).notes
    assert "when the node was added, it might not" in note
    assert plan_with(allowed_before=False).notes == ()


def test_a_host_that_answers_nothing_is_noted() -> None:
    plan = plan_with(None, fault="it did not answer in time")
    assert plan.notes == (
        "Not verified: whether the host would refuse the command (it did not answer in time).",
    )


def test_ignored_inhibitors_are_named_and_part_of_what_is_confirmed() -> None:
    one = plan_with(replace(WELL, inhibitors=(BACKUP,)), ignore_inhibitors=True)
    assert (one.blockers, one.ignored_inhibitors) == ((), (BACKUP,))
    assert one.notes[0].startswith("Ignored, as was asked for: “Backup” inhibits")
    both = plan_with(replace(WELL, inhibitors=(BACKUP, UPGRADE)), ignore_inhibitors=True)
    assert len({plan.digest() for plan in (one, both, plan_with(ignore_inhibitors=True))}) == 3
    assert drift(one, both).changed == ("Upgrade (packages): new",)
    assert drift(both, one).changed == ("Upgrade (packages): gone",)
    anew = replace(BACKUP, pid=9)
    assert plan_with(replace(WELL, inhibitors=(anew,)), ignore_inhibitors=True).digest() == one.digest()
    assert Plan.from_dict(one.to_dict()) == one
