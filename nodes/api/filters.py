"""Filters of the describe endpoints: which items of a section's facts an answer carries."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from rest_framework import serializers

Facts = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Filter:
    """One filter: its input field, and which items of which lists of the facts it keeps."""

    field: Callable[[], serializers.Field]
    keeps: Callable[[Mapping[str, Any], Any], bool]
    lists: tuple[str, ...]


def _choice(*choices: str) -> Callable[[], serializers.ChoiceField]:
    return lambda: serializers.ChoiceField(choices=choices, required=False)


def _number(help_text: str) -> Callable[[], serializers.IntegerField]:
    return lambda: serializers.IntegerField(min_value=0, required=False, help_text=help_text)


FILTERS: Mapping[str, Mapping[str, Filter]] = {}
"""By section and parameter. A section without an entry takes no filters."""


def filter_facts(slug: str, facts: Facts, data: Mapping[str, Any]) -> dict[str, Any]:
    """The facts with the lists that a filter names cut down to what fits all filters given."""
    shown = dict(facts)
    for name, rule in FILTERS.get(slug, {}).items():
        wanted = data.get(name)
        if wanted is None:
            continue
        for key in rule.lists:
            shown[key] = [item for item in shown.get(key) or [] if rule.keeps(item, wanted)]
    return shown
