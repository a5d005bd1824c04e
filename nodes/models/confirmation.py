"""Confirmations that were used: each counts once."""

from __future__ import annotations

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
