"""update-node with another address, where no SSH host is needed for it."""

from __future__ import annotations

import pytest

from nodes.models import Credential, OperationStatus
from tests.api.conftest import Api
from tests.engine.running import run_queued
from tests.factories import grant, make_credential, make_node

pytestmark = pytest.mark.django_db
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGvR1DBmLSHEPCZWGmDJRUXGZAvBX9BqPWKUJCXnH7iX"


def test_an_address_without_ssh_asks_for_no_host_key_and_keeps_no_credential(administrator):
    node = make_node("kvm-01", uri="qemu+ssh://root@192.0.2.1/system", host_key=KEY)
    make_credential(node, "password", password="hush")
    status, answer = Api(administrator)("update-node", {"node": "kvm-01", "uri": "test:///default"})
    assert status == 202, answer
    (ended,) = run_queued()
    assert ended.status == OperationStatus.SUCCEEDED, ended.error
    node.refresh_from_db()
    assert (node.uri, node.host_key, node.host_key_fingerprint) == ("test:///default", "", "")
    assert not Credential.objects.exists()


def test_another_ssh_address_still_asks_for_one(administrator):
    make_node("kvm-01", uri="qemu+ssh://root@192.0.2.1/system", host_key=KEY)
    for uri in ("qemu+ssh://root@192.0.2.2/system", "qemu+ssh://root@192.0.2.1:2222/system"):
        status, answer = Api(administrator)("update-node", {"node": "kvm-01", "uri": uri})
        assert (status, answer["code"]) == (422, "host_key_required")


def test_the_right_to_change_a_node_does_not_reach_this_machine(operator):
    node = make_node("kvm-01", uri="qemu+ssh://root@192.0.2.1/system", host_key=KEY)
    grant(operator, node, "view_node", "change_node")
    status, answer = Api(operator)("update-node", {"node": "kvm-01", "uri": "qemu:///system"})
    assert (status, answer["code"]) == (403, "permission_denied")
