"""The audit log's page: who sees what of it, its filters, what was before and after, and its state."""

from __future__ import annotations

import pytest
from django.urls import reverse
from django.utils import timezone

from nodes.audit.verification import verify
from nodes.events import Actor, Target, record
from nodes.models import Event, ExportCursor
from nodes.models.event import Via
from nodes.web.display.entry_changes import changes_of
from tests.factories import grant, make_node, make_operation

pytestmark = pytest.mark.django_db
ADDRESS = "/audit-log/"


@pytest.fixture
def log(administrator, admin_page, operator_page, operator):
    """Three entries and a host's event, and nothing of how the test's users came to be."""
    Event.objects.all().delete()
    node = make_node("kvm-01")
    ada = Actor(administrator, "192.0.2.7", Via.ADMIN)
    change = {"before": {"is_superuser": False}, "after": {"is_superuser": True, "groups": ["a", "b"]}}
    record(
        "user_changed",
        "User “<b>eve</b>” changed.",
        actor=ada,
        target=Target("user", "9", "eve"),
        data=change,
    )
    record("signed_in", "Signed in.", actor=Actor(operator, "198.51.100.4", Via.PAGE))
    record(
        "node_updated", "kvm-01: changed notes", node=node, actor=Actor(administrator, None, Via.API, "ci")
    )
    record("host_rebooted", "kvm-01 has rebooted.", node=node)
    return node


def kinds(response):
    return [event.kind for event in response.context["listing"].page]


def test_it_shows_entries_and_no_events_of_hosts(admin_page, log):
    assert kinds(admin_page.get(ADDRESS)) == ["node_updated", "signed_in", "user_changed"]


def test_by_which_way_somebody_came_is_left_open_for_events_that_were_stored_without_it(admin_page, log):
    of_ada = {"category": "audit", "user_name": "ada", "source_ip": "203.0.113.9"}
    Event.objects.create(kind="node_removed", message="Long ago.", **of_ada)
    page = admin_page.get(ADDRESS, {"source_ip": "203.0.113.9"}).content.decode()
    cell = page[page.index('<td class="source-cell">') :].partition("</td>")[0]
    assert "203.0.113.9" in cell
    assert "nodeadmin itself" not in cell


def test_who_may_not_read_it_sees_their_own_and_those_of_their_nodes(operator_page, operator, log):
    response = operator_page.get(ADDRESS)
    assert kinds(response) == ["signed_in"]
    assert "view_audit_log" in response.content.decode()
    assert "Last verified" not in response.content.decode()
    grant(operator, log, "view_node")
    assert set(kinds(operator_page.get(ADDRESS))) == {"signed_in", "node_updated", "access_granted"}


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"user": "ada"}, ["node_updated", "user_changed"]),
        ({"via": "api"}, ["node_updated"]),
        ({"token": "ci"}, ["node_updated"]),
        ({"target": "eve"}, ["user_changed"]),
        ({"target_type": "user", "target": "eve"}, ["user_changed"]),
        ({"source_ip": "198.51"}, ["signed_in"]),
        ({"node": "kvm-01"}, ["node_updated"]),
        ({"kind": "signed_in"}, ["signed_in"]),
        ({"find": "CHANGED"}, ["node_updated", "user_changed"]),
        ({"since": "2999-01-01"}, []),
        ({"number": "7"}, []),
        ({"number": "1-99999999999999999999999999"}, []),
        (
            {"number": "x", "since": "never", "order_by": "-nothing"},
            ["node_updated", "signed_in", "user_changed"],
        ),
    ],
)
def test_it_is_filtered_by_the_address(admin_page, log, query, found):
    assert kinds(admin_page.get(ADDRESS, query)) == found


def test_what_was_before_and_after_is_a_table_and_never_markup(admin_page, log):
    page = admin_page.get(ADDRESS).content.decode()
    assert "<b>eve</b>" not in page
    assert page.count('<table class="entry-changes">') == 1
    lines = changes_of(Event.objects.get(kind="user_changed")).lines
    assert [(line.name, line.before, line.after) for line in lines] == [
        ("is_superuser", "no", "yes"),
        ("groups", None, "a, b"),
    ]


@pytest.mark.parametrize(
    "data", [{}, {"before": None}, {"x": {"before": 1, "after": 2}}, {"y": [1, {"z": None}]}, []]
)
def test_whatever_an_entry_carries_can_be_shown(admin_page, log, data):
    Event.objects.filter(kind="signed_in").update(data=data)
    assert admin_page.get(ADDRESS).status_code == 200


