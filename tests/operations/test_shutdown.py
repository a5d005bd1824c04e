"""Shutting a light host down: what proves that it is off, and what does not."""

from __future__ import annotations

import pytest

from nodes.engine.submit import cancel
from nodes.events import SYSTEM
from nodes.models import ConnectionReason, Event, Node, OperationStatus, Scheduling
from tests.engine.running import in_background, run_queued
from tests.light_nodes import ask, steps_of, wait_until
from tests.lighthosts import assert_exactly_once
from tests.operations.test_reboot import run_until

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_shutdown_is_proved_and_its_vms_are_elsewhere(pair, nodes, run_vm):
    one, two = pair
    vm = run_vm("web")
    ask("shutdown-node", nodes[0], vm_policy="migrate")
    (ended,) = run_queued()
    assert ended.status == OperationStatus.SUCCEEDED, ended.error
    assert not one.is_on
    assert ended.result["off"] is True
    assert ended.result["accepted_at"]
    assert ended.result["silent_s"] == 3.0
    node = Node.objects.get(pk=nodes[0].pk)
    assert (node.connection, node.connection_reason) == ("offline", ConnectionReason.POWERED_OFF)
    assert node.scheduling == Scheduling.MAINTENANCE
    one.power_on()
    assert_exactly_once(pair, vm, on=two)


def test_a_host_that_falls_silent_without_having_taken_the_command_is_not_called_off(
    pair, nodes, monkeypatch
):
    one, _two = pair
    operation = ask("shutdown-node", nodes[0])
    run_until(monkeypatch, operation, "_send")
    # As the server would leave it that dies between the note and the command.
    operation.steps.filter(code="command").update(
        status="running", data={"sent_at": "2026-01-01T00:00:00+00:00"}, started_at="2026-01-01T00:00:00Z"
    )
    one.power_off()
    (ended,) = run_queued()
    assert (ended.status, ended.error["code"]) == (OperationStatus.FAILED, "shutdown_unproved")
    assert Node.objects.get(pk=nodes[0].pk).connection_reason != ConnectionReason.POWERED_OFF
    one.power_on()


def test_a_host_that_was_started_again_meanwhile_is_not_called_off(pair, nodes, monkeypatch):
    one, _two = pair
    operation = ask("shutdown-node", nodes[0])
    run_until(monkeypatch, operation, "off")
    assert steps_of(operation)["command"] == "succeeded"
    wait_until(lambda: not one.is_on)
    one.power_on()
    (ended,) = run_queued()
    assert ended.status == OperationStatus.SUCCEEDED, ended.error
    assert ended.result["off"] is False
    assert Node.objects.get(pk=nodes[0].pk).connection == "online"
    assert one.power_commands.count("poweroff") == 2


def test_a_cancel_after_the_command_says_that_the_host_goes_down_all_the_same(pair, nodes, settings):
    one, _two = pair
    settings.NODEADMIN_SILENCE_S = 60.0
    operation = ask("shutdown-node", nodes[0])
    runner = in_background()
    wait_until(lambda: steps_of(operation)["off"] == "running")
    cancel(operation, actor=SYSTEM)
    (ended,) = runner.result()
    wait_until(lambda: not one.is_on)
    one.power_on()
    assert ended.status == OperationStatus.CANCELLED
    assert "told to go down, which a cancel does not undo" in ended.message
    assert Event.objects.get(kind="shutdown_node_cancelled").message.endswith(ended.message)


def test_a_host_that_takes_the_command_and_stays_up_is_said_to_do_so(pair, nodes, settings):
    one, _two = pair
    settings.NODEADMIN_POWER_OFF_S = 2.0
    systemctl = one.folder / "systemctl"
    obeying = systemctl.read_text()
    # Written in place: it is mounted.
    systemctl.write_text("#!/bin/sh\nexit 0\n")
    try:
        ask("shutdown-node", nodes[0])
        (ended,) = run_queued()
    finally:
        systemctl.write_text(obeying)
    assert (ended.status, ended.error["code"]) == (OperationStatus.FAILED, "host_stayed_up")
