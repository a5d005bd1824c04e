"""Places for migrations: how many at once, who goes first, and what a crash leaves."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from nodes.engine.claim import claim
from nodes.engine.run import OperationRun
from nodes.errors import UnknownNode
from nodes.models import MigrationSlot, Node, Operation, OperationStatus, OperationStep, StepStatus
from nodes.operations.base import OperationCancelled
from nodes.operations.slots import migration_place, release_left_over
from tests.factories import make_node, make_operation

pytestmark = pytest.mark.django_db(transaction=True)


def running(node: Node, *codes: str) -> OperationRun:
    """A claimed operation with a step for each code."""
    operation = make_operation(node, kind="disable-node", status=OperationStatus.QUEUED)
    OperationStep.objects.bulk_create(
        OperationStep(operation=operation, position=position, code=code, title=code)
        for position, code in enumerate(codes)
    )
    held = claim(operation.pk)
    assert held is not None
    return OperationRun(Operation.objects.get(pk=operation.pk), held)


def taken() -> set[tuple[str, str, int]]:
    rows = MigrationSlot.objects.values_list("node__name", "direction", "number")
    return set(rows)


class Mover(threading.Thread):
    """Takes a place as a VM's step does, and keeps it until it is told to go."""

    def __init__(self, run: OperationRun, code: str, source: Node, target: Node) -> None:
        super().__init__(daemon=True)
        self._arguments = (run, code, source, target)
        self.inside, self.go = threading.Event(), threading.Event()
        self.error: BaseException | None = None

    def run(self) -> None:
        run, code, source, target = self._arguments
        try:
            with run.step(code) as step, migration_place(run, step, code, source, target):
                self.inside.set()
                self.go.wait(20)
        except BaseException as error:  # noqa: BLE001 - looked at by the test
            self.error = error
        finally:
            connection.close()

    def begun(self) -> Mover:
        self.start()
        return self


def test_two_at_once_leave_a_node_and_the_third_waits_and_says_so():
    one, two = make_node("one"), make_node("two")
    run = running(one, "vm:a", "vm:b", "vm:c")
    first, second = (Mover(run, code, one, two).begun() for code in ("vm:a", "vm:b"))
    assert first.inside.wait(10)
    assert second.inside.wait(10)
    assert taken() == {("one", "out", 0), ("one", "out", 1), ("two", "in", 0), ("two", "in", 1)}
    third = Mover(run, "vm:c", one, two).begun()
    assert not third.inside.wait(1.5)
    waiting = OperationStep.objects.get(code="vm:c")
    assert waiting.status == StepStatus.RUNNING
    assert waiting.data["waits"] is True
    assert "2 migrations at once" in waiting.message
    first.go.set()
    assert third.inside.wait(10)
    for mover in (second, third):
        mover.go.set()
    for mover in (first, second, third):
        mover.join(10)
        assert mover.error is None
    assert taken() == set()
    assert OperationStep.objects.get(code="vm:c").data["waits"] is False


def test_the_limit_into_a_node_holds_across_operations():
    targets = make_node("target")
    movers = []
    for name in ("a", "b", "c"):
        source = make_node(name)
        movers.append(Mover(running(source, "vm:x"), "vm:x", source, targets))
    for mover in movers[:2]:
        mover.begun()
        assert mover.inside.wait(10)
    movers[2].begun()
    assert not movers[2].inside.wait(1.2)
    for mover in movers:
        mover.go.set()
    for mover in movers:
        mover.join(10)
    assert movers[2].inside.is_set()
    assert taken() == set()


def test_who_has_waited_longer_goes_first():
    one, two = make_node("one"), make_node("two")
    run = running(one, "vm:a", "vm:b", "vm:late")
    waiting = OperationStep.objects.get(code="vm:a")
    waiting.status, waiting.started_at = StepStatus.RUNNING, timezone.now()
    waiting.data = {
        "waits": True,
        "waits_since": (timezone.now() - timedelta(minutes=1)).isoformat(),
        "waits_for": [f"{one.pk}:out", f"{two.pk}:in"],
    }
    waiting.save()
    late = Mover(run, "vm:late", one, two).begun()
    assert not late.inside.wait(1.2)
    # Somebody whose process is gone holds up nobody.
    Operation.objects.update(lease_expires_at=timezone.now() - timedelta(seconds=1))
    assert late.inside.wait(10)
    late.go.set()
    late.join(10)


