"""A field whose value is encrypted at rest.

Fernet (AES-128-CBC with HMAC-SHA256) under the first of ``settings.NODEADMIN_SEAL_KEYS``; older keys still
open what they sealed, and ``manage.py rotate_keys`` seals everything anew under the first.
"""

from __future__ import annotations

import json
from typing import Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import models


class Sealed(dict[str, Any]):
    """A secret in memory: a dict that shows its keys but never its values."""

    def __repr__(self) -> str:
        return f"<sealed {', '.join(sorted(self))}>"

    __str__ = __repr__


def fernet() -> MultiFernet:
    """The keys from settings, newest first, separated by commas or blanks."""
    keys = settings.NODEADMIN_SEAL_KEYS.replace(",", " ").split()
    if not keys:
        raise ImproperlyConfigured("NODEADMIN_SEAL_KEYS holds no key.")
    try:
        return MultiFernet([Fernet(key) for key in keys])
    except ValueError:
        raise ImproperlyConfigured("NODEADMIN_SEAL_KEYS holds something that is not a Fernet key.") from None


class SealedField(models.BinaryField):
    """A JSON object, sealed. None stays NULL.

    Raises ImproperlyConfigured where no key opens a value: better a clear stop than a lost credential.
    """

    def get_prep_value(self, value: Any) -> bytes | None:
        if value is None:
            return None
        return fernet().encrypt(json.dumps(value).encode())

    def get_db_prep_value(self, value: Any, connection: Any, prepared: bool = False) -> Any:
        sealed = value if prepared else self.get_prep_value(value)
        return super().get_db_prep_value(sealed, connection, True)

    def from_db_value(self, value: Any, _expression: Any, _connection: Any) -> Sealed | None:
        if value is None:
            return None
        try:
            return Sealed(json.loads(fernet().decrypt(bytes(value))))
        except InvalidToken:
            raise ImproperlyConfigured(
                "A stored credential opens with none of NODEADMIN_SEAL_KEYS. Put the key that sealed it back."
            ) from None

    def value_to_string(self, obj: models.Model) -> str:
        """Fixtures and dumps never carry the secret."""
        return ""
