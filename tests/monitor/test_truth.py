"""What a monitor says of hosts that half work, and of what others have said: a real sshd, a real database."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from django.db import transaction
from django.utils import timezone

from nodes.inventory.beat import SOCKETS
from nodes.models import Connection, ConnectionReason, Credential, Event, Heartbeat, Node, Operation
from nodes.monitor.loop import Monitor, MonitorSettings
from tests.factories import make_operation
from tests.monitor.test_monitor import FAST, seen, settle, ssh_node, until
from tests.sshd import LoopbackSshd

pytestmark = pytest.mark.django_db(transaction=True)

QUICK = replace(FAST, timing=replace(FAST.timing, first_beat_s=3.0, refused_longest_s=2.0))


class Watching:
    """A monitor for the time of a with statement."""

    def __init__(self, wanted: MonitorSettings = QUICK) -> None:
        self.monitor = Monitor(wanted)

    def __enter__(self) -> Monitor:
        self.monitor.start()
        return self.monitor

    def __exit__(self, *_error: object) -> None:
        self.monitor.stop()


def beating(node: Node) -> tuple[str, str]:
    """Wait for its beats; gives its state and reason."""
    until(lambda: Heartbeat.objects.filter(node=node, beats__gte=1).exists(), 60)
    return settle(node)


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """While this file is there, the host's shell does what it says instead of what it is asked."""
    return tmp_path / "broken"


@pytest.fixture
def libvirt_socket(tmp_path: Path) -> Iterator[Path]:
    """Where somebody listens as libvirt does, whether this machine's own runs or not."""
    path = tmp_path / "libvirt-sock"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        yield path


@pytest.fixture
def sshd(tmp_path: Path, broken: Path, libvirt_socket: Path) -> LoopbackSshd:
    shell = tmp_path / "shell"
    shell.write_text(
        f"""#!/bin/sh
[ -e {broken} ] && exec sh {broken}
exec sh -c "$(printf '%s' "$SSH_ORIGINAL_COMMAND" | sed 's#{SOCKETS[0]}#{libvirt_socket}#')"
"""
    )
    shell.chmod(0o755)
    return LoopbackSshd(tmp_path / "sshd", key_types=("ed25519",), options={"ForceCommand": str(shell)})


def test_a_host_whose_shell_hangs_is_offline_and_back_when_it_works_again(
    sshd: LoopbackSshd, broken: Path
) -> None:
    with sshd, Watching():
        node = ssh_node(sshd, "kvm-01")
        state = beating(node)
        broken.write_text("exec sleep 300\n")
        sshd.drop_connections()
        until(seen(node, Connection.OFFLINE, ConnectionReason.PROBE_FAILING), 60)
        assert "prints nothing" in node.connection_detail
        broken.unlink()
        until(seen(node, *state), 60)


def test_a_shell_that_lets_nobody_work_is_told_and_not_asked_all_the_time(
    sshd: LoopbackSshd, broken: Path
) -> None:
    broken.write_text("echo This account is not available.\n")
    with (
        sshd,
        Watching(replace(QUICK, timing=replace(QUICK.timing, refused_longest_s=60.0, shortest_s=30.0))),
    ):
        node = ssh_node(sshd, "kvm-01")
        until(seen(node, Connection.OFFLINE, ConnectionReason.PROBE_FAILING), 60)
        assert sshd.log.count("Starting session") <= 3


@pytest.mark.parametrize("renewed", [False, True], ids=["", "with a credential renewed in the same moment"])
def test_a_host_that_never_went_is_not_rebooting_for_ever(sshd: LoopbackSshd, renewed: bool) -> None:
    with sshd, Watching():
        node = ssh_node(sshd, "kvm-01")
        assert beating(node) == (Connection.ONLINE, "")
        operation = make_operation(node, kind="reboot-node", status="running")
        away = {"connection": Connection.OFFLINE, "connection_reason": ConnectionReason.REBOOTING}
        with transaction.atomic():
            Node.objects.filter(pk=node.pk).update(**away)
            if renewed:
                Credential.objects.filter(node=node).update(updated_at=timezone.now())
        beats = Heartbeat.objects.get(node=node).beats
        until(lambda: Heartbeat.objects.get(node=node).beats >= beats + 8, 60)
        assert seen(node, Connection.OFFLINE, ConnectionReason.REBOOTING)()
        Operation.objects.filter(pk=operation.pk).update(status="failed")
        until(seen(node, Connection.ONLINE), 60)


def test_a_failed_inventory_of_a_host_that_beats_is_tried_again(sshd: LoopbackSshd) -> None:
    with sshd, Watching(replace(QUICK, refresh_s=20.0)):
        node = ssh_node(sshd, "kvm-01")
        assert beating(node) == (Connection.ONLINE, "")
        until(lambda: Operation.objects.filter(kind="refresh-node", node=node).exists(), 60)
        Operation.objects.all().update(status="failed")
        failed = {"connection": Connection.OFFLINE, "connection_reason": ConnectionReason.PROBE_FAILING}
        Node.objects.filter(pk=node.pk).update(**failed)
        until(lambda: Operation.objects.filter(kind="refresh-node", status="queued").exists(), 60)
        # The monitor alone does not take back what an inventory has found.
        assert seen(node, Connection.OFFLINE, ConnectionReason.PROBE_FAILING)()


def test_nodes_that_stay_lost_when_the_others_are_heard_again_get_their_own_event(
    sshd: LoopbackSshd, tmp_path: Path
) -> None:
    with sshd, LoopbackSshd(tmp_path / "other", key_types=("ed25519",)) as other, Watching():
        nodes = [ssh_node(sshd, f"kvm-{number:02d}") for number in range(5)]
        lost = ssh_node(other, "kvm-05")
        for node in (*nodes, lost):
            beating(node)
        before = Event.objects.filter(kind="node_offline", node=lost).count()
        sshd.stop()
        other.stop()
        until(lambda: Event.objects.filter(kind="monitor_cut_off").exists(), 60)
        until(seen(lost, Connection.OFFLINE, ConnectionReason.UNREACHABLE), 60)
        sshd.start()
        until(lambda: Event.objects.filter(kind="monitor_reconnected").exists(), 60)
        until(lambda: Event.objects.filter(kind="node_offline", node=lost).count() > before)
