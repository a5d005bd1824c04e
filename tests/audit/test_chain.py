"""Entries of the audit log get gapless numbers and codes, whoever writes them and whatever is interrupted."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from django.db import OperationalError, connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from nodes.audit.head_file import read_head
from nodes.audit.retention import purge_events
from nodes.audit.sealer import STARTED, seal, seal_waiting
from nodes.audit.verification import verify
from nodes.events import SYSTEM, Actor, Target, record
from nodes.models import AuditCheckpoint, Event
from nodes.models.audit_mac import canonical
from nodes.models.event import Via
from tests.factories import make_node, make_user

pytestmark = pytest.mark.django_db(transaction=True)
ADA = Actor(source_ip="192.0.2.7", via=Via.PAGE)


def entry(kind: str = "tried", **more: object) -> Event:
    return record(kind, f"{kind} by a test", actor=ADA, **more)  # type: ignore[arg-type]


def numbers() -> list[int]:
    return list(Event.objects.sealed().values_list("number", flat=True))


def test_entries_are_numbered_without_a_gap_and_the_log_verifies():
    for _round in range(3):
        entry()
    assert numbers() == [1, 2, 3, 4]
    assert Event.objects.sealed()[0].kind == STARTED
    found = verify()
    assert found.is_clean, found.problems
    assert (found.entries, found.newest.number) == (4, 4)


def test_an_event_of_a_host_is_no_entry():
    node = make_node()
    record("node_online", "It is online.", node=node, actor=SYSTEM)
    event = Event.objects.get(kind="node_online")
    assert (event.category, event.number, event.content_mac) == ("host", None, "")


def test_the_audit_log_stays_verified_when_what_it_is_about_is_deleted():
    node, user = make_node(), make_user("otto")
    record(
        "node_touched",
        "x",
        node=node,
        actor=Actor(user, None, Via.API, "ci"),
        target=Target("role", "1", "r"),
    )
    uuid = str(node.uuid)
    node.delete()
    user.delete()
    event = Event.objects.get(kind="node_touched")
    assert (event.node, event.user) == (None, None)
    assert (event.node_ref, event.user_name, event.token_name) == (uuid, "otto", "ci")
    assert verify().is_clean


def test_what_was_rolled_back_takes_no_number():
    entry()
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        entry()
        raise ZeroDivisionError
    entry()
    assert numbers() == [1, 2, 3]
    assert verify().is_clean


def test_an_entry_behind_a_savepoint_that_was_rolled_back_is_numbered():
    with transaction.atomic():
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            entry("lost")
            raise ZeroDivisionError
        entry("kept")
    assert list(Event.objects.sealed().values_list("kind", flat=True)) == [STARTED, "kept"]


def test_entries_of_many_threads_at_once_are_one_chain():
    def work() -> None:
        try:
            for _round in range(5):
                with transaction.atomic():
                    entry()
                    entry()
        finally:
            connection.close()

    threads = [threading.Thread(target=work) for _number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seal()
    assert numbers() == list(range(1, 42))
    assert verify().is_clean


def test_an_entry_costs_three_queries_after_its_commit():
    entry()
    with CaptureQueriesContext(connection) as queries:
        entry()
    own = [q["sql"] for q in queries if not q["sql"].startswith(("BEGIN", "COMMIT"))]
    assert len(own) == 1 + 3, own


def test_several_entries_of_one_transaction_cost_no_more():
    entry()
    with CaptureQueriesContext(connection) as queries, transaction.atomic():
        for _round in range(5):
            entry()
    own = [q["sql"] for q in queries if not q["sql"].startswith(("BEGIN", "COMMIT"))]
    assert len(own) == 5 + 3, own


def test_an_entry_that_its_process_left_without_a_number_gets_one(monkeypatch):
    def broken() -> int:
        raise OperationalError("the database is locked")

    with monkeypatch.context() as patch:
        patch.setattr("nodes.audit.sealer.seal", broken)
        entry()
    assert numbers() == []
    assert seal_waiting() == 2  # the first entry of all, and this one
    assert seal_waiting() == 0
    assert verify().is_clean


def test_the_head_file_follows_and_is_the_owners_alone(settings):
    entry()
    head = read_head()
    assert head is not None
    assert head.number == 2
    assert head.chain_mac == Event.objects.get(number=2).chain_mac
    assert (settings.DATA_DIR / "audit-head.json").stat().st_mode & 0o777 == 0o600


def test_old_events_are_named_by_the_first_entry_and_not_authenticated():
    old = Event.objects.create(kind="node_added", category="audit", user_name="ada", message="long ago")
    entry()
    first = Event.objects.get(number=1)
    assert first.data == {"older_entries": 1, "last_older_id": old.pk}
    old.refresh_from_db()
    assert old.number is None
    found = verify()
    assert found.is_clean
    assert any("1 entries" in note for note in found.notes)


def test_old_events_are_no_problem_before_the_first_entry_and_one_once_it_is_gone():
    Event.objects.create(kind="node_added", category="audit", user_name="ada", message="long ago")
    found = verify()
    assert found.is_clean
    assert found.notes == ["1 entries are from before the log and are not authenticated."]
    entry()
    Event.objects.sealed().delete()
    assert {problem.code for problem in verify().problems} == {"cut", "inserted"}


def test_retention_leaves_a_signed_checkpoint_and_a_log_that_verifies(settings):
    later = timezone.now() + timedelta(days=settings.NODEADMIN_AUDIT_DAYS + 1)
    for _round in range(4):
        entry()
    gone = purge_events(later)
    assert gone["audit_entries"] == 4  # the newest one stays
    checkpoint = AuditCheckpoint.objects.get()
    assert (checkpoint.first_number, checkpoint.last_number, checkpoint.count) == (1, 4, 4)
    assert numbers() == [5, 6]
    assert Event.objects.get(number=6).kind == "audit_log_purged"
    found = verify()
    assert found.is_clean, found.problems
    entry()
    assert purge_events(later)["audit_entries"] == 2
    assert verify().is_clean


def test_events_of_hosts_are_capped_by_node_and_push_no_entry_out(settings):
    settings.NODEADMIN_EVENTS_PER_NODE = 100
    noisy, quiet = make_node(), make_node()
    mine = entry(node=noisy)
    record("node_online", "It is online.", node=quiet, actor=SYSTEM)
    for _round in range(130):
        record("host_rebooted", "Again.", node=noisy, actor=SYSTEM)
    assert purge_events()["events"] == 30
    assert Event.objects.filter(category="host", node=noisy).count() == 100
    assert Event.objects.filter(category="host", node=quiet).count() == 1
    assert Event.objects.filter(pk=mine.pk).exists()


def test_signed_text_does_not_depend_on_how_a_database_gives_numbers_back():
    assert canonical({"b": 1.0, "a": [1e3, 0.5]}) == canonical({"a": [1000, 0.5], "b": 1})


def test_text_that_no_database_takes_is_recorded_all_the_same():
    event = record("odd", "a\0b\ud800", actor=ADA, data={"x": ["\0", "\udfff"]})
    event.refresh_from_db()
    assert event.is_authentic
    assert "\0" not in event.message
