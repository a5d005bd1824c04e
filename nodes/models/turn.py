"""Decisions that are to be made one after another, whatever rows they look at and write."""

from __future__ import annotations

import zlib

from django.db import connection


def one_after_another(name: str) -> None:
    """Wait until no other transaction that has asked for ``name`` is open, and hold others up until this one
    ends: for what is decided by rows that the others write, and that no lock on rows of one's own excludes.

    To be called first in a transaction. SQLite has one writer at a time anyway, and needs nothing.
    https://www.postgresql.org/docs/current/explicit-locking.html#ADVISORY-LOCKS
    """
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [zlib.crc32(f"nodeadmin {name}".encode())])
