"""What happened: who did what, from where, and how it ended. Events are never changed.

An event that a person or the command line is behind, or that concerns the security of people, is an *entry of
the audit log*; what hosts and the monitor do is a plain event. Entries are authenticated one by one
(``content_mac``, made at the insertion) and as a chain (``number`` and ``chain_mac``, given right after the
commit by nodes/audit/sealer.py).
"""

from __future__ import annotations

import uuid
from datetime import UTC
from typing import Any

from django.conf import settings
from django.db import models
from django.db.models import Case, F, Q, When
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from nodes.models.audit_mac import canonical, fits, sign


class Via(models.TextChoices):
    """The way in by which somebody asked for what happened."""

    PAGE = "page", _("Page")
    API = "api", _("API")
    ADMIN = "admin", _("Django admin")
    COMMAND = "command", _("Command line")
    SYSTEM = "system", _("nodeadmin itself")


class Severity(models.TextChoices):
    INFO = "info", _("Info")
    WARNING = "warning", _("Warning")
    ERROR = "error", _("Error")


class Category(models.TextChoices):
    """``AUDIT``: people, the command line, and the security of people. ``HOST``: hosts and the monitor."""

    AUDIT = "audit", _("Audit log")
    HOST = "host", _("Hosts")


class EventQuerySet(models.QuerySet["Event"]):
    def entries(self) -> EventQuerySet:
        """Those of the audit log."""
        return self.filter(category=Category.AUDIT)

    def sealed(self) -> EventQuerySet:
        """Entries that have their number, in the order of the chain."""
        return self.filter(number__isnull=False).order_by("number")

    def newest_first(self) -> EventQuerySet:
        """Entries by their number, whose order is that of the chain: their times may be the same, and of two
        transactions the later one may end first. Those that get their number in a moment come first, those
        from before the log was authenticated last."""
        return self.order_by(
            Case(When(UNSEALED, then=0), default=1),
            F("number").desc(nulls_last=True),
            "-created_at",
            "-pk",
        )

    def unsealed(self) -> EventQuerySet:
        """Authenticated entries that have no number yet, oldest first."""
        return self.filter(UNSEALED).order_by("pk")

    def unauthenticated(self) -> EventQuerySet:
        """Entries from before the audit log was authenticated."""
        return self.entries().filter(content_mac="")


UNSEALED = Q(category=Category.AUDIT, number__isnull=True) & ~Q(content_mac="")


class Event(models.Model):
    """One event. Node, user, operation and target are kept by name or id too, so that it outlives them.

    ``number`` counts the entries of the audit log without a gap; it is NULL for plain events, for entries
    from before the log was authenticated (their ``content_mac`` is ""), and for a moment after the insertion.
    """

    created_at = models.DateTimeField(_("time"), default=timezone.now, editable=False, db_index=True)
    category = models.CharField(
        _("category"), max_length=8, choices=Category, default=Category.HOST, editable=False
    )
    kind = models.CharField(_("kind"), max_length=48, db_index=True)
    severity = models.CharField(_("severity"), max_length=8, choices=Severity, default=Severity.INFO)
    node = models.ForeignKey(
        "nodes.Node", models.SET_NULL, null=True, related_name="events", verbose_name=_("node")
    )
    node_ref = models.CharField(_("node's UUID"), max_length=36, blank=True)
    node_name = models.CharField(_("node's name"), max_length=63, blank=True)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+", verbose_name=_("user")
    )
    user_ref = models.CharField(_("user's id"), max_length=32, blank=True)
    user_name = models.CharField(_("user's name"), max_length=150, blank=True)
    source_ip = models.GenericIPAddressField(_("from"), null=True)
    via = models.CharField(_("via"), max_length=8, choices=Via, default=Via.SYSTEM)
    token_name = models.CharField(_("token"), max_length=80, blank=True)
    target_type = models.CharField(_("type of what was changed"), max_length=32, blank=True)
    target_id = models.CharField(_("id of what was changed"), max_length=64, blank=True)
    target_name = models.CharField(_("what was changed"), max_length=255, blank=True)
    operation = models.ForeignKey(
        "nodes.Operation", models.SET_NULL, null=True, related_name="events", verbose_name=_("operation")
    )
    operation_ref = models.CharField(_("operation's id"), max_length=36, blank=True)
    message = models.TextField(_("message"))
    data = models.JSONField(_("details"), default=dict)

    uid = models.UUIDField(_("id in exports"), null=True, unique=True, editable=False)
    number = models.BigIntegerField(_("number"), null=True, unique=True, editable=False)
    content_mac = models.CharField(max_length=64, blank=True, editable=False)
    chain_mac = models.CharField(max_length=64, blank=True, editable=False)

    objects = EventQuerySet.as_manager()

    class Meta:
        verbose_name = _("event")
        verbose_name_plural = _("events")
        ordering = ["-created_at", "-id"]
        indexes = [
            models.Index(fields=["node", "-created_at"]),
            models.Index(fields=["category", "-created_at"]),
            models.Index(fields=["id"], name="unsealed_entries", condition=UNSEALED),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.node_name}".strip()

    def authenticate(self) -> None:
        """Fill in ``uid`` and ``content_mac``: before the insertion, when all facts are there."""
        self.uid = uuid.uuid4()
        self.content_mac = sign("content", canonical(self.facts()))

    @property
    def is_authentic(self) -> bool:
        return facts_are_authentic(self.facts(), self.content_mac)

    def facts(self) -> dict[str, Any]:
        """All that an entry says, as it is signed and exported. What later changes by itself (the keys of
        rows that are deleted) is not in it."""
        return {
            "uid": str(self.uid) if self.uid else None,
            "time": self.created_at.astimezone(UTC).isoformat(timespec="microseconds"),
            "category": str(self.category),
            "kind": self.kind,
            "severity": str(self.severity),
            "node": self.node_name,
            "node_uuid": self.node_ref,
            "user": self.user_name,
            "user_id": self.user_ref,
            "source_ip": self.source_ip,
            "via": str(self.via),
            "token": self.token_name,
            "target_type": self.target_type,
            "target_id": self.target_id,
            "target": self.target_name,
            "operation": self.operation_ref,
            "message": self.message,
            "data": self.data,
        }


def facts_are_authentic(facts: dict[str, Any], code: str) -> bool:
    return fits(code, "content", canonical(facts))


def chain_code(number: int, before: str, content_mac: str) -> str:
    """The code that binds an entry to its number and to the entry before it (``before``, "" for the
    first)."""
    return sign("chain", str(number), before, content_mac)


def chain_fits(code: str, number: int, before: str, content_mac: str) -> bool:
    return fits(code, "chain", str(number), before, content_mac)
