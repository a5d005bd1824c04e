"""A node: a physical host that runs libvirtd."""

from __future__ import annotations

import uuid
from datetime import timedelta

from django.conf import settings
from django.core.validators import RegexValidator
from django.db import models
from django.db.models import Exists, Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from nodes.models.flood import FloodKind

NAME_PATTERN = r"^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?\Z"
name_validator = RegexValidator(
    NAME_PATTERN,
    _("Use 1 to 63 lower-case letters, digits, dots and hyphens, with a letter or digit at both ends."),
)


def as_uuid(text: str) -> uuid.UUID | None:
    """The UUID that ``text`` writes; None where it is none."""
    try:
        return uuid.UUID(text)
    except ValueError:
        return None


class NodeType(models.TextChoices):
    """What a node is for. Free grouping is what labels are for."""

    COMPUTE = "compute", _("Compute")
    STORAGE = "storage", _("Storage")
    HYBRID = "hybrid", _("Hybrid")


TAKES_VMS = (NodeType.COMPUTE, NodeType.HYBRID)
"""Types of the nodes that VMs are placed on; a storage node gets none."""
NO_SUCH_TYPE = _("Unknown node type. It can be: compute, storage, hybrid.")


class Scheduling(models.TextChoices):
    """What people decided."""

    ENABLED = "enabled", _("Enabled")
    MAINTENANCE = "maintenance", _("Maintenance")


class Connection(models.TextChoices):
    """What we see of the host."""

    ONLINE = "online", _("Online")
    OFFLINE = "offline", _("Offline")
    UNKNOWN = "unknown", _("Unknown")


class ConnectionReason(models.TextChoices):
    """Why a host is not online."""

    NONE = "", ""
    UNREACHABLE = "unreachable", _("Unreachable")
    SSH_AUTH_FAILED = "ssh_auth_failed", _("SSH login refused")
    HOST_KEY_MISMATCH = "host_key_mismatch", _("Host key changed")
    JUMP_HOST_UNREACHABLE = "jump_host_unreachable", _("Jump host unreachable")
    JUMP_HOST_KEY_MISMATCH = "jump_host_key_mismatch", _("Jump host's key changed")
    JUMP_HOST_AUTH_FAILED = "jump_host_auth_failed", _("Jump host refused the login")
    JUMP_HOST_FORBIDS = "jump_host_forbids", _("Jump host forbids the connection")
    INSUFFICIENT_RIGHTS = "insufficient_rights_on_host", _("Rights missing on the host")
    LIBVIRT_DOWN = "libvirt_down", _("libvirt down")
    PROBE_FAILING = "probe_failing", _("Probe failing")
    REBOOTING = "rebooting", _("Rebooting")
    POWERED_OFF = "powered_off", _("Powered off")
    UNKNOWN = "unknown", _("No contact yet")


class Status(models.TextChoices):
    """What lists show: scheduling and connection in one word (see :meth:`Node.status`)."""

    ONLINE = "online", _("Online")
    OFFLINE = "offline", _("Offline")
    MAINTENANCE = "maintenance", _("Maintenance")


class NodeQuerySet(models.QuerySet["Node"]):
    def with_status(self, status: str) -> NodeQuerySet:
        """Nodes of one Status; the same table as :meth:`Node.status`."""
        if status == Status.MAINTENANCE:
            return self.filter(scheduling=Scheduling.MAINTENANCE)
        enabled = self.filter(scheduling=Scheduling.ENABLED)
        if status == Status.ONLINE:
            return enabled.filter(connection=Connection.ONLINE)
        return enabled.exclude(connection=Connection.ONLINE)

    def named(self, name_or_uuid: str) -> NodeQuerySet:
        """The node of that UUID or name. A UUID names its own node, whatever another one is called."""
        by_uuid = as_uuid(name_or_uuid)
        if by_uuid is None:
            return self.filter(name=name_or_uuid)
        owners = Node.objects.filter(uuid=by_uuid)
        return self.filter(Q(uuid=by_uuid) | Q(name=name_or_uuid) & ~Exists(owners))


