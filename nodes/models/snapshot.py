"""What a probe brought: the raw document and the facts parsed from it."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import F, Window
from django.db.models.functions import RowNumber
from django.utils.translation import gettext_lazy as _

from nodes.inventory.document import HostDocument


class SnapshotQuerySet(models.QuerySet["Snapshot"]):
    def beyond_retention(self) -> SnapshotQuerySet:
        """Those that may go: older than a node's newest ``NODEADMIN_SNAPSHOTS_KEPT``, with nothing changed in
        them, and not the one that the node shows."""
        newest_first = [F("observed_at").desc(), F("id").desc()]
        ranked = self.annotate(rank=Window(RowNumber(), partition_by=F("node"), order_by=newest_first))
        old = ranked.filter(rank__gt=settings.NODEADMIN_SNAPSHOTS_KEPT, changed=False)
        return old.exclude(pk=F("node__snapshot"))


class Snapshot(models.Model):
    """One inventory of one node.

    ``document`` is the compressed raw document (HostDocument.to_bytes), so that a later parser can read it
    again. ``changed`` tells snapshots in which something differs from the one before: those are kept.
    """

    node = models.ForeignKey("nodes.Node", models.CASCADE, related_name="snapshots", verbose_name=_("node"))
    observed_at = models.DateTimeField(_("observed"), db_index=True)
    duration_s = models.FloatField(_("duration"), null=True)
    document = models.BinaryField(editable=False)
    changed = models.BooleanField(_("changed"), default=True)
    parser_version = models.CharField(max_length=32, blank=True)

    objects = SnapshotQuerySet.as_manager()

    class Meta:
        verbose_name = _("snapshot")
        verbose_name_plural = _("snapshots")
        ordering = ["-observed_at", "-id"]
        indexes = [models.Index(fields=["node", "-observed_at"])]

    def __str__(self) -> str:
        return f"{self.node_id} {self.observed_at:%Y-%m-%d %H:%M:%S}"

    def host_document(self) -> HostDocument:
        """The raw document. Raises ValueError where the stored bytes are damaged."""
        return HostDocument.from_bytes(bytes(self.document))


class SnapshotSection(models.Model):
    """One section's facts, as plain JSON; NULL where the section could not be built at all."""

    snapshot = models.ForeignKey(Snapshot, models.CASCADE, related_name="sections")
    slug = models.CharField(max_length=32)
    facts = models.JSONField(null=True)
    problems = models.JSONField(default=list)

    class Meta:
        verbose_name = _("section")
        verbose_name_plural = _("sections")
        constraints = [models.UniqueConstraint(fields=["snapshot", "slug"], name="one_row_a_section")]

    def __str__(self) -> str:
        return self.slug
