"""Each change of an account is one entry: with who did it, from where, by which way, and to whom."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from allauth.usersessions.models import UserSession
from django.contrib.auth.models import Group
from django.core.management import call_command
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from nodes.audit.counted import tell_ended
from nodes.engine.identity import create_user, synchronise_groups
from nodes.events import Actor, acting
from nodes.models import ApiToken, CountedEntry, Event, Role, RoleAssignment, User
from nodes.models.event import Via
from nodes.permissions import GRANT
from tests.factories import PASSWORD, make_user
from tests.permissions.people import give, token_of
from tests.second_factors import App, sign_in

pytestmark = pytest.mark.django_db
NEW = "an entirely different phrase"


def entries() -> list[tuple[str, str, str, str]]:
    """Kind, who, way and whom of each entry since the last look, in their order."""
    rows = Event.objects.filter(category="audit").order_by("pk")
    found = [(row.kind, row.user_name, row.via, row.target_name) for row in rows]
    Event.objects.filter(category="audit").delete()
    return found


@pytest.fixture
def root() -> Client:
    make_user("root", is_superuser=True, is_staff=True)
    client = sign_in("root")
    entries()
    return client


@pytest.fixture
def eve(root) -> User:
    user = make_user("eve")
    entries()
    return user


def test_signing_in_with_a_second_factor_and_signing_out(eve):
    app = App(eve)
    assert [row[0] for row in entries()] == ["second_factor_added", "second_factor_added"]
    client = sign_in("eve", app)
    assert entries() == [("signed_in", "eve", "page", "eve")]
    client.post(reverse("logout"))
    assert entries() == [("signed_out", "eve", "page", "eve")]


def test_a_recovery_code_at_the_sign_in(eve):
    app = App(eve)
    entries()
    client = Client()
    client.post(reverse("login"), {"username": "eve", "password": PASSWORD})
    client.post(reverse("mfa_authenticate"), {"code": app.recovery_code()})
    assert [row[0] for row in entries()] == ["recovery_code_used", "signed_in"]


def test_a_session_that_nobody_used_ends_without_a_sign_out(eve, settings):
    client = sign_in("eve")
    entries()
    session = client.session
    session["nodeadmin.used"] = 1
    session.save()
    client.get(reverse("dashboard"))
    assert entries() == [("session_ended", "eve", "page", "eve")]


def test_a_password_changed_and_tokens_with_it(eve):
    client = sign_in("eve")
    token_of(eve)
    entries()
    form = {"oldpassword": PASSWORD, "password1": NEW, "password2": NEW, "end_tokens": "on"}
    assert client.post(reverse("account_change_password"), form).status_code == 302
    assert entries() == [("token_revoked", "eve", "page", "test"), ("password_changed", "eve", "page", "eve")]


def test_a_password_set_by_an_administrator(root, eve):
    form = {"password1": NEW, "password2": NEW, "usable_password": "true", "set-password": "1"}
    root.post(reverse("admin:auth_user_password_change", args=[eve.pk]), form)
    assert entries() == [("password_set", "root", "admin", "eve")]


def test_a_second_factor_removed_by_an_administrator(root, eve):
    app = App(eve)
    entries()
    row = Authenticator.objects.get(type="totp")
    root.post(reverse("admin:mfa_authenticator_delete", args=[row.pk]), {"post": "yes"})
    event = Event.objects.get(category="audit")
    assert (event.severity, event.data["before"]["type"]) == ("warning", "totp")
    assert app.secret not in str(event.data)
    assert entries() == [("second_factor_removed", "root", "admin", "eve")]


def test_a_token_and_a_session_ended_by_an_administrator(root, eve):
    sign_in("eve")
    row, _text = token_of(eve)
    entries()
    root.post(reverse("admin:nodes_apitoken_changelist"), {"action": "revoke", "_selected_action": [row.pk]})
    assert entries() == [("token_revoked", "root", "admin", "test")]
    session = UserSession.objects.get(user=eve)
    data = {"action": "end", "_selected_action": [session.pk]}
    root.post(reverse("admin:usersessions_usersession_changelist"), data)
    assert entries() == [("session_ended", "root", "admin", "eve")]


def test_a_token_made_and_revoked_on_its_page(eve):
    client = sign_in("eve")
    give(eve, "view_node")
    entries()
    form = {"name": "ci", "days": "30", "scope": "all", "permissions": ["view_node"]}
    client.post(reverse("token-list"), form)
    assert entries() == [("token_made", "eve", "page", "ci")]
    client.post(reverse("token-revoke", args=[ApiToken.objects.get().pk]))
    assert entries() == [("token_revoked", "eve", "page", "ci")]


def test_roles_and_groups_in_the_admin(root, eve):
    form = {"name": "night", "permissions": ["view_node"]}
    root.post(reverse("admin:nodes_role_add"), form)
    assert entries() == [("role_made", "root", "admin", "night")]
    role = Role.objects.get(name="night")
    given = {"role": role.pk, "user": eve.pk, "scope": "all", "selector": "{}"}
    root.post(reverse("admin:nodes_roleassignment_add"), given)
    assert entries() == [("role_assigned", "root", "admin", "eve")]
    row = RoleAssignment.objects.get(role=role)
    root.post(reverse("admin:nodes_roleassignment_delete", args=[row.pk]), {"post": "yes"})
    assert entries() == [("role_revoked", "root", "admin", "eve")]
    root.post(reverse("admin:auth_group_add"), {"name": "shift"})
    assert entries() == [("group_created", "root", "admin", "shift")]
    group = Group.objects.get(name="shift")
    data = {"username": "eve", "groups": [group.pk], "is_active": "on"}
    data |= {"date_joined_0": "2026-01-01", "date_joined_1": "00:00:00"}
    root.post(reverse("admin:nodes_user_change", args=[eve.pk]), data)
    assert entries() == [("user_groups_changed", "root", "admin", "eve")]
    root.post(reverse("admin:nodes_user_change", args=[eve.pk]), data | {"is_superuser": "on"})
    event = Event.objects.get(category="audit")
    assert (event.data["before"], event.data["after"]) == ({"is_superuser": False}, {"is_superuser": True})
    assert entries() == [("user_changed", "root", "admin", "eve")]


def test_a_superuser_made_on_the_command_line(monkeypatch):
    monkeypatch.setenv("DJANGO_SUPERUSER_PASSWORD", NEW)
    with acting(Actor(via=Via.COMMAND)):
        call_command("createsuperuser", username="late", email="", interactive=False)
    event = Event.objects.get(kind="user_created")
    assert event.data["after"]["is_superuser"] is True
    assert event.data["os_user"]
    assert NEW not in str(event.data)
    assert entries() == [("user_created", "", "command", "late")]


def test_a_user_of_the_identity_provider_and_their_groups(db):
    Group.objects.create(name="operators")
    entries()
    actor = Actor(None, "192.0.2.7", Via.PAGE)
    user = create_user(actor, User(), "grace")
    assert entries() == [("user_created", "", "page", "grace")]
    user.groups.add(Group.objects.create(name="own"))
    entries()
    synchronise_groups(actor, user, {"operators"}, {"operators"})
    event = Event.objects.get(kind="user_groups_changed")
    assert event.data == {"before": {"groups": ["own"]}, "after": {"groups": ["operators", "own"]}}
    assert entries() == [("user_groups_changed", "", "page", "grace")]


def failures() -> int:
    CountedEntry.objects.update(until=timezone.now() - timedelta(seconds=1))
    tell_ended()
    rows: Any = Event.objects.filter(kind="sign_in_failed")
    return sum(row.data.get("count", 1) for row in rows)


def test_a_sign_in_that_is_refused_unseen_is_no_wrong_password(eve, settings):
    settings.NODEADMIN_LOGIN_FAILURES = 3
    for _round in range(8):
        Client().post(reverse("login"), {"username": "eve", "password": "wrong"})
    # The one whose failure begins the pause was looked at; those after it were not.
    assert failures() == 3
    assert Event.objects.filter(kind="sign_in_paused").exists()


def test_who_may_grant_takes_no_second_factor_from_a_superuser(eve):
    other = make_user("boss", is_superuser=True)
    App(other)
    give(eve, GRANT)
    User.objects.filter(pk=eve.pk).update(is_staff=True)
    client = sign_in("eve")
    rows = list(Authenticator.objects.values_list("pk", flat=True))
    address = reverse("admin:mfa_authenticator_delete", args=rows[:1])
    assert client.post(address, {"post": "yes"}).status_code == 403
    data = {"action": "delete_selected", "_selected_action": rows, "post": "yes"}
    assert client.post(reverse("admin:mfa_authenticator_changelist"), data).status_code == 403
    assert Authenticator.objects.count() == len(rows)
