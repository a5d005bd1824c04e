"""Signing in, and what stands in the way of guessing."""

from django.conf import settings
from django.templatetags.static import static
from django.urls import reverse

from tests.factories import PASSWORD


def sign_in(client, name, password, **more):
    return client.post(reverse("login"), {"username": name, "password": password, **more})


def test_the_right_password_leads_to_the_dashboard(client, administrator):
    answer = sign_in(client, "ada", PASSWORD)
    assert answer.status_code == 302
    assert answer["Location"] == reverse("dashboard")


def test_one_goes_on_where_one_wanted_to_go(client, administrator):
    answer = sign_in(client, "ada", PASSWORD, next="/events/")
    assert answer["Location"] == "/events/"


def test_one_is_not_sent_to_another_site(client, administrator):
    answer = sign_in(client, "ada", PASSWORD, next="https://evil.example/")
    assert answer["Location"] == reverse("dashboard")


def test_a_wrong_password_and_an_unknown_name_get_the_same_answer(client, administrator):
    wrong = sign_in(client, "ada", "no").content.decode()
    unknown = sign_in(client, "nobody", "no").content.decode()
    assert "correct username and password" in wrong
    assert wrong.count("alert") == unknown.count("alert")
    assert 'value="no"' not in wrong


def test_guessing_is_paused(client, administrator):
    for _round in range(settings.AXES_FAILURE_LIMIT):
        answer = sign_in(client, "ada", "no")
    assert answer.status_code == 429
    assert "Too many attempts" in answer.content.decode()
    assert sign_in(client, "ada", PASSWORD).status_code == 429


def test_the_session_cookie_is_hidden_from_scripts(client, administrator):
    sign_in(client, "ada", PASSWORD)
    cookie = client.cookies[settings.SESSION_COOKIE_NAME]
    assert cookie["httponly"]
    assert cookie["samesite"] == "Lax"


def test_the_icon_of_pages_that_name_none_needs_no_login(client):
    answer = client.get("/favicon.ico")
    assert (answer.status_code, answer["Location"]) == (302, static("img/mark.svg"))
