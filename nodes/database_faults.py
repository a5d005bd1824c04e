"""A database that cannot answer now: locked, overloaded, restarting. The answer is to come back."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

from django.db import DatabaseError, InterfaceError, OperationalError
from django.utils.translation import gettext as _

from nodes.errors import DatabaseUnavailable

RETRY_AFTER_S = 3
_SQLITE = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_CANTOPEN})
"""Primary result codes (https://sqlite.org/rescode.html); the extended ones have them in the low byte."""
_POSTGRESQL = ("08", "53", "57", "40001", "40P01", "55P03")
"""SQLSTATE classes and codes: no connection, insufficient resources (too many connections), intervention
(shutdown, a statement's time-out), serialization failure, deadlock, a lock's time-out."""


def unavailable(error: BaseException | None) -> DatabaseUnavailable | None:
    """Our error for one of the database that a later try may not meet; None for any other."""
    if not isinstance(error, DatabaseError | InterfaceError):
        return None
    if not any(_is_temporary(cause) for cause in _causes(error)):
        return None
    return DatabaseUnavailable(
        _("The database does not answer in time."),
        remedy=_("Try again in %d s.") % RETRY_AFTER_S,
        extra={"retry_after_s": RETRY_AFTER_S},
    )


def _is_temporary(error: BaseException) -> bool:
    code = getattr(error, "sqlite_errorcode", None)
    if code is not None:
        return code & 0xFF in _SQLITE
    state = getattr(error, "sqlstate", None)
    if state:
        return str(state).startswith(_POSTGRESQL)
    if isinstance(error, OperationalError | InterfaceError):
        # Django's own wrapper says nothing; its cause does, if it has one.
        return error.__cause__ is None and "locked" in str(error)
    # psycopg has no SQLSTATE where there was no server to give one.
    named = type(error).__name__
    return type(error).__module__.startswith("psycopg") and named in ("OperationalError", "InterfaceError")


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__
