"""``describe-node-<section>``: one endpoint a section, made from the registry."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rest_framework.request import Request
from rest_framework.response import Response

from nodes.api import inputs
from nodes.api.answers import SectionAnswer
from nodes.api.filters import FILTERS, filter_facts
from nodes.api.schema import documented, section_schema
from nodes.api.viewsets import FRESHNESS, Endpoints
from nodes.inventory.registry import SECTIONS
from nodes.inventory.section import Section
from nodes.models import SnapshotSection

COLUMNS = ("uuid", "name", "observed_at", "snapshot_id")


class InventoryEndpoints(Endpoints):
    """The methods are added below, one a section."""


def _describe(section: Section[Any]) -> Callable[[InventoryEndpoints, Request], Response]:
    body = type(
        f"Describe{section.slug.title().replace('-', '')}Input",
        (inputs.DescribeInput,),
        {name: parameter.field() for name, parameter in FILTERS.get(section.slug, {}).items()},
    )

    @documented(
        section.title, body, section_schema(section), example={"node": "kvm-01"}, description=FRESHNESS
    )
    def describe(self: InventoryEndpoints, request: Request) -> Response:
        data = self.read(body)
        node = self.described(data, COLUMNS)
        rows = SnapshotSection.objects.filter(snapshot=node.snapshot_id, slug=section.slug).order_by()
        row = next(iter(rows.only("facts", "problems")[:1]), None)
        facts: Mapping[str, Any] | None = row.facts if row is not None else None
        shown = filter_facts(section.slug, facts, data) if facts is not None else None
        return Response(SectionAnswer.of(node, row, shown))

    return describe


for _section in SECTIONS:
    _name = f"describe_node_{_section.slug.replace('-', '_')}"
    setattr(InventoryEndpoints, _name, _describe(_section))
