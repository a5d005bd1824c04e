"""Hosts that say too much: one event, a count, and a state of the node that ends after quiet time."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone

from nodes.models import Event, FloodKind, HostFlood, InventoryChange, Node, Operation
from nodes.monitor import gate
from nodes.monitor.gate import Gate
from nodes.monitor.loop import Monitor
from nodes.monitor.watch import LINES_AT_ONCE, BeatSink, Signal, Signals
from nodes.operations import history
from nodes.operations.node_state import floods
from nodes.operations.node_state.floods import end_quiet, note, record_of_host
from tests.factories import make_node
from tests.monitor.test_monitor import FAST, ssh_node, until
from tests.sshd import LoopbackSshd

pytestmark = pytest.mark.django_db(transaction=True)

LIAR = """#!/bin/dash
case "$*" in *"beat 1"*)
  n=0
  while :; do
    n=$((n + 1)); echo "beat 1 n=$n boot=boot-$n up=$n libvirt=1 vms=$((n % 2)),9 end"; sleep 0.02
  done ;;
esac
exec /bin/dash "$@"
"""


@pytest.fixture
def liar(tmp_path: Path) -> Iterator[LoopbackSshd]:
    """A host whose heartbeat claims another boot at each line, fifty times a second."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "sh").write_text(LIAR)
    (folder / "sh").chmod(0o755)
    path = f"SHLVL=2 PATH={folder}:/usr/bin:/bin"
    with LoopbackSshd(tmp_path / "sshd", key_types=("ed25519",), options={"SetEnv": path}) as server:
        yield server


def kinds(node: Node) -> list[str]:
    return list(Event.objects.filter(node=node).order_by("id").values_list("kind", flat=True))


def test_ever_new_boot_ids_are_a_few_events_and_a_state_of_the_node(
    liar: LoopbackSshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "TOLD_EVERY_S", 1.0)
    node = ssh_node(liar, "kvm-01")
    monitor = Monitor(FAST)
    monitor.start()
    try:
        until(lambda: HostFlood.objects.filter(node=node, kind=FloodKind.BOOT_IDS).exists())
        until(lambda: HostFlood.objects.get(node=node, kind=FloodKind.BOOT_IDS).count > 10)
    finally:
        monitor.stop()
    found = kinds(node)
    assert found.count("host_rebooted") <= 5
    assert found.count("host_flood") <= 2
    told = Event.objects.filter(node=node, kind="host_flood", data__flood="boot_ids").get()
    assert "surplus boot IDs" in told.message
    node.refresh_from_db()
    assert node.flood in (FloodKind.BOOT_IDS, FloodKind.HEARTBEATS)
    assert Operation.objects.filter(node=node).count() <= 5
    # Lines that come fifty times a second are not fifty signals a second for the one loop of all nodes.
    assert monitor.beats < 40 + 4 * 25


def test_a_flood_ends_after_quiet_time_with_an_event_of_its_count() -> None:
    node = make_node("kvm-01")
    note(node, FloodKind.BOOT_IDS, 350, 20.0)
    note(node, FloodKind.BOOT_IDS, 8)
    assert end_quiet() == 0
    HostFlood.objects.update(last_at=timezone.now() - floods.QUIET - timedelta(seconds=1))
    assert end_quiet() == 1
    node.refresh_from_db()
    assert node.flood == ""
    assert kinds(node) == ["host_flood", "host_flood_ended"]
    begun, ended = Event.objects.filter(node=node).order_by("id")
    assert begun.message.startswith("kvm-01 sent 350 surplus boot IDs in 20 s.")
    assert ended.data["count"] == 358


def test_a_flood_that_lasts_is_told_of_once_an_hour() -> None:
    node = make_node("kvm-01")
    note(node, FloodKind.BOOT_IDS, 5)
    HostFlood.objects.update(told_at=timezone.now() - timedelta(minutes=61))
    for _ in range(3):
        note(node, FloodKind.BOOT_IDS, 5)
    assert kinds(node) == ["host_flood", "host_flood"]


