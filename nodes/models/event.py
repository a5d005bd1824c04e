"""The record of what happened: who did what, from where, and how it ended. Events are never changed."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _


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


class Event(models.Model):
    """One event. Node, user and target are kept by name too, so that the record outlives them."""

    created_at = models.DateTimeField(_("time"), auto_now_add=True, db_index=True)
    kind = models.CharField(_("kind"), max_length=48, db_index=True)
    severity = models.CharField(_("severity"), max_length=8, choices=Severity, default=Severity.INFO)
    node = models.ForeignKey(
        "nodes.Node", models.SET_NULL, null=True, related_name="events", verbose_name=_("node")
    )
    node_name = models.CharField(_("node's name"), max_length=63, blank=True)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+", verbose_name=_("user")
    )
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
    message = models.TextField(_("message"))
    data = models.JSONField(_("details"), default=dict)

    class Meta:
        verbose_name = _("event")
        verbose_name_plural = _("events")
        ordering = ["-created_at", "-id"]
        indexes = [models.Index(fields=["node", "-created_at"])]

    def __str__(self) -> str:
        return f"{self.kind} {self.node_name}".strip()
