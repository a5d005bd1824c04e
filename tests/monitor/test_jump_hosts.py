"""Nodes behind a jump host, watched through a real one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from nodes import access
from nodes.models import Connection, ConnectionReason, Heartbeat, JumpHost, Node
from nodes.models.credential import CredentialKind
from nodes.models.sealed import SecretFor
from nodes.monitor.loop import Monitor
from tests.factories import make_credential, make_node
from tests.monitor.test_monitor import FAST, seen, until
from tests.sshd import ME, LoopbackSshd

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def bastion(tmp_path: Path) -> Iterator[LoopbackSshd]:
    with LoopbackSshd(tmp_path / "bastion", key_types=("ed25519",)) as server:
        yield server


@pytest.fixture
def far(tmp_path: Path) -> Iterator[LoopbackSshd]:
    with LoopbackSshd(tmp_path / "far", key_types=("ed25519",)) as server:
        yield server


def test_a_jump_host_that_dies_is_the_reason_and_its_nodes_come_back_with_it(
    bastion: LoopbackSshd, far: LoopbackSshd
) -> None:
    row = JumpHost.objects.create(
        name="bastion",
        host="127.0.0.1",
        port=bastion.port,
        user=ME,
        host_key=bastion.host_key().to_text(),
        host_key_fingerprint=bastion.host_key().fingerprint,
        credential_kind=CredentialKind.SSH_KEY,
    )
    row.secret = SecretFor(access.binding_of_jump_host(row), {"private_key": bastion.user_key.read_text()})
    row.save()
    node: Node = make_node(
        "kvm-01",
        uri=f"qemu+ssh://{ME}@127.0.0.1:{far.port}/system",
        host_key=far.host_key().to_text(),
        connection=Connection.UNKNOWN,
        last_seen_at=None,
        jump_host=row,
    )
    make_credential(node, CredentialKind.SSH_KEY, private_key=far.user_key.read_text())
    monitor = Monitor(FAST)
    monitor.start()
    try:
        until(lambda: Heartbeat.objects.filter(node=node, beats__gte=1).exists())
        assert "Accepted" in bastion.log, "it was reached past its jump host"
        bastion.stop()
        until(seen(node, Connection.OFFLINE, ConnectionReason.JUMP_HOST_UNREACHABLE))
        assert "“bastion”" in node.connection_detail
        beats = Heartbeat.objects.get(node=node).beats
        bastion.start()
        until(lambda: Heartbeat.objects.get(node=node).beats >= beats + 2)
        node.refresh_from_db()
        assert node.connection_reason != ConnectionReason.JUMP_HOST_UNREACHABLE
        far.stop()
        until(seen(node, Connection.OFFLINE, ConnectionReason.UNREACHABLE))
        assert str(far.port) in node.connection_detail
        bastion.change_host_key()
        until(seen(node, Connection.OFFLINE, ConnectionReason.JUMP_HOST_KEY_MISMATCH))
    finally:
        monitor.stop()