def test_of_two_floods_the_one_that_lasts_stays_the_state() -> None:
    node = make_node("kvm-01")
    note(node, FloodKind.BOOT_IDS, 5)
    note(node, FloodKind.HEARTBEATS, 5)
    long_ago = timezone.now() - timedelta(hours=1)
    HostFlood.objects.filter(kind=FloodKind.HEARTBEATS).update(last_at=long_ago)
    assert end_quiet() == 1
    node.refresh_from_db()
    assert node.flood == FloodKind.BOOT_IDS


def test_events_of_one_kind_end_at_their_limit_and_those_of_other_nodes_and_people_do_not(
    administrator,
) -> None:
    from nodes.events import Actor, record

    node, other = make_node("kvm-01"), make_node("kvm-02")
    for _ in range(3 * floods.EVENTS_AN_HOUR):
        record_of_host("node_offline", "gone", node=node)
    assert kinds(node).count("node_offline") == floods.EVENTS_AN_HOUR
    assert kinds(node).count("host_flood") == 1
    row = HostFlood.objects.get(node=node)
    assert (row.kind, row.count) == (FloodKind.CONNECTION, 2 * floods.EVENTS_AN_HOUR)
    assert record_of_host("node_offline", "gone", node=other)
    assert record_of_host("disk_health_fell", "worse", node=node)
    record("node_updated", "by a person", node=node, actor=Actor(administrator))


def test_in_a_day_no_host_writes_more_events_than_the_last_resort(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(floods, "EVENTS_A_DAY", 30)
    node = make_node("kvm-01")
    for number in range(100):
        record_of_host(f"kind_{number}", "something", node=node)
    assert len(kinds(node)) <= 31


def test_changes_at_every_inventory_end_at_the_limit_of_a_day(monkeypatch: pytest.MonkeyPatch) -> None:
    from nodes.inventory.changes import Change, ChangeKind

    monkeypatch.setattr(history, "MAX_CHANGES_A_DAY", 50)
    node, now = make_node("kvm-01"), timezone.now()
    changes = tuple(
        Change("summary", ChangeKind.CHANGED, "system.kernel", "", None, str(number), str(number + 1))
        for number in range(20)
    )
    kept = [history.keep_changes(node, changes, now + timedelta(seconds=number)) for number in range(6)]
    assert kept == [True, True, True, False, False, False]
    assert InventoryChange.objects.filter(node=node).count() == 50
    assert HostFlood.objects.get(node=node).count == 60


def test_a_gate_lets_a_few_through_and_counts_the_rest() -> None:
    one = Gate(2, 60.0)
    assert [one.admit(now) for now in (0.0, 1.0, 2.0, 3.0)] == [True, True, False, False]
    assert not one.due(5.0)
    assert one.due(13.0)
    assert one.take(13.0) == (2, 11.0)
    assert not one.due(100.0)
    assert one.admit(100.0)


def test_a_stream_hands_on_no_more_lines_than_a_host_has_to_say() -> None:
    signals = Signals()
    sink = BeatSink(1, 1, signals)
    for number in range(1000):
        sink.data(b"beat 1 n=%d boot=ab end\n" % number)
    found: list[Signal] = []
    while not signals.empty():
        found.append(signals.get())
    assert len(found) <= LINES_AT_ONCE + 2


def test_a_node_in_flood_says_so_on_its_page_in_lists_and_in_metrics(administrator, client) -> None:
    from tests.api.conftest import Api

    node = make_node("kvm-01")
    note(node, FloodKind.BOOT_IDS, 358, 20.0)
    api = Api(administrator)
    status, found = api("describe-node", {"node": "kvm-01"})
    assert (status, found["floods"][0]["kind"], found["floods"][0]["count"]) == (200, "boot_ids", 358)
    _status, listed = api("list-nodes")
    assert [row["flood"] for row in listed["results"]] == ["boot_ids"]
    client.force_login(administrator)
    page = client.get("/nodes/kvm-01/").content.decode()
    assert "The host sends too much: Boot IDs" in page
    assert "Sends too much" in client.get("/nodes/").content.decode()
    metrics = client.get("/metrics", headers=api.headers).content.decode()
    assert 'nodeadmin_node_flood{kind="boot_ids",node="kvm-01"} 1.0' in metrics
