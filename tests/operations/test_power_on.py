"""power-on-node on a light host: a real BMC in software, a real libvirt domain for the machine's power, and
a real sshd and libvirtd for its system, which come up a moment after the power does."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nodes.engine.submit import cancel
from nodes.events import SYSTEM
from nodes.models import (
    Bmc,
    ConnectionReason,
    Event,
    Node,
    Operation,
    OperationStatus,
    Scheduling,
    StepStatus,
)
from nodes.operations import bmc, coming_back, power_on
from nodes.operations.base import Run
from nodes.operations.bmc import power_state
from tests.api.conftest import Api
from tests.engine.running import run_queued
from tests.factories import set_bmc_password
from tests.hostile.bmc import Break, MisbehavingBmc, Say
from tests.libvirtd import AVAILABLE, LibvirtHost
from tests.machine import BOOT_BEFORE, MACHINE, Machine, node_of
from tests.software_bmc import PASSWORD, SoftwareBmc, define_machine

pytestmark = [pytest.mark.django_db, pytest.mark.skipif(not AVAILABLE, reason="needs root and libvirtd")]


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LibvirtHost, SoftwareBmc]]:
    with LibvirtHost(tmp_path_factory.mktemp("machine")) as host:
        define_machine(host, "machine", MACHINE)
        with SoftwareBmc(tmp_path_factory.mktemp("bmc"), prefix=host.inside) as bmc:
            yield host, bmc


@pytest.fixture
def machine(parts: tuple[LibvirtHost, SoftwareBmc]) -> Iterator[Machine]:
    made = Machine(*parts)
    made.switch_off()
    yield made
    made.end()


@pytest.fixture
def node(db: None, machine: Machine) -> Node:
    return node_of(machine)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coming_back, "PAUSE_S", 0.3)
    monkeypatch.setattr(power_on, "POLL_S", 0.2)
    monkeypatch.setattr(bmc, "LATE_S", 1.0)
    monkeypatch.setattr(bmc, "LOOK_S", 0.2)


def power_on_it(user: object) -> Operation:
    status, body = Api(user)("power-on-node", {"node": "kvm-01"})  # type: ignore[arg-type]
    assert status == 202, body
    (ended,) = run_queued()
    return ended


def steps_of(operation: Operation) -> dict[str, str]:
    return dict(operation.steps.values_list("code", "status"))


def test_a_machine_that_is_off_is_switched_on_and_done_once_its_system_answers(administrator, machine, node):
    assert power_state(node) == "Off"
    commands = machine.bmc.commands
    ended = power_on_it(administrator)
    assert ended.status == OperationStatus.SUCCEEDED, ended.error
    assert machine.on
    assert machine.bmc.commands == commands + 1
    assert set(steps_of(ended).values()) == {StepStatus.SUCCEEDED}
    evidence = ended.steps.get(code="back").data
    assert evidence["boot_id_before"] == BOOT_BEFORE
    node.refresh_from_db()
    assert evidence["boot_id"] == node.boot_id == ended.result["boot_id"] != BOOT_BEFORE
    assert (node.connection, node.connection_reason) == ("online", "")
    assert node.scheduling == Scheduling.MAINTENANCE
    assert node.snapshot is not None
    assert power_state(node) == "On"
    assert Event.objects.filter(kind="power_on_node_succeeded", node=node).count() == 1
    assert PASSWORD not in str([*ended.steps.values(), ended.result, *Event.objects.values()])


def test_one_that_is_on_and_answers_gets_no_command(administrator, machine, node):
    assert power_on_it(administrator).status == OperationStatus.SUCCEEDED
    commands = machine.bmc.commands
    ended = power_on_it(administrator)
    assert ended.status == OperationStatus.SUCCEEDED, ended.error
    assert ended.result["was_on"]
    assert machine.bmc.commands == commands
    assert steps_of(ended)["switch"] == StepStatus.SKIPPED


def test_a_bmc_that_says_off_of_a_host_that_answers_belongs_to_another_machine(administrator, machine, node):
    machine.end()
    machine.host.sshd.start()
    commands = machine.bmc.commands
    ended = power_on_it(administrator)
    assert (ended.error["code"], ended.error["reason"]) == ("bmc_failed", "other_system")
    assert machine.bmc.commands == commands
    assert not machine.on


@pytest.mark.parametrize(
    ("fields", "code", "reason"),
    [
        ({"password": "changed-meanwhile"}, "bmc_failed", "authentication_failed"),
        ({"certificate_fingerprint": "ab" * 32}, "bmc_failed", "certificate_differs"),
        ({"certificate_fingerprint": ""}, "bmc_failed", "certificate_unknown"),
        ({"url": "https://127.0.0.1:1"}, "bmc_unreachable", "unreachable"),
        ({"system_path": "/redfish/v1/Systems/gone"}, "bmc_failed", "no_such_system"),
    ],
)
def test_a_bmc_that_cannot_be_asked_ends_the_operation_by_name_and_switches_nothing(
    administrator, machine, node, fields, code, reason
):
    bmc = Bmc.objects.get()
    for name, value in fields.items():
        setattr(bmc, name, value)
    set_bmc_password(bmc, fields.get("password", PASSWORD))
    assert power_state(node) is None
    ended = power_on_it(administrator)
    assert ended.status == OperationStatus.FAILED
    assert (ended.error["code"], ended.error["reason"]) == (code, reason)
    assert ended.error["retryable"] is (code == "bmc_unreachable")
    assert steps_of(ended)["state"] == StepStatus.FAILED
    assert "changed-meanwhile" not in str(ended.error)
    assert not machine.on
    node.refresh_from_db()
    assert node.connection_reason == ConnectionReason.POWERED_OFF


def test_a_bmc_that_was_removed_meanwhile_is_missing(administrator, machine, node):
    Api(administrator)("power-on-node", {"node": "kvm-01"})
    Bmc.objects.all().delete()
    (ended,) = run_queued()
    assert ended.error["code"] == "bmc_missing"


def test_a_host_that_stays_silent_with_power_on_is_told_and_is_not_powered_off_any_more(
    administrator, machine, node, settings
):
    settings.NODEADMIN_REBOOT_S = 2.0
    machine.boots = False
    ended = power_on_it(administrator)
    assert (ended.status, ended.error["code"]) == (OperationStatus.FAILED, "timeout")
    assert steps_of(ended)["power"] == StepStatus.SUCCEEDED
    assert steps_of(ended)["back"] == StepStatus.FAILED
    node.refresh_from_db()
    assert (node.connection, node.connection_reason) == ("offline", ConnectionReason.REBOOTING)
    # Tried again once it can start, it needs no second command.
    machine.boots = True
    commands = machine.bmc.commands
    assert Api(administrator)("retry-operation", {"operation": str(ended.pk)})[0] == 202
    (again,) = run_queued()
    assert again.status == OperationStatus.SUCCEEDED, again.error
    assert machine.bmc.commands == commands


def test_a_machine_that_goes_off_again_ends_the_wait(administrator, machine, node, monkeypatch):
    monkeypatch.setattr(power_on, "LOOK_AGAIN_S", 0.5)
    machine.boots = False
    original = power_on.wait_until_back

    def pulling_the_plug(*args: object, **options: object) -> object:
        machine.host.virsh("destroy", "machine")
        return original(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(power_on, "wait_until_back", pulling_the_plug)
    ended = power_on_it(administrator)
    assert (ended.error["code"], ended.error["reason"]) == ("bmc_failed", "off_again")


def test_a_host_that_answers_with_the_boot_id_from_before_has_not_been_started(
    administrator, machine, node, settings
):
    settings.NODEADMIN_REBOOT_S = 2.0
    own = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    Node.objects.update(boot_id=own)
    ended = power_on_it(administrator)
    assert ended.error["code"] == "timeout"
    assert "before" in ended.error["detail"]


def test_a_cancel_while_it_waits_ends_it(administrator, machine, node, monkeypatch):
    machine.boots = False
    original = power_on.wait_until_back

    def asking_for_the_end(*args: object, **options: object) -> object:
        cancel(Operation.objects.get(), actor=SYSTEM)
        return original(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(power_on, "wait_until_back", asking_for_the_end)
    ended = power_on_it(administrator)
    assert ended.status == OperationStatus.CANCELLED
    assert machine.on


# -- a BMC that misbehaves, in front of the same machine -------------------------------------------


@pytest.fixture
def odd(machine: Machine, node: Node, tmp_path: Path) -> Iterator[MisbehavingBmc]:
    """The node's BMC; it switches the same domain as the other one does."""
    bmc = MisbehavingBmc(
        tmp_path,
        system=f"/redfish/v1/Systems/{MACHINE}",
        switch_on=lambda: machine.host.virsh("start", "machine") and None,
    )
    with bmc:
        Bmc.objects.update(url=bmc.address.url, certificate_fingerprint=bmc.fingerprint)
        set_bmc_password(Bmc.objects.get(), PASSWORD)
        yield bmc


