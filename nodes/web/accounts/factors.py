"""allauth's second factors, with their secrets sealed as all others are (nodes/models/sealed.py)."""

from __future__ import annotations

from typing import Any

from allauth.mfa.adapter import DefaultMFAAdapter
from cryptography.fernet import InvalidToken
from django.utils.translation import gettext as _

from nodes.errors import CredentialUnreadable
from nodes.models.sealed import fernet

PREFIX = "sealed:"


class FactorAdapter(DefaultMFAAdapter):
    """Its hooks (allauth's documentation, Two-Factor Authentication, Adapter)."""

    def encrypt(self, text: str) -> str:
        return PREFIX + fernet().encrypt(text.encode()).decode()

    def decrypt(self, encrypted_text: str) -> str:
        """Raises CredentialUnreadable where none of the keys opens it."""
        try:
            return fernet().decrypt(encrypted_text.removeprefix(PREFIX).encode()).decode()
        except InvalidToken:
            raise CredentialUnreadable(
                _("The stored second factor opens with none of NODEADMIN_SEAL_KEYS."),
                remedy=_("Put the key that sealed it back, or ask an administrator to remove the factor."),
            ) from None

    def generate_authenticator_name(self, user: Any, type: Any) -> str:
        return _("Passkey")

    def _get_site_name(self) -> str:
        return "nodeadmin"
