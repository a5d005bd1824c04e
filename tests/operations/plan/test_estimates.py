"""How long a drain takes, by how many migrations may be under way at once."""

from __future__ import annotations

from nodes.operations.plan.estimates import Pace
from nodes.operations.plans import Action, VmDecision


def moving(count: int, *, to: str = "b", seconds: float = 10.0, source: str = "") -> list[VmDecision]:
    return [
        VmDecision(
            f"u-{n}", f"vm-{n}", "running", Action.MIGRATE, to, to, source_uuid=source, estimate_s=seconds
        )
        for n in range(count)
    ]


def test_as_many_move_at_once_as_are_configured():
    assert Pace(out=1, into=4).of_all(moving(8), "a") == 80.0
    assert Pace(out=4, into=4).of_all(moving(8), "a") == 20.0
    assert Pace(out=8, into=8).of_all(moving(4), "a") == 10.0


def test_what_may_enter_a_target_bounds_it_as_well():
    assert Pace(out=4, into=1).of_all(moving(4), "a") == 40.0
    spread = [*moving(2, to="b"), *moving(2, to="c")]
    assert Pace(out=4, into=1).of_all(spread, "a") == 20.0


def test_vms_that_come_back_leave_several_nodes_and_enter_one():
    back = [*moving(2, to="a", source="b"), *moving(2, to="a", source="c")]
    assert Pace(out=4, into=2).of_all(back, "a") == 20.0


def test_a_plan_without_migrations_has_no_estimate():
    stopped = [VmDecision("u-1", "vm-1", "running", Action.STOP)]
    assert Pace().of_all(stopped, "a") is None
    assert Pace(mib_s=50).of_vm(1 << 30) == 22.5
