"""Roles: named sets of permissions, and who has which role for which nodes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from nodes.models.labels import check_labels

Selector = tuple[tuple[str, str], ...]
"""Labels that a node must have, all of them with that value, in the order of their keys."""


class RoleScope(models.TextChoices):
    ALL = "all", _("All nodes")
    LABELS = "labels", _("Nodes with labels")
    NODE = "node", _("One node")


def selector_of(labels: Mapping[str, str] | None) -> Selector:
    return tuple(sorted((labels or {}).items()))


def matches(selector: Selector, labels: Mapping[str, Any]) -> bool:
    """Whether a node with ``labels`` is one of those that the selector names; an empty one names none."""
    return bool(selector) and all(labels.get(key) == value for key, value in selector)


def check_selector(labels: Any) -> None:
    """Raise ValidationError for what breaks the rule of labels, and for no labels at all."""
    check_labels(labels)
    if not labels:
        raise ValidationError(_("A label selector has one label at least, such as rack=a1."))


class Role(models.Model):
    """A set of permissions, by codename. Those that nodeadmin brings (``builtin``) are kept as the code has
    them, at each start."""

    name = models.CharField(_("name"), max_length=63, unique=True)
    permissions = models.JSONField(_("permissions"), default=list)
    builtin = models.BooleanField(_("built in"), default=False, editable=False)

    class Meta:
        verbose_name = _("role")
        verbose_name_plural = _("roles")
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class RoleAssignmentQuerySet(models.QuerySet["RoleAssignment"]):
    def in_force(self) -> RoleAssignmentQuerySet:
        return self.filter(Q(expires_at=None) | Q(expires_at__gt=timezone.now()))


class RoleAssignment(models.Model):
    """A role for a user or for the members of a group: for all nodes present and future, for those with all
    labels of ``selector``, or for one node.

    ``scope_key`` says the same as scope, selector and node in one word, for the constraints alone.
    """

    role = models.ForeignKey(Role, models.CASCADE, related_name="assignments", verbose_name=_("role"))
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.CASCADE,
        null=True,
        blank=True,
        related_name="role_assignments",
        verbose_name=_("user"),
    )
    group = models.ForeignKey(
        "auth.Group",
        models.CASCADE,
        null=True,
        blank=True,
        related_name="role_assignments",
        verbose_name=_("group"),
    )
    scope = models.CharField(_("for"), max_length=8, choices=RoleScope, default=RoleScope.ALL)
    selector = models.JSONField(_("labels"), default=dict, blank=True)
    node = models.ForeignKey(
        "nodes.Node",
        models.CASCADE,
        null=True,
        blank=True,
        related_name="role_assignments",
        verbose_name=_("node"),
    )
    scope_key = models.CharField(max_length=80, editable=False)
    granted_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.SET_NULL,
        null=True,
        editable=False,
        related_name="+",
        verbose_name=_("granted by"),
    )
    created_at = models.DateTimeField(_("granted"), auto_now_add=True)
    expires_at = models.DateTimeField(_("expires"), null=True, blank=True)

    objects = RoleAssignmentQuerySet.as_manager()

    class Meta:
        verbose_name = _("role assignment")
        verbose_name_plural = _("role assignments")
        ordering = ["role__name", "pk"]
        constraints = [
            models.CheckConstraint(
                name="role_has_one_holder",
                condition=Q(user=None, group__isnull=False) | Q(user__isnull=False, group=None),
            ),
            models.CheckConstraint(
                name="role_scope_is_whole",
                condition=Q(scope="node", node__isnull=False) | Q(scope__in=("all", "labels"), node=None),
            ),
            models.UniqueConstraint(
                fields=["role", "user", "scope_key"],
                condition=Q(group=None),
                name="one_role_a_user_and_scope",
            ),
            models.UniqueConstraint(
                fields=["role", "group", "scope_key"],
                condition=Q(user=None),
                name="one_role_a_group_and_scope",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.role} · {self.holder} · {self.scope_words}"

    def save(self, **options: Any) -> None:
        self.scope_key = self._scope_key()
        super().save(**options)

    @property
    def holder(self) -> str:
        return self.user.get_username() if self.user is not None else str(self.group)

    @property
    def scope_words(self) -> str:
        """``all``, ``rack=a1,zone=north`` or the node's name: what the record and the command line say."""
        if self.scope == RoleScope.LABELS:
            return ",".join(f"{key}={value}" for key, value in selector_of(self.selector))
        return str(self.node) if self.scope == RoleScope.NODE else RoleScope.ALL.value

    def _scope_key(self) -> str:
        if self.scope == RoleScope.NODE:
            return f"node:{self.node_id}"
        if self.scope == RoleScope.LABELS:
            # Without labels it would name no node; the page that made it would say otherwise.
            check_selector(self.selector)
            text = json.dumps(selector_of(self.selector))
            return f"labels:{hashlib.sha256(text.encode()).hexdigest()}"
        return RoleScope.ALL.value
