"""An entry for each setting that is not what it was at the last start; of secret ones only that they
changed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.db import transaction

from nodes.events import SYSTEM, record
from nodes.models import RecordedSettings
from nodes.models.audit_mac import canonical, sign
from nodes.models.event import Category

OURS = re.compile(r"(NODEADMIN|SECURE|SESSION|CSRF|AXES|MFA|ACCOUNT|SOCIALACCOUNT|USERSESSIONS)_[A-Z0-9_]+")
FURTHER = (
    "ALLOWED_HOSTS", "AUTHENTICATION_BACKENDS", "AUTH_PASSWORD_VALIDATORS", "CONTENT_SECURITY_POLICY",
    "DATABASES", "DATA_DIR", "DEBUG", "INSTALLED_APPS", "MIDDLEWARE", "PASSWORD_HASHERS", "REST_FRAMEWORK",
    "SECRET_KEY", "X_FRAME_OPTIONS",
)  # fmt: skip
SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|PASSPHRASE|CREDENTIAL|SOCIALACCOUNT_PROVIDERS")
URL = re.compile(r"^[a-z][a-z0-9+.-]*://", re.IGNORECASE)


def effective_settings() -> dict[str, str]:
    """What counts for security, by name: as text, or a keyed digest where it may be secret."""
    names = {name for name in dir(settings) if OURS.fullmatch(name)} | set(FURTHER)
    return {name: _told(name, getattr(settings, name)) for name in sorted(names) if hasattr(settings, name)}


def _told(name: str, value: Any) -> str:
    if SECRET.search(name) or _holds_password(value):
        return f"digest:{sign('setting', name, _text(value))[:16]}"
    return _text(value)[:2000]


def _holds_password(value: Any) -> bool:
    """Whether a password is anywhere in it: in the database's settings, or in an address."""
    if isinstance(value, Mapping):
        return any(SECRET.search(str(key).upper()) or _holds_password(inner) for key, inner in value.items())
    if isinstance(value, list | tuple | set | frozenset):
        return any(map(_holds_password, value))
    text = str(value)  # Django and its apps have lazy objects among the settings, which pass for text
    try:
        return bool(URL.match(text)) and "@" in urlsplit(text).netloc
    except ValueError:
        return True


def _text(value: Any) -> str:
    return canonical(_plain(value))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, set | frozenset):
        return sorted(map(str, value))
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value if value is None or isinstance(value, bool | int | float) else str(value)


def record_settings(part: str) -> bool:
    """Compare with what ``part`` (web, worker, monitor) was started with last; whether there was a change.

    Two processes of one part that start at once write one entry: the row is locked.
    """
    now = effective_settings()
    with transaction.atomic():
        RecordedSettings.objects.bulk_create([RecordedSettings(part=part)], ignore_conflicts=True)
        row = RecordedSettings.objects.select_for_update().get(pk=part)
        before: dict[str, str] = row.values
        if before == now:
            return False
        changed = sorted(name for name in {*before, *now} if before.get(name) != now.get(name))
        row.values = now
        row.save()
        if not before:
            words, data = f"Settings of “{part}” recorded.", {"after": now}
            record("settings_recorded", words, actor=SYSTEM, category=Category.AUDIT, data=data)
            return False
        record(
            "settings_changed",
            f"Settings of “{part}” changed: {', '.join(changed)}.",
            actor=SYSTEM,
            category=Category.AUDIT,
            data={
                "before": {name: before.get(name) for name in changed},
                "after": {name: now.get(name) for name in changed},
            },
        )
    return True
