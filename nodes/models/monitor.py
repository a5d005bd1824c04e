"""What the fleet monitor keeps: who watches which node, the newest figures, and those of the last day.

None of it is on the node's own row, which is wide: beats come every few seconds.
"""

from __future__ import annotations

import uuid

from django.db import models
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _


class MonitorProcessQuerySet(models.QuerySet["MonitorProcess"]):
    def alive(self) -> MonitorProcessQuerySet:
        """Those whose lease holds, by the database's clock, which has set it: ours may be minutes off."""
        return self.filter(lease_expires_at__gt=Now())


class MonitorProcess(models.Model):
    """A running monitor. Its lease holds for all nodes that it has claimed, so renewing it is one write.

    A process whose lease has expired may be ended by any other one: its row goes, and its nodes are free. It
    finds out at its next write, every one of which asks for its row.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(_("process"), max_length=120)
    started_at = models.DateTimeField(_("started"), auto_now_add=True)
    lease_expires_at = models.DateTimeField()
    cut_off_since = models.DateTimeField(_("cut off since"), null=True)
    loop_delay_s = models.FloatField(null=True)

    objects = MonitorProcessQuerySet.as_manager()

    class Meta:
        verbose_name = _("monitor")
        verbose_name_plural = _("monitors")

    def __str__(self) -> str:
        return self.name


class Heartbeat(models.Model):
    """The newest beat of one node, and the monitor that hears it.

    ``point`` is the newest point of the plots (see monitor/points.py). NULL is what the host does not tell.
    """

    node = models.OneToOneField(
        "nodes.Node", models.CASCADE, primary_key=True, related_name="heartbeat", verbose_name=_("node")
    )
    owner = models.ForeignKey(
        MonitorProcess, models.SET_NULL, null=True, related_name="heartbeats", verbose_name=_("monitor")
    )
    seen_at = models.DateTimeField(_("last heartbeat"), null=True)
    beats = models.PositiveBigIntegerField(_("beats"), default=0)
    boot_id = models.CharField(max_length=64, blank=True)
    cpu_used_percent = models.FloatField(null=True)
    memory_used_bytes = models.BigIntegerField(null=True)
    vms_running = models.PositiveIntegerField(null=True)
    vms_total = models.PositiveIntegerField(null=True)
    libvirt_up = models.BooleanField(null=True)
    point = models.BinaryField(null=True)

    class Meta:
        verbose_name = _("heartbeat")
        verbose_name_plural = _("heartbeats")

    def __str__(self) -> str:
        return f"{self.node_id} {self.seen_at}"


class FigureBlock(models.Model):
    """Points of one node over one stretch of time: a minute at the full rate, or an hour by minutes.

    ``slot`` is the place in a ring: a block takes the row of the one that was written a round before, so a
    node never has more than a day's rows.
    """

    node = models.ForeignKey("nodes.Node", models.CASCADE, related_name="figure_blocks")
    span_s = models.PositiveIntegerField()
    slot = models.PositiveSmallIntegerField()
    starts_at = models.DateTimeField()
    points = models.BinaryField()

    class Meta:
        verbose_name = _("figures")
        verbose_name_plural = _("figures")
        constraints = [models.UniqueConstraint(fields=["node", "span_s", "slot"], name="one_block_a_slot")]

    def __str__(self) -> str:
        return f"{self.node_id} {self.starts_at}"
