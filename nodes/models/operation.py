"""Operations: durable work on a node, its steps, and the keys that make calls repeatable.

    queued ──▶ running ──▶ succeeded
       │         │  ▲  └──▶ failed
       │         │  └─ claimed again after the process that ran it died (lease expired)
       └─────────┴────────▶ cancelled

Every transition is one conditional UPDATE whose row count is checked. A runner owns a row by its
``claim_token``: taking the row over raises the token, and every later write of the former owner, who may
merely have been slow, then matches no row.
"""

from __future__ import annotations

import uuid
from datetime import timedelta

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from nodes.models.event import Via
from nodes.models.sealed import BoundSecretField
from nodes.models.token_limits import TokenLimits
from nodes.models.user import User


class OperationStatus(models.TextChoices):
    QUEUED = "queued", _("Queued")
    RUNNING = "running", _("Running")
    SUCCEEDED = "succeeded", _("Succeeded")
    FAILED = "failed", _("Failed")
    CANCELLED = "cancelled", _("Cancelled")


UNFINISHED = (OperationStatus.QUEUED, OperationStatus.RUNNING)


class StepStatus(models.TextChoices):
    PENDING = "pending", _("Pending")
    RUNNING = "running", _("Running")
    SUCCEEDED = "succeeded", _("Succeeded")
    FAILED = "failed", _("Failed")
    SKIPPED = "skipped", _("Skipped")
    CANCELLED = "cancelled", _("Cancelled")


class OperationQuerySet(models.QuerySet["Operation"]):
    def unfinished(self) -> OperationQuerySet:
        return self.filter(status__in=UNFINISHED)

    def claimable(self) -> OperationQuerySet:
        """Queued, or running under a lease that has expired by the database's clock."""
        return self.filter(
            Q(status=OperationStatus.QUEUED) | Q(status=OperationStatus.RUNNING, lease_expires_at__lt=Now())
        )


