"""What is held back on a host while its node is in maintenance, and which VMs are known to run there then."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _


class HeldAutostartQuerySet(models.QuerySet["HeldAutostart"]):
    def due(self) -> HeldAutostartQuerySet:
        """Those whose mark is to be put back now."""
        return self.filter(due_at__lte=timezone.now())

    def release(self) -> int:
        """Have these marks put back from now on."""
        now = timezone.now()
        return self.filter(Q(due_at=None) | Q(due_at__gt=now)).update(due_at=now)


class HeldAutostart(models.Model):
    """A VM whose autostart nodeadmin has switched off on its host.

    The row is written before the mark is taken off, and goes only after the mark is back: whatever dies in
    between, the mark is not lost. ``operation`` is the one that took it off. ``due_at`` is NULL while the
    mark is held, then when it is to be put back: the row stays until libvirt on the host has taken it.
    """

    node = models.ForeignKey(
        "nodes.Node", models.CASCADE, related_name="held_autostarts", verbose_name=_("node")
    )
    vm_uuid = models.UUIDField(_("VM's UUID"))
    vm_name = models.CharField(_("VM"), max_length=255)
    since = models.DateTimeField(_("since"), default=timezone.now)
    operation = models.ForeignKey(
        "nodes.Operation", models.SET_NULL, null=True, related_name="+", verbose_name=_("operation")
    )
    due_at = models.DateTimeField(_("to be put back"), null=True)

    objects = HeldAutostartQuerySet.as_manager()

    class Meta:
        verbose_name = _("held autostart")
        verbose_name_plural = _("held autostarts")
        ordering = ["vm_name", "vm_uuid"]
        constraints = [
            models.UniqueConstraint(fields=["node", "vm_uuid"], name="one_held_autostart_a_vm"),
        ]

    def __str__(self) -> str:
        return self.vm_name


class MaintenanceBaseline(models.Model):
    """The VMs whose running on a node in maintenance surprises nobody.

    ``vms`` are UUIDs, each with whether it has been seen running since it was written down. With
    ``before_boot_id`` an operation has said what is to run after the boot of that ID has ended; until then
    nothing is judged. ``boot_id`` is the boot in which they were seen, "" until an inventory has come.
    """

    node = models.OneToOneField(
        "nodes.Node", models.CASCADE, primary_key=True, related_name="+", verbose_name=_("node")
    )
    vms = models.JSONField(default=dict)
    boot_id = models.CharField(max_length=64, blank=True)
    before_boot_id = models.CharField(max_length=64, blank=True)

    class Meta:
        verbose_name = _("VMs expected in maintenance")
        verbose_name_plural = _("VMs expected in maintenance")

    def __str__(self) -> str:
        return str(self.pk)
