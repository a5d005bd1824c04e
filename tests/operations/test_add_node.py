"""add-node, through the API, on libvirt's test driver: what joins, what is refused, what is left behind."""

from __future__ import annotations

import pytest

from nodes.models import Credential, Event, Node, Operation, OperationStatus
from tests.api.conftest import Api
from tests.engine.running import run_queued
from tests.factories import secret_given

pytestmark = pytest.mark.django_db
TEST_NODE = {"name": "test-01", "uri": "test:///default", "type": "compute"}


def test_a_test_node_joins_with_its_inventory(administrator):
    status, body = Api(administrator)("add-node", TEST_NODE | {"labels": {"rack": "a1"}})
    assert status == 202
    assert [step["status"] for step in body["steps"]] == ["pending"] * len(body["steps"])
    (ended,) = run_queued()
    assert ended.status == OperationStatus.SUCCEEDED, ended.error
    node = Node.objects.get(name="test-01")
    assert (node.connection, node.status, node.labels) == ("online", "online", {"rack": "a1"})
    assert (node.vm_count, node.vm_running_count) == (1, 1)
    assert node.snapshot is not None
    assert ended.node == node
    kinds = list(Event.objects.filter(operation=ended).values_list("kind", flat=True))
    assert {"add_node_requested", "add_node_succeeded"} <= set(kinds)


def test_what_the_test_driver_does_not_know_is_unknown_and_said(administrator):
    api = Api(administrator)
    api("add-node", TEST_NODE)
    run_queued()
    status, body = api("describe-node-summary", {"node": "test-01"})
    assert status == 200
    assert body["facts"]["system"]["boot_id"] is None
    assert body["problems"], "what could not be read is named"


def test_the_name_is_checked_before_anything_runs(administrator):
    api = Api(administrator)
    for name in ("", "Kvm", "-x", "a b", "x" * 64, "käfer", "a/b", "a\nb", "a_"):
        status, body = api("add-node", TEST_NODE | {"name": name})
        assert (status, body["errors"][0]["field"]) == (400, "name"), name
    assert not Operation.objects.exists()


def test_a_taken_name_is_409_and_says_so(administrator):
    Node.objects.create(name="test-01", uri="qemu:///system")
    status, body = Api(administrator)("add-node", TEST_NODE)
    assert (status, body["code"]) == (409, "node_exists")
    assert body["remedy"]


def test_two_adds_of_one_name_at_once_are_busy(administrator):
    api = Api(administrator)
    assert api("add-node", TEST_NODE)[0] == 202
    status, body = api("add-node", TEST_NODE)
    assert (status, body["code"]) == (409, "node_busy")
    assert Operation.objects.count() == 1


@pytest.mark.parametrize(
    "uri",
    [
        "qemu+ssh://root@h/system?no_verify=1",
        "qemu+ssh://root@h/system?command=/bin/sh",
        "qemu+tcp://h/system",
        "xen:///",
        "qemu:///session",
        "qemu+ssh://-oProxyCommand=x/system",
        "qemu+ssh://root:secret@h/system",
        "",
    ],
)
def test_addresses_that_are_not_supported_are_400(administrator, uri):
    status, body = Api(administrator)("add-node", TEST_NODE | {"uri": uri})
    assert status == 400
    assert body["code"] in ("invalid_uri", "invalid_input")
    assert "secret" not in str(body)


def test_an_ssh_address_without_fingerprint_is_refused_before_any_contact(administrator):
    credential = {"kind": "password", "password": "hunter22"}
    status, body = Api(administrator)(
        "add-node", TEST_NODE | {"uri": "qemu+ssh://root@192.0.2.1/system", "credential": credential}
    )
    assert (status, body["code"]) == (422, "host_key_required")
    assert not Operation.objects.exists()
    assert "hunter22" not in str(body)


def test_credentials_that_do_not_fit_their_kind_name_the_field(administrator):
    api = Api(administrator)
    ssh = TEST_NODE | {"uri": "qemu+ssh://root@h/system", "host_key_fingerprint": "SHA256:" + "A" * 43}
    for credential, field in (
        ({"kind": "password"}, "credential.password"),
        ({"kind": "ssh_key", "password": "x"}, "credential.password"),
        ({"kind": "nodeadmin_key", "private_key": "x"}, "credential.private_key"),
        ({"kind": "magic"}, "credential.kind"),
        ({"kind": "password", "password": 7}, "credential.password"),
    ):
        status, body = api("add-node", ssh | {"credential": credential})
        assert status == 400
        assert field in [error["field"] for error in body["errors"]], body
    status, body = api("add-node", ssh)
    assert (status, body["errors"][0]["field"]) == (400, "credential")


def test_operators_may_not_add(operator):
    status, body = Api(operator)("add-node", TEST_NODE)
    assert (status, body["code"]) == (403, "permission_denied")


def test_rights_withdrawn_after_the_request_stop_the_run(administrator):
    Api(administrator)("add-node", TEST_NODE)
    administrator.groups.clear()
    (ended,) = run_queued()
    assert (ended.status, ended.error["code"]) == (OperationStatus.FAILED, "permission_denied")
    assert not Node.objects.exists()


def test_a_secret_is_sealed_while_it_waits_and_gone_when_it_ended(administrator, settings):
    settings.NODEADMIN_HOST_TIMEOUT_S = 1.0  # nobody listens there, which is told when it is over
    status, _body = Api(administrator)(
        "add-node",
        TEST_NODE
        | {
            "uri": "qemu+ssh://root@127.0.0.1:1/system",
            "host_key_fingerprint": "SHA256:" + "A" * 43,
            "credential": {"kind": "password", "password": "hunter22-sealed"},
        },
    )
    assert status == 202
    operation = Operation.objects.get()
    raw = Operation.objects.filter(pk=operation.pk).values_list("params", flat=True).get()
    assert "hunter22" not in str(raw)
    assert secret_given(operation) == {"password": "hunter22-sealed"}
    assert "hunter22" not in repr(operation.secret)
    (ended,) = run_queued()
    assert ended.status == OperationStatus.FAILED
    assert ended.error["code"] == "host_unreachable"
    assert ended.secret is None
    assert [s.code for s in ended.steps.all() if s.status == "failed"] == ["reach"]
    assert not Node.objects.exists()
    assert not Credential.objects.exists()


def test_a_retry_without_the_credential_is_refused(administrator, settings):
    test_a_secret_is_sealed_while_it_waits_and_gone_when_it_ended(administrator, settings)
    operation = Operation.objects.get()
    status, body = Api(administrator)("retry-operation", {"operation": str(operation.pk)})
    assert status == 400
    assert "credential" in body["detail"]