class Operation(models.Model):
    """One piece of work.

    ``subject`` is what an exclusive operation excludes others from: ``node:<uuid>``, or ``name:<name>`` for
    a node that does not exist yet. ``secret`` carries a credential from the call to the step that stores
    it, sealed, and is wiped when the operation ends. ``plan`` is the plan that was confirmed, for kinds that
    have one (see operations/plans.py). ``unattended_s`` adds up the times in which a lease was over and
    nobody had taken the operation on; it only grows. ``automatic``: no person waits for it. ``token_limits``
    are those of the API token that it was asked for with, as they were then (see TokenLimits.to_row).
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    kind = models.CharField(_("kind"), max_length=32, db_index=True)
    node = models.ForeignKey(
        "nodes.Node", models.SET_NULL, null=True, related_name="operations", verbose_name=_("node")
    )
    node_name = models.CharField(_("node's name"), max_length=63, blank=True)
    subject = models.CharField(max_length=80, editable=False)
    exclusive = models.BooleanField(_("exclusive"), default=True)
    automatic = models.BooleanField(_("automatic"), default=False, editable=False)
    params = models.JSONField(_("options"), default=dict)
    plan = models.JSONField(_("plan"), null=True)
    secret = BoundSecretField(null=True, editable=False)

    status = models.CharField(
        _("status"), max_length=12, choices=OperationStatus, default=OperationStatus.QUEUED, db_index=True
    )
    message = models.TextField(_("message"), blank=True)
    error = models.JSONField(_("error"), null=True)
    result = models.JSONField(_("result"), null=True)

    requested_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+", verbose_name=_("requested by")
    )
    requested_by_name = models.CharField(_("requested by"), max_length=150, blank=True)
    source_ip = models.GenericIPAddressField(_("from"), null=True)
    via = models.CharField(_("via"), max_length=8, choices=Via, default=Via.SYSTEM)
    token_name = models.CharField(_("token"), max_length=80, blank=True)
    token = models.ForeignKey(
        "nodes.ApiToken", models.SET_NULL, null=True, editable=False, related_name="operations"
    )
    token_limits = models.JSONField(null=True, editable=False)
    request_id = models.CharField(max_length=64, blank=True)

    created_at = models.DateTimeField(_("created"), auto_now_add=True, db_index=True)
    started_at = models.DateTimeField(_("started"), null=True)
    finished_at = models.DateTimeField(_("finished"), null=True)
    cancel_requested_at = models.DateTimeField(_("cancel requested"), null=True)

    claimed_by = models.CharField(max_length=120, blank=True, editable=False)
    claim_token = models.PositiveIntegerField(default=0, editable=False)
    lease_expires_at = models.DateTimeField(null=True, editable=False)
    unattended_s = models.FloatField(default=0.0, editable=False)

    objects = OperationQuerySet.as_manager()

    class Meta:
        verbose_name = _("operation")
        verbose_name_plural = _("operations")
        ordering = ["-created_at", "-id"]
        indexes = [
            models.Index(fields=["status", "lease_expires_at"]),
            models.Index(fields=["node", "-created_at"]),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["subject"],
                condition=Q(exclusive=True, status__in=UNFINISHED),
                name="one_exclusive_operation_a_node",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.node_name}".strip()

    @property
    def requester(self) -> User | None:
        """Who asked for it, with the limits of the token that they came with: what the operation decides, it
        decides with these rights. ``requested_by`` is the account, for which other rights may count."""
        user = self.requested_by
        if user is not None and self.token_limits is not None and user.token_limits is None:
            user.limit_to(TokenLimits.from_row(self.token_limits))
        return user

    @property
    def is_finished(self) -> bool:
        return self.status not in UNFINISHED

    @property
    def duration(self) -> timedelta | None:
        """From its start to its end, or until now while it runs."""
        if self.started_at is None:
            return None
        return (self.finished_at or timezone.now()) - self.started_at


class OperationStep(models.Model):
    """One step. ``progress`` is a fraction from 0 to 1, None where the step cannot tell."""

    operation = models.ForeignKey(
        Operation, models.CASCADE, related_name="steps", verbose_name=_("operation")
    )
    position = models.PositiveIntegerField(_("position"))
    code = models.CharField(_("step"), max_length=80)
    title = models.CharField(_("title"), max_length=200)
    vm_uuid = models.UUIDField(_("VM's UUID"), null=True)
    vm_name = models.CharField(_("VM"), max_length=255, blank=True)
    target = models.CharField(_("target"), max_length=255, blank=True)
    status = models.CharField(_("status"), max_length=12, choices=StepStatus, default=StepStatus.PENDING)
    progress = models.FloatField(_("progress"), null=True)
    message = models.TextField(_("message"), blank=True)
    data = models.JSONField(_("details"), default=dict)
    started_at = models.DateTimeField(_("started"), null=True)
    finished_at = models.DateTimeField(_("finished"), null=True)

    class Meta:
        verbose_name = _("step")
        verbose_name_plural = _("steps")
        ordering = ["position"]
        constraints = [
            models.UniqueConstraint(fields=["operation", "position"], name="one_step_a_position"),
            models.UniqueConstraint(fields=["operation", "code"], name="one_step_a_code"),
        ]

    def __str__(self) -> str:
        return self.title


class LogLevel(models.TextChoices):
    INFO = "info", _("Info")
    WARNING = "warning", _("Warning")
    ERROR = "error", _("Error")


class OperationLogEntry(models.Model):
    """One line of an operation's own log. ``step_code`` is "" for what belongs to no step.

    Its key orders the lines and is the cursor of who reads on.
    """

    operation = models.ForeignKey(
        Operation, models.CASCADE, related_name="log_entries", verbose_name=_("operation")
    )
    at = models.DateTimeField(_("time"), default=timezone.now)
    level = models.CharField(_("level"), max_length=8, choices=LogLevel, default=LogLevel.INFO)
    step_code = models.CharField(_("step"), max_length=80, blank=True)
    message = models.TextField(_("message"))

    class Meta:
        verbose_name = _("log entry of an operation")
        verbose_name_plural = _("log entries of operations")
        ordering = ["id"]
        indexes = [models.Index(fields=["operation", "id"])]

    def __str__(self) -> str:
        return self.message


class IdempotencyKey(models.Model):
    """The first answer to a call that carried an Idempotency-Key, kept a day.

    ``status_code`` is NULL while that first call is still being answered.
    """

    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="+")
    key = models.CharField(max_length=255)
    endpoint = models.CharField(max_length=64)
    body_digest = models.CharField(max_length=64)
    status_code = models.PositiveSmallIntegerField(null=True)
    answer = models.JSONField(null=True)
    operation = models.ForeignKey(Operation, models.CASCADE, null=True, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True, db_index=True)

    class Meta:
        verbose_name = _("idempotency key")
        verbose_name_plural = _("idempotency keys")
        constraints = [models.UniqueConstraint(fields=["user", "key"], name="one_answer_a_key")]

    def __str__(self) -> str:
        return self.key
