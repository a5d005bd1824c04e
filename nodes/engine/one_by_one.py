"""Decisions of the engine that are to be made one after another."""

from nodes.models.turn import one_after_another

__all__ = ["one_after_another"]
