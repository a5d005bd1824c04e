"""What changed between two inventories of one host: items that came or went, facts that are others now.

The comparison knows no section. It walks two plain inventories along what each section declares: which
lists have items with a name (``identity``), which facts and items come and go by themselves (``volatile``,
``passing``), and which sources tell what is there (``presence``).

Not seen is not removed: where a source was read in one inventory and not in the other, nothing that it
might have told counts as come, gone, or become unknown.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from itertools import pairwise
from typing import Any

from nodes.inventory.build import Inventory, SectionResult
from nodes.inventory.document import SourceStatus
from nodes.inventory.plain import Plain
from nodes.inventory.registry import SECTIONS
from nodes.inventory.section import Section

_LABELS = ("label", "name", "model", "title", "product", "description")
STEADY = frozenset({SourceStatus.MISSING.value, SourceStatus.DENIED.value, SourceStatus.NOT_RUN.value})
"""Failures that hide the same each time: between two of these the view is the same."""


class ChangeKind(StrEnum):
    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"


@dataclass(frozen=True, slots=True)
class Change:
    """One change.

    ``path`` is the dotted path of the fact or list (``disks.partitions``), ``subject`` the key of the item
    that it belongs to, or of the item that came or went (``sda``; of nested ones ``sda/sda1``), "" outside
    of all items; ``label`` is that item's readable name where it has one. ``before`` and ``after`` are plain
    facts without the volatile ones; None for what was not there or not known.
    """

    section: str
    kind: ChangeKind
    path: str
    subject: str
    label: str
    before: Plain
    after: Plain


def compare(
    before: Inventory, after: Inventory, sections: Sequence[Section[Any]] = SECTIONS
) -> tuple[Change, ...]:
    """All changes from ``before`` to ``after``, in the order of the sections and their facts.

    A section that either inventory lacks, or could not parse, has none. Fields that only one of the two
    has belong to another version of the parser, not to the host: parse the older document again first.
    """
    found: list[Change] = []
    for section in sections:
        old, new = before.results.get(section.slug), after.results.get(section.slug)
        if old is not None and new is not None:
            found.extend(compare_section(section, old, new))
    return tuple(found)


def compare_since(
    before: Inventory,
    after: Inventory,
    older: Iterable[Inventory],
    sections: Sequence[Section[Any]] = SECTIONS,
) -> tuple[Change, ...]:
    """As :func:`compare`, with what ``before`` hid and ``after`` shows again.

    What changed while a source failed is between no two neighbours: it is sought in the newest of ``older``
    (newest first, and only taken from where something was hidden) that read those sources and hid nothing
    else, without what was told on the way. Where all of them hid something, the newest that read those
    sources has to do. Of those in which they failed too, any may be left out.
    """
    found = list(compare(before, after, sections))
    pending = {section.slug: names for section in sections if (names := _shown_again(section, before, after))}
    chain = [after, before]
    partly: dict[str, list[Inventory]] = {}
    for inventory in older if pending else ():
        chain.append(inventory)
        for section in sections:
            result = inventory.results.get(section.slug)
            names = pending.get(section.slug, frozenset())
            if names and result and result.plain is not None and not names & result.unread.keys():
                partly.setdefault(section.slug, list(chain))
                if not any(
                    _tells_presence(section, name) for name in _shown_again(section, inventory, after)
                ):
                    partly[section.slug] = list(chain)
                    del pending[section.slug]
        if not pending:
            break
    for section in sections:
        found.extend(_hidden(section, partly[section.slug]) if section.slug in partly else ())
    return tuple(found)


_WHOLE = "*"
"""Stands for all of a section that could not be parsed."""


def _shown_again(section: Section[Any], before: Inventory, after: Inventory) -> frozenset[str]:
    """The sources that failed in ``before`` as it happens, and are read in ``after``."""
    old, new = before.results.get(section.slug), after.results.get(section.slug)
    if old is None or new is None or new.plain is None:
        return frozenset()
    failed = {name for name, status in old.unread.items() if status not in STEADY}
    whole = {_WHOLE} if old.plain is None else set()
    return frozenset(failed - new.unread.keys() | whole)


def _hidden(section: Section[Any], chain: Sequence[Inventory]) -> Iterator[Change]:
    """Changes from the last of ``chain`` (newest first) to its first that no two neighbours show."""
    results = [found for inventory in chain if (found := inventory.results.get(section.slug)) is not None]
    told = {_named(change) for new, old in pairwise(results) for change in compare_section(section, old, new)}
    for change in compare_section(section, results[-1], results[0]):
        if _named(change) not in told:
            yield change


def _named(change: Change) -> tuple[ChangeKind, str, str]:
    return change.kind, change.path, change.subject


def compare_section(section: Section[Any], before: SectionResult, after: SectionResult) -> tuple[Change, ...]:
    """The changes of one section."""
    if before.plain is None or after.plain is None:
        return ()
    unlike = _unlike(before.unread, after.unread)
    hidden = {name for name in unlike if _tells_presence(section, name)}
    walk = _Walk(section, items_comparable=not hidden, facts_comparable=not unlike)
    return tuple(walk.mappings("", (), "", before.plain, after.plain))


def _tells_presence(section: Section[Any], name: str) -> bool:
    """Whether an item may be missing because the source (or the item of one) ``name`` failed."""
    if not section.presence or name in section.presence:
        return True
    return any("*" in part and fnmatchcase(name, part) for part in section.presence)


def _unlike(before: Mapping[str, str], after: Mapping[str, str]) -> frozenset[str]:
    """Sources that did not show the same part of the host both times."""
    return frozenset(
        name
        for name in {*before, *after}
        if before.get(name) != after.get(name) or before.get(name) not in STEADY
    )


@dataclass(frozen=True, slots=True)
class _Walk:
    """One comparison. ``keys`` are those of the items around, ``label`` is the innermost one's."""

    section: Section[Any]
    items_comparable: bool
    facts_comparable: bool

    def mappings(
        self, path: str, keys: tuple[str, ...], label: str, before: dict[str, Plain], after: dict[str, Plain]
    ) -> Iterator[Change]:
        for name, old in before.items():
            where = f"{path}.{name}" if path else name
            if name in after and not self._is_volatile(where) and not self._moves(where, before, after):
                yield from self._values(where, keys, label, old, after[name])

    def _values(
        self, path: str, keys: tuple[str, ...], label: str, before: Plain, after: Plain
    ) -> Iterator[Change]:
        if before == after:
            return
        named = self.section.identity.get(path)
        if isinstance(before, dict) and isinstance(after, dict):
            if named == "*":
                yield from self._items(path, keys, dict(before), dict(after))
            else:
                yield from self.mappings(path, keys, label, before, after)
        elif isinstance(before, list) and isinstance(after, list) and (named or _has_objects(before, after)):
            old, new = self._keyed(path, before, named), self._keyed(path, after, named)
            yield from self._items(path, keys, old, new)
        elif self._tells(path, before, after):
            old_value, new_value = self._steady(path, before), self._steady(path, after)
            if old_value != new_value:
                yield self._change(ChangeKind.CHANGED, path, keys, label, old_value, new_value)

    def _items(
        self, path: str, keys: tuple[str, ...], before: dict[str, Plain], after: dict[str, Plain]
    ) -> Iterator[Change]:
        for key, old in before.items():
            if key in after:
                yield from self._values_of_item(path, (*keys, key), old, after[key])
            elif self.items_comparable and not self._is_passing(path, old):
                steady = self._steady(path, old)
                yield self._change(ChangeKind.REMOVED, path, (*keys, key), _label(old), steady, None)
        for key, new in after.items():
            if key not in before and self.items_comparable and not self._is_passing(path, new):
                steady = self._steady(path, new)
                yield self._change(ChangeKind.ADDED, path, (*keys, key), _label(new), None, steady)

    def _values_of_item(
        self, path: str, keys: tuple[str, ...], before: Plain, after: Plain
    ) -> Iterator[Change]:
        if isinstance(before, dict) and isinstance(after, dict):
            yield from self.mappings(path, keys, _label(after) or _label(before), before, after)
        elif before != after and self._tells(path, before, after):
            yield self._change(ChangeKind.CHANGED, path, keys, "", before, after)

    def _keyed(self, path: str, items: list[Plain], named: str | None) -> dict[str, Plain]:
        """Items by key. One without a name is named by its value, so that only an equal one is the same;
        a second one of the same name gets a number."""
        keyed: dict[str, Plain] = {}
        for item in items:
            key = _key(item, named) or json.dumps(self._steady(path, item), sort_keys=True)
            unique, count = key, 1
            while unique in keyed:
                count += 1
                unique = f"{key} #{count}"
            keyed[unique] = item
        return keyed

    def _steady(self, path: str, value: Plain) -> Plain:
        """``value`` without its volatile fields."""
        if isinstance(value, dict):
            return {
                name: self._steady(f"{path}.{name}", item)
                for name, item in value.items()
                if not self._is_volatile(f"{path}.{name}") and not self._moves(f"{path}.{name}", value, value)
            }
        if isinstance(value, list):
            return [self._steady(path, item) for item in value]
        return value

    def _is_volatile(self, path: str) -> bool:
        return path in self.section.volatile or path.rpartition(".")[2] in self.section.volatile

    def _moves(self, path: str, before: Mapping[str, Plain], after: Mapping[str, Plain]) -> bool:
        mark = self.section.moving.get(path)
        return mark is not None and (before.get(mark) is not False or after.get(mark) is not False)

    def _is_passing(self, path: str, item: Plain) -> bool:
        marks = self.section.passing.get(path)
        if not marks or not isinstance(item, dict):
            return False
        for name, values in marks.items():
            value = item.get(name)
            several = value if isinstance(value, list) else [value]
            if any(isinstance(one, str) and one in values for one in several):
                return True
        return False

    def _tells(self, path: str, before: Plain, after: Plain) -> bool:
        """Whether a difference counts: to and from unknown only where both views were the same."""
        if self._is_alike(path, before, after):
            return False
        if not (_unknown(before) or _unknown(after)):
            return True
        return self.facts_comparable and not any(path.startswith(f"{part}.") for part in self.section.fitful)

    def _is_alike(self, path: str, before: Plain, after: Plain) -> bool:
        if isinstance(before, str) and isinstance(after, str):
            return {before, after} <= self.section.alike.get(path, frozenset())
        if isinstance(before, int | float) and isinstance(after, int | float):
            return abs(after - before) < before * self.section.nearly.get(path, 0.0)
        return False

    def _change(
        self, kind: ChangeKind, path: str, keys: tuple[str, ...], label: str, before: Plain, after: Plain
    ) -> Change:
        return Change(self.section.slug, kind, path, "/".join(keys), label, before, after)


def _has_objects(before: list[Plain], after: list[Plain]) -> bool:
    return any(isinstance(item, dict) for item in (*before, *after))


def _unknown(value: Plain) -> bool:
    return value is None or value == "unknown" or value == [] or value == {}


def _key(item: Plain, named: str | None) -> str | None:
    if not isinstance(item, dict):
        return None if isinstance(item, list) or item is None else str(item)
    if not named:
        return None
    parts = [item.get(name) for name in named.split(",")]
    if any(part is None or isinstance(part, dict | list) for part in parts):
        return None
    return " ".join(str(part) for part in parts)


def _label(item: Plain) -> str:
    if isinstance(item, dict):
        for name in _LABELS:
            value = item.get(name)
            if isinstance(value, str) and value:
                return value
    return ""
