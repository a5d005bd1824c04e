"""The log of an operation over the API: pages, filters, following, and who may read it."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from nodes.models import Operation, OperationLogEntry
from tests.factories import grant, make_node, make_operation, make_steps

pytestmark = pytest.mark.django_db


def write(operation, *lines, age_s=60.0, step=""):
    at = timezone.now() - timedelta(seconds=age_s)
    return OperationLogEntry.objects.bulk_create(
        OperationLogEntry(operation=operation, at=at, level=level, step_code=step, message=message)
        for level, message in lines
    )


@pytest.fixture
def operation():
    made = make_operation(make_node("kvm-01"), "reboot-node", "running")
    make_steps(made, ("Check the plan", "succeeded", ""))
    return made


def test_pages_go_on_by_their_cursor_without_gap_or_repeat(administrator, api, operation):
    write(operation, *(("info", f"line {number}") for number in range(25)))
    write(make_operation(make_node()), ("info", "of another operation"))
    call, body, seen = api(administrator), {"operation": str(operation.pk), "limit": 10}, []
    for expected_more in (True, True, False):
        status, answer = call("list-operation-log", body)
        assert (status, answer["more"], answer["finished"]) == (200, expected_more, False)
        seen += [line["message"] for line in answer["lines"]]
        body["cursor"] = answer["cursor"]
    assert seen == [f"line {number}" for number in range(25)]
    again = call("list-operation-log", body)[1]
    assert (again["lines"], again["cursor"]) == ([], body["cursor"])
    write(operation, ("error", "it ends"))
    assert [line["message"] for line in call("list-operation-log", body)[1]["lines"]] == ["it ends"]


def test_lines_are_filtered_by_level_keyword_and_step(administrator, api, operation):
    write(operation, ("info", "vm-1 moves"), ("warning", "vm-1 is slow"), ("error", "vm-2 failed"))
    write(operation, ("info", "Plan holds"), step="step-0")
    call = api(administrator)

    def found(**filters):
        answer = call("list-operation-log", {"operation": str(operation.pk)} | filters)[1]
        return [line["message"] for line in answer["lines"]]

    assert found(level="warning") == ["vm-1 is slow", "vm-2 failed"]
    assert found(level="error") == ["vm-2 failed"]
    assert found(keyword="VM-1") == ["vm-1 moves", "vm-1 is slow"]
    assert found(keyword="%") == []
    assert found(step="step-0") == ["Plan holds"]
    line = call("list-operation-log", {"operation": str(operation.pk), "step": "step-0"})[1]["lines"][0]
    assert (line["step"], line["step_title"], line["level"]) == ("step-0", "Check the plan", "info")


def test_a_line_that_may_have_been_overtaken_waits_until_the_order_is_certain(administrator, api, operation):
    write(operation, ("info", "settled"))
    young = write(operation, ("info", "young"), age_s=0.0)[0]
    OperationLogEntry.objects.filter(pk=young.pk).update(at=timezone.now() + timedelta(seconds=30))
    call, body = api(administrator), {"operation": str(operation.pk)}
    answer = call("list-operation-log", body)[1]
    assert [line["message"] for line in answer["lines"]] == ["settled"]
    Operation.objects.filter(pk=operation.pk).update(status="succeeded")
    answer = call("list-operation-log", body | {"cursor": answer["cursor"]})[1]
    assert ([line["message"] for line in answer["lines"]], answer["finished"]) == (["young"], True)


def test_who_may_not_see_the_node_is_told_that_there_is_no_such_operation(operator, api, operation):
    write(operation, ("info", "secret of the house"))
    call, body = api(operator), {"operation": str(operation.pk)}
    status, answer = call("list-operation-log", body)
    assert (status, answer["code"]) == (404, "unknown_operation")
    grant(operator, operation.node, "view_node")
    assert call("list-operation-log", body)[0] == 200
    assert call("list-operation-log", body | {"limit": 5001})[0] == 400
    assert call("list-operation-log", body | {"cursor": "x"})[0] == 400


def test_it_costs_the_same_however_long_the_log_is(administrator, api, operation, django_assert_num_queries):
    call, body = api(administrator), {"operation": str(operation.pk), "limit": 5000}
    write(operation, ("info", "one"))
    call("list-operation-log", body)
    # Token, user's permissions, the operation, its lines, its steps.
    with django_assert_num_queries(5):
        call("list-operation-log", body)
    write(operation, *(("info", f"line {number}") for number in range(900)))
    with django_assert_num_queries(5):
        assert len(call("list-operation-log", body)[1]["lines"]) == 901
