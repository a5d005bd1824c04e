"""Signing in at a real OpenID Connect provider: who comes in, in which groups, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from html import unescape
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit, urlunsplit

import pytest
from allauth.socialaccount.models import SocialAccount
from django.contrib.auth.models import Group
from django.test import Client
from django.urls import reverse

from nodes.models import Event, User
from tests.factories import PASSWORD, make_user
from tests.identity_provider.running import CLIENT, SECRET, IdentityProvider, packages

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.skipif(packages() is None, reason="script/test installs the identity provider's packages"),
]
BACK = "http://testserver/login/oidc/callback/"
MAPPED = {"kvm-admins": "administrators", "kvm-operators": "operators"}


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IdentityProvider]:
    with IdentityProvider(tmp_path_factory.mktemp("provider"), BACK) as running:
        yield running


@pytest.fixture(autouse=True)
def configured(settings, provider: IdentityProvider, groups) -> None:
    set_issuer(settings, provider.issuer)
    settings.NODEADMIN_OIDC_GROUP_ROLES = MAPPED


def set_issuer(settings, issuer: str, server: str = "") -> None:
    settings.NODEADMIN_OIDC_ISSUER = issuer
    settings.NODEADMIN_OIDC_NAME = "Keycloak"
    app = {
        "provider_id": "oidc", "name": "Keycloak", "client_id": CLIENT, "secret": SECRET,
        "settings": {"server_url": server or issuer},
    }  # fmt: skip
    settings.SOCIALACCOUNT_PROVIDERS = {
        "openid_connect": {**settings.SOCIALACCOUNT_PROVIDERS["openid_connect"], "APPS": [app]}
    }


def leave(client: Client, **fields: str) -> str:
    """The address at the provider that the login page's button leads to."""
    page = client.post(reverse("oidc-login"), fields)
    assert page.status_code == 200
    return unescape(page.content.decode().partition('content="0;url=')[2].partition('"')[0])


def sign_in(provider: IdentityProvider, sub: str, client: Client | None = None, **fields: str):
    client = client or Client(raise_request_exception=False)
    back = provider.walk(leave(client, **fields), sub)
    return client, client.get(back)


def with_query(address: str, **changed: str) -> str:
    parts = urlsplit(address)
    query = {name: values[0] for name, values in parse_qs(parts.query).items()} | changed
    return urlunsplit(parts._replace(query=urlencode(query)))


def groups_of(name: str) -> set[str]:
    return set(User.objects.get(username=name).groups.values_list("name", flat=True))


def signed_in(client: Client) -> bool:
    return client.get(reverse("node-list")).status_code == 200


def test_a_user_with_a_mapped_group_is_created_in_the_group_that_it_maps_to(provider):
    provider.account("grace", groups=["kvm-admins", "accounting"], given_name="Grace")
    client, answer = sign_in(provider, "grace", next="/events/")
    assert answer["Location"] == "/events/"
    assert signed_in(client)
    user = User.objects.get(username="grace")
    assert (user.first_name, user.is_staff, user.is_superuser) == ("Grace", False, False)
    assert not user.has_usable_password()
    assert groups_of("grace") == {"administrators"}
    assert not Group.objects.filter(name="accounting").exists()
    event = Event.objects.get(kind="user_groups_changed")
    assert (event.target_name, event.data) == (
        "grace",
        {"before": {"groups": []}, "after": {"groups": ["administrators"]}},
    )
    assert set(Event.objects.values_list("kind", flat=True)) >= {"user_created", "signed_in"}


def test_groups_are_gained_and_lost_at_the_next_sign_in_and_others_stay(provider):
    provider.account("grace", groups=["kvm-admins"])
    sign_in(provider, "grace")
    User.objects.get(username="grace").groups.add(Group.objects.create(name="night shift"))
    provider.account("grace", groups=["kvm-operators"])
    sign_in(provider, "grace")
    assert groups_of("grace") == {"operators", "night shift"}
    assert User.objects.count() == 1


@pytest.mark.parametrize("claim", [[], ["accounting"], None, {"kvm-admins": True}, [["kvm-admins"], 7]])
def test_who_has_no_mapped_group_is_refused_in_words_and_not_created(provider, claim):
    provider.account("mallory", groups=claim)
    client, answer = sign_in(provider, "mallory")
    assert answer.status_code == 403
    assert "none of your groups has access" in answer.content.decode()
    assert not User.objects.exists()
    assert not signed_in(client)


def test_who_has_lost_the_last_group_comes_in_no_more(provider):
    provider.account("grace", groups=["kvm-admins"])
    sign_in(provider, "grace")
    provider.account("grace", groups=[])
    client, answer = sign_in(provider, "grace")
    assert (answer.status_code, signed_in(client)) == (403, False)
    assert groups_of("grace") == set()


def test_nobody_is_matched_by_name_or_mail(provider):
    """The claims are what a user of the provider may often set as they like."""
    ada = make_user("ada", email="ada@example.org", is_superuser=True)
    provider.account(
        "mallory", preferred_username="ada", email=ada.email, email_verified=True, groups=["kvm-operators"]
    )
    client, _answer = sign_in(provider, "mallory")
    assert signed_in(client)
    assert SocialAccount.objects.get().user.username == "ada-2"
    ada.refresh_from_db()
    assert ada.check_password(PASSWORD)
    assert not ada.groups.exists()


