"""SIGKILL at every transition of a drain and of a reboot, on light hosts: what a restart makes of it.

A process plans, submits and runs the operation for real and kills itself at a chosen point. Another resumes
it, as a server does that starts. Then both hosts are looked at: the VM is there once, as the plan says. The
process of the tests itself never opens libvirt, which no fork of it could use afterwards.

The points are the commits, each named by what it writes: dying *before* one, the work is done and not on
record; dying *after* one, it is on record and the next thing has not begun. Where nothing outside the
database lies between two commits, dying after the first is dying before the second, and is walked by
``script/soak kill`` (``NODEADMIN_SOAK=1``) alone. Commits of mere progress, which come as the clock has it,
are no points.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from nodes.engine.claim import Claim
from nodes.engine.steps import RunningStep
from nodes.models import (
    Credential,
    Event,
    HeldAutostart,
    MigrationSlot,
    Node,
    Operation,
    OperationStatus,
    Scheduling,
    StepStatus,
)
from nodes.operations import coming_back, power_steps, vm_moves, vm_steps
from tests.engine.running import run_queued
from tests.engine.test_kill import in_a_process, resume
from tests.light_nodes import ask, assert_rebooted, clear, light_node, steps_of
from tests.lighthosts import AVAILABLE, LightHost, TinyVm, assert_exactly_once, guest_kernel, light_pair

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(not AVAILABLE, reason="needs root and libvirtd"),
    pytest.mark.timeout(1800),
]
SOAK = os.environ.get("NODEADMIN_SOAK") == "1"
OUTSIDE = ("Moves to", "Asks the guest", "Sends the command", "start:Begun", "Autostart is held")
"""What is committed right before something is done to a host: there, dying after counts as well."""
UNNAMED = "slot or state"
PLAIN = ("check:1", "check:2", "intent:Boot", "gone:It", "back:", "inventory:", "verify:No")
"""What is committed between two other commits, with nothing done since the one before."""


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LightHost, ...]]:
    with light_pair(tmp_path_factory.mktemp("killed"), boot_s=0.1, silent=False) as hosts:
        yield hosts


@pytest.fixture
def nodes(pair: tuple[LightHost, ...], settings: Any, monkeypatch: pytest.MonkeyPatch) -> tuple[Node, ...]:
    monkeypatch.setattr(power_steps, "LOOK_S", 0.05)
    monkeypatch.setattr(vm_steps, "LOOK_S", 0.05)
    monkeypatch.setattr(vm_moves, "TELL_S", 0.2)
    monkeypatch.setattr(coming_back, "PAUSE_S", 0.1)
    settings.NODEADMIN_REBOOT_S = 60.0
    for host in pair:
        clear(host)
    return tuple(light_node(host) for host in pair)


class Points:
    """Counts the points of a run, and dies at the one that it is told to.

    ``names`` is a file: what is counted has to outlive the process. Commits whose name begins
    with none of ``only`` count in the soak alone.
    """

    def __init__(self, names: Path, die_at: int | None, only: tuple[str, ...] = ("",)) -> None:
        self._names = names
        self._only = only
        self._die_at = die_at
        self._count = 0
        self._guard = threading.Lock()
        self._what = threading.local()

    def install(self) -> None:
        """Patch this process, which is about to end anyway."""
        write, fenced = RunningStep._write, Claim.fenced

        def named(step: RunningStep, line: str = "", level: str = "info") -> None:
            self._what.name = f"{step._row.code.partition(':')[0]}:{line}" if line else None
            try:
                write(step, line, level)
            finally:
                del self._what.name

        @contextmanager
        def watched(held: Claim) -> Iterator[None]:
            name = getattr(self._what, "name", UNNAMED)
            with fenced(held):
                yield
                self._pass(name, "before")
            self._pass(name, "after")

        RunningStep._write = named  # type: ignore[method-assign]
        Claim.fenced = watched  # type: ignore[assignment, method-assign]

    def _counts(self, name: str, side: str) -> bool:
        if not name.startswith(self._only):
            return False
        if side == "after":
            return any(word in name for word in OUTSIDE)
        return name.endswith((":Begun.", ":Done.")) or not name.startswith(PLAIN)

    def _pass(self, name: str | None, side: str) -> None:
        if name is None or not (SOAK or self._counts(name, side)):
            return
        with self._guard:
            self._count += 1
            if self._die_at is None or self._count == self._die_at:
                with self._names.open("a") as names:
                    names.write(f"{self._count} {side} {name}\n")
            if self._count == self._die_at:
                os.kill(os.getpid(), signal.SIGKILL)


def resume_beside(hosts: tuple[LightHost, ...]) -> int:
    """Resume in a process of its own; gives its wait status."""

    def work() -> None:
        for host in hosts:
            host.leave_to_parent()
        resume()

    return in_a_process(work)


def walk(
    folder: Path,
    hosts: tuple[LightHost, ...],
    submit: Callable[[], Operation],
    check: Callable[[str], None],
    *,
    points: int,
    only: tuple[str, ...] = ("",),
) -> None:
    """Kill at every point in turn, resume, check. There have to be at least so many ``points``; those that
    begin with none of ``only`` are walked by ``script/soak kill`` alone."""
    names = folder / "points"
    for die_at in range(1, 500):
        Operation.objects.all().delete()
        Event.objects.all().delete()
        Node.objects.update(scheduling=Scheduling.ENABLED)

        def run_and_die(die_at: int = die_at) -> None:
            submit()
            Points(names, die_at, only).install()
            run_queued()

        status = in_a_process(run_and_die)
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0
            check("the last point was passed")
            assert die_at > points, names.read_text()
            return
        assert os.WTERMSIG(status) == signal.SIGKILL
        assert resume_beside(hosts) == 0
        check(names.read_text().splitlines()[-1])
    pytest.fail("the operation never ended by itself")


def check_ended(where: str) -> Operation:
    operation = Operation.objects.get()
    assert operation.status == OperationStatus.SUCCEEDED, (where, operation.error)
    assert not operation.steps.filter(status__in=(StepStatus.PENDING, StepStatus.RUNNING)).exists(), where
    assert not MigrationSlot.objects.exists(), where
    assert Event.objects.filter(kind__endswith="_succeeded", operation=operation).count() == 1, where
    return operation


def test_a_drain_killed_anywhere_moves_each_vm_once(
    pair: tuple[LightHost, ...], nodes: tuple[Node, ...], tmp_path: Path
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

    walk(tmp_path, pair, submit, check, points=20)


def test_killed_in_the_middle_of_a_migration_the_vm_is_at_its_source_and_it_is_tried_again(
    pair: tuple[LightHost, ...], nodes: tuple[Node, ...], tmp_path: Path, settings: Any
) -> None:
    settings.NODEADMIN_MIGRATION_BANDWIDTH_MIB_S = 16
    settings.NODEADMIN_MIGRATION_TIMEOUT_S = 10.0
    vm = TinyVm("busy", kernel=guest_kernel("restless", tmp_path))
    pair[0].start_vm(vm)

    def run_and_die() -> None:
        ask("disable-node", nodes[0])
        progress = vm_moves._Pulse.progress

        def dies(pulse: Any, told: Any) -> None:
            progress(pulse, told)
            if told.remaining_bytes:
                os.kill(os.getpid(), signal.SIGKILL)

        vm_moves._Pulse.progress = dies  # type: ignore[method-assign]
        run_queued()

    status = in_a_process(run_and_die)
    assert os.WTERMSIG(status) == signal.SIGKILL
    assert resume_beside(pair) == 0
    operation = Operation.objects.get()
    # Tried again, it does not converge this time either, and says so.
    assert operation.status == OperationStatus.FAILED
    assert operation.error is not None
    assert [row["code"] for row in operation.error["vms"]] == ["migration_timeout"], operation.error
    assert steps_of(operation)["vm:busy"] == "failed"
    assert_exactly_once(pair, vm, on=pair[0])
    assert not MigrationSlot.objects.exists()


def starts_with_its_host(host: LightHost, name: str) -> TinyVm:
    """A VM that is switched off, with autostart."""
    vm = TinyVm(name, memory_mib=16)
    host.define_vm(vm)
    host.virsh("autostart", vm.uuid)
    return vm


def assert_no_mark_lost(host: LightHost, vm: TinyVm, where: str) -> None:
    """It is off, as it was, with autostart, and nothing is owed to it."""
    assert host.virsh("list", "--inactive", "--autostart", "--name").split() == [vm.name], where
    assert not HeldAutostart.objects.exists(), where


def test_a_reboot_killed_anywhere_reboots_once_and_the_vm_comes_back(
    pair: tuple[LightHost, ...], nodes: tuple[Node, ...], tmp_path: Path
) -> None:
    vm = TinyVm("comes-back", memory_mib=16, kernel=guest_kernel("obedient", tmp_path))
    pair[0].start_vm(vm)
    # Its points are walked by the refused reboot below, where each costs no boot.
    rests = starts_with_its_host(pair[0], "rests") if SOAK else None
    commands = len(pair[0].power_commands)

    def submit() -> Operation:
        return ask("reboot-node", nodes[0], vm_policy="stop", restart_vms=True, hold_autostart=SOAK)

    def check(where: str) -> None:
        nonlocal commands
        operation = check_ended(where)
        commands += 1
        assert_rebooted(operation, pair, vm, commands=commands, where=where)
        if rests is not None:
            assert_no_mark_lost(pair[0], rests, where)

    walk(tmp_path, pair, submit, check, points=30)


WAY_BACK = ("command:It was refused", UNNAMED, "way_back:", "start:", "autostart")
"""From the refusal on, and what is done to autostart; a reboot that is carried out walks the rest."""


@pytest.mark.parametrize("kind", ["reboot-node", "shutdown-node"] if SOAK else ["shutdown-node"])
def test_a_refused_power_command_killed_anywhere_leaves_everything_as_it_was(
    pair: tuple[LightHost, ...], nodes: tuple[Node, ...], tmp_path: Path, kind: str
) -> None:
    vm = TinyVm("stays", memory_mib=16, kernel=guest_kernel("obedient", tmp_path))
    pair[0].start_vm(vm)
    rests = starts_with_its_host(pair[0], "rests")
    commands = len(pair[0].power_commands)
    pair[0].refuse_power("Refused: no.\n")

    def submit() -> Operation:
        return ask(kind, nodes[0], vm_policy="stop", hold_autostart=True)

    def check(where: str) -> None:
        operation = Operation.objects.get(kind=kind)
        assert operation.status == OperationStatus.FAILED, (where, operation.error)
        assert operation.error is not None
        assert operation.error["code"] == "power_refused", (where, operation.error)
        assert [row["outcome"] for row in operation.error["vms"]] == ["started_again"], where
        assert len(pair[0].power_commands) == commands, where
        assert_exactly_once(pair, vm, on=pair[0])
        assert Node.objects.get(pk=nodes[0].pk).scheduling == Scheduling.ENABLED, where
        assert steps_of(operation)["way_back"] == "succeeded", where
        assert_no_mark_lost(pair[0], rests, where)

    try:
        walk(tmp_path, pair, submit, check, points=14, only=WAY_BACK)
    finally:
        pair[0].refuse_power("")


def test_a_delete_killed_anywhere_removes_the_node_once(
    pair: tuple[LightHost, ...], nodes: tuple[Node, ...], tmp_path: Path
) -> None:
    Node.objects.all().delete()

    def submit() -> Operation:
        return ask("delete-node", light_node(pair[0]))

    def check(where: str) -> None:
        operation = check_ended(where)
        assert not Node.objects.exists(), where
        assert not Credential.objects.exists(), where
        assert Event.objects.filter(kind="node_removed", operation=operation).count() == 1, where
        assert operation.node_name == "light1"

    walk(tmp_path, pair, submit, check, points=6)
