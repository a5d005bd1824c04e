"""Tokens for programs: shown once, stored as a hash."""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime, timedelta

from django.conf import settings
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

PREFIX = "na_"
LAST_USED_STEP = timedelta(minutes=1)


def digest(token: str) -> str:
    """SHA-256 of the token. A token has 256 bits of its own, so a slow hash would add nothing."""
    return hashlib.sha256(token.encode()).hexdigest()


class ApiToken(models.Model):
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.CASCADE, related_name="api_tokens", verbose_name=_("user")
    )
    name = models.CharField(_("name"), max_length=80)
    digest = models.CharField(max_length=64, unique=True, editable=False)
    read_only = models.BooleanField(_("reading only"), default=False)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    expires_at = models.DateTimeField(_("expires"))
    last_used_at = models.DateTimeField(_("last used"), null=True)
    revoked_at = models.DateTimeField(_("revoked"), null=True)

    class Meta:
        verbose_name = _("token")
        verbose_name_plural = _("tokens")
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return self.name

    @classmethod
    def make(
        cls, user: models.Model, name: str, expires_at: datetime, *, read_only: bool
    ) -> tuple[ApiToken, str]:
        """A new token, and its text, which is nowhere else and cannot be had again."""
        text = PREFIX + secrets.token_urlsafe(32)
        row = cls.objects.create(
            user=user, name=name, digest=digest(text), expires_at=expires_at, read_only=read_only
        )
        return row, text

    @classmethod
    def find(cls, text: str) -> ApiToken | None:
        """The valid token of that text with its active user, in one query; None for anything else."""
        if not text.startswith(PREFIX) or len(text) > 200:
            return None
        return (
            cls.objects.select_related("user")
            .filter(digest=digest(text), revoked_at=None, expires_at__gt=timezone.now(), user__is_active=True)
            .first()
        )

    @property
    def is_valid(self) -> bool:
        return self.revoked_at is None and self.expires_at > timezone.now()

    def touch(self) -> None:
        """Note its use, at most once a minute: a token used a thousand times a second is one write."""
        now = timezone.now()
        if self.last_used_at is None or now - self.last_used_at > LAST_USED_STEP:
            type(self).objects.filter(pk=self.pk).update(last_used_at=now)
