"""Places for migrations under way: how the limit per node holds across all operations and processes."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _


class Direction(models.TextChoices):
    OUT = "out", _("out of the node")
    IN = "in", _("into the node")


class MigrationSlot(models.Model):
    """One of the few places a node has for migrations in one direction, held by one step of an operation.

    Whoever wants to migrate inserts a row for the source and one for the target; the unique constraint
    refuses more than there are numbers. A slot whose operation has ended is free.
    """

    node = models.ForeignKey("nodes.Node", models.CASCADE, related_name="+")
    direction = models.CharField(max_length=3, choices=Direction)
    number = models.PositiveSmallIntegerField()
    operation = models.ForeignKey("nodes.Operation", models.CASCADE, related_name="+")
    step_code = models.CharField(max_length=80)

    class Meta:
        verbose_name = _("migration slot")
        verbose_name_plural = _("migration slots")
        constraints = [
            models.UniqueConstraint(fields=["node", "direction", "number"], name="one_migration_a_slot"),
        ]

    def __str__(self) -> str:
        return f"{self.direction} {self.number}"
