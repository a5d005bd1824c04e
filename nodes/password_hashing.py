"""Password hashing that cannot starve the server: so many at once, a short queue, a share for each address.

A hash takes a tenth of a second of a processor, by design. Whoever sends passwords faster than that would
take all of them from everybody else. At the hasher, this bounds every form there is, and the admin.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache

from django.conf import settings
from django.contrib.auth.hashers import PBKDF2PasswordHasher
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

from nodes.errors import ServerBusy

MOST_CHARACTERS = 4096
"""Of a password; of a longer one no more is looked at, and it is never the right one."""
QUEUE_S = 5.0
RETRY_AFTER_S = 5

_address: ContextVar[str] = ContextVar("address that passwords are hashed for", default="")


def hashing_for(address: str) -> None:
    """Count what is hashed from here on, in this request, for ``address``."""
    _address.set(address)


class Hashing:
    """Who hashes, and who waits for it, in this process."""

    def __init__(self, at_once: int, queue: int, for_each: int) -> None:
        self._free = threading.BoundedSemaphore(at_once)
        self._places = at_once + queue
        self._for_each = for_each
        self._held: Counter[str] = Counter()
        self._guard = threading.Lock()

    @contextmanager
    def place(self) -> Iterator[None]:
        """Raises ServerBusy where the queue is full, or no processor comes free within :data:`QUEUE_S`."""
        address = _address.get()
        with self._guard:
            own = bool(address) and self._held[address] >= self._for_each
            if own or self._held.total() >= self._places:
                raise _busy()
            self._held[address] += 1
        try:
            if not self._free.acquire(timeout=QUEUE_S):
                raise _busy()
            try:
                yield
            finally:
                self._free.release()
        finally:
            with self._guard:
                self._held[address] -= 1
                if not self._held[address]:
                    del self._held[address]


def _busy() -> ServerBusy:
    return ServerBusy(
        _("Too many passwords are being checked."),
        remedy=_("Try again in %d s.") % RETRY_AFTER_S,
        extra={"retry_after_s": RETRY_AFTER_S},
    )


@cache
def hashing() -> Hashing:
    """This process's."""
    at_once, queue = settings.NODEADMIN_HASHES, settings.NODEADMIN_HASH_QUEUE
    return Hashing(at_once, queue, max(1, (at_once + queue) // 2))


class MaximumLengthValidator:
    """For AUTH_PASSWORD_VALIDATORS: a password that could be set and never be used is refused."""

    def validate(self, password: str, user: object = None) -> None:
        if len(password) > MOST_CHARACTERS:
            raise ValidationError(
                _("A password has %d characters at most.") % MOST_CHARACTERS, code="password_too_long"
            )

    def get_help_text(self) -> str:
        return _("A password has %d characters at most.") % MOST_CHARACTERS


class BoundedPBKDF2PasswordHasher(PBKDF2PasswordHasher):
    """Django's hasher, whose hashes it reads and writes, within those bounds."""

    def encode(self, password: str, salt: str, iterations: int | None = None) -> str:
        with hashing().place():
            # Of one that is too long as much is hashed as of any; it is equal to none that was kept.
            return super().encode(password[:MOST_CHARACTERS], salt, iterations)

    def verify(self, password: str, encoded: str) -> bool:
        return super().verify(password, encoded) and len(password) <= MOST_CHARACTERS
