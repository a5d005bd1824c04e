"""The pages of operations and of the record."""

import json

import pytest
from django.urls import reverse

from nodes.models import Event, Operation
from nodes.models.event import Severity
from nodes.models.sealed import SecretFor
from tests.factories import ANYWHERE, grant, make_node, make_operation, make_steps
from tests.web.conftest import HTMX


def shown(response):
    return {row.operation.pk for row in response.context["operations"]}


def test_operations_are_filtered_and_ordered_by_the_address(admin_page):
    node = make_node("kvm-01")
    failed = make_operation(node, status="failed")
    queued = make_operation(node, kind="update-node", status="queued")
    running = make_operation(None, kind="add-node", status="running", node_name="kvm-02")
    address = reverse("operation-list")
    assert shown(admin_page.get(address)) == {failed.pk, queued.pk, running.pk}
    assert shown(admin_page.get(address, {"status": "running"})) == {queued.pk, running.pk}
    assert shown(admin_page.get(address, {"status": "failed"})) == {failed.pk}
    assert shown(admin_page.get(address, {"kind": "add-node"})) == {running.pk}
    assert shown(admin_page.get(address, {"node": "kvm-02"})) == {running.pk}
    assert shown(admin_page.get(address, {"status": "nonsense"})) == {failed.pk, queued.pk, running.pk}


def test_an_export_of_operations_holds_no_secret(admin_page):
    make_operation(
        None,
        "add-node",
        "failed",
        node_name="x",
        params={"uri": "test:///default"},
        secret=SecretFor(ANYWHERE, {"password": "s3"}),
    )
    text = admin_page.get(reverse("operation-list"), {"format": "json"}).content.decode()
    assert json.loads(text)[0]["kind"] == "add-node"
    assert "s3" not in text


def test_the_list_of_operations_costs_a_fixed_number_of_queries(admin_page, django_assert_num_queries):
    nodes = [make_node(f"kvm-{number}") for number in range(12)]
    make_operation(nodes[0])
    admin_page.get(reverse("operation-list"))
    # Session, user, permissions, count, page, counts by status, and what runs.
    with django_assert_num_queries(7):
        admin_page.get(reverse("operation-list"))
    for node in nodes:
        make_operation(node, status="failed", error={"code": "timeout", "detail": "No."})
    with django_assert_num_queries(7):
        admin_page.get(reverse("operation-list"))


def test_a_running_operation_asks_again_and_an_ended_one_does_not(admin_page):
    operation = make_operation(make_node("kvm-01"), status="running")
    make_steps(operation, ("Connect", "succeeded", "Connected"), ("Take the inventory", "running", ""))
    address = reverse("operation-detail", args=[operation.pk])
    page = admin_page.get(address).content.decode()
    assert 'hx-trigger="every 1s"' in page
    assert "1 of 2 steps done" in page
    Operation.objects.update(status="succeeded")
    part = admin_page.get(address, headers=HTMX).content.decode()
    assert part.lstrip().startswith('<div id="body"')
    assert 'hx-trigger="every 1s"' not in part


def test_a_queued_operation_is_cancelled_at_once(admin_page):
    operation = make_operation(make_node("kvm-01"), status="queued")
    answer = admin_page.post(reverse("operation-cancel", args=[operation.pk]), follow=True)
    operation.refresh_from_db()
    assert operation.status == "cancelled"
    assert "was cancelled" in answer.content.decode()


def test_cancelling_what_has_ended_says_so(admin_page):
    operation = make_operation(make_node("kvm-01"))
    answer = admin_page.post(reverse("operation-cancel", args=[operation.pk]))
    assert answer.status_code == 400
    assert "has ended already" in answer.content.decode()
    flash = admin_page.post(reverse("operation-cancel", args=[operation.pk]), headers=HTMX)
    assert flash["HX-Retarget"] == "#flash"
    assert "<html" not in flash.content.decode()


def test_a_retry_is_a_new_operation(admin_page):
    operation = make_operation(make_node("kvm-01"), status="failed")
    answer = admin_page.post(reverse("operation-retry", args=[operation.pk]))
    again = Operation.objects.exclude(pk=operation.pk).get()
    assert answer["Location"] == reverse("operation-detail", args=[again.pk])
    assert again.kind == operation.kind


def test_what_carried_a_secret_offers_no_retry(admin_page, read):
    operation = make_operation(
        None, "add-node", "failed", node_name="x", params={"uri": "x", "has_secret": True}
    )
    page = read(admin_page.get(reverse("operation-detail", args=[operation.pk])))
    assert "Retry" not in page.text


def test_an_operation_of_a_kind_that_is_gone_is_still_shown(admin_page):
    operation = make_operation(make_node("kvm-01"), kind="drain-cluster", status="failed")
    assert admin_page.get(reverse("operation-detail", args=[operation.pk])).status_code == 200
    assert "drain-cluster" in admin_page.get(reverse("operation-list")).content.decode()


