"""Confirmations that were used, and second factors that were verified: each counts once."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _


class UsedConfirmation(models.Model):
    """The nonce of a confirmation token, written in the transaction that acts on it.

    Kept for longer than a token lives; the unique column is what makes the second use fail.
    """

    nonce = models.CharField(max_length=64, unique=True)
    used_at = models.DateTimeField(auto_now_add=True, db_index=True)

    class Meta:
        verbose_name = _("used confirmation")
        verbose_name_plural = _("used confirmations")

    def __str__(self) -> str:
        return self.nonce


class FactorProof(models.Model):
    """A second factor that was verified a moment ago, for one thing to be done by one login.

    ``bound`` is the SHA-256 of the session's key and of what it counts for (nodes/second_factor.py). The row
    is deleted in the transaction that acts on it; deleting it is what makes the second use fail.
    """

    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="+")
    bound = models.CharField(max_length=64)
    made_at = models.DateTimeField(auto_now_add=True, db_index=True)

    class Meta:
        verbose_name = _("proof of a second factor")
        verbose_name_plural = _("proofs of second factors")
        indexes = [models.Index(fields=["user", "bound"])]

    def __str__(self) -> str:
        return f"{self.user_id} {self.made_at:%H:%M:%S}"
