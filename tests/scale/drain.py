"""A drain on Celery workers, one of which is killed in the middle. Run by test_scale.py on a PostgreSQL."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nodes.models import Event, MigrationSlot, Node, Operation, OperationStatus, Scheduling, StepStatus
from tests.light_nodes import ask, clear, light_node
from tests.lighthosts import LightHost, TinyVm, assert_exactly_once, light_pair
from tests.scale.processes import Worker, wait_until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis")]
POINTS = (
    ("before", "check:Done"),
    ("after", "vm:Moves to"),
    ("before", "vm:It runs on"),
    ("after", "vm:Done"),
)
"""The plan checked, but not on record; about to migrate; migrated, but not on record; one VM of two done."""


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LightHost, ...]]:
    with light_pair(tmp_path_factory.mktemp("drained")) as hosts:
        yield hosts


def check(operation: Operation, where: str) -> None:
    operation.refresh_from_db()
    assert operation.status == OperationStatus.SUCCEEDED, (where, operation.error)
    assert not operation.steps.filter(status__in=(StepStatus.PENDING, StepStatus.RUNNING)).exists(), where
    assert not MigrationSlot.objects.exists(), where
    assert Event.objects.filter(kind="disable_node_succeeded", operation=operation).count() == 1, where


def test_another_worker_ends_the_drain_of_a_killed_one_and_each_vm_moves_once(
    pair: tuple[LightHost, ...], transactional_db: None, tmp_path: Path, settings: Any
) -> None:
    for host in pair:
        clear(host)
    nodes = [light_node(host) for host in pair]
    vms = [TinyVm(name, memory_mib=16) for name in ("walks", "runs")]
    for vm in vms:
        pair[0].start_vm(vm)
    names = tmp_path / "points"
    with Worker(tmp_path, "heir") as heir:
        heir.wait_ready()
        for number, (side, words) in enumerate(POINTS):
            source, target = number % 2, 1 - number % 2
            Node.objects.update(scheduling=Scheduling.ENABLED)
            # The heir stands still until the other one has the operation.
            os.kill(heir.pid, signal.SIGSTOP)
            command = (sys.executable, "-m", "tests.scale.dying_worker", str(names), side, words)
            with Worker(tmp_path, f"dying-{number}", sweep_s=0.2, lease_s=3.0, command=command) as dying:
                operation = ask("disable-node", Node.objects.get(pk=nodes[source].pk))
                wait_until(lambda one=dying: one.has_ended, 60, dying.said)
                died = names.read_text().splitlines()
                assert len(died) == number + 1, dying.said()
            assert dying.has(Operation.objects.get(pk=operation.pk).claimed_by)
            os.kill(heir.pid, signal.SIGCONT)
            rows = Operation.objects.filter(pk=operation.pk)
            wait_until(lambda rows=rows: rows.get().is_finished, 90, heir.said)
            check(operation, died[-1])
            assert heir.has(rows.get().claimed_by)
            for vm in vms:
                assert_exactly_once(pair, vm, on=pair[target])
