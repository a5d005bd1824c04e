"""What an API token lets its user do, at most."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from django.db import models
from django.utils.translation import gettext_lazy as _

READING_PERMISSIONS = frozenset(
    ("view_node", "view_node_logs", "view_audit_log", "view_declaredsharedstorage")
)
"""What a token for reading only can have."""


class TokenScope(models.TextChoices):
    ALL = "all", _("All nodes")
    LABELS = "labels", _("Nodes with labels")
    NODES = "nodes", _("Named nodes")


@dataclass(frozen=True, slots=True)
class TokenLimits:
    """The limits of the token with key ``token``. Its user has what both give, never more.

    ``permissions`` are codenames. ``selector`` counts with the scope ``labels``, ``nodes`` (UUIDs as text)
    with the scope ``nodes``; a token with either has no permission that belongs to no node. ``with_factor``:
    its maker gave a fresh second factor for it.
    """

    token: int
    permissions: frozenset[str]
    read_only: bool = False
    scope: str = TokenScope.ALL.value
    selector: tuple[tuple[str, str], ...] = ()
    nodes: frozenset[str] = frozenset()
    with_factor: bool = False

    @classmethod
    def of(
        cls,
        token: int,
        permissions: Iterable[str],
        *,
        read_only: bool,
        scope: str,
        selector: Mapping[str, str],
        nodes: Iterable[str],
        with_factor: bool = False,
    ) -> TokenLimits:
        named = frozenset(permissions)
        allowed = named & READING_PERMISSIONS if read_only else named
        labels = tuple(sorted(selector.items()))
        return cls(token, allowed, read_only, scope, labels, frozenset(nodes), with_factor)

    @property
    def everywhere(self) -> bool:
        return self.scope == TokenScope.ALL

    def to_row(self) -> dict[str, Any]:
        """As an operation keeps it: what was asked for with the token runs with these, whatever comes."""
        return {
            "token": self.token,
            "permissions": sorted(self.permissions),
            "read_only": self.read_only,
            "scope": self.scope,
            "selector": dict(self.selector),
            "nodes": sorted(self.nodes),
            "with_factor": self.with_factor,
        }

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> TokenLimits:
        return cls.of(
            row["token"],
            row["permissions"],
            read_only=row["read_only"],
            scope=row["scope"],
            selector=row["selector"],
            nodes=row["nodes"],
            with_factor=row.get("with_factor", False),  # of an operation from before there was this
        )
