"""The index of devices: what search-devices looks through, derived from each node's newest inventory."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _


class Device(models.Model):
    """One PCI function, USB device or disk of one node, as its newest inventory has it.

    Rows are rewritten with every inventory in which they differ; nothing refers to them.
    ``text`` holds, in lower case, all that a person may know the device by.
    """

    node = models.ForeignKey("nodes.Node", models.CASCADE, related_name="devices", verbose_name=_("node"))
    section = models.CharField(_("section"), max_length=16)
    key = models.CharField(_("key"), max_length=255)
    kind = models.CharField(_("kind"), max_length=24)
    vendor_id = models.CharField(max_length=8, blank=True)
    device_id = models.CharField(max_length=8, blank=True)
    vendor = models.CharField(_("vendor"), max_length=255, blank=True)
    model = models.CharField(_("model"), max_length=255, blank=True)
    serial = models.CharField(_("serial number"), max_length=255, blank=True)
    driver = models.CharField(_("driver"), max_length=64, blank=True)
    numa_cell = models.IntegerField(_("NUMA cell"), null=True)
    iommu_group = models.IntegerField(_("IOMMU group"), null=True)
    passthrough = models.CharField(_("passthrough"), max_length=8, blank=True)
    held_by = models.CharField(_("held by"), max_length=255, blank=True)
    free = models.BooleanField(_("free for passthrough"), null=True)
    size_bytes = models.BigIntegerField(null=True)
    health = models.CharField(_("health"), max_length=8, blank=True)
    text = models.TextField(blank=True)

    class Meta:
        verbose_name = _("device")
        verbose_name_plural = _("devices")
        ordering = ["node__name", "section", "key"]
        constraints = [models.UniqueConstraint(fields=["node", "section", "key"], name="one_row_a_device")]
        indexes = [
            models.Index(fields=["kind", "free"]),
            models.Index(fields=["vendor_id", "device_id"]),
            models.Index(fields=["driver"]),
            models.Index(fields=["numa_cell"]),
        ]

    def __str__(self) -> str:
        return f"{self.key} {self.model}".strip()