def test_a_bmc_that_is_busy_at_every_turn_and_takes_no_password_still_switches_the_machine_on_once(
    administrator, odd
):
    odd.basic, odd.etags, odd.late_s = False, "header", 0.5
    reset = f"{odd.system}/Actions/ComputerSystem.Reset"
    odd.instead("GET", odd.system, Say(503), Break())
    odd.instead("POST", reset, Say(503), Break(carried_out=True))
    ended = power_on_it(administrator)
    assert ended.status == OperationStatus.SUCCEEDED, ended.error
    assert odd.resets == ["On"]
    assert not odd.open_sessions


def test_a_bmc_that_tells_late_of_a_machine_that_answers_is_looked_at_again(administrator, machine, odd):
    odd.late_s = 0.8
    odd.set_state("On")  # by hand, a moment ago: the BMC still says Off
    machine.end()
    machine.host.virsh("start", "machine")
    machine.host.sshd.start()
    ended = power_on_it(administrator)
    assert ended.status == OperationStatus.SUCCEEDED, ended.error
    assert ended.result["was_on"]
    assert odd.resets == []


def test_one_off_of_a_bmc_ends_no_wait_for_a_machine_that_is_starting(
    administrator, machine, odd, monkeypatch
):
    monkeypatch.setattr(power_on, "LOOK_AGAIN_S", 0.1)
    machine.boots = False
    original = power_on.wait_until_back

    def flickering(*args: object, **options: object) -> object:
        odd._told = "Off", time.monotonic() + 0.6
        threading.Timer(1.5, setattr, [machine, "boots", True]).start()
        return original(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(power_on, "wait_until_back", flickering)
    ended = power_on_it(administrator)
    assert ended.status == OperationStatus.SUCCEEDED, ended.error


def test_a_bmc_that_stays_busy_fails_the_operation_with_what_was_seen_and_can_be_cancelled(
    administrator, odd, monkeypatch
):
    odd.always("GET", odd.system, Say(503))
    monkeypatch.setattr(power_on, "SWITCH_S", 1.5)
    ended = power_on_it(administrator)
    assert (ended.error["code"], ended.error["reason"], ended.error["retryable"]) == (
        "bmc_busy",
        "busy",
        True,
    )
    assert f"HTTP 503 from {odd.address.url}{odd.system}" in ended.error["detail"]
    monkeypatch.setattr(power_on, "SWITCH_S", 60.0)
    assert Api(administrator)("retry-operation", {"operation": str(ended.pk)})[0] == 202
    retried = Operation.objects.exclude(pk=ended.pk).get()

    def cancel_it() -> None:
        cancel(Operation.objects.get(pk=retried.pk), actor=SYSTEM)

    original = power_on._pausing

    def cancelled_in_the_first_pause(run: Run) -> Callable[[float], None]:
        sleep = original(run)

        def pause(seconds: float) -> None:
            cancel_it()
            sleep(seconds)

        return pause

    monkeypatch.setattr(power_on, "_pausing", cancelled_in_the_first_pause)
    (again,) = run_queued()
    assert again.status == OperationStatus.CANCELLED
    assert odd.resets == []
