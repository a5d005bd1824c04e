"""The same call twice is done once; waiting for long work; what a crash in between leaves."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from nodes.api.idempotency import UNANSWERED_AFTER
from nodes.engine.embedded import EmbeddedRunner
from nodes.models import IdempotencyKey, Node, Operation
from tests.engine.running import run_queued

ADD = {"name": "test-01", "uri": "test:///default"}


@pytest.mark.django_db
def test_the_same_key_and_body_start_one_operation_and_get_one_answer(administrator, api):
    call = api(administrator)
    first = call("add-node", ADD, Idempotency_Key="k1")
    run_queued()
    again = call.raw("add-node", ADD, Idempotency_Key="k1")
    assert (again.status_code, again.json()) == first
    assert again["Idempotency-Replayed"] == "true"
    assert Operation.objects.count() == 1


@pytest.mark.django_db
def test_another_body_or_endpoint_with_the_same_key_is_422(administrator, api):
    call = api(administrator)
    call("add-node", ADD, Idempotency_Key="k1")
    for endpoint, body in (("add-node", ADD | {"name": "test-02"}), ("refresh-node", {"node": "x"})):
        status, answer = call(endpoint, body, Idempotency_Key="k1")
        assert (status, answer["code"]) == (422, "idempotency_key_reused")
    assert Operation.objects.count() == 1


@pytest.mark.django_db
def test_keys_belong_to_their_user_and_live_a_day(administrator, operator, api):
    operator.is_superuser = True
    operator.save()
    assert api(administrator)("add-node", ADD, Idempotency_Key="k1")[0] == 202
    assert api(operator)("add-node", ADD | {"name": "other"}, Idempotency_Key="k1")[0] == 202
    IdempotencyKey.objects.update(created_at=timezone.now() - timedelta(hours=25))
    assert api(administrator)("add-node", ADD | {"name": "third"}, Idempotency_Key="k1")[0] == 202


@pytest.mark.django_db
def test_a_refused_call_does_not_use_the_key_up(administrator, api):
    call = api(administrator)
    assert call("add-node", ADD | {"uri": "xen:///"}, Idempotency_Key="k1")[0] == 400
    assert call("add-node", ADD, Idempotency_Key="k1")[0] == 202


@pytest.mark.django_db
@pytest.mark.parametrize("key", ["", " ", "a b", "ä", "x" * 256])
def test_keys_that_are_none_are_400(administrator, api, key):
    status, body = api(administrator)("add-node", ADD, Idempotency_Key=key)
    assert (status, body["code"]) == (400, "invalid_input")


@pytest.mark.django_db
def test_a_process_that_died_before_it_answered_started_the_only_operation(administrator, api):
    call = api(administrator)
    status, body = call("add-node", ADD, Idempotency_Key="k1")
    assert status == 202
    # As it stands when the process dies between the commit and the answer.
    IdempotencyKey.objects.update(status_code=None, answer=None)
    assert IdempotencyKey.objects.get().operation_id is not None
    again = call("add-node", ADD, Idempotency_Key="k1")
    assert (again[0], again[1]["id"]) == (202, body["id"])
    assert Operation.objects.count() == 1


@pytest.mark.django_db
def test_a_first_call_that_is_still_running_is_not_done_twice_and_a_dead_one_frees_the_key(
    administrator, api
):
    call = api(administrator)
    call("update-node", {"node": "x", "notes": "y"}, Idempotency_Key="k1")
    Node.objects.create(name="x", uri="qemu:///system")
    body = {"node": "x", "notes": "y"}
    assert call("update-node", body, Idempotency_Key="k1")[0] == 200
    IdempotencyKey.objects.update(status_code=None, answer=None)
    assert call("update-node", body, Idempotency_Key="k1")[0] == 409
    IdempotencyKey.objects.update(created_at=timezone.now() - UNANSWERED_AFTER * 2)
    assert call("update-node", body, Idempotency_Key="k1")[0] == 200


@pytest.fixture
def runner(transactional_db, tmp_path):
    embedded = EmbeddedRunner(tmp_path)
    embedded.start()
    yield embedded
    embedded.stop()


def test_with_prefer_wait_the_ended_operation_is_answered_with_200(runner, administrator, api):
    call = api(administrator)
    response = call.raw("add-node", ADD, Prefer="respond-async, wait=30")
    assert response.status_code == 200
    assert response["Preference-Applied"] == "wait=30"
    body = response.json()
    assert (body["status"], body["progress"]) == ("succeeded", 1.0)
    assert {step["status"] for step in body["steps"]} <= {"succeeded", "skipped"}
    assert call("describe-node", {"node": "test-01"})[0] == 200


def test_a_describe_with_refresh_waits_for_a_new_inventory(runner, administrator, api):
    call = api(administrator)
    call("add-node", ADD, Prefer="wait=30")
    before = Node.objects.get().snapshot_id
    before = call("describe-node", {"node": "test-01"})[1]["observed_at"]
    status, body = call("describe-node", {"node": "test-01", "refresh": True, "wait_s": 30})
    assert (status, body["observed_at"] > before) == (200, True)
    status, body = call("describe-node-vms", {"node": "test-01", "refresh": True, "wait_s": 30})
    assert (status, body["stale"]) == (200, False)
    assert Node.objects.get().snapshot_id != before


def test_a_second_embedded_runner_on_the_same_data_is_refused(runner, tmp_path):
    from django.core.exceptions import ImproperlyConfigured

    with pytest.raises(ImproperlyConfigured, match="one process"):
        EmbeddedRunner(tmp_path).start()
