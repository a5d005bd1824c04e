"""Signing in, and what stands in the way of guessing."""

from django.conf import settings
from django.templatetags.static import static
from django.urls import reverse

from nodes.models import Event, User
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
    for _round in range(settings.NODEADMIN_LOGIN_FAILURES):
        answer = sign_in(client, "ada", "no")
    assert answer.status_code == 429
    assert "Too many attempts" in answer.content.decode()
    assert sign_in(client, "ada", PASSWORD).status_code == 429


def test_who_signed_in_and_where_guessing_was_paused_is_on_record(client, administrator):
    sign_in(client, "ada", PASSWORD)
    event = Event.objects.get(kind="signed_in")
    assert (event.user, event.user_name, event.source_ip) == (administrator, "ada", "127.0.0.1")
    client.post(reverse("logout"))
    for name in ("ada", "hunter2-in-the-wrong-field"):
        for _round in range(settings.NODEADMIN_LOGIN_FAILURES + 3):
            sign_in(client, name, "no")
    unknown, known = Event.objects.filter(kind="sign_in_paused")
    assert (known.user, known.source_ip, known.severity) == (None, "127.0.0.1", "warning")
    assert "ada" in known.message
    assert "unknown name" in unknown.message
    assert "hunter2" not in f"{unknown.message}{unknown.data}"


def test_the_admin_has_the_same_login(client, administrator, operator):
    answer = client.get(reverse("admin:login"), {"next": "/admin/nodes/node/"})
    assert answer["Location"] == reverse("login") + "?next=/admin/nodes/node/"
    assert client.get("/admin/", follow=True).redirect_chain[-1][0].startswith(reverse("login"))
    client.force_login(operator)
    assert client.get("/admin/", follow=True).status_code == 403
    User.objects.filter(pk=operator.pk).update(is_staff=True)
    assert client.get(reverse("admin:login"))["Location"] == reverse("admin:index")


def test_the_session_cookie_is_hidden_from_scripts(client, administrator):
    sign_in(client, "ada", PASSWORD)
    cookie = client.cookies[settings.SESSION_COOKIE_NAME]
    assert cookie["httponly"]
    assert cookie["samesite"] == "Lax"


def test_the_icon_of_pages_that_name_none_needs_no_login(client):
    answer = client.get("/favicon.ico")
    assert (answer.status_code, answer["Location"]) == (302, static("img/mark.svg"))
