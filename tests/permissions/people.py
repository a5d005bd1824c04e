"""Roles and tokens for tests, given without asking who gives them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.contrib.auth.models import Group
from django.utils import timezone

from nodes.models import ApiToken, Node, Role, RoleAssignment, RoleScope, User


def give(
    holder: User | Group, *permissions: str, node: Node | None = None, labels: Any = None, **fields: Any
) -> RoleAssignment:
    """A role with these permissions: for one node, for labels, or for all nodes."""
    role, _made = Role.objects.get_or_create(
        name="-".join(permissions)[:63], defaults={"permissions": list(permissions)}
    )
    scope = RoleScope.NODE if node is not None else RoleScope.LABELS if labels else RoleScope.ALL
    return RoleAssignment.objects.create(
        role=role,
        user=holder if isinstance(holder, User) else None,
        group=holder if isinstance(holder, Group) else None,
        scope=scope,
        node=node,
        selector=labels or {},
        **fields,
    )


def token_of(user: User, *permissions: str, read_only: bool = False, **fields: Any) -> tuple[ApiToken, str]:
    """A token for an hour; with all permissions where none are named."""
    end = fields.pop("expires_at", None) or timezone.now() + timedelta(hours=1)
    return ApiToken.make(user, "test", end, read_only=read_only, permissions=permissions or None, **fields)


def bearing(user: User, *permissions: str, **fields: Any) -> User:
    """The user as they come with a token."""
    _row, text = token_of(user, *permissions, **fields)
    found = ApiToken.find(text)
    assert found is not None
    return found.user
