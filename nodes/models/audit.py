"""What the audit log keeps beside its entries: its lock and the last verification, and signed checkpoints."""

from __future__ import annotations

from datetime import UTC, datetime

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from nodes.models.audit_mac import fits, sign


class AuditHead(models.Model):
    """One row. Who gives numbers to entries locks it: several processes do so one after another.

    ``problems`` is what the last verification found (see nodes/audit/verification.py); ``verified_number``
    the last entry that it looked at.
    """

    SINGLE = 1
    id = models.PositiveSmallIntegerField(primary_key=True, default=SINGLE, editable=False)
    verified_at = models.DateTimeField(_("verified"), null=True, editable=False)
    verified_number = models.BigIntegerField(_("verified up to"), null=True, editable=False)
    problem_count = models.PositiveIntegerField(_("problems"), default=0, editable=False)
    problems = models.JSONField(_("problems"), default=list, editable=False)

    class Meta:
        verbose_name = _("state of the audit log")
        verbose_name_plural = _("state of the audit log")

    def __str__(self) -> str:
        return f"verified up to {self.verified_number}"


class CheckpointKind(models.TextChoices):
    PURGED = "purged", _("Removed by retention")
    ACCEPTED = "accepted", _("Loss accepted")


class AuditCheckpoint(models.Model):
    """Why the entries from ``first_number`` to ``last_number`` are not there, signed.

    ``chain_mac`` is that of the last one of them, so that the entry after it can still be verified; "" where
    it is not known any more.
    """

    kind = models.CharField(_("kind"), max_length=8, choices=CheckpointKind)
    first_number = models.BigIntegerField(_("first number"))
    last_number = models.BigIntegerField(_("last number"))
    chain_mac = models.CharField(max_length=64, blank=True)
    count = models.BigIntegerField(_("entries"))
    created_at = models.DateTimeField(_("created"), default=timezone.now)
    mac = models.CharField(max_length=64)

    class Meta:
        verbose_name = _("checkpoint of the audit log")
        verbose_name_plural = _("checkpoints of the audit log")
        ordering = ["last_number", "id"]

    def __str__(self) -> str:
        return f"{self.kind} {self.first_number}–{self.last_number}"

    def authenticate(self) -> None:
        self.mac = sign(*self._signed())

    @property
    def is_authentic(self) -> bool:
        return fits(self.mac, *self._signed())

    def _signed(self) -> tuple[str, ...]:
        at: datetime = self.created_at.astimezone(UTC)
        return (
            "checkpoint",
            str(self.kind),
            str(self.first_number),
            str(self.last_number),
            self.chain_mac,
            str(self.count),
            at.isoformat(timespec="microseconds"),
        )


class CountedEntry(models.Model):
    """Entries of one kind and subject that would come again and again, such as failed sign-ins.

    The first one is written at once. ``count`` are those after it that were only counted; when the window
    from ``since`` to ``until`` is over, one entry tells of all of them. ``facts`` is what that entry says.
    """

    key = models.CharField(max_length=64, primary_key=True)
    since = models.DateTimeField()
    until = models.DateTimeField(db_index=True)
    last_at = models.DateTimeField()
    count = models.PositiveIntegerField(default=0)
    facts = models.JSONField(default=dict)

    class Meta:
        verbose_name = _("counted entry of the audit log")
        verbose_name_plural = _("counted entries of the audit log")

    def __str__(self) -> str:
        return f"{self.facts.get('kind', '')} ×{self.count}"


class RecordedSettings(models.Model):
    """The settings that a part of nodeadmin started with last; of secret ones a keyed digest alone."""

    part = models.CharField(max_length=32, primary_key=True)
    values = models.JSONField(default=dict)
    recorded_at = models.DateTimeField(auto_now=True)

    class Meta:
        verbose_name = _("recorded settings")
        verbose_name_plural = _("recorded settings")

    def __str__(self) -> str:
        return self.part


class ExportCursor(models.Model):
    """How far the audit log was exported to one destination, and who does so.

    ``lease_expires_at`` is judged by the database's clock: of several processes one exports. ``error`` is why
    the last attempt failed, "" where it did not.
    """

    destination = models.CharField(_("destination"), max_length=255, primary_key=True)
    number = models.BigIntegerField(_("exported up to"), default=0)
    exported_at = models.DateTimeField(_("last exported"), null=True)
    failed_since = models.DateTimeField(_("failing since"), null=True)
    error = models.TextField(_("error"), blank=True)
    owner = models.CharField(max_length=120, blank=True)
    lease_expires_at = models.DateTimeField(null=True)

    class Meta:
        verbose_name = _("export of the audit log")
        verbose_name_plural = _("exports of the audit log")

    def __str__(self) -> str:
        return self.destination
