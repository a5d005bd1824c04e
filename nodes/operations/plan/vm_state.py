"""A VM as a plan's constraints see it: libvirt's facts, and its description, parsed once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from lxml import etree

from nodes.hosts.domains import DomainFacts
from nodes.inventory.domain_xml import DomainXml, read_domain
from nodes.inventory.xmltext import parse_xml


@dataclass(frozen=True, slots=True)
class VmState:
    """A VM as its host described it just now.

    ``xml`` and ``element`` are the description of ``facts``, as typed facts and as the ``<domain>`` element
    for what those lack; both None where it could not be read. ``element`` is shared: it is never changed.
    """

    facts: DomainFacts
    xml: DomainXml | None
    element: etree._Element | None

    @classmethod
    def of(cls, facts: DomainFacts) -> Self:
        """The VM of ``facts``. Never raises."""
        root = parse_xml(facts.xml) if facts.xml else None
        if root is None or root.tag != "domain":
            return cls(facts, None, None)
        return cls(facts, read_domain(root), root)

    @property
    def uuid(self) -> str:
        return self.facts.uuid

    @property
    def name(self) -> str:
        return self.facts.name
