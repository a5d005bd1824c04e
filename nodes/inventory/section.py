"""A section of the inventory: a slug, a title, its sources, and a pure function from document to facts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from nodes.inventory.document import HostDocument, Problem
from nodes.inventory.source import LibvirtSource, Source

T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Parsed(Generic[T_co]):
    """What a parser gives: the facts (a frozen dataclass), and problems that no source status shows."""

    facts: T_co
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class Section(Generic[T_co]):
    """One section.

    ``parse`` takes the whole document and never raises for what a host may print: what cannot be read is
    None in the facts and, where the reader should know, a Problem. Should it raise all the same, build.py
    turns that into a problem of this section alone. ``required`` names sources without which there are no
    facts worth showing; a failed other source only becomes a problem. ``tab`` False keeps a section that
    another one's page shows (pools under VMs, say) out of the tabs.
    """

    slug: str
    title: str
    sources: tuple[Source, ...]
    parse: Callable[[HostDocument], Parsed[T_co]]
    libvirt: tuple[LibvirtSource, ...] = ()
    optional: tuple[str, ...] = ()
    """Sources whose absence (a tool that is not installed) is normal for many hosts and no problem."""
    tab: bool = True
    identity: Mapping[str, str] = field(default_factory=dict)
    """For changes.py: lists in the plain facts whose items have a name of their own, as dotted path and key
    field (``{"devices": "address", "devices.functions": "number"}``). ``"level,kind"``: both together are the
    name. ``"*"``: at this path is no list but a mapping, and its keys are the names. Items of a list that is
    not named here are the same when they are equal."""
    volatile: frozenset[str] = frozenset()
    """For changes.py: fields, by name or by dotted path, that go up and down by themselves (counters,
    temperatures, free memory, ages). They are facts, but no change of the host."""
    moving: Mapping[str, str] = field(default_factory=dict)
    """For changes.py: facts, by dotted path, that are volatile in those items alone whose fact of the name
    given here is not false (``{"pools.capacity_bytes": "capacity_shared"}``)."""
    alike: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """For changes.py: words, by the dotted path of a fact, between which it goes to and fro by itself
    (``clean`` and ``active`` of an array at each write)."""
    nearly: Mapping[str, float] = field(default_factory=dict)
    """For changes.py: numbers, by dotted path, that are a little other each time though nothing has changed,
    and the part of the older one by which they have to differ."""
    fitful: frozenset[str] = frozenset()
    """For changes.py: the parts, by dotted path, whose facts a device gives one by one and may fail to give
    at any time while its source is well. That one of them became unknown, or known again, is no change."""
    passing: Mapping[str, Mapping[str, frozenset[str]]] = field(default_factory=dict)
    """For changes.py: items that come and go by themselves, or whose coming and going other facts tell, by
    the dotted path of their list, and a field of theirs with the values that mark them
    (``{"ports": {"kind": frozenset({"tap"})}}``; of a field that is a list, any of its values)."""
    presence: frozenset[str] = frozenset()
    """For changes.py: the sources that tell which items there are (empty: all of them), also as a pattern
    of items' names (``disk-smart:* -d *``). When another one
    fails, an item may lack facts, but none goes missing: that it came or went is still told."""
