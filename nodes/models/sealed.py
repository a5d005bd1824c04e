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
from django.utils.translation import gettext as _

from nodes.errors import CredentialUnreadable


class Sealed:
    """A secret as the database has it. Only :meth:`open` decrypts it, and no ``repr`` shows it.

    Reading a row therefore never fails over a key that is missing: lists of operations and the engine go on,
    and the one who needs the secret is told.
    """

    __slots__ = ("_token",)

    def __init__(self, token: bytes) -> None:
        self._token = token

    def open(self) -> dict[str, Any]:
        """The secret. Raises CredentialUnreadable where none of the keys opens it."""
        try:
            opened: dict[str, Any] = json.loads(fernet().decrypt(self._token))
        except InvalidToken:
            raise CredentialUnreadable(
                _("A stored credential opens with none of NODEADMIN_SEAL_KEYS."),
                remedy=_("Put the key that sealed it back, or enter the credential anew."),
            ) from None
        return opened

    def __repr__(self) -> str:
        return "<sealed>"


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
    """A JSON object, sealed; read back as :class:`Sealed`. None stays NULL.

    Saving what was read seals it anew under the first key, and raises CredentialUnreadable where no key
    opens it: better a clear stop than a lost credential.
    """

    def get_prep_value(self, value: Any) -> bytes | None:
        if value is None:
            return None
        plain = value.open() if isinstance(value, Sealed) else value
        return fernet().encrypt(json.dumps(plain).encode())

    def get_db_prep_value(self, value: Any, connection: Any, prepared: bool = False) -> Any:
        sealed = value if prepared else self.get_prep_value(value)
        return super().get_db_prep_value(sealed, connection, True)

    def from_db_value(self, value: Any, _expression: Any, _connection: Any) -> Sealed | None:
        return None if value is None else Sealed(bytes(value))

    def value_to_string(self, obj: models.Model) -> str:
        """Fixtures and dumps never carry the secret."""
        return ""
