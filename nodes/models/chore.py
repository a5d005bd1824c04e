"""What is done once in a while by whichever process comes first."""

from __future__ import annotations

from datetime import timedelta

from django.db import models
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.translation import gettext_lazy as _


class ChoreQuerySet(models.QuerySet["Chore"]):
    def take(self, name: str, every: timedelta) -> bool:
        """Whether the chore is due and the caller's to do: of all who ask in ``every``, one hears True.

        Judged by the database's clock, as those who ask may be on several machines.
        """
        long_ago = timezone.now() - timedelta(days=36500)
        self.get_or_create(name=name, defaults={"taken_at": long_ago})
        return bool(self.filter(name=name, taken_at__lte=Now() - every).update(taken_at=Now()))


class Chore(models.Model):
    """One kind of chore, and when somebody last took it on."""

    name = models.CharField(_("name"), max_length=32, primary_key=True)
    taken_at = models.DateTimeField(_("last done"))

    objects = ChoreQuerySet.as_manager()

    class Meta:
        verbose_name = _("chore")
        verbose_name_plural = _("chores")

    def __str__(self) -> str:
        return self.name
