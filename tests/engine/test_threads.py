"""Operations that wait for hosts, and those that need not: who keeps whom from running."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import OperationalError
from django.utils import timezone

from nodes.engine.claim import Claim
from nodes.engine.embedded import EmbeddedRunner
from nodes.engine.run import OperationRun
from nodes.engine.submit import cancel, submit
from nodes.events import SYSTEM
from nodes.models import Operation, OperationStatus
from nodes.operations.base import JsonObject, Run
from nodes.operations.power_on import PowerOnNode
from tests.factories import make_node
from tests.lighthosts import comes_true

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def waiting(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Power-ons wait, as for a host that does not come, until they are cancelled or this is set."""
    over = threading.Event()

    def waits(_kind: PowerOnNode, run: Run) -> JsonObject:
        while not over.wait(0.05):
            run.check_cancelled()
        return {}

    monkeypatch.setattr(PowerOnNode, "execute", waits)
    yield over
    over.set()


@pytest.fixture
def runner(
    waiting: threading.Event, tmp_path: Path, settings: Any
) -> Iterator[Callable[..., EmbeddedRunner]]:
    """Makes the one runner of a test, which is stopped after it."""
    settings.NODEADMIN_SWEEP_S = 0.1
    made: list[EmbeddedRunner] = []

    def make(patient: int = 16) -> EmbeddedRunner:
        settings.NODEADMIN_ENGINE_PATIENT_THREADS = patient
        made.append(EmbeddedRunner(tmp_path))
        return made[0]

    yield make
    waiting.set()
    made[0].stop()


def power_on(number: int) -> Operation:
    node = make_node(f"node-{number:02d}", uri="test:///default")
    return submit("power-on-node", actor=SYSTEM, node=node)


def count(status: str, *operations: Operation) -> int:
    return Operation.objects.filter(pk__in=[row.pk for row in operations], status=status).count()


def ends_as(operation: Operation, status: str) -> bool:
    return comes_true(lambda: count(status, operation) == 1, 30)


def test_beside_ten_operations_that_wait_a_refresh_runs_and_a_cancel_ends_one(runner):
    asked = [power_on(number) for number in range(10)]
    runner().start()
    assert comes_true(lambda: count(OperationStatus.RUNNING, *asked) == 10, 30)
    other = make_node("other", uri="test:///default")
    assert ends_as(submit("refresh-node", actor=SYSTEM, node=other), OperationStatus.SUCCEEDED)
    cancel(asked[3], actor=SYSTEM)
    assert ends_as(asked[3], OperationStatus.CANCELLED)
    assert count(OperationStatus.RUNNING, *asked) == 9


def test_more_than_there_are_threads_for_wait_their_turn_and_hold_up_nothing_else(runner, waiting):
    asked = [power_on(number) for number in range(5)]
    runner(patient=2).start()
    assert comes_true(lambda: count(OperationStatus.RUNNING, *asked) == 2, 30)
    other = make_node("other", uri="test:///default")
    assert ends_as(submit("refresh-node", actor=SYSTEM, node=other), OperationStatus.SUCCEEDED)
    assert count(OperationStatus.QUEUED, *asked) == 3
    cancel(asked[4], actor=SYSTEM)
    assert ends_as(asked[4], OperationStatus.CANCELLED)
    waiting.set()
    assert comes_true(lambda: count(OperationStatus.SUCCEEDED, *asked) == 4, 30)


def test_a_message_finds_no_thread_where_all_are_taken_and_one_of_the_other_sort(runner):
    """As the tasks of a Celery worker call it, each in a thread of its own."""
    one = runner(patient=1)
    first, second = power_on(1), power_on(2)
    thread = threading.Thread(target=one.work_on, args=(first.pk,))
    thread.start()
    assert comes_true(lambda: count(OperationStatus.RUNNING, first) == 1, 30)
    assert one.work_on(second.pk) is False
    refresh = submit("refresh-node", actor=SYSTEM, node=make_node("other", uri="test:///default"))
    assert one.work_on(refresh.pk) is True
    assert ends_as(refresh, OperationStatus.SUCCEEDED)
    cancel(first, actor=SYSTEM)
    thread.join(30)
    assert not thread.is_alive()


def test_a_thread_is_free_again_where_the_database_fails_just_after_the_claim(runner, waiting, monkeypatch):
    waiting.set()
    engine = runner(patient=1)
    enter, failures = engine._enter, [OperationalError("away")]

    def fails_once(held: Claim) -> OperationRun:
        if failures:
            raise failures.pop()
        return enter(held)

    monkeypatch.setattr(engine, "_enter", fails_once)
    asked = power_on(1)
    engine.start()
    assert comes_true(lambda: not failures, 30)
    Operation.objects.filter(pk=asked.pk).update(lease_expires_at=timezone.now())
    assert ends_as(asked, OperationStatus.SUCCEEDED)
