"""Every endpoint under generated bodies, valid and not: answers fit the schema, and none is an accident."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from django.core.handlers.wsgi import WSGIHandler
from django.core.signals import request_finished, request_started
from django.db import close_old_connections
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import CheckFunction
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from nodes.api import urls
from nodes.models import IdempotencyKey, Operation
from tests.api.conftest import Api
from tests.factories import make_node, make_snapshot

NODE = "kvm-01"
CHECKS: list[CheckFunction] = [
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
]
LOOK_UP = {"scan-host-key", "scan-bmc-certificate"}
ENDPOINTS = sorted({name for names in urls.ENDPOINTS.values() for name in names} - LOOK_UP)
"""All but those that would look generated names up; they have tests of their own."""


@pytest.fixture
def one_connection() -> Iterator[None]:
    """The application as WSGI ends each request by closing what the test's own transaction lives in."""
    signals = (request_started, request_finished)
    for signal in signals:
        signal.disconnect(close_old_connections)
    yield
    for signal in signals:
        signal.connect(close_old_connections)


@pytest.fixture
def fuzzed(administrator: Any, one_connection: None) -> Any:
    """The schema, and behind it the application with one node that has an inventory."""
    node = make_node(NODE, uri="test:///default")
    make_snapshot(node, "two-socket")
    return schemathesis.openapi.from_wsgi("/api/schema", WSGIHandler(), headers=Api(administrator).headers)


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    phases=(Phase.generate,),
    suppress_health_check=list(HealthCheck),
)
@given(data=st.data())
def test_whatever_is_sent_the_answer_is_one_that_the_schema_promises(
    fuzzed: Any, administrator: Any, endpoint: str, data: st.DataObject
) -> None:
    operation = fuzzed[f"/api/{endpoint}"]["POST"]
    modes = (operation.as_strategy(generation_mode=mode) for mode in GenerationMode)
    case = data.draw(st.one_of(*modes))
    if isinstance(case.body, dict) and isinstance(case.body.get("node"), str):
        case.body["node"] = NODE
    # Nothing runs here that could end while one waits.
    case.headers.pop("Prefer", None)
    if isinstance(case.body, dict) and case.body.get("refresh") is True:
        case.body["wait_s"] = 0
    response = case.call(headers=Api(administrator).headers)
    assert response.status_code != 500, response.text
    case.validate_response(response, checks=CHECKS)
    # No example meets the operations of the one before.
    Operation.objects.all().delete()
    IdempotencyKey.objects.all().delete()
