"""Somebody who guesses passwords: from one address, from many, for names that exist and that do not."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.hashers import check_password, make_password
from django.core.exceptions import ValidationError
from django.http import HttpResponse
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from nodeadmin.callers import address_key
from nodes import sign_in_limits
from nodes.models import SignInCount, User
from nodes.password_hashing import MOST_CHARACTERS, MaximumLengthValidator, hashing, hashing_for
from nodes.sign_in_limits import DEVICE_COOKIE, TICKET_COOKIE, TICKET_S

pytestmark = pytest.mark.django_db
PASSWORD = "correct horse battery"
FREE, FREE_PER_ADDRESS = 4, 8


@pytest.fixture(autouse=True)
def few(settings: Any) -> None:
    settings.NODEADMIN_LOGIN_FAILURES = FREE
    settings.NODEADMIN_LOGIN_FAILURES_PER_ADDRESS = FREE_PER_ADDRESS


def sign_in(name: str, password: str, address: str, client: Client | None = None) -> HttpResponse:
    given = {"username": name, "password": password}
    return (client or Client()).post(reverse("login"), given, REMOTE_ADDR=address)  # type: ignore[return-value]


def attack(name: str, count: int = 8, network: str = "198.51.100") -> list[int]:
    """From a new address each time."""
    return [sign_in(name, "no", f"{network}.{number}").status_code for number in range(count)]


@contextmanager
def later(monkeypatch: pytest.MonkeyPatch, seconds: float) -> Iterator[None]:
    moment = timezone.now() + timedelta(seconds=seconds)
    with monkeypatch.context() as patched:
        patched.setattr("django.utils.timezone.now", lambda: moment)
        yield


def test_one_address_is_bounded_over_all_names(administrator: User) -> None:
    statuses = [sign_in(f"name-{n}", "no", "203.0.113.7").status_code for n in range(FREE_PER_ADDRESS + 3)]
    assert statuses[: FREE_PER_ADDRESS - 1] == [200] * (FREE_PER_ADDRESS - 1)
    assert set(statuses[FREE_PER_ADDRESS:]) == {429}
    assert sign_in("ada", PASSWORD, "203.0.113.7").status_code == 429
    assert sign_in("ada", PASSWORD, "203.0.113.8").status_code == 302, "another address is not held up"


def test_an_ipv6_client_has_one_address_whatever_it_uses_of_its_network() -> None:
    statuses = [
        sign_in(f"n{n}", "no", f"2001:db8:7:1::{n:x}").status_code for n in range(FREE_PER_ADDRESS + 2)
    ]
    assert statuses[-1] == 429
    assert sign_in("n", "no", "2001:db8:7:2::1").status_code == 200
    assert address_key("::ffff:203.0.113.7") == address_key("203.0.113.7")


def test_a_name_is_bounded_over_all_addresses(administrator: User) -> None:
    statuses = attack("ada")
    assert statuses[: FREE - 1] == [200] * (FREE - 1)
    assert set(statuses[FREE:]) == {429}


def test_names_that_nobody_has_are_answered_alike(administrator: User) -> None:
    for name in ("ada", "nobody"):
        answers = [sign_in(name, "no", f"198.51.100.{number}") for number in range(FREE + 2)]
        bodies = {answer.content for answer in answers[FREE:]}
        assert [answer.status_code for answer in answers[FREE:]] == [429, 429]
        assert len(bodies) <= 2
        SignInCount.objects.filter(key__startswith="address:").delete()
    counts = SignInCount.objects.filter(key__startswith="name:").values_list("level", flat=True)
    assert len({round(level, 1) for level in counts}) == 1
    assert not SignInCount.objects.filter(key__contains="nobody").exists(), "it may be a password"


def test_a_name_is_the_same_in_all_its_forms(administrator: User) -> None:
    forms = ("ada", "ADA", " ada ", "ａｄａ")
    assert len({sign_in_limits.name_key(form) for form in forms}) == 1


def test_the_owner_gets_in_from_a_device_that_was_there_before(administrator: User) -> None:
    own, foreign = Client(), Client()
    assert sign_in("ada", PASSWORD, "203.0.113.9", own).status_code == 302
    cookie = own.cookies[DEVICE_COOKIE]
    assert cookie["httponly"]
    own.post(reverse("logout"))
    attack("ada", count=8)
    assert sign_in("ada", PASSWORD, "203.0.113.9", foreign).status_code == 429
    assert sign_in("ada", PASSWORD, "203.0.113.50", own).status_code == 302


def test_a_known_device_is_bounded_too_and_counts_for_its_own_name_alone(
    administrator: User, operator: User
) -> None:
    own = Client()
    sign_in("otto", PASSWORD, "203.0.113.9", own)
    own.post(reverse("logout"))
    attack("ada")
    assert sign_in("ada", "no", "203.0.113.60", own).status_code == 429, "otto's device is none of ada's"
    statuses = [sign_in("otto", "no", f"203.0.113.{n}", own).status_code for n in range(70, 76 + FREE)]
    assert statuses[-1] == 429
    own.cookies[DEVICE_COOKIE] = own.cookies[DEVICE_COOKIE].value + "x"
    assert sign_in("ada", PASSWORD, "203.0.113.61", own).status_code == 429, "a forged one is none"


def test_the_owner_gets_in_from_a_new_device_while_the_attack_lasts(
    administrator: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, address = Client(), "203.0.113.10"
    attack("ada")
    refused = sign_in("ada", PASSWORD, address, owner)
    assert refused.status_code == 429
    assert 0 < int(refused["Retry-After"]) <= 901
    assert TICKET_COOKIE in owner.cookies
    assert sign_in("ada", PASSWORD, address, owner).status_code == 429, "it has not waited"
    with later(monkeypatch, TICKET_S + 1):
        attack("ada", network="192.0.2")
        kept = owner.cookies[TICKET_COOKIE].value
        assert sign_in("ada", PASSWORD, "203.0.113.11", owner).status_code == 429, "bound to its address"
        owner.cookies[TICKET_COOKIE] = kept
        assert sign_in("ada", PASSWORD, address, owner).status_code == 302


def test_a_ticket_is_good_for_one_try(administrator: User, monkeypatch: pytest.MonkeyPatch) -> None:
    enemy, address = Client(), "203.0.113.12"
    attack("ada")
    sign_in("ada", "no", address, enemy)
    kept = enemy.cookies[TICKET_COOKIE].value
    with later(monkeypatch, TICKET_S + 1):
        attack("ada", network="192.0.2")
        enemy.cookies[TICKET_COOKIE] = kept
        sign_in("ada", "no", address, enemy)
        enemy.cookies[TICKET_COOKIE] = kept
        assert sign_in("ada", PASSWORD, address, enemy).status_code == 429


def test_nobody_waits_longer_for_trying_too_early_and_never_for_good(
    administrator: User, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    attack("ada", count=FREE)
    before = SignInCount.objects.filter(key__startswith="name:").values("level", "next_at").get()
    attack("ada", count=10, network="192.0.2")
    assert SignInCount.objects.filter(key__startswith="name:").values("level", "next_at").get() == before
    SignInCount.objects.update(level=1e9)
    row = SignInCount.objects.filter(key__startswith="name:").get()
    sign_in_limits._count(row.key, timezone.now())
    row.refresh_from_db()
    longest = timedelta(hours=settings.NODEADMIN_LOGIN_PAUSE_H)
    assert row.next_at is not None
    assert row.next_at - timezone.now() <= longest
    with later(monkeypatch, longest.total_seconds() + 1):
        assert sign_in("ada", PASSWORD, "203.0.113.13").status_code == 302


def test_counts_that_have_sunk_are_purged(monkeypatch: pytest.MonkeyPatch) -> None:
    attack("ada", count=3)
    assert sign_in_limits.purge() == 0
    with later(monkeypatch, 24 * 3600):
        assert sign_in_limits.purge() == 4
    assert not SignInCount.objects.exists()


def test_the_admins_login_counts_as_well(administrator: User) -> None:
    User.objects.filter(pk=administrator.pk).update(is_staff=True)
    attack("ada")
    answer = Client().post(
        reverse("admin:login"), {"username": "ada", "password": PASSWORD}, REMOTE_ADDR="203.0.113.14",
        follow=True,
    )  # fmt: skip
    assert not answer.context or not answer.context["user"].is_authenticated


# -- hashing ----------------------------------------------------------------------------------------

BOUNDED = ["nodes.password_hashing.BoundedPBKDF2PasswordHasher"]


@pytest.fixture
def bounded(settings: Any, administrator: User) -> None:
    settings.PASSWORD_HASHERS = BOUNDED
    settings.NODEADMIN_HASHES, settings.NODEADMIN_HASH_QUEUE = 1, 3
    administrator.set_password(PASSWORD)
    administrator.save()


def test_passwords_that_were_hashed_before_are_still_right(settings: Any, bounded: None) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.PBKDF2PasswordHasher"]
    old = make_password(PASSWORD)
    settings.PASSWORD_HASHERS = BOUNDED
    assert check_password(PASSWORD, old)
    assert not check_password("no", old)
    assert make_password(PASSWORD).startswith("pbkdf2_sha256$")


def test_a_password_without_an_end_is_never_right_and_cannot_be_set(bounded: None) -> None:
    long = "x" * (MOST_CHARACTERS + 1)
    assert not check_password(long, make_password(long))
    with pytest.raises(ValidationError):
        MaximumLengthValidator().validate(long)


def test_who_sends_more_passwords_than_can_be_hashed_is_told_to_come_back(
    administrator: User, bounded: None
) -> None:
    with _hashing("203.0.113.20", 2), _hashing("203.0.113.21", 2):
        full = sign_in("ada", PASSWORD, "203.0.113.22")
        assert (full.status_code, full["Retry-After"]) == (503, "5")
        assert Client().get(reverse("login")).status_code == 200, "what needs no hash is served"
    assert sign_in("ada", PASSWORD, "203.0.113.22").status_code == 302


def test_one_address_takes_no_more_than_its_share_of_hashing(administrator: User, bounded: None) -> None:
    with _hashing("203.0.113.23", 2, hold=False):
        refused = sign_in("ada", PASSWORD, "203.0.113.23")
        assert refused.status_code == 503
        assert sign_in("ada", PASSWORD, "203.0.113.24").status_code == 302


def _hashing(address: str, count: int, *, hold: bool = True) -> ExitStack:
    """So many places of the address's; with ``hold`` the only processor is among them."""
    stack, places = ExitStack(), hashing()
    for _number in range(count):
        with places._guard:
            places._held[address] += 1
        stack.callback(_give_back, places, address)
    if hold and places._free.acquire(blocking=False):
        stack.callback(places._free.release)
    return stack


def _give_back(places: Any, address: str) -> None:
    with places._guard:
        places._held[address] -= 1


def test_no_more_hash_at_once_than_was_said(bounded: None) -> None:
    """Real hashes, in threads: the most that ran side by side is counted."""
    running, most, guard = 0, 0, threading.Lock()
    places = hashing()

    def work(number: int) -> None:
        nonlocal running, most
        hashing_for(f"203.0.113.{number}")
        with places.place():
            with guard:
                running += 1
                most = max(most, running)
            make_ready.wait(0.05)
            with guard:
                running -= 1

    make_ready = threading.Event()
    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
