"""The monitor on real parts: a real sshd, a real loop on the host, a real database."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone

from nodes.inventory.beat import Beat
from nodes.models import (
    Connection,
    ConnectionReason,
    Credential,
    Event,
    FigureBlock,
    Heartbeat,
    MonitorProcess,
    Node,
    Operation,
)
from nodes.models.credential import CredentialKind
from nodes.monitor.evidence import Evidence, Timing
from nodes.monitor.loop import Monitor, MonitorSettings
from nodes.monitor.points import Point, unpack
from nodes.monitor.store import MINUTE, Block, BlockInHand, Reading
from nodes.monitor.watch import NodeFacts, Watched, load_facts
from tests.factories import make_credential, make_node
from tests.sshd import ME, LoopbackSshd

pytestmark = pytest.mark.django_db(transaction=True)

FAST = MonitorSettings(
    Timing(period_s=1.0, grace_s=1.0, greeting_s=1.5, again_s=0.3, shortest_s=0.3, longest_s=1.0),
    lease_s=4.0,
    refresh_s=0,
    threads=4,
)


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[LoopbackSshd]:
    with LoopbackSshd(tmp_path / "sshd", key_types=("ed25519",)) as server:
        yield server


@pytest.fixture
def node(sshd: LoopbackSshd) -> Node:
    return ssh_node(sshd, "kvm-01")


def ssh_node(sshd: LoopbackSshd, name: str) -> Node:
    made = make_node(
        name,
        uri=f"qemu+ssh://{ME}@127.0.0.1:{sshd.port}/system",
        host_key=sshd.host_key().to_text(),
        connection=Connection.UNKNOWN,
        last_seen_at=None,
    )
    make_credential(made, CredentialKind.SSH_KEY, private_key=sshd.user_key.read_text())
    return made


@pytest.fixture
def monitor() -> Iterator[Monitor]:
    watching = Monitor(FAST)
    watching.start()
    yield watching
    watching.stop()


def until(what: Callable[[], bool], seconds: float = 20) -> float:
    """Wait until it is so; gives the seconds it took."""
    begun = time.monotonic()
    while time.monotonic() - begun < seconds:
        if what():
            return time.monotonic() - begun
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds} s")


def seen(node: Node, connection: str, reason: str = "") -> Callable[[], bool]:
    def look() -> bool:
        node.refresh_from_db()
        return (node.connection, node.connection_reason) == (connection, reason)

    return look


@pytest.fixture
def watched(node: Node, monitor: Monitor) -> Node:
    """A node that beats, whatever this machine's own libvirt does."""
    until(lambda: Heartbeat.objects.filter(node=node, beats__gte=1).exists())
    node.refresh_from_db()
    return node


def settle(node: Node) -> tuple[str, str]:
    """What a beating node is: online, or without libvirt where this machine runs none."""
    until(lambda: Heartbeat.objects.get(node=node).libvirt_up is not None)
    up = Heartbeat.objects.get(node=node).libvirt_up
    state = (Connection.ONLINE, "") if up else (Connection.OFFLINE, ConnectionReason.LIBVIRT_DOWN)
    until(seen(node, *state))
    return state


def test_a_node_that_beats_has_figures_and_is_seen(watched: Node) -> None:
    settle(watched)
    until(lambda: Heartbeat.objects.get(node=watched).beats >= 3)
    heartbeat = Heartbeat.objects.get(node=watched)
    assert heartbeat.boot_id == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert heartbeat.memory_used_bytes and heartbeat.cpu_used_percent is not None
    assert heartbeat.point is not None and len(unpack(bytes(heartbeat.point))) == 1


def test_a_stopped_sshd_is_unreachable_and_back_when_it_runs_again(watched: Node, sshd: LoopbackSshd) -> None:
    state = settle(watched)
    sshd.stop()
    assert until(seen(watched, Connection.OFFLINE, ConnectionReason.UNREACHABLE)) < 8
    assert "refused" in watched.connection_detail
    sshd.start()
    assert until(seen(watched, *state)) < 8
    kinds = list(Event.objects.filter(node=watched).order_by("id").values_list("kind", flat=True))
    assert kinds.count("node_offline") >= 1


def test_an_ended_connection_alone_is_no_alarm(watched: Node, sshd: LoopbackSshd) -> None:
    settle(watched)
    events = Event.objects.count()
    beats = Heartbeat.objects.get(node=watched).beats
    sshd.drop_connections()
    until(lambda: Heartbeat.objects.get(node=watched).beats >= beats + 3)
    assert Event.objects.count() == events


def test_a_changed_host_key_is_told_at_the_next_connection(watched: Node, sshd: LoopbackSshd) -> None:
    state = settle(watched)
    sshd.change_host_key()
    until(seen(watched, Connection.OFFLINE, ConnectionReason.HOST_KEY_MISMATCH))
    # Confirmed anew, with the credential for it: the row changes, and the next look at it connects at once.
    Node.objects.filter(pk=watched.pk).update(host_key=sshd.host_key().to_text())
    Credential.objects.filter(node=watched).delete()
    make_credential(Node.objects.get(pk=watched.pk), "ssh_key", private_key=sshd.user_key.read_text())
    until(seen(watched, *state))


def test_a_refused_login_is_told(sshd: LoopbackSshd, node: Node, monitor: Monitor, tmp_path: Path) -> None:
    sshd.authorized_keys.write_text("")
    until(seen(node, Connection.OFFLINE, ConnectionReason.SSH_AUTH_FAILED))


