"""What nodes have refused: VMs whose migration failed because of the node that they were to go to."""

from __future__ import annotations

from datetime import timedelta

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

LASTS = timedelta(hours=6)
"""How long a refusal keeps its VM from the node, where nothing else ends it before."""


class UnfitTargetQuerySet(models.QuerySet["UnfitTarget"]):
    def lasting(self) -> UnfitTargetQuerySet:
        """Those that are not too old to count."""
        return self.filter(noted_at__gt=timezone.now() - LASTS)


class UnfitTarget(models.Model):
    """A node that refused a VM: one row a VM and node, of the newest refusal.

    ``code`` is a word of :func:`nodes.hosts.libvirt.refusal.refusal_of`, ``message`` libvirt's words.
    ``vm_digest`` is of the VM's description then, ``boot_id`` and ``libvirt_version`` are the node's: a
    refusal ends with a change of any of them, and of the node's inventory.
    """

    vm_uuid = models.UUIDField(_("VM's UUID"))
    vm_name = models.CharField(_("VM"), max_length=255)
    node = models.ForeignKey("nodes.Node", models.CASCADE, related_name="+", verbose_name=_("node"))
    code = models.CharField(_("reason"), max_length=48)
    message = models.CharField(_("message"), max_length=600)
    vm_digest = models.CharField(max_length=64)
    boot_id = models.CharField(max_length=64, blank=True)
    libvirt_version = models.CharField(max_length=32, blank=True)
    noted_at = models.DateTimeField(_("time"), db_index=True)

    objects = UnfitTargetQuerySet.as_manager()

    class Meta:
        verbose_name = _("unfit target")
        verbose_name_plural = _("unfit targets")
        constraints = [
            models.UniqueConstraint(fields=["vm_uuid", "node"], name="one_refusal_a_vm_and_node"),
        ]

    def __str__(self) -> str:
        return f"{self.vm_name} {self.code}"
