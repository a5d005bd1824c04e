"""Who may say what of a node's connection: the monitor that watches it, an inventory, an operation."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from nodes.errors import HostUnreachable, ProbeFailed
from nodes.models import Connection, ConnectionReason, Event, Heartbeat, MonitorProcess, Node, Operation
from nodes.operations.connection_state import (
    note_contact,
    note_evidence,
    note_failure,
    note_mute_libvirt,
    note_still_up,
)
from tests.factories import make_node, make_operation

pytestmark = pytest.mark.django_db


@pytest.fixture
def node() -> Node:
    return make_node("kvm-01")


@pytest.fixture
def watched(node: Node) -> Node:
    process = MonitorProcess.objects.create(name="m", lease_expires_at=timezone.now() + timedelta(seconds=60))
    Heartbeat.objects.create(node=node, owner=process)
    return node


def state(node: Node) -> tuple[str, str]:
    node.refresh_from_db()
    return node.connection, node.connection_reason


def lost(node: Node, reason: str = "unreachable") -> None:
    note_evidence(node, online=False, reason=reason, detail="no answer")


def test_one_failed_refresh_of_a_watched_node_is_no_loss(watched: Node) -> None:
    note_failure(watched, HostUnreachable("no"))
    assert state(watched) == (Connection.ONLINE, "")


def test_without_a_monitor_it_is_the_only_sign_there_is(node: Node) -> None:
    note_failure(node, HostUnreachable("no"))
    assert state(node) == (Connection.OFFLINE, ConnectionReason.UNREACHABLE)


def test_only_an_inventory_can_find_and_clear_a_failing_probe(watched: Node) -> None:
    note_failure(watched, ProbeFailed("odd"))
    assert state(watched) == (Connection.OFFLINE, ConnectionReason.PROBE_FAILING)
    note_evidence(watched, online=True, reason="", detail="")
    assert state(watched) == (Connection.OFFLINE, ConnectionReason.PROBE_FAILING)
    note_contact(watched)
    assert state(watched) == (Connection.ONLINE, "")


def test_an_inventory_taken_without_libvirt_does_not_make_the_node_online(watched: Node) -> None:
    lost(watched, "libvirt_down")
    note_contact(watched)
    assert state(watched) == (Connection.OFFLINE, ConnectionReason.LIBVIRT_DOWN)


def test_a_host_that_is_away_because_it_was_asked_to_reboot_is_rebooting(watched: Node) -> None:
    make_operation(watched, kind="reboot-node", status="running")
    lost(watched)
    assert state(watched) == (Connection.OFFLINE, ConnectionReason.REBOOTING)
    note_evidence(watched, online=True, reason="", detail="")
    assert state(watched) == (Connection.ONLINE, "")


def test_a_reboot_that_takes_too_long_is_a_loss(watched: Node) -> None:
    long_ago = timezone.now() - timedelta(hours=1)
    Node.objects.filter(pk=watched.pk).update(
        connection="offline", connection_reason="rebooting", connection_since=long_ago
    )
    watched.refresh_from_db()
    lost(watched)
    assert state(watched) == (Connection.OFFLINE, ConnectionReason.UNREACHABLE)


def test_a_host_that_was_powered_off_stays_so_until_it_answers(watched: Node) -> None:
    Node.objects.filter(pk=watched.pk).update(connection="offline", connection_reason="powered_off")
    watched.refresh_from_db()
    lost(watched)
    assert state(watched) == (Connection.OFFLINE, ConnectionReason.POWERED_OFF)
    note_evidence(watched, online=True, reason="", detail="")
    assert state(watched) == (Connection.ONLINE, "")


def test_the_same_finding_twice_is_one_event(watched: Node) -> None:
    lost(watched)
    lost(watched)
    assert Event.objects.filter(kind="node_offline").count() == 1


@pytest.mark.parametrize("reason", ["libvirt_down", "probe_failing", "ssh_auth_failed"])
def test_what_a_host_looks_like_on_its_way_down_and_up_is_its_reboot(watched: Node, reason: str) -> None:
    operation = make_operation(watched, kind="reboot-node", status="running")
    lost(watched, reason)
    assert state(watched) == (Connection.OFFLINE, ConnectionReason.REBOOTING)
    Operation.objects.filter(pk=operation.pk).update(status="failed")
    lost(watched, reason)
    assert state(watched) == (Connection.OFFLINE, reason)


def test_another_host_key_is_told_even_during_a_reboot(watched: Node) -> None:
    make_operation(watched, kind="reboot-node", status="running")
    lost(watched, "host_key_mismatch")
    assert state(watched) == (Connection.OFFLINE, ConnectionReason.HOST_KEY_MISMATCH)


@pytest.mark.parametrize("reason", ["rebooting", "powered_off"])
def test_a_host_that_beats_on_is_not_away_once_no_operation_is_at_it(watched: Node, reason: str) -> None:
    operation = make_operation(watched, kind="shutdown-node", status="running")
    Node.objects.filter(pk=watched.pk).update(connection="offline", connection_reason=reason)
    watched.refresh_from_db()
    note_still_up(watched)
    assert state(watched) == (Connection.OFFLINE, reason)
    now = timezone.now()
    Operation.objects.filter(pk=operation.pk).update(status="cancelled", finished_at=now)
    note_still_up(watched)
    assert state(watched) == (Connection.OFFLINE, reason), "a cancel calls no host back"
    Operation.objects.filter(pk=operation.pk).update(status="failed")
    note_still_up(watched)
    assert state(watched) == (Connection.ONLINE, "")


def test_a_libvirt_that_does_not_answer_is_told_where_the_monitor_knows_no_better(watched: Node) -> None:
    note_mute_libvirt(watched)
    assert state(watched) == (Connection.OFFLINE, ConnectionReason.PROBE_FAILING)
    note_contact(watched)
    lost(watched)
    note_mute_libvirt(watched)
    assert state(watched) == (Connection.OFFLINE, ConnectionReason.UNREACHABLE)
