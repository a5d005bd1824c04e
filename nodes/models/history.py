"""What became of a node's hardware: changes between inventories, and SMART values over time."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _


class ChangeKind(models.TextChoices):
    ADDED = "added", _("Added")
    REMOVED = "removed", _("Removed")
    CHANGED = "changed", _("Changed")


class InventoryChange(models.Model):
    """One difference between a snapshot and the one before (see inventory/changes.py)."""

    node = models.ForeignKey("nodes.Node", models.CASCADE, related_name="changes", verbose_name=_("node"))
    observed_at = models.DateTimeField(_("observed"))
    section = models.CharField(_("section"), max_length=32)
    kind = models.CharField(_("kind"), max_length=8, choices=ChangeKind)
    path = models.CharField(_("fact"), max_length=255)
    subject = models.CharField(_("subject"), max_length=255, blank=True)
    label = models.CharField(_("label"), max_length=255, blank=True)
    before = models.JSONField(_("before"), null=True)
    after = models.JSONField(_("after"), null=True)

    class Meta:
        verbose_name = _("inventory change")
        verbose_name_plural = _("inventory changes")
        ordering = ["-observed_at", "id"]
        indexes = [
            models.Index(fields=["node", "-observed_at"]),
            models.Index(fields=["-observed_at"]),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.path} {self.subject}".strip()


class SmartReading(models.Model):
    """SMART of one disk at one moment: one row a day, and one whenever something got better or worse.

    °C, percent, hours; counts since the disk was made. NULL is what the disk does not tell.
    """

    node = models.ForeignKey(
        "nodes.Node", models.CASCADE, related_name="smart_readings", verbose_name=_("node")
    )
    disk_id = models.CharField(_("disk"), max_length=255)
    observed_at = models.DateTimeField(_("observed"))
    health = models.CharField(_("health"), max_length=8)
    temperature_celsius = models.SmallIntegerField(null=True)
    wear_used_percent = models.PositiveIntegerField(null=True)
    power_on_hours = models.PositiveBigIntegerField(null=True)
    reallocated_sectors = models.PositiveBigIntegerField(null=True)
    pending_sectors = models.PositiveBigIntegerField(null=True)
    uncorrectable_sectors = models.PositiveBigIntegerField(null=True)
    media_errors = models.PositiveBigIntegerField(null=True)
    written_bytes = models.DecimalField(max_digits=30, decimal_places=0, null=True)

    class Meta:
        verbose_name = _("SMART reading")
        verbose_name_plural = _("SMART readings")
        ordering = ["-observed_at", "-id"]
        indexes = [models.Index(fields=["node", "disk_id", "-observed_at"])]

    def __str__(self) -> str:
        return f"{self.disk_id} {self.health}"