class Node(models.Model):
    """One host.

    Rows exist only for hosts that were reached, verified and inventoried: an attempt that failed is an
    operation, not a node. The figures from ``cpu_model`` on are copies out of the newest snapshot, so that
    a list of thousands is one query.
    """

    uuid = models.UUIDField(_("UUID"), unique=True, default=uuid.uuid4, editable=False)
    name = models.CharField(_("name"), max_length=63, unique=True, validators=[name_validator])
    uri = models.CharField(_("URI"), max_length=512)
    node_type = models.CharField(
        _("type"),
        max_length=32,
        choices=NodeType,
        default=NodeType.COMPUTE,
        db_index=True,
        error_messages={"invalid_choice": NO_SUCH_TYPE},
    )
    labels = models.JSONField(_("labels"), default=dict, blank=True)
    notes = models.TextField(_("notes"), blank=True)
    migration_address = models.CharField(_("migration address"), max_length=255, blank=True)
    migration_address_forced = models.BooleanField(
        _("migration address forced"),
        default=False,
        help_text=_("An administrator has set it though the inventory does not show it."),
    )
    host_key = models.TextField(_("host key"), blank=True, editable=False)
    host_key_fingerprint = models.CharField(
        _("host key's fingerprint"), max_length=64, blank=True, editable=False
    )
    jump_host = models.ForeignKey(
        "nodes.JumpHost",
        models.PROTECT,
        null=True,
        blank=True,
        related_name="nodes",
        verbose_name=_("jump host"),
    )
    joined_by = models.UUIDField(_("joined by operation"), null=True, unique=True, editable=False)

    scheduling = models.CharField(
        _("scheduling"), max_length=16, choices=Scheduling, default=Scheduling.ENABLED, db_index=True
    )
    scheduling_reason = models.CharField(_("reason"), max_length=500, blank=True)
    scheduling_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.SET_NULL,
        null=True,
        blank=True,
        related_name="+",
        verbose_name=_("by"),
    )
    scheduling_since = models.DateTimeField(_("since"), null=True, blank=True)

    connection = models.CharField(
        _("connection"), max_length=16, choices=Connection, default=Connection.UNKNOWN, db_index=True
    )
    connection_reason = models.CharField(
        _("connection reason"), max_length=32, choices=ConnectionReason, blank=True, default=""
    )
    connection_detail = models.TextField(_("connection detail"), blank=True)
    connection_since = models.DateTimeField(_("connection since"), null=True)
    last_seen_at = models.DateTimeField(_("last seen"), null=True)

    flood = models.CharField(_("flood"), max_length=20, choices=FloodKind, blank=True, editable=False)
    """What the host sends too much of just now (see HostFlood); "" for nothing."""

    machine_id = models.CharField(max_length=64, blank=True)
    firmware_uuid = models.CharField(max_length=64, blank=True)
    identity = models.CharField(max_length=64, null=True, unique=True)
    boot_id = models.CharField(max_length=64, blank=True)
    booted_at = models.DateTimeField(_("booted"), null=True)

    cpu_model = models.CharField(max_length=200, blank=True)
    cpu_threads = models.PositiveIntegerField(null=True)
    cpu_used_percent = models.FloatField(null=True)
    memory_total_bytes = models.BigIntegerField(null=True)
    memory_used_bytes = models.BigIntegerField(null=True)
    vm_count = models.PositiveIntegerField(null=True)
    vm_running_count = models.PositiveIntegerField(null=True)
    pool_count = models.PositiveIntegerField(null=True)
    host_model = models.CharField(max_length=200, blank=True)
    os_name = models.CharField(max_length=200, blank=True)
    kernel_release = models.CharField(max_length=200, blank=True)
    virtualization_type = models.CharField(max_length=16, blank=True)
    libvirt_version = models.CharField(max_length=32, blank=True)
    hypervisor_version = models.CharField(max_length=32, blank=True)
    problem_count = models.PositiveIntegerField(null=True)

    snapshot = models.ForeignKey(
        "nodes.Snapshot", models.SET_NULL, null=True, related_name="+", verbose_name=_("newest snapshot")
    )
    observed_at = models.DateTimeField(_("observed"), null=True)
    inventory_failures = models.PositiveSmallIntegerField(default=0, editable=False)
    """How many inventories on end have failed since the last good one."""
    created_at = models.DateTimeField(_("added"), auto_now_add=True)
    updated_at = models.DateTimeField(_("updated"), auto_now=True)

    objects = NodeQuerySet.as_manager()

    class Meta:
        verbose_name = _("node")
        verbose_name_plural = _("nodes")
        ordering = ["name"]
        indexes = [models.Index(fields=["scheduling", "connection", "name"])]
        constraints = [
            models.CheckConstraint(
                name="node_type_is_known", condition=Q(node_type__in=("compute", "storage", "hybrid"))
            )
        ]
        permissions = [
            ("view_node_logs", _("Can read the node's journal")),
            ("maintain_node", _("Can enable, disable and drain the node")),
            ("power_node", _("Can reboot, shut down and power on the node")),
            ("scan_host", _("Can ask any host for its host keys")),
            ("grant_access", _("Can give users and groups roles, and revoke tokens and sessions")),
            ("view_audit_log", _("Can read the audit log")),
            ("manage_ssh", _("Can manage jump hosts and nodeadmin's key pair")),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def status(self) -> Status:
        """One word for scheduling and connection: maintenance covers all, then only online is online."""
        if self.scheduling == Scheduling.MAINTENANCE:
            return Status.MAINTENANCE
        return Status.ONLINE if self.connection == Connection.ONLINE else Status.OFFLINE

    @property
    def status_reason(self) -> str:
        """Why the node is not online, as a ConnectionReason code; "" where it is."""
        if self.connection == Connection.ONLINE:
            return ""
        if self.connection == Connection.UNKNOWN:
            return ConnectionReason.UNKNOWN
        return self.connection_reason

    @property
    def age_s(self) -> float | None:
        """Seconds since the newest inventory was taken, None where there is none."""
        if self.observed_at is None:
            return None
        return max(0.0, (timezone.now() - self.observed_at).total_seconds())

    @property
    def is_stale(self) -> bool:
        """Whether the inventory is missing or older than ``NODEADMIN_STALE_AFTER_S``."""
        age = self.age_s
        return age is None or age > settings.NODEADMIN_STALE_AFTER_S

    @property
    def memory_used_percent(self) -> float | None:
        if self.memory_used_bytes is None or not self.memory_total_bytes:
            return None
        return 100.0 * self.memory_used_bytes / self.memory_total_bytes

    @property
    def uptime(self) -> timedelta | None:
        """Time since the host booted, None where unknown or where the host is not online."""
        if self.booted_at is None or self.connection != Connection.ONLINE:
            return None
        return timezone.now() - self.booted_at
