"""Sessions: listed, ended, over when nobody uses them; and what a new password does to them."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest
from allauth.usersessions.models import UserSession
from django.contrib.sessions.models import Session
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from nodes.engine import logins
from nodes.engine.purge import purge
from nodes.errors import PermissionDenied
from nodes.events import Actor
from nodes.login_age import STARTED, USED
from nodes.models import ApiToken, Event, User
from nodes.models.event import Via
from tests.factories import PASSWORD
from tests.second_factors import sign_in
from tests.web.conftest import HTMX

pytestmark = pytest.mark.django_db
NEW = "another correct horse"


def works(client) -> bool:
    page = client.get(reverse("node-list"))
    api = client.post("/api/list-nodes", {}, content_type="application/json")
    assert (page.status_code == 200) == (api.status_code == 200)
    return page.status_code == 200


def age(client, **seconds):
    """Make the session older than it is."""
    session = client.session
    for key, ago in ((STARTED, seconds.get("started", 0)), (USED, seconds.get("used", 0))):
        session[key] = int(time.time()) - ago
    session.save()


def change_password(client, **fields):
    form = {"oldpassword": PASSWORD, "password1": NEW, "password2": NEW}
    return client.post(reverse("account_change_password"), form | fields)


def token_of(user):
    return ApiToken.make(user, "backup", timezone.now() + timedelta(days=1), read_only=True)[0]


def test_a_new_password_ends_all_other_sessions_and_leaves_this_one(administrator):
    here, there = sign_in("ada"), sign_in("ada")
    token = token_of(administrator)
    assert change_password(here).status_code == 302
    assert (works(here), works(there)) == (True, False)
    assert Client().post(reverse("login"), {"username": "ada", "password": PASSWORD}).status_code == 200
    token.refresh_from_db()
    assert token.is_valid
    event = Event.objects.get(kind="password_changed")
    assert (event.user_name, event.target_name) == ("ada", "ada")
    assert event.data == {"sessions_ended": 1, "tokens_revoked": 0}
    assert NEW not in str(event.data) + event.message
    assert UserSession.objects.get().session_key == here.session.session_key


def test_the_tokens_go_with_it_where_that_is_wished(administrator, stranger):
    mine, other = token_of(administrator), token_of(stranger)
    change_password(sign_in("ada"), end_tokens="on")
    mine.refresh_from_db()
    other.refresh_from_db()
    assert (mine.is_valid, other.is_valid) == (False, True)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"oldpassword": "no"}, "current password is wrong"),
        ({"password2": "something else"}, "same password"),
        ({"password1": "12345", "password2": "12345"}, "too short"),
    ],
)
def test_a_password_that_does_not_fit_changes_nothing(administrator, fields, words):
    client, other = sign_in("ada"), sign_in("ada")
    answer = change_password(client, **fields)
    assert words in answer.content.decode()
    assert works(other)
    assert not Event.objects.filter(kind="password_changed").exists()


def test_an_administrator_sets_a_password_and_all_sessions_end(administrator, stranger):
    User.objects.filter(pk=administrator.pk).update(is_staff=True, is_superuser=True)
    root, theirs = sign_in("ada"), sign_in("stella")
    token = token_of(stranger)
    address = reverse("admin:auth_user_password_change", args=[stranger.pk])
    form = {
        "password1": NEW,
        "password2": NEW,
        "usable_password": "true",
        "set-password": "1",
        "end_tokens": "on",
    }
    assert root.post(address, form).status_code == 302
    assert (works(root), works(theirs)) == (True, False)
    token.refresh_from_db()
    assert not token.is_valid
    event = Event.objects.get(kind="password_set")
    assert (event.user_name, event.target_name, event.via) == ("ada", "stella", Via.ADMIN)


def test_sessions_are_listed_and_each_can_be_ended(administrator, stranger):
    here, there, foreign = sign_in("ada"), sign_in("ada"), sign_in("stella")
    page = here.get(reverse("usersessions_list"))
    assert len(page.context["rows"]) == 2
    assert "127.0.0.1" in page.content.decode()
    row = UserSession.objects.get(session_key=there.session.session_key)
    other = UserSession.objects.get(session_key=foreign.session.session_key)
    assert here.post(reverse("session-end", args=[other.pk])).status_code == 404
    assert here.get(reverse("session-end", args=[row.pk])).status_code == 405
    assert here.post(reverse("session-end", args=[row.pk])).status_code == 302
    assert (works(here), works(there), works(foreign)) == (True, False, True)
    event = Event.objects.get(kind="session_ended")
    assert (event.user_name, event.target_name, event.data["address"]) == ("ada", "ada", "127.0.0.1")


def test_all_others_end_at_once(administrator):
    here, *others = (sign_in("ada") for _number in range(3))
    here.post(reverse("sessions-end-others"))
    assert works(here)
    assert not any(works(client) for client in others)


def test_sessions_of_others_are_ended_by_who_may_grant_alone(administrator, operator, stranger):
    theirs = sign_in("stella")
    rows = UserSession.objects.filter(user=stranger)
    with pytest.raises(PermissionDenied):
        logins.end_sessions(Actor(operator, via=Via.PAGE), stranger, rows)
    assert works(theirs)
    assert logins.end_sessions(Actor(administrator, via=Via.ADMIN), stranger, rows) == 1
    assert not works(theirs)


def test_the_admin_ends_sessions_and_shows_no_secret(administrator, stranger):
    User.objects.filter(pk__in=(administrator.pk, stranger.pk)).update(is_staff=True)
    theirs, root = sign_in("stella"), sign_in("ada")
    row = UserSession.objects.get(session_key=theirs.session.session_key)
    address = reverse("admin:usersessions_usersession_changelist")
    assert (
        row.session_key
        not in root.get(reverse("admin:usersessions_usersession_change", args=[row.pk])).content.decode()
    )
    own = UserSession.objects.get(session_key=root.session.session_key)
    action = {"action": "end", "_selected_action": [own.pk]}
    theirs.post(address, action)
    assert works(root)
    root.post(address, action | {"_selected_action": [row.pk]})
    assert not works(theirs)


def test_a_session_that_nobody_uses_ends(administrator, settings):
    client = sign_in("ada")
    age(client, used=settings.NODEADMIN_SESSION_IDLE_S - 60)
    assert works(client)
    age(client, used=settings.NODEADMIN_SESSION_IDLE_S + 1)
    assert not works(client)
    event = Event.objects.get(kind="session_ended")
    assert event.data == {"reason": "idle"}
    assert not UserSession.objects.exists()
    assert not Session.objects.exists()


def test_a_page_that_polls_does_not_keep_it_alive(administrator, settings):
    client = sign_in("ada")
    age(client, used=600)
    client.get(reverse("running"), headers=HTMX | {"X-Background": "1"})
    assert time.time() - client.session[USED] >= 600
    client.get(reverse("node-list"))
    assert time.time() - client.session[USED] < 60


def test_it_ends_at_its_age_however_much_it_is_used(administrator, settings):
    client = sign_in("ada")
    age(client, started=settings.SESSION_COOKIE_AGE + 1)
    assert not works(client)
    assert Event.objects.get(kind="session_ended").data == {"reason": "age"}


def test_a_deactivated_user_is_out_at_once(administrator):
    client = sign_in("ada")
    User.objects.filter(pk=administrator.pk).update(is_active=False)
    assert not works(client)


def test_signing_in_gives_the_session_another_key(administrator):
    client = Client()
    session = client.session
    session["planted"] = True
    session.save()
    before = session.session_key
    client.post(reverse("login"), {"username": "ada", "password": PASSWORD})
    assert client.session.session_key != before
    assert not Session.objects.filter(session_key=before).exists()


@pytest.mark.parametrize(
    "name", ["login", "mfa_index", "account_change_password", "usersessions_list", "token-list"]
)
def test_pages_of_the_account_are_kept_by_no_cache(administrator, name):
    client = sign_in("ada") if name != "login" else Client()
    assert "no-store" in client.get(reverse(name))["Cache-Control"]


def test_what_changes_the_account_is_refused_without_the_forms_token(administrator):
    client = Client(enforce_csrf_checks=True)
    client.force_login(administrator)
    for name in ("account_change_password", "sessions-end-others", "factor-challenge", "mfa_deactivate_totp"):
        assert client.post(reverse(name)).status_code == 403, name


def test_what_is_left_of_sessions_that_are_over_is_purged(administrator):
    sign_in("ada")
    over = sign_in("ada").session.session_key
    Session.objects.filter(session_key=over).update(expire_date=timezone.now() - timedelta(seconds=1))
    counts = purge()
    assert (counts["sessions"], counts["logins"]) == (1, 1)
    assert Session.objects.count() == UserSession.objects.count() == 1


@pytest.mark.parametrize(
    ("name", "most"),
    [("usersessions_list", 6), ("mfa_index", 6), ("account_change_password", 4), ("token-list", 6)],
)
def test_pages_of_the_account_take_few_queries(administrator, django_assert_max_num_queries, name, most):
    client, *_others = (sign_in("ada") for _number in range(6))
    client.get(reverse(name))
    with django_assert_max_num_queries(most):
        assert client.get(reverse(name)).status_code == 200


def test_too_many_attempts_are_refused_with_a_page_of_ours(administrator):
    client = sign_in("ada")
    for _number in range(11):
        answer = client.post(reverse("account_reauthenticate"), {"password": "no"})
    assert answer.status_code == 429
    assert "Too many attempts" in answer.content.decode()
