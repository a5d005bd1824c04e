"""What the endpoints of second factors give."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class FactorsAnswer:
    """``required``: this server asks this login for a fresh factor. ``passkey`` is what the browser's
    ``navigator.credentials.get`` takes, null without passkeys."""

    required: bool
    kinds: list[str]
    passkey: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class FactorGivenAnswer:
    """The factor counts for the one call that was named, until ``expires_at``."""

    expires_at: datetime
