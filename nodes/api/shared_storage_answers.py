"""What the calls about declared shared storage answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Self, cast

from nodes.models import DeclaredSharedStorage

Kind = Literal["pool", "path", "volume_group"]


@dataclass(frozen=True, slots=True)
class SharedStorageAnswer:
    """One declaration. ``nodes`` are the names of those nodes that the user may see."""

    id: int
    kind: Kind
    name: str
    nodes: list[str]
    comment: str
    declared_by: str
    declared_at: datetime

    @classmethod
    def of(cls, row: DeclaredSharedStorage, names: Sequence[str]) -> Self:
        return cls(
            id=row.pk,
            kind=cast("Kind", row.kind),
            name=row.name,
            nodes=list(names),
            comment=row.comment,
            declared_by=row.declared_by_name,
            declared_at=row.created_at,
        )


@dataclass(frozen=True, slots=True)
class SharedStoragePage:
    count: int
    results: list[SharedStorageAnswer]
