"""What holds for every endpoint: who may call, what a refusal looks like, and that nothing answers 500."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from nodes.api.urls import ENDPOINTS
from nodes.api.viewsets import prefer_wait
from nodes.models import ApiToken, Node, User

pytestmark = pytest.mark.django_db
NAMES = [name for names in ENDPOINTS.values() for name in names]
PROBLEM = {"type", "title", "status", "detail", "code", "errors"}


@pytest.fixture
def node() -> Node:
    return Node.objects.create(name="kvm-01", uri="qemu:///system")


@pytest.mark.parametrize("name", NAMES)
def test_who_is_not_signed_in_gets_401(api, name):
    response = api(None).raw(name)
    assert response.status_code == 401
    assert response["Content-Type"] == "application/problem+json"
    assert response["WWW-Authenticate"].startswith("Bearer")
    assert set(response.json()) >= PROBLEM
    assert response.json()["code"] == "not_authenticated"


@pytest.mark.parametrize("name", NAMES)
def test_get_is_405_with_a_problem(administrator, api, name):
    call = api(administrator)
    response = call.client.get(f"/api/{name}", headers=call.headers)
    assert response.status_code == 405
    assert response.json()["code"] == "method_not_allowed"
    assert "{" not in response.json()["title"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("body", [[], "x", 7, None, {"nonsense": 1}])
def test_bad_bodies_are_400_and_never_500(administrator, api, name, body):
    response = api(administrator).raw(
        name, body if body is not None else {"node": {"a": []}, "operation": []}
    )
    assert response.status_code == 400, response.content
    assert set(response.json()) >= PROBLEM


@pytest.mark.parametrize("raw", [b"{", b"\xff\xfe", b'{"node": NaN}', b"[" * 100_000])
def test_broken_json_is_400(administrator, api, raw):
    call = api(administrator)
    response = call.client.post(
        "/api/describe-node", data=raw, content_type="application/json", headers=call.headers
    )
    assert response.status_code == 400
    assert response.json()["code"] == "invalid_input"


def test_an_unknown_field_is_named(administrator, api):
    status, body = api(administrator)("list-nodes", {"stauts": "online"})
    assert status == 400
    assert body["errors"][0]["field"] == "stauts"
    assert "status" in body["errors"][0]["message"]


def test_what_is_no_endpoint_is_a_problem(administrator, api):
    status, body = api(administrator)("frobnicate-node")
    assert status == 404
    assert body["code"] == "not_found"


@pytest.mark.parametrize(
    "name", [n for n in NAMES if n.startswith(("describe-node", "refresh", "update-node"))]
)
def test_for_a_stranger_the_node_does_not_exist(stranger, node, api, name):
    body = {"node": "kvm-01"} | ({"notes": "x"} if name == "update-node" else {})
    assert api(stranger)(name, body)[0] == 404
    assert api(stranger)(name, {**body, "node": str(node.uuid)})[1]["code"] == "unknown_node"


def test_an_expired_revoked_or_unknown_token_is_401(administrator, api):
    _row, text = ApiToken.make(administrator, "old", timezone.now() - timedelta(seconds=1), read_only=False)
    revoked, other = ApiToken.make(administrator, "gone", timezone.now() + timedelta(1), read_only=False)
    ApiToken.objects.filter(pk=revoked.pk).update(revoked_at=timezone.now())
    for token in (text, other, "na_unknown", "x" * 300, ""):
        response = Client().post(
            "/api/list-nodes",
            "{}",
            content_type="application/json",
            headers={"Authorization": f"Bearer {token}"},
        )
        assert response.status_code == 401, token


def test_tokens_are_stored_as_hashes_only(administrator):
    row, text = ApiToken.make(administrator, "mine", timezone.now() + timedelta(1), read_only=False)
    assert text not in str(ApiToken.objects.filter(pk=row.pk).values().get())


def test_a_token_of_an_inactive_user_is_401(administrator, api):
    call = api(administrator)
    User.objects.filter(pk=administrator.pk).update(is_active=False)
    assert call("list-nodes")[0] == 401


def test_a_reading_token_reads_and_changes_nothing(administrator, node, api):
    call = api(administrator, read_only=True)
    assert call("list-nodes")[0] == 200
    assert call("describe-node", {"node": "kvm-01"})[0] == 200
    for name in ("update-node", "refresh-node", "add-node", "cancel-operation"):
        assert call(name, {"node": "kvm-01", "notes": "x"})[0] == 403, name
    node.refresh_from_db()
    assert node.notes == ""


def test_a_browser_session_needs_the_csrf_token(administrator, node):
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(administrator)
    response = browser.post(
        "/api/update-node", '{"node": "kvm-01", "notes": "x"}', content_type="application/json"
    )
    assert response.status_code == 403
    node.refresh_from_db()
    assert node.notes == ""


def test_the_schema_is_openapi_31_with_an_example_for_every_endpoint(administrator):
    browser = Client()
    assert browser.get("/api/schema").status_code == 401
    browser.force_login(administrator)
    schema = browser.get("/api/schema").json()
    assert schema["openapi"].startswith("3.1")
    assert set(schema["paths"]) == {f"/api/{name}" for name in NAMES}
    for path, methods in schema["paths"].items():
        assert set(methods) == {"post"}
        content = methods["post"]["requestBody"]["content"]["application/json"]
        assert content["examples"], path
    assert "ProblemAnswer" in schema["components"]["schemas"]


def test_every_reference_in_the_schema_is_defined(administrator):
    browser = Client()
    browser.force_login(administrator)
    schema = browser.get("/api/schema").json()
    defined = set(schema["components"]["schemas"])

    def references(value):
        if isinstance(value, dict):
            if isinstance(value.get("$ref"), str):
                yield value["$ref"]
            for inner in value.values():
                yield from references(inner)
        elif isinstance(value, list):
            for inner in value:
                yield from references(inner)

    missing = {ref for ref in references(schema) if ref.rpartition("/")[2] not in defined}
    assert not missing


def test_the_docs_page_is_served_without_inline_script(administrator):
    browser = Client()
    browser.force_login(administrator)
    response = browser.get("/api/docs")
    assert response.status_code == 200
    assert b"<script>" not in response.content
    assert b"<style" not in response.content
    assert b"api-docs.css" in response.content


def test_every_code_is_documented(administrator):
    browser = Client()
    browser.force_login(administrator)
    schema = browser.get("/api/schema").json()
    text = schema["components"]["schemas"]["ProblemAnswer"]["properties"]["code"]["description"]
    for code in (
        "invalid_input",
        "unknown_node",
        "libvirt_failed",
        "probe_failed",
        "rate_limited",
        "not_authenticated",
    ):
        assert f"`{code}`" in text
    for path in ("refresh-node", "cancel-operation", "retry-operation", "add-node", "update-node"):
        responses = schema["paths"][f"/api/{path}"]["post"]["responses"]
        assert "idempotency_key_reused" in responses["422"]["description"]
        assert "node_busy" in responses["409"]["description"]


def test_a_body_that_is_too_large_is_413_and_no_error_of_the_server(administrator, api, settings):
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1000
    status, answer = api(administrator)("list-nodes", {"name": "a" * 2000})
    assert (status, answer["code"]) == (413, "body_too_large")


@pytest.mark.parametrize(
    "body",
    [{"page": "2"}, {"page_size": 1.5}, {"page": True}],
)
def test_numbers_are_sent_as_numbers(administrator, api, body):
    status, answer = api(administrator)("list-nodes", body)
    assert (status, answer["code"]) == (400, "invalid_input")


@pytest.mark.parametrize("body", [{"refresh": "true"}, {"refresh": 1}, {"wait_s": "nan"}, {"wait_s": "5"}])
def test_truth_and_seconds_are_sent_as_such(administrator, api, body):
    status, answer = api(administrator)("describe-node-summary", {"node": "x"} | body)
    assert (status, answer["errors"][0]["field"]) == (400, next(iter(body)))


def test_another_media_type_is_415_in_words(administrator, api):
    call = api(administrator)
    response = call.client.post("/api/list-nodes", "x", content_type="text/plain", headers=call.headers)
    assert response.status_code == 415
    assert response.json()["code"] == "unsupported_media_type"
    assert "{" not in response.json()["title"]


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("describe-operation", {"operation": 5}),
        ("cancel-operation", {"operation": True}),
        ("retry-operation", {"operation": 0}),
        ("list-operation-log", {"operation": 5}),
        ("describe-node-logs", {"regex": 1}),
        ("describe-node-logs", {"regex": "true"}),
        ("describe-node-logs", {"limit": "5"}),
        ("describe-node-logs", {"limit": True}),
        ("describe-log-entry", {"entry": "no cursor"}),
    ],
)
def test_what_is_of_another_type_names_its_field(administrator, node, api, name, body):
    asked = body if "operation" in body else {"node": node.name} | body
    status, answer = api(administrator)(name, asked)
    assert (status, answer["errors"][0]["field"]) == (400, next(iter(body)))


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("wait=5", 5),
        ("respond-async, wait=5", 5),
        ('Wait="5"; x=y', 5),
        ("wait = 5", 5),
        ("wait=99999999999", 60),
        ("wait=-1", 0),
        ("wait=5s", 0),
        ("await=5", 0),
        ("", 0),
    ],
)
def test_prefer_wait_is_read_as_the_standard_writes_it(rf, header, seconds):
    assert prefer_wait(rf.post("/", headers={"Prefer": header})) == seconds
