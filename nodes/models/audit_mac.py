"""Message authentication codes of the audit log: HMAC-SHA-256 (RFC 2104) under ``NODEADMIN_AUDIT_KEY``.

The key is in neither the database nor ``SECRET_KEY``: who can write to the database alone cannot make a code
that fits. Of several keys the first one signs and all of them verify, so that a key can be replaced.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

SHORTEST_KEY = 32


def keys() -> tuple[bytes, ...]:
    """The keys, the newest first. Raises ImproperlyConfigured where there is none."""
    found = settings.NODEADMIN_AUDIT_KEY.replace(",", " ").split()
    if not found:
        raise ImproperlyConfigured("NODEADMIN_AUDIT_KEY holds no key.")
    return tuple(key.encode() for key in found)


def sign(purpose: str, *parts: str) -> str:
    """The code of ``parts`` in 64 hexadecimal digits. A code made for one purpose fits no other."""
    return _code(keys()[0], purpose, parts)


def fits(code: str, purpose: str, *parts: str) -> bool:
    """Whether one of the keys made ``code`` for just these parts."""
    return any(hmac.compare_digest(code, _code(key, purpose, parts)) for key in keys())


def _code(key: bytes, purpose: str, parts: tuple[str, ...]) -> str:
    # As a JSON list: where one part ends and the next begins is then part of what is signed.
    return hmac.new(key, json.dumps([purpose, *parts]).encode(), hashlib.sha256).hexdigest()


def canonical(value: Any) -> str:
    """A JSON value as the one text that is signed, whichever database it was read back from.

    Keys are sorted. A number that is whole is written as one: PostgreSQL's jsonb keeps 1.0 and 1e3 as 1 and
    1000.
    """
    return json.dumps(_normal(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def _normal(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _normal(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_normal(inner) for inner in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value