def test_the_frame_counts_what_runs(admin_page, stranger_page):
    make_operation(make_node("kvm-01"), status="running")
    assert "1</span> operation" in admin_page.get(reverse("running"), headers=HTMX).content.decode()
    assert stranger_page.get(reverse("running"), headers=HTMX).content.decode().strip() == ""


@pytest.fixture
def record(db, admin_page, operator_page):
    Event.objects.all().delete()  # of how the test's users came to be, and signed in
    node = make_node("kvm-01")
    Event.objects.create(
        kind="node_added", message="kvm-01 joined", node=node, node_name="kvm-01", user_name="ada"
    )
    Event.objects.create(
        kind="connection_lost",
        message="kvm-01 <b>lost</b>",
        node=node,
        node_name="kvm-01",
        severity=Severity.ERROR,
    )
    Event.objects.create(kind="token_made", message="API token made", user_name="otto")
    return node


def kinds(response):
    return {event.kind for event in response.context["listing"].page}


def test_events_are_filtered_by_the_address(admin_page, record):
    address = reverse("event-list")
    assert kinds(admin_page.get(address)) == {"node_added", "connection_lost", "token_made"}
    assert kinds(admin_page.get(address, {"severity": "error"})) == {"connection_lost"}
    assert kinds(admin_page.get(address, {"kind": "token_made"})) == {"token_made"}
    assert kinds(admin_page.get(address, {"node": "kvm-01", "user": "ada"})) == {"node_added"}
    assert kinds(admin_page.get(address, {"find": "JOINED"})) == {"node_added"}
    assert kinds(admin_page.get(address, {"since": "2999-01-01"})) == set()
    for wrong in ("yesterday", "2025-99-99", "2025-13-01T00:00"):
        assert len(kinds(admin_page.get(address, {"since": wrong}))) == 3


def test_events_of_a_span_of_days_hold_both_days_whole(admin_page, record):
    for day, kind in (
        ("2026-03-01T00:00", "first"),
        ("2026-03-02T23:59", "last"),
        ("2026-03-03T00:00", "after"),
    ):
        event = Event.objects.create(kind=kind, message=kind)
        Event.objects.filter(pk=event.pk).update(created_at=f"{day}:00Z")
    address = reverse("event-list")
    assert kinds(admin_page.get(address, {"since": "2026-03-01", "until": "2026-03-02"})) == {"first", "last"}
    assert kinds(admin_page.get(address, {"until": "2026-03-01T00:00:00Z"})) == set()
    assert len(kinds(admin_page.get(address, {"until": "9999-12-31"}))) == 6


def test_a_name_typed_in_full_is_not_mixed_up_with_a_longer_one(admin_page, record):
    Event.objects.create(kind="other", message="x", node_name="kvm-011", user_name="adam")
    address = reverse("event-list")
    assert kinds(admin_page.get(address, {"node": "kvm-01"})) == {"node_added", "connection_lost"}
    assert kinds(admin_page.get(address, {"node": "kvm-0"})) == {"node_added", "connection_lost", "other"}
    assert kinds(admin_page.get(address, {"user": "ada"})) == {"node_added"}
    assert kinds(admin_page.get(address, {"user": "adam"})) == {"other"}


def test_an_export_of_the_record_holds_what_the_filters_leave_with_who_and_from_where(admin_page, record):
    Event.objects.filter(kind="node_added").update(source_ip="192.0.2.7", data={"reason": "new"})
    rows = json.loads(
        admin_page.get(reverse("event-list"), {"user": "ada", "format": "json"}).content.decode()
    )
    assert [(row["kind"], row["user"], row["source_ip"], row["data"]) for row in rows] == [
        ("node_added", "ada", "192.0.2.7", {"reason": "new"})
    ]
    text = admin_page.get(reverse("event-list"), {"node": "kvm-01", "format": "csv"}).content.decode()
    columns = text.splitlines()[0]
    assert columns.startswith(
        "time,number,category,kind,severity,node,user,source_ip,via,token,target_type,target_id,"
    )
    assert len(text.splitlines()) == 3


def test_the_record_costs_the_same_however_long_it_is(admin_page, record, django_assert_num_queries):
    address, query = reverse("event-list"), {"node": "kvm-01", "user": "ada"}
    admin_page.get(address, query)
    # Session, user, permissions, two names looked up, count, page, kinds, and what runs.
    with django_assert_num_queries(9):
        admin_page.get(address, query)
    Event.objects.bulk_create(
        Event(kind="x", message="x", node_name="kvm-01", user_name="ada") for _ in range(80)
    )
    with django_assert_num_queries(9):
        admin_page.get(address, query)


def test_what_a_message_carries_is_shown_and_not_run(admin_page, record):
    page = admin_page.get(reverse("event-list")).content.decode()
    assert "&lt;b&gt;lost&lt;/b&gt;" in page
    assert "<b>lost</b>" not in page


def test_an_operator_sees_the_events_of_their_node(operator_page, operator, record):
    assert kinds(operator_page.get(reverse("event-list"))) == set()
    grant(operator, record, "view_node")
    seen = {"node_added", "connection_lost", "access_granted"}
    assert kinds(operator_page.get(reverse("event-list"))) == seen
