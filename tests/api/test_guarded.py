"""What is kept from whom: answers after rights were withdrawn, stored passwords, half-done calls."""

from __future__ import annotations

import hashlib
import json

import pytest
from guardian.shortcuts import remove_perm

from nodes.models import Event, IdempotencyKey, Node, NodeUserObjectPermission, Operation
from tests.factories import NOBODYS_KEY, grant, make_credential, make_node, make_operation, secret_given

pytestmark = pytest.mark.django_db

FINGERPRINT = NOBODYS_KEY.fingerprint
SSH = "qemu+ssh://root@192.0.2.1/system"


@pytest.mark.parametrize("body", [[], [1], 7, "text", None, [["node", "x"]]])
def test_a_body_that_is_no_object_is_400_with_and_without_a_key(administrator, api, body):
    for headers in ({}, {"Idempotency-Key": "k1"}):
        call = api(administrator)
        response = call.client.post(
            "/api/refresh-node",
            data=json.dumps(body),
            content_type="application/json",
            headers=call.headers | headers,
        )
        assert (response.status_code, response.json()["code"]) == (400, "invalid_input")


def test_the_first_answer_is_not_given_again_to_who_may_no_longer_see_the_node(operator, api):
    node = make_node()
    grant(operator, node, "view_node", "change_node")
    call = api(operator)
    body = {"node": node.name, "name": "renamed", "notes": "in the cellar"}
    assert call("update-node", body, Idempotency_Key="k1")[0] == 200
    assert call("update-node", body, Idempotency_Key="k1")[0] == 200
    remove_perm("view_node", operator, node)
    status, answer = call("update-node", body, Idempotency_Key="k1")
    assert (status, answer["code"]) == (404, "unknown_node")
    assert "cellar" not in str(answer)


def test_an_operation_is_not_shown_again_to_who_may_no_longer_see_its_node(operator, api):
    node = make_node()
    grant(operator, node, "view_node")
    call = api(operator)
    status, operation = call("refresh-node", {"node": node.name}, Idempotency_Key="k1")
    assert status == 202
    NodeUserObjectPermission.objects.all().delete()
    assert call("refresh-node", {"node": node.name}, Idempotency_Key="k1")[0] == 404
    assert call("describe-operation", {"operation": operation["id"]})[0] == 404
    assert call("cancel-operation", {"operation": operation["id"]})[0] == 404
    assert call("list-operations")[1]["count"] == 0


def test_who_adds_a_node_without_seeing_nodes_still_sees_how_that_goes(operator, api):
    node = make_node()
    own = make_operation(node, kind="add-node", requested_by=operator)
    assert api(operator)("describe-operation", {"operation": str(own.pk)})[0] == 200


def test_the_first_answer_outlives_the_node_it_tells_of(administrator, api):
    node = make_node()
    call = api(administrator)
    first = call("update-node", {"node": node.name, "notes": "n"}, Idempotency_Key="k1")
    node.delete()
    assert call("update-node", {"node": node.name, "notes": "n"}, Idempotency_Key="k1") == first


def test_no_hash_that_is_kept_of_a_call_can_be_made_without_the_server_s_key(administrator, api):
    node = make_node(uri=SSH, host_key=NOBODYS_KEY.to_text(), host_key_fingerprint=FINGERPRINT)
    body = {"node": node.name, "credential": {"kind": "password", "password": "hunter2hunter2"}}
    api(administrator)("update-node", body, Idempotency_Key="k1")
    guess = hashlib.sha256(json.dumps(["update_node", body], sort_keys=True).encode()).hexdigest()
    assert IdempotencyKey.objects.get().body_digest != guess


def test_a_stored_password_is_not_sent_to_another_address(operator, api):
    node = make_node(uri=SSH, host_key=NOBODYS_KEY.to_text(), host_key_fingerprint=FINGERPRINT)
    make_credential(node, "password", password="hunter2hunter2")
    grant(operator, node, "view_node", "change_node")
    for uri in ("qemu+ssh://root@192.0.2.66/system", "qemu+ssh://root@192.0.2.1:2222/system"):
        body = {"node": node.name, "uri": uri, "host_key_fingerprint": FINGERPRINT}
        status, answer = api(operator)("update-node", body)
        assert (status, answer["code"]) == (422, "credential_not_for_target")
        assert answer["errors"][0]["field"] == "credential"
    assert not Operation.objects.exists()
    body["credential"] = {"kind": "password", "password": "typed anew"}
    assert api(operator)("update-node", body)[0] == 202


def test_an_update_that_is_refused_has_changed_nothing(administrator, api):
    node = make_node(uri=SSH)
    body = {"node": node.name, "notes": "new", "uri": "qemu+ssh://root@192.0.2.2/system"}
    status, answer = api(administrator)("update-node", body)
    assert (status, answer["code"]) == (422, "host_key_required")
    assert Node.objects.get().notes == ""
    assert not Event.objects.filter(node=node).exists()


def test_a_secret_never_shows_in_what_is_kept_of_an_operation(administrator, api, caplog):
    body = {
        "name": "kvm-77",
        "uri": SSH,
        "host_key_fingerprint": FINGERPRINT,
        "credential": {"kind": "password", "password": "hunter2hunter2"},
    }
    call = api(administrator)
    status, operation = call("add-node", body, Idempotency_Key="k1")
    assert status == 202
    kept = Operation.objects.get()
    rows = [
        *Operation.objects.values_list(),
        *Event.objects.values_list(),
        *IdempotencyKey.objects.values_list(),
    ]
    assert "hunter2" not in f"{rows} {kept.__dict__} {operation} {caplog.text}"
    assert secret_given(kept) == {"password": "hunter2hunter2"}
    call("cancel-operation", {"operation": operation["id"]})
    assert Operation.objects.get().secret is None