def test_its_state_names_problems_and_exports_that_wait(admin_page, log):
    verify()
    ExportCursor.objects.create(destination="tcp://log:601", error="Connection refused")
    page = admin_page.get(ADDRESS).content.decode()
    assert "no problem up to" in page
    assert "tcp://log:601" in page and "Connection refused" in page
    Event.objects.filter(kind="signed_in").update(message="It was nobody.")
    verify()
    assert "was altered" in admin_page.get(ADDRESS).content.decode()


def test_it_costs_the_same_however_long_it_is(admin_page, log, django_assert_num_queries):
    admin_page.get(ADDRESS)
    # Session, user, permissions, count, page, kinds, head, newest, exports (two), what runs.
    with django_assert_num_queries(11):
        admin_page.get(ADDRESS)
    for number in range(60):
        record("signed_in", "Signed in.", actor=Actor(None, f"192.0.2.{number}", Via.PAGE))
    with django_assert_num_queries(11):
        admin_page.get(ADDRESS)


def test_events_are_filtered_by_category(admin_page, log):
    address = reverse("event-list")
    assert kinds(admin_page.get(address, {"category": "host"})) == ["host_rebooted"]
    assert len(kinds(admin_page.get(address, {"category": "audit"}))) == 3
    assert len(kinds(admin_page.get(address))) == 4


def test_events_of_hosts_do_not_push_those_of_people_off_the_dashboard(admin_page, log):
    for _number in range(30):
        record("host_rebooted", "kvm-01 has rebooted.", node=log)
    shown = {event.kind for event in admin_page.get(reverse("dashboard")).context["events"]}
    assert shown == {"host_rebooted", "node_updated", "signed_in", "user_changed"}


def numbers(response):
    return [event.number for event in response.context["listing"].page]


def sealed_at_one_moment(count):
    """Entries of one moment, which got their numbers in another order than they were begun."""
    moment = timezone.now()
    Event.objects.all().delete()
    rows = [record("signed_in", f"Signed in {number}.", category="audit") for number in range(count)]
    for number, row in enumerate(reversed(rows), start=1):
        Event.objects.filter(pk=row.pk).update(created_at=moment, number=number)


def test_entries_of_one_moment_come_in_the_order_of_their_numbers(admin_page, log):
    sealed_at_one_moment(120)
    seen = [n for page in (1, 2, 3) for n in numbers(admin_page.get(ADDRESS, {"page": page}))]
    assert seen == list(range(120, 0, -1))
    assert numbers(admin_page.get(ADDRESS, {"number": "30-90", "page": 2})) == list(range(40, 29, -1))
    assert numbers(admin_page.get(ADDRESS, {"order_by": "-time"}))[:3] == [120, 119, 118]
    exported = admin_page.get(ADDRESS, {"format": "json"}).json()
    assert [row["number"] for row in exported] == list(range(120, 0, -1))


def test_what_has_no_number_yet_comes_first_and_what_never_gets_one_last(admin_page, log):
    sealed_at_one_moment(2)
    old = record("signed_in", "Before the log was authenticated.", category="audit")
    Event.objects.filter(pk=old.pk).update(content_mac="")
    record("signed_out", "Not sealed yet.", category="audit")
    assert numbers(admin_page.get(ADDRESS)) == [None, 2, 1, None]
    assert kinds(admin_page.get(ADDRESS))[0] == "signed_out"


def test_the_operation_of_an_entry_is_named_and_linked_until_it_is_purged(admin_page, log):
    operation = make_operation(log)
    record("credential_opened", "Opened.", node=log, category="audit", operation=operation)
    record("signed_in", "Signed in.", category="audit")
    address = reverse("operation-detail", args=[operation.pk])
    assert address in admin_page.get(ADDRESS).content.decode()
    assert kinds(admin_page.get(ADDRESS, {"operation": str(operation.pk)})) == ["credential_opened"]
    [row] = admin_page.get(ADDRESS, {"operation": str(operation.pk), "format": "json"}).json()
    assert row["operation"] == str(operation.pk)
    number = str(operation.pk)
    operation.delete()
    page = admin_page.get(ADDRESS, {"operation": number})
    assert kinds(page) == ["credential_opened"]
    assert address not in page.content.decode() and number[:8] in page.content.decode()
