"""Somebody with the database in their hands, and without the key, tampers with the audit log: it is named."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from nodes.audit.head_file import head_path
from nodes.audit.sealer import seal
from nodes.audit.verification import Verification, verify
from nodes.events import Actor, record
from nodes.models import AuditCheckpoint, Event
from nodes.models.event import Via
from tests.factories import make_user

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def log() -> None:
    """Entries 1 to 7: the start of the log, the user ada, and five grants."""
    actor = Actor(make_user("ada"), "192.0.2.7", Via.ADMIN)
    while Event.objects.sealed().count() < 7:
        record(
            "user_changed", "Mallory is a superuser now.", actor=actor, data={"after": {"is_superuser": True}}
        )
    assert verify().is_clean


def codes(found: Verification) -> list[tuple[str, int | None]]:
    return [(problem.code, problem.number) for problem in found.problems]


def of(number: int) -> Event:
    return Event.objects.get(number=number)


COLUMNS = {
    "message": "Nothing happened.",
    "user_name": "bob",
    "user_ref": "999",
    "source_ip": "198.51.100.1",
    "via": "api",
    "token_name": "ci",
    "kind": "user_shown",
    "severity": "error",
    "category": "host",
    "node_name": "kvm-01",
    "node_ref": "x",
    "target_type": "user",
    "target_id": "1",
    "target_name": "carol",
    "operation_ref": "x",
    "data": {"after": {"is_superuser": False}},
    "created_at": "2020-01-01T00:00:00Z",
    "uid": "00000000-0000-0000-0000-000000000001",
}


@pytest.mark.parametrize("column", COLUMNS)
def test_an_altered_entry_is_named_whichever_column_it_was(log, column):
    Event.objects.filter(number=4).update(**{column: COLUMNS[column]})
    assert codes(verify()) == [("altered", 4)]


def test_every_column_that_says_something_is_signed(log):
    """A column that is added later and forgotten here would be one that can be altered unseen."""
    own = {"id", "node", "user", "operation", "number", "content_mac", "chain_mac"}
    assert {field.name for field in Event._meta.concrete_fields} - own == set(COLUMNS)


def test_a_removed_entry_is_named(log):
    of(4).delete()
    assert codes(verify()) == [("removed", 4)]


def test_several_removed_entries_are_named_as_one_gap(log):
    Event.objects.filter(number__in=(3, 4, 5)).delete()
    found = verify()
    assert codes(found) == [("removed", 3)]
    assert "3 to 5" in found.problems[0].message


def test_removed_and_closed_up_is_named(log):
    """The entries behind it are numbered anew, so that no gap is left."""
    of(4).delete()
    for number in (5, 6, 7):
        Event.objects.filter(number=number).update(number=number - 1)
    assert ("moved", 4) in codes(verify())


def test_the_last_entries_cut_off_are_named_by_the_head_file(log):
    Event.objects.filter(number__gte=6).delete()
    found = verify()
    assert codes(found) == [("cut", 6)]
    assert "6 to 7" in found.problems[0].message


def test_cut_off_and_written_over_by_what_came_next_is_still_named(log):
    """Their numbers are not given again."""
    Event.objects.filter(number__gte=6).delete()
    record("user_changed", "Something else.", actor=Actor(via=Via.PAGE))
    assert Event.objects.sealed().last().number == 8
    assert codes(verify()) == [("removed", 6)]


def test_everything_deleted_is_named(log):
    Event.objects.all().delete()
    found = verify()
    assert ("cut", 1) in codes(found) or ("removed", 1) in codes(found)


def test_an_inserted_entry_without_a_code_is_named(log):
    Event.objects.create(kind="user_changed", category="audit", user_name="bob", message="It was Bob.")
    assert [code for code, _number in codes(verify())] == ["inserted"]


def test_an_inserted_entry_with_a_made_up_code_is_named(log):
    Event.objects.create(
        kind="user_changed", category="audit", user_name="bob", message="It was Bob.", content_mac="0" * 64
    )
    seal()
    found = verify()
    assert codes(found) == [("altered", 8)]


def test_an_entry_put_in_the_place_of_another_is_named(log):
    real = of(4)
    Event.objects.filter(pk=real.pk).delete()
    Event.objects.create(
        kind="user_changed", category="audit", user_name="bob", message="Bob.", number=4,
        content_mac=real.content_mac, chain_mac=real.chain_mac,
    )  # fmt: skip
    assert codes(verify()) == [("altered", 4)]


def test_two_entries_that_changed_places_are_named(log):
    Event.objects.filter(number=4).update(number=1000)
    Event.objects.filter(number=5).update(number=4)
    Event.objects.filter(number=1000).update(number=5)
    assert {number for code, number in codes(verify())} >= {4, 5}


def test_the_number_taken_away_is_named(log):
    """It would be sealed anew at the end: a gap where it was."""
    Event.objects.filter(number=4).update(number=None, chain_mac="")
    assert codes(verify()) == [("removed", 4)]


def test_a_forged_checkpoint_hides_nothing(log):
    Event.objects.filter(number__lte=4).delete()
    AuditCheckpoint.objects.create(
        kind="purged", first_number=1, last_number=4, chain_mac=of(5).chain_mac, count=4, mac="0" * 64
    )
    assert codes(verify()) == [("checkpoint", 1), ("removed", 1)]


def forget_key(settings: object) -> None:
    settings.NODEADMIN_AUDIT_KEY = "another-key-0123456789-0123456789-0123456789"  # type: ignore[attr-defined]


def test_a_chain_made_anew_under_another_key_does_not_fit(log, settings):
    """As one with the code and the database, but not the key, would try."""
    good = settings.NODEADMIN_AUDIT_KEY
    forget_key(settings)
    Event.objects.filter(number__gte=4).delete()
    record("user_changed", "It was Bob.", actor=Actor(via=Via.PAGE))
    seal()
    settings.NODEADMIN_AUDIT_KEY = good
    assert not verify().is_clean


def test_an_older_key_behind_the_new_one_still_verifies(log, settings):
    settings.NODEADMIN_AUDIT_KEY = (
        f"a-newer-key-0123456789-0123456789-0123456789 {settings.NODEADMIN_AUDIT_KEY}"
    )
    record("user_changed", "Under the new key.", actor=Actor(via=Via.PAGE))
    assert verify().is_clean


@pytest.mark.parametrize(
    "change",
    [
        lambda told: told | {"number": 3},
        lambda told: told | {"chain_mac": "0" * 64},
        lambda told: {},
        lambda told: [],
    ],
)
def test_a_forged_head_file_is_named(log, change: Callable[[object], object]):
    path = head_path()
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    found = verify()
    assert codes(found) == [("head", None)]
    record("user_changed", "Work goes on.", actor=Actor(via=Via.PAGE))
    assert Event.objects.sealed().last().number == 8


def test_a_million_problems_are_counted_and_not_all_kept(log, monkeypatch):
    monkeypatch.setattr("nodes.audit.verification.MOST_PROBLEMS", 3)
    Event.objects.sealed().update(message="x")
    found = verify()
    assert (len(found.problems), found.problem_count) == (3, 7)
