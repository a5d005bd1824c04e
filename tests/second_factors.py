"""Second factors of test users: an authenticator app that tells its codes, and logins that used it."""

from __future__ import annotations

import time
from typing import Any

from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from allauth.mfa.totp.internal.auth import TOTP, format_hotp_value, generate_totp_secret, hotp_value
from django.test import Client
from django.urls import reverse

from nodes.models import User
from tests.factories import PASSWORD

PERIOD_S = 30


class App:
    """An authenticator app of ``user``. Each call of :meth:`code` gives another code that counts now: a code
    is good for three periods, so that three can be had in one."""

    def __init__(self, user: User) -> None:
        self.secret = generate_totp_secret()
        self.factor = TOTP.activate(user, self.secret)
        self.recovery = RecoveryCodes.activate(user)
        self._given: set[int] = set()

    def code(self) -> str:
        now = int(time.time()) // PERIOD_S
        counter = next(number for number in (now, now + 1, now - 1) if number not in self._given)
        self._given.add(counter)
        return str(format_hotp_value(hotp_value(self.secret, counter)))

    def recovery_code(self) -> str:
        self.recovery.instance.refresh_from_db()
        return str(self.recovery.get_unused_codes()[0])


def sign_in(name: str, app: App | None = None) -> Client:
    """A browser that has signed in with name and password, and the app's code."""
    client = Client(raise_request_exception=False)
    answer: Any = client.post(reverse("login"), {"username": name, "password": PASSWORD})
    if app is not None:
        assert answer["Location"] == reverse("mfa_authenticate")
        answer = client.post(answer["Location"], {"code": app.code()})
    assert answer.status_code == 302
    return client
