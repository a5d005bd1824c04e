"""Operations in words."""

from __future__ import annotations

from nodes.models import Operation
from nodes.operations.registry import kind_of


def title_of(operation: Operation) -> str:
    """The title; an operation of a kind that this version no longer knows is named by its kind."""
    kind = kind_of(operation.kind)
    return kind.title(operation) if kind is not None else f"{operation.kind} {operation.node_name}"
