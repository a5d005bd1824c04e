"""What a host sends too much of. A row while it lasts: further ones are counted here, and have no events."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _


class FloodKind(models.TextChoices):
    BOOT_IDS = "boot_ids", _("Boot IDs")
    HEARTBEATS = "heartbeats", _("Heartbeats")
    CONNECTION = "connection", _("Changes of its connection")
    CHANGES = "inventory_changes", _("Inventory changes")
    EVENTS = "events", _("Events")


class HostFlood(models.Model):
    """One kind of flood from one node. ``count`` is how many came since ``since`` beyond the limit."""

    node = models.ForeignKey("nodes.Node", models.CASCADE, related_name="floods", verbose_name=_("node"))
    kind = models.CharField(_("kind"), max_length=20, choices=FloodKind)
    since = models.DateTimeField(_("since"))
    last_at = models.DateTimeField(_("last seen"))
    told_at = models.DateTimeField(_("last event"))
    count = models.PositiveBigIntegerField(_("count"), default=0)

    class Meta:
        verbose_name = _("flood")
        verbose_name_plural = _("floods")
        ordering = ["-last_at"]
        constraints = [models.UniqueConstraint(fields=["node", "kind"], name="one_flood_a_kind")]

    def __str__(self) -> str:
        return f"{self.node_id} {self.kind}"