def test_a_node_that_is_deleted_is_let_go_and_harms_no_other(
    watched: Node, sshd: LoopbackSshd, monitor: Monitor
) -> None:
    other = ssh_node(sshd, "kvm-02")
    until(lambda: Heartbeat.objects.filter(node=other, beats__gte=1).exists())
    watched.delete()
    until(lambda: monitor.watched_count == 1)
    beats = Heartbeat.objects.get(node=other).beats
    until(lambda: Heartbeat.objects.get(node=other).beats >= beats + 2)


def test_a_reboot_is_an_event_and_a_refresh(watched: Node, monitor: Monitor) -> None:
    settle(watched)
    monitor.stop()
    Heartbeat.objects.filter(node=watched).update(boot_id="the-boot-before")
    again = Monitor(replace(FAST, refresh_s=900.0))
    again.start()
    try:
        until(lambda: Event.objects.filter(kind="host_rebooted", node=watched).exists())
        if settle(watched)[0] == Connection.ONLINE:
            until(lambda: Operation.objects.filter(kind="refresh-node", node=watched).exists())
    finally:
        again.stop()
    assert Event.objects.filter(kind="host_rebooted").count() == 1


def test_a_stopped_monitor_gives_its_nodes_back_with_the_points_in_hand(
    watched: Node, monitor: Monitor
) -> None:
    until(lambda: Heartbeat.objects.get(node=watched).beats >= 2)
    monitor.stop()
    assert Heartbeat.objects.get(node=watched).owner is None
    assert not MonitorProcess.objects.exists()
    # Minutes only: in one of sixty the node's hour ends too, and has a row of its own.
    minutes = FigureBlock.objects.filter(node=watched, span_s=MINUTE)
    blocks = minutes.values_list("points", flat=True)
    stored = sum(len(unpack(bytes(points))) for points in blocks)
    assert stored == Heartbeat.objects.get(node=watched).beats


def test_a_node_of_the_test_driver_is_online_without_figures(monitor: Monitor) -> None:
    node = make_node("test-01", uri="test:///default", connection=Connection.UNKNOWN)
    until(seen(node, Connection.ONLINE))
    assert Heartbeat.objects.get(node=node).cpu_used_percent is None


def test_this_machine_is_watched_without_ssh(monitor: Monitor) -> None:
    node = make_node("here", uri="qemu:///system", connection=Connection.UNKNOWN)
    until(lambda: Heartbeat.objects.filter(node=node, beats__gte=2).exists())
    settle(node)


def test_when_most_nodes_vanish_at_once_it_is_one_event_and_not_one_a_node(
    sshd: LoopbackSshd, monitor: Monitor
) -> None:
    nodes = [ssh_node(sshd, f"kvm-{number:02d}") for number in range(5)]
    for node in nodes:
        until(lambda node=node: Heartbeat.objects.filter(node=node, beats__gte=1).exists())  # type: ignore[misc]
        settle(node)
    before = Event.objects.filter(kind="node_offline").count()
    sshd.stop()
    for node in nodes:
        until(seen(node, Connection.OFFLINE, ConnectionReason.UNREACHABLE))
        assert "cut off" in node.connection_detail
    assert Event.objects.filter(kind="monitor_cut_off").count() == 1
    assert Event.objects.filter(kind="node_offline").count() == before
    assert MonitorProcess.objects.get().cut_off_since is not None
    sshd.start()
    until(lambda: Event.objects.filter(kind="monitor_reconnected").count() == 1)
    for node in nodes:
        settle(node)
    assert Event.objects.filter(kind="monitor_cut_off").count() == 1


def test_a_running_monitor_takes_over_the_nodes_of_a_dead_one(watched: Node, monitor: Monitor) -> None:
    lives = timezone.now() + timedelta(minutes=5)
    gone = MonitorProcess.objects.create(name="gone:1", lease_expires_at=lives)
    other = make_node("test-01", uri="test:///default", connection=Connection.UNKNOWN)
    until(lambda: Heartbeat.objects.filter(node=other).exists())
    Heartbeat.objects.filter(node=other).update(owner=gone)
    MonitorProcess.objects.filter(pk=gone.pk).update(lease_expires_at=timezone.now() + timedelta(seconds=1))
    # In one query: the owner may be ended between the heartbeat's row and its own.
    until(Heartbeat.objects.filter(node=other, owner__isnull=False).exclude(owner=gone.pk).exists, 15)
    assert not MonitorProcess.objects.filter(pk=gone.pk).exists()


def test_figures_do_not_pile_up_while_the_database_is_away(node: Node) -> None:
    monitor = Monitor(FAST)
    waiting = Away()
    monitor._writer = waiting  # type: ignore[assignment]
    monitor._watched = {node.pk: Watched(facts_of(node), Evidence(FAST.timing), BlockInHand(node.pk))}
    beat = Beat(1, "boot")
    for number in range(100):
        monitor._readings.append(Reading(node.pk, float(number), beat, Point(0.0)))
        monitor._blocks.append(Block(node.pk, number, [Point(0.0)]))
        monitor._flush(float(number))
    assert monitor._readings == [] and waiting.put_in == 0
    assert [block.number for block in monitor._blocks] == list(range(90, 100))


class Away:
    """A writer whose database does not answer."""

    waiting = 1000
    put_in = 0

    def put(self, _work: object) -> None:
        self.put_in += 1


def facts_of(node: Node) -> NodeFacts:
    Heartbeat.objects.create(node=node)
    return load_facts([node.pk])[node.pk]
