"""Fields whose value is encrypted at rest.

Fernet (AES-128-CBC with HMAC-SHA256) under the first of ``settings.NODEADMIN_SEAL_KEYS``; older keys still
open what they sealed, and ``manage.py rotate_keys`` seals everything anew under the first.

A secret that a person has given is sealed together with what it was given for (:class:`Binding`), and opens
for that alone. The binding is inside of what Fernet authenticates: who can write to the database can neither
change it nor have the secret of one node sent to another one's address by exchanging rows or columns.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import models
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _lazy

from nodes.errors import CredentialNotForTarget, CredentialUnreadable


@dataclass(frozen=True, slots=True)
class Binding:
    """What a secret is for: the one service that it may be sent to, and the user it belongs to there.

    ``transport`` is ``ssh``, ``local`` or ``redfish``. ``proof`` is what the service proves itself by: the
    fingerprint of its host key (``SHA256:…``); of a BMC's certificate (``sha256:…``), or ``ca:HOST`` where an
    authority vouches for that name; "" for this machine.
    """

    transport: str
    host: str = ""
    port: int = 0
    user: str = ""
    proof: str = ""

    @property
    def address(self) -> str:
        """For messages."""
        if not self.host:
            return self.transport
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.user}@{host}:{self.port}" if self.user else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class SecretFor:
    """A secret to be stored, and what it is for."""

    binding: Binding
    secret: Mapping[str, Any] = field(repr=False)

    def open_for(self, binding: Binding) -> Mapping[str, Any]:
        """As :meth:`BoundSecret.open_for`, of one that has not been stored yet."""
        if binding != self.binding:
            raise _not_for(binding, asdict(self.binding))
        return self.secret


class _Token:
    """What is encrypted, as the database has it. No ``repr`` shows it.

    Reading a row therefore never fails over a key that is missing: lists of operations and the engine go on,
    and the one who needs the secret is told.
    """

    __slots__ = ("_token",)

    def __init__(self, token: bytes) -> None:
        self._token = token

    def sealed_anew(self) -> bytes:
        """The same under the first key. Raises CredentialUnreadable where none of the keys opens it."""
        try:
            return fernet().rotate(self._token)
        except InvalidToken:
            raise _unreadable() from None

    def _content(self) -> dict[str, Any]:
        try:
            content: dict[str, Any] = json.loads(fernet().decrypt(self._token))
        except InvalidToken:
            raise _unreadable() from None
        return content

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other._token == self._token

    def __hash__(self) -> int:
        return hash(self._token)

    def __repr__(self) -> str:
        return "<sealed>"


class Sealed(_Token):
    """A secret of nodeadmin's own, which no person has given and which goes nowhere."""

    __slots__ = ()

    def open(self) -> dict[str, Any]:
        """The secret. Raises CredentialUnreadable where none of the keys opens it, or where it is one that
        was given for a target: put here, it would have gone to all of them."""
        content = self._content()
        if _is_bound(content):
            raise _unreadable()
        return content


class BoundSecret(_Token):
    """A secret that a person has given for one target."""

    __slots__ = ()

    @classmethod
    def of(cls, value: Any) -> BoundSecret | None:
        """A row's field, as it was read. Raises TypeError for one that was set and not read again."""
        if value is None or isinstance(value, cls):
            return value
        raise TypeError("the secret has not been read from the database")

    def open_for(self, binding: Binding) -> dict[str, Any]:
        """The secret, for the target it was stored for.

        Raises CredentialNotForTarget for another one, CredentialUnreadable where none of the keys opens it.
        """
        content = self._content()
        if not _is_bound(content) or content["for"] != asdict(binding):
            raise _not_for(binding, content["for"] if _is_bound(content) else None)
        secret: dict[str, Any] = content["secret"]
        return secret

    def check(self, binding: Binding) -> None:
        """Raise what :meth:`open_for` raises, and give nothing."""
        self.open_for(binding)


def _is_bound(content: Any) -> bool:
    return isinstance(content, dict) and isinstance(content.get("for"), dict) and "secret" in content


_WHAT = {
    "transport": _lazy("another kind of connection"),
    "host": _lazy("another host"),
    "port": _lazy("another port"),
    "user": _lazy("another user"),
    "proof": _lazy("another host key or certificate"),
}


def _not_for(binding: Binding, stored: Mapping[str, Any] | None) -> CredentialNotForTarget:
    """The error; it names in what the two differ, and nothing of what is stored."""
    if stored is None:
        return CredentialNotForTarget(
            _("The stored credential is not used for %(target)s: it does not say what it was stored for.")
            % {"target": binding.address},
            remedy=_("Give the credential again."),
            field="credential",
            extra={"differs": []},
        )
    differs = [name for name, value in asdict(binding).items() if stored.get(name) != value]
    return CredentialNotForTarget(
        _("The stored credential is not sent to %(target)s. It was stored for %(what)s.")
        % {"target": binding.address, "what": ", ".join(str(_WHAT[name]) for name in differs)},
        remedy=_("Give the credential again."),
        field="credential",
        extra={"differs": differs},
    )


def _unreadable() -> CredentialUnreadable:
    return CredentialUnreadable(
        _("A stored credential opens with none of NODEADMIN_SEAL_KEYS."),
        remedy=_("Put the key that sealed it back, or enter the credential anew."),
    )


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
    """A JSON object of nodeadmin's own, sealed; read back as :class:`Sealed`. None stays NULL.

    Saving what was read seals it anew under the first key, and raises CredentialUnreadable where no key
    opens it: better a clear stop than a lost credential.
    """

    def get_prep_value(self, value: Any) -> bytes | None:
        if value is None:
            return None
        if isinstance(value, _Token):
            return value.sealed_anew()
        return fernet().encrypt(json.dumps(self._plain(value)).encode())

    def _plain(self, value: Any) -> dict[str, Any]:
        return dict(value)

    def get_db_prep_value(self, value: Any, connection: Any, prepared: bool = False) -> Any:
        sealed = value if prepared else self.get_prep_value(value)
        return super().get_db_prep_value(sealed, connection, True)

    def from_db_value(self, value: Any, _expression: Any, _connection: Any) -> _Token | None:
        return None if value is None else Sealed(bytes(value))

    def value_to_string(self, obj: models.Model) -> str:
        """Fixtures and dumps never carry the secret."""
        return ""


class BoundSecretField(SealedField):
    """A secret that a person has given: set as :class:`SecretFor`, read back as :class:`BoundSecret`."""

    def _plain(self, value: Any) -> dict[str, Any]:
        if not isinstance(value, SecretFor):
            raise TypeError("a secret is stored with what it is for, as SecretFor")
        return {"for": asdict(value.binding), "secret": dict(value.secret)}

    def from_db_value(self, value: Any, _expression: Any, _connection: Any) -> BoundSecret | None:
        return None if value is None else BoundSecret(bytes(value))