def test_the_same_subject_of_another_issuer_is_somebody_else(provider, settings):
    provider.account("grace", groups=["kvm-admins"])
    sign_in(provider, "grace")
    SocialAccount.objects.update(uid="0" * 24 + ":grace")  # as another issuer's was kept
    sign_in(provider, "grace")
    assert set(User.objects.values_list("username", flat=True)) == {"grace", "grace-2"}


def test_a_deactivated_user_is_refused_in_words(provider):
    provider.account("grace", groups=["kvm-admins"])
    sign_in(provider, "grace")
    User.objects.update(is_active=False)
    client = Client(raise_request_exception=False)
    back = provider.walk(leave(client), "grace")
    answer = client.get(back, follow=True)
    assert "deactivated" in answer.content.decode()
    assert not signed_in(client)


@pytest.mark.parametrize("state", ["", "another"])
def test_an_answer_with_a_state_that_was_not_given_out_is_refused(provider, state):
    provider.account("grace", groups=["kvm-admins"])
    client = Client(raise_request_exception=False)
    back = provider.walk(leave(client), "grace")
    answer = client.get(with_query(back, state=state))
    assert answer.status_code == 401
    assert "not accepted" in answer.content.decode()
    assert not signed_in(client)


def test_an_answer_that_another_browser_got_is_refused(provider):
    """Who makes a victim follow their own answer would have the victim work in their account."""
    provider.account("mallory", groups=["kvm-operators"])
    back = provider.walk(leave(Client()), "mallory")
    victim = Client(raise_request_exception=False)
    leave(victim)
    assert victim.get(back).status_code == 401
    assert not signed_in(victim)


def test_a_code_that_was_stolen_counts_for_no_other_sign_in(provider):
    """With the thief's own state: the code is bound to the verifier of the sign-in that asked for it."""
    provider.account("grace", groups=["kvm-admins"])
    stolen = parse_qs(urlsplit(provider.walk(leave(Client()), "grace")).query)["code"][0]
    thief = Client(raise_request_exception=False)
    own = provider.walk(leave(thief), "grace")
    assert thief.get(with_query(own, code=stolen)).status_code == 401
    assert not signed_in(thief)


def test_an_id_token_of_another_nonce_is_refused(provider):
    provider.account("grace", groups=["kvm-admins"])
    client = Client(raise_request_exception=False)
    back = provider.walk(with_query(leave(client), nonce="another"), "grace")
    assert client.get(back).status_code == 401
    assert not signed_in(client)


def test_a_provider_that_calls_itself_otherwise_is_not_used(provider, settings):
    set_issuer(settings, "https://idp.example.org", server=provider.issuer)
    answer = Client().post(reverse("oidc-login"))
    assert answer.status_code == 503
    assert "does not answer as it should" in answer.content.decode()


def test_whoever_cancels_there_is_told_so(provider):
    provider.account("grace", groups=["kvm-admins"])
    client = Client()
    answer = client.get(provider.walk(leave(client), "grace", go="away"), follow=True)
    assert "cancelled" in answer.content.decode()


def test_without_the_provider_passwords_still_work(provider, settings):
    set_issuer(settings, "http://127.0.0.1:9")
    client = Client()
    answer = client.post(reverse("oidc-login"))
    assert answer.status_code == 503
    assert "sign in with a password" in answer.content.decode()
    make_user("ada")
    assert "Keycloak" in client.get(reverse("login")).content.decode()
    client.post(reverse("login"), {"username": "ada", "password": PASSWORD})
    assert signed_in(client)


def test_without_a_provider_there_is_no_button_and_no_address(settings):
    settings.NODEADMIN_OIDC_ISSUER = ""
    settings.SOCIALACCOUNT_PROVIDERS = {"openid_connect": {"APPS": []}}
    client = Client()
    assert reverse("oidc-login") not in client.get(reverse("login")).content.decode()
    assert client.post(reverse("oidc-login")).status_code == 404
    assert client.get(reverse("oidc-callback")).status_code == 404


@pytest.mark.parametrize(
    ("trusted", "amr", "whole"),
    [(True, ["pwd", "mfa"], True), (True, ["pwd"], False), (False, ["mfa"], False)],
)
def test_a_factor_given_there_counts_where_the_provider_is_believed(provider, settings, trusted, amr, whole):
    settings.NODEADMIN_REQUIRE_SECOND_FACTOR = "all"
    settings.NODEADMIN_OIDC_TRUSTS_SECOND_FACTOR = trusted
    provider.account("grace", groups=["kvm-admins"], amr=amr)
    client, _answer = sign_in(provider, "grace")
    answer = client.get(reverse("node-list"))
    assert (answer.status_code == 200) == whole
    if not whole:
        assert answer["Location"] == reverse("mfa_index")


def test_the_button_needs_the_forms_token(provider):
    assert Client(enforce_csrf_checks=True).post(reverse("oidc-login")).status_code == 403
    assert Client().get(reverse("oidc-login")).status_code == 405


def test_going_on_leads_to_no_other_site(provider):
    provider.account("grace", groups=["kvm-admins"])
    _client, answer = sign_in(provider, "grace", next="https://evil.example/")
    assert answer["Location"] == reverse("dashboard")


def test_no_address_of_a_registry_is_in_the_lock_file():
    lock = Path(__file__).parent.parent / "identity_provider" / "package-lock.json"
    assert "resolved" not in lock.read_text()
