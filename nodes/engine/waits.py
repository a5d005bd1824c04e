"""Calls that wait for a host or an operation: so many at once for each user, and so many in all.

Each holds a thread, and with PostgreSQL a connection, for as long as it waits. Beyond the bound a call is
told to come back at once; others, and whatever is answered from the database, go on being served.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from django.conf import settings
from django.utils.translation import gettext as _

from nodes.engine.submit import asking_user
from nodes.errors import RateLimited
from nodes.events import Actor

RETRY_AFTER_S = 2


class Waits:
    """Those that wait now, in this process."""

    def __init__(self, for_each: int, in_all: int) -> None:
        self._for_each = for_each
        self._in_all = in_all
        self._held: Counter[int] = Counter()
        self._guard = threading.Lock()

    @property
    def held(self) -> int:
        return self._held.total()

    @contextmanager
    def place(self, user_id: int) -> Iterator[None]:
        """A place for one call. Raises RateLimited where there is none."""
        with self._guard:
            if self._held[user_id] >= self._for_each or self._held.total() >= self._in_all:
                own = self._held[user_id] >= self._for_each
                raise _refused(own)
            self._held[user_id] += 1
        try:
            yield
        finally:
            with self._guard:
                self._held[user_id] -= 1
                if not self._held[user_id]:
                    del self._held[user_id]


def _refused(own: bool) -> RateLimited:
    message = (
        _("You have %d calls that wait for hosts or operations; more are not taken.")
        % settings.NODEADMIN_WAITS_PER_USER
        if own
        else _("The server has %d calls that wait for hosts or operations; more are not taken.")
        % settings.NODEADMIN_WAITS
    )
    return RateLimited(
        message,
        remedy=_("Try again in %d s, or ask without waiting.") % RETRY_AFTER_S,
        extra={"retry_after_s": RETRY_AFTER_S},
    )


@cache
def waits() -> Waits:
    """This process's."""
    return Waits(settings.NODEADMIN_WAITS_PER_USER, settings.NODEADMIN_WAITS)


_in_thread = threading.local()


@contextmanager
def waiting(actor: Actor) -> Iterator[None]:
    """Run what waits. A call takes one place, whatever it waits for one after another. Raises RateLimited
    before it begins."""
    if getattr(_in_thread, "has_place", False):
        yield
        return
    with waits().place(asking_user(actor).pk):
        _in_thread.has_place = True
        try:
            yield
        finally:
            _in_thread.has_place = False
