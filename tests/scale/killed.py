"""A drain and a reboot on Celery workers that are killed in the middle. Run by test_scale.py on a PostgreSQL.

The points are few and the ones where most could go wrong; with ``NODEADMIN_SOAK=1`` they are all that
tests/engine/test_kill_service.py walks.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from nodes.models import Event, MigrationSlot, Node, Operation, OperationStatus, Scheduling, StepStatus
from tests.light_nodes import ask, assert_rebooted, clear, light_node
from tests.lighthosts import LightHost, TinyVm, assert_exactly_once, guest_kernel, light_pair
from tests.scale.processes import Worker, wait_until

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("redis"),
    pytest.mark.timeout(3600),
]
SOAK = os.environ.get("NODEADMIN_SOAK") == "1"
DRAIN = ("before check:Done", "after vm:Moves to", "before vm:It runs on", "after vm:Done")
"""The plan checked, but not on record; about to migrate; migrated, but not on record; one VM of two done."""
REBOOT = ("after command:Sends the command", "before command:The host has taken", "before back:Begun")
"""About to send the command; sent, but not on record; the host is down."""
LEASE_S = 3.0

Pair = tuple[LightHost, ...]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with light_pair(tmp_path_factory.mktemp("pair"), boot_s=0.1, silent=False) as hosts:
        yield hosts


@pytest.fixture
def nodes(pair: Pair, transactional_db: None) -> tuple[Node, ...]:
    for host in pair:
        clear(host)
    return tuple(light_node(host) for host in pair)


def walk(
    folder: Path, submit: Callable[[], Operation], check: Callable[[str], None], points: Sequence[str]
) -> None:
    """Kill a worker at each point in turn; another one, its heir, ends the operation; then check."""
    names = folder / "points"

    def worker(name: str, where: str) -> Worker:
        command = (sys.executable, "-m", "tests.scale.dying_worker", str(names), where)
        return Worker(folder, name, sweep_s=0.2, lease_s=LEASE_S, command=command, NODEADMIN_REBOOT_S="60")

    with worker("heir", "never") as heir:
        heir.wait_ready()
        for where in map(str, range(1, 500)) if SOAK else points:
            Event.objects.all().delete()
            Operation.objects.all().delete()
            Node.objects.update(scheduling=Scheduling.ENABLED)
            # The heir stands still until the other one has the operation, and is dead.
            os.kill(heir.pid, signal.SIGSTOP)
            with worker(f"dying-{where.replace(' ', '-')}", where) as dying:
                rows = Operation.objects.filter(pk=submit().pk)
                wait_until(
                    lambda one=dying, rows=rows: one.has_ended or rows.get().is_finished, 90, dying.said
                )
                died, ended = dying.has_ended, rows.get().is_finished
            os.kill(heir.pid, signal.SIGCONT)
            assert died or SOAK, dying.said()
            assert dying.has(rows.get().claimed_by)
            wait_until(lambda rows=rows: rows.get().is_finished, 90, heir.said)
            check(names.read_text().splitlines()[-1] if died else "the last point was passed")
            if not died:
                assert int(where) > len(points) * 5, names.read_text()
                return
            assert ended or heir.has(rows.get().claimed_by)


def check_ended(where: str) -> Operation:
    operation = Operation.objects.get()
    assert operation.status == OperationStatus.SUCCEEDED, (where, operation.error)
    assert not operation.steps.filter(status__in=(StepStatus.PENDING, StepStatus.RUNNING)).exists(), where
    assert not MigrationSlot.objects.exists(), where
    assert Event.objects.filter(kind__endswith="_succeeded", operation=operation).count() == 1, where
    return operation


def test_another_worker_ends_the_drain_of_a_killed_one_and_each_vm_moves_once(
    pair: Pair, nodes: tuple[Node, ...], tmp_path: Path
) -> None:
    vms = [TinyVm(name, memory_mib=16) for name in ("walks", "runs")]
    for vm in vms:
        pair[0].start_vm(vm)
    at = 0

    def submit() -> Operation:
        return ask("disable-node", Node.objects.get(pk=nodes[at].pk))

    def check(where: str) -> None:
        nonlocal at
        check_ended(where)
        at = 1 - at  # the next one drains the other node
        for vm in vms:
            assert_exactly_once(pair, vm, on=pair[at])

    walk(tmp_path, submit, check, DRAIN)


def test_another_worker_ends_the_reboot_of_a_killed_one_and_the_command_was_sent_once(
    pair: Pair, nodes: tuple[Node, ...], tmp_path: Path
) -> None:
    vm = TinyVm("comes-back", memory_mib=16, kernel=guest_kernel("obedient", tmp_path))
    pair[0].start_vm(vm)
    commands = len(pair[0].power_commands)

    def submit() -> Operation:
        return ask("reboot-node", nodes[0], vm_policy="stop", restart_vms=True)

    def check(where: str) -> None:
        nonlocal commands
        operation = check_ended(where)
        commands += 1
        assert_rebooted(operation, pair, vm, commands=commands, where=where)

    walk(tmp_path, submit, check, REBOOT)
