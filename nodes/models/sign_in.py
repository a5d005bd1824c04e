"""Failed sign-ins that are counted: by address, by name, and by device."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _


class SignInCount(models.Model):
    """``key`` is ``address:…``, ``name:…`` (an HMAC: it may be a password in the wrong field), ``device:…``
    or ``pair:…``. ``level`` is how many failures count at ``updated_at``; from then on it sinks. No password
    is tried under this key before ``next_at``."""

    key = models.CharField(max_length=128, primary_key=True)
    level = models.FloatField(default=0.0)
    updated_at = models.DateTimeField()
    next_at = models.DateTimeField(null=True)

    class Meta:
        verbose_name = _("count of failed sign-ins")
        verbose_name_plural = _("counts of failed sign-ins")
        indexes = [models.Index(fields=["updated_at"], name="signin_count_updated")]

    def __str__(self) -> str:
        return self.key
