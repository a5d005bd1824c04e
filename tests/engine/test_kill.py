"""SIGKILL at every transition of an operation: what a restart makes of it.

Each case forks a process that runs the operation for real and kills itself, as the kernel would, at the n-th
commit: just before it, or just after. Then another process starts as a server does and resumes.
"""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from django.db import connections
from django.utils import timezone

from nodes.engine.claim import Claim, expire_all
from nodes.engine.steps import RunningStep
from nodes.engine.submit import submit
from nodes.events import SYSTEM
from nodes.inventory.registry import SECTIONS
from nodes.models import Credential, Event, Node, Operation, OperationStatus, Snapshot, StepStatus
from nodes.models.operation import UNFINISHED
from tests.engine.running import run_queued
from tests.factories import make_node

pytestmark = pytest.mark.django_db(transaction=True)


def in_a_process(work: Callable[[], None]) -> int:
    """Run ``work`` in a forked process; gives its wait status."""
    connections.close_all()
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:  # noqa: BLE001 - the fork must never return into the test run
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1]


def dying_at(moment: int) -> Callable[[], None]:
    """Work that runs the queue and dies at the ``moment``-th point: even ones lie before a commit."""

    def work() -> None:
        points = 0

        def pass_point() -> None:
            nonlocal points
            if points == moment:
                os.kill(os.getpid(), signal.SIGKILL)
            points += 1

        original = Claim.fenced

        @contextmanager
        def fenced(held: Claim) -> Iterator[None]:
            with original(held):
                yield
                pass_point()
            pass_point()

        Claim.fenced = fenced  # type: ignore[method-assign]
        run_queued()

    return work


def resume() -> None:
    expire_all()
    run_queued()


def add() -> Operation:
    params = {"uri": "test:///default", "type": "compute", "labels": {}}
    return submit("add-node", actor=SYSTEM, node_name="test-01", params=params)


def walk(operation: Callable[[], Operation], check: Callable[[Operation], None]) -> int:
    """Kill at every point in turn, resume, check; gives how many points there were."""
    for moment in range(200):
        row = operation()
        status = in_a_process(dying_at(moment))
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0
            return moment
        assert os.WTERMSIG(status) == signal.SIGKILL
        assert in_a_process(resume) == 0
        check(Operation.objects.get(pk=row.pk))
    pytest.fail("the operation never ended by itself")


def test_add_node_killed_anywhere_ends_as_if_nothing_had_happened():
    def check(operation: Operation) -> None:
        assert operation.status == OperationStatus.SUCCEEDED, operation.error
        node = Node.objects.get()
        assert operation.node == node
        assert node.snapshot == Snapshot.objects.get()
        assert node.snapshot.sections.exists()
        assert not Credential.objects.exists()
        assert Event.objects.filter(kind="add_node_succeeded", operation=operation).count() == 1
        assert Event.objects.filter(kind="node_online").count() == 1
        unfinished = operation.steps.filter(status__in=(StepStatus.PENDING, StepStatus.RUNNING))
        assert node.joined_by == operation.pk
        assert not unfinished.exists()

    def afresh() -> Operation:
        Node.objects.all().delete()
        Operation.objects.all().delete()
        Event.objects.all().delete()
        return add()

    assert walk(afresh, check) >= 30


def test_refresh_killed_anywhere_leaves_one_whole_inventory():
    add()
    assert in_a_process(resume) == 0
    node = Node.objects.get()

    def check(operation: Operation) -> None:
        assert operation.status == OperationStatus.SUCCEEDED, operation.error
        node.refresh_from_db()
        assert node.snapshot is not None
        assert node.snapshot.sections.count() == len(SECTIONS)
        assert not Operation.objects.filter(status__in=UNFINISHED).exists()

    assert walk(lambda: submit("refresh-node", actor=SYSTEM, node=node), check) >= 10


def test_an_update_killed_after_its_commit_is_done_whatever_comes_then():
    node = make_node("kvm-01", uri="qemu+ssh://root@192.0.2.1/system")
    operation = submit("update-node", actor=SYSTEM, node=node, params={"uri": "test:///default"})

    def work() -> None:
        original = RunningStep.end

        def end(step: RunningStep, status: StepStatus) -> None:
            if step._row.code == "replace":
                os.kill(os.getpid(), signal.SIGKILL)
            original(step, status)

        RunningStep.end = end  # type: ignore[method-assign]
        run_queued()

    assert os.WTERMSIG(in_a_process(work)) == signal.SIGKILL
    Operation.objects.update(cancel_requested_at=timezone.now())
    assert in_a_process(resume) == 0
    operation.refresh_from_db()
    assert operation.status == OperationStatus.SUCCEEDED
    assert Node.objects.get().uri == "test:///default"