def test_a_place_that_an_ended_operation_left_is_free():
    one, two = make_node("one"), make_node("two")
    ended = make_operation(one, kind="disable-node", status=OperationStatus.FAILED)
    for number in range(2):
        MigrationSlot.objects.create(
            node=one, direction="out", number=number, operation=ended, step_code=f"vm:{number}"
        )
    mover = Mover(running(one, "vm:a"), "vm:a", one, two).begun()
    assert mover.inside.wait(10)
    mover.go.set()
    mover.join(10)
    assert taken() == set()


def test_a_place_that_nobody_has_gone_on_with_for_minutes_is_free_and_a_younger_one_is_not():
    """Else all threads could wait for an operation that needs one of them to be resumed."""
    one, two = make_node("one"), make_node("two")
    dead = running(one, "vm:dead")
    for number in range(2):
        MigrationSlot.objects.create(
            node=two, direction="in", number=number, operation=dead.operation, step_code=f"vm:{number}"
        )
    rows = Operation.objects.filter(pk=dead.operation.pk)
    rows.update(lease_expires_at=timezone.now() - timedelta(seconds=30))
    mover = Mover(running(make_node("three"), "vm:a"), "vm:a", one, two).begun()
    assert not mover.inside.wait(1.2)
    rows.update(lease_expires_at=timezone.now() - timedelta(minutes=3))
    assert mover.inside.wait(10)
    mover.go.set()
    mover.join(10)


def test_nobody_waits_for_a_place_of_a_node_that_has_been_removed():
    one, two = make_node("one"), make_node("two")
    run = running(one, "vm:a", "vm:b", "vm:c")
    movers = [Mover(run, code, one, two).begun() for code in ("vm:a", "vm:b")]
    assert all(mover.inside.wait(10) for mover in movers)
    third = Mover(run, "vm:c", one, two).begun()
    assert not third.inside.wait(1)
    Node.objects.filter(pk=two.pk).delete()
    third.join(10)
    assert isinstance(third.error, UnknownNode)
    for mover in movers:
        mover.go.set()
        mover.join(10)


def test_a_resumed_step_finds_its_own_place_and_those_of_ended_steps_are_given_back():
    one, two = make_node("one"), make_node("two")
    run = running(one, "vm:going", "vm:done")
    OperationStep.objects.filter(code="vm:going").update(status=StepStatus.RUNNING)
    OperationStep.objects.filter(code="vm:done").update(status=StepStatus.SUCCEEDED)
    for number, code in enumerate(("vm:going", "vm:done")):
        for node, direction in ((one, "out"), (two, "in")):
            MigrationSlot.objects.create(
                node=node, direction=direction, number=number, operation=run.operation, step_code=code
            )
    release_left_over(run)
    assert taken() == {("one", "out", 0), ("two", "in", 0)}
    mover = Mover(run, "vm:going", one, two).begun()
    assert mover.inside.wait(10)
    assert taken() == {("one", "out", 0), ("two", "in", 0)}
    mover.go.set()
    mover.join(10)
    assert taken() == set()


def test_a_cancel_ends_the_wait():
    one, two = make_node("one"), make_node("two")
    run = running(one, "vm:a", "vm:b", "vm:c")
    movers = [Mover(run, code, one, two).begun() for code in ("vm:a", "vm:b")]
    assert all(mover.inside.wait(10) for mover in movers)
    third = Mover(run, "vm:c", one, two).begun()
    assert not third.inside.wait(1)
    Operation.objects.update(cancel_requested_at=timezone.now())
    third.join(10)
    assert isinstance(third.error, OperationCancelled)
    assert OperationStep.objects.get(code="vm:c").status == StepStatus.CANCELLED
    for mover in movers:
        mover.go.set()
        mover.join(10)
