"""Taking an inventory, and keeping it: document, facts, and what changed."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import structlog
from django.conf import settings
from django.db import transaction

from nodes.events import NodeChanged, publish
from nodes.hosts.connection import HostConnection
from nodes.hosts.libvirt_facts import LastGood
from nodes.hosts.probe import collect
from nodes.inventory.build import ITEMS_ONLY, Inventory, build
from nodes.inventory.changes import STEADY, Change, compare_since
from nodes.inventory.document import HostDocument, SourceStatus
from nodes.inventory.identity import HostIdentity
from nodes.inventory.parsing.effort import TooMuchWork, limited, step
from nodes.inventory.plain import to_plain
from nodes.inventory.registry import SECTIONS, all_libvirt_sources, all_sources
from nodes.inventory.summary import SummaryFacts
from nodes.models import Node, Snapshot, SnapshotSection
from nodes.operations.base import removed
from nodes.operations.continuity import (
    carried,
    cpu_used_percent,
    facts_of,
    previous_facts,
    with_rates,
    with_stored_rates,
)
from nodes.operations.figures import FIGURE_COLUMNS, copy_figures, parse_time
from nodes.operations.history import keep_changes, keep_devices, keep_smart

OLDER_LOOKED_AT = 200
OLDER_PARSED = 8
"""How far back to look for what a failing source hid, and how many documents to parse for it at most. It is a
rare search, but the node's row is locked."""
OLDER_CPU_S = 1.0
"""Of the processor, for one of these. A section that takes longer counts as unread."""
COMPARISON_CPU_S = 5.0
"""Of processor time, older documents included. Of the largest recorded host, all takes less than a second."""
_FITFUL = frozenset(status.value for status in SourceStatus if status is not SourceStatus.OK) - STEADY
"""Codes of problems that are a source's failure: parsers have others, of which some are there each time."""
_OF_ITEMS = ITEMS_ONLY | {source.name for source in all_sources() if source.items}
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Before:
    """The inventory that a new one is compared with: of the snapshot ``pk``, None where it is damaged."""

    pk: int
    inventory: Inventory | None


@dataclass(frozen=True, slots=True)
class Taken:
    """A document, what was parsed from it, and how long the host took, in seconds.

    ``stored`` (the document's stored form) and ``before`` are made along with it: nobody else writes to the
    database while an inventory is stored, and what a host printed may take seconds of the processor.
    """

    document: HostDocument
    inventory: Inventory
    duration_s: float
    stored: bytes = b""
    before: Before | None = None

    @property
    def libvirt_is_mute(self) -> bool:
        """Whether libvirt was there to be asked, and answered nothing at all in time."""
        known = self.document.sources
        asked = [known[source.name] for source in all_libvirt_sources() if source.name in known]
        return bool(asked) and all(output.status is SourceStatus.TIMEOUT for output in asked)


def take_inventory(connection: HostConnection, last_good: LastGood | None, node: Node | None = None) -> Taken:
    """Probe the host and parse what it said, and what it said before where it is a ``node`` already.

    Raises HostError where the host as a whole cannot be read.
    """
    started = time.monotonic()
    document = collect(
        connection, SECTIONS, last_good=last_good, timeout_s=settings.NODEADMIN_PROBE_TIMEOUT_S
    )
    taken = Taken(document, build(document), time.monotonic() - started)
    return replace(taken, stored=document.to_bytes(), before=_before(node) if node is not None else None)


def identity_of(taken: Taken) -> HostIdentity | None:
    """Who the host is, None where it does not show it."""
    result = taken.inventory.results.get("summary")
    facts = result.facts if result is not None else None
    return facts.identity if isinstance(facts, SummaryFacts) else None


def store_snapshot(node: Node, taken: Taken) -> tuple[Snapshot, tuple[Change, ...]]:
    """Keep the inventory as the node's newest, with an event where something changed.

    To be called within the transaction that fences the operation. Raises UnknownNode where the node has been
    removed meanwhile. Older snapshots in which nothing changed
    go once there are more than ``NODEADMIN_SNAPSHOTS_KEPT``.
    """
    observed_at = parse_time(taken.document.observed_at)
    _read_again(node)
    stored, before = previous_facts(node), _newest_inventory(node, taken.before)
    seconds = (observed_at - node.observed_at).total_seconds() if node.observed_at is not None else 0.0
    inventory = carried(taken.inventory, stored, node.observed_at)
    changes: tuple[Change, ...] = ()
    if before is not None:
        changes = _changes(node, carried(before, stored, node.observed_at), inventory)
    snapshot = Snapshot.objects.create(
        node=node,
        observed_at=observed_at,
        duration_s=taken.duration_s,
        document=taken.stored or taken.document.to_bytes(),
        changed=bool(changes) or before is None,
    )
    write_sections(snapshot, with_rates(inventory, stored, seconds))
    copy_figures(node, inventory, observed_at)
    used_percent = cpu_used_percent(inventory, stored)
    if used_percent is not None:
        node.cpu_used_percent = used_percent
    node.snapshot = snapshot
    node.observed_at = observed_at
    node.inventory_failures = 0
    # Not the whole row: its connection and scheduling may have changed since it was read.
    node.save(update_fields=[*FIGURE_COLUMNS, "snapshot", "observed_at", "inventory_failures", "updated_at"])
    if not keep_changes(node, changes, observed_at):
        # One in which something changed is kept for long; of a host that changes at each look, it is not.
        Snapshot.objects.filter(pk=snapshot.pk).update(changed=False)
    keep_smart(node, inventory, observed_at)
    keep_devices(node, inventory)
    _drop_unchanged(node)
    publish(NodeChanged(str(node.uuid), node.name))
    return snapshot, changes


def _changes(node: Node, before: Inventory, after: Inventory) -> tuple[Change, ...]:
    """What changed; nothing where telling it takes too long, for the node's row is locked meanwhile."""
    try:
        with limited(COMPARISON_CPU_S):
            return compare_since(before, after, _older(node))
    except TooMuchWork:
        log.warning("changes of a node take too long to tell", node=node.name)
        return ()


def _read_again(node: Node) -> None:
    """What is compared with, as it is now, and locked: another operation may have stored an inventory since
    the row was read, and the same change would be told twice."""
    try:
        node.refresh_from_db(
            fields=["snapshot", "observed_at", "cpu_used_percent"],
            from_queryset=Node.objects.select_for_update(),
        )
    except Node.DoesNotExist:
        raise removed() from None


def write_sections(snapshot: Snapshot, inventory: Inventory) -> None:
    """One row a section."""
    SnapshotSection.objects.bulk_create(
        SnapshotSection(
            snapshot=snapshot,
            slug=slug,
            facts=result.plain,
            problems=[to_plain(problem) for problem in result.problems],
        )
        for slug, result in inventory.results.items()
    )


def parse_again(snapshot: Snapshot) -> None:
    """Today's parsers over a stored document, in one transaction.

    What the document alone does not tell is kept as it is: rates between two inventories, and the last known
    values of disks that slept. Raises ValueError where the document is damaged, having changed nothing.
    """
    with transaction.atomic():
        node = Node.objects.select_for_update().get(pk=snapshot.node_id)
        stored = facts_of(snapshot.pk)
        inventory = carried(build(snapshot.host_document()), stored, snapshot.observed_at)
        snapshot.sections.all().delete()
        write_sections(snapshot, with_stored_rates(inventory, stored))
        if node.snapshot_id == snapshot.pk:
            copy_figures(node, inventory, snapshot.observed_at)
            node.save(update_fields=[*FIGURE_COLUMNS, "updated_at"])
            keep_devices(node, inventory)


def _newest_inventory(node: Node, known: Before | None) -> Inventory | None:
    """The inventory before this one, by today's parsers: a better parser is no change of the host.

    Read again where another operation has stored one since ``known``.
    """
    if known is None or known.pk != node.snapshot_id:
        known = _before(node)
    return known.inventory if known is not None else None


def _before(node: Node) -> Before | None:
    snapshot = Snapshot.objects.filter(pk=node.snapshot_id).first() if node.snapshot_id is not None else None
    return Before(snapshot.pk, _parsed(node, snapshot)) if snapshot is not None else None


def _parsed(node: Node, snapshot: Snapshot) -> Inventory | None:
    try:
        return build(snapshot.host_document())
    except ValueError:
        log.exception("the newest document of a node is damaged", node=node.name)
        return None


def _older(node: Node) -> Iterator[Inventory]:
    """The inventories before the newest one, back from it, without those in which the same sources failed.

    An unchanged one that has been dropped is missed by nobody: one that is older and kept shows the same.
    """
    back = Snapshot.objects.filter(node=node, pk__lte=node.snapshot_id or 0).order_by("-pk")
    failed = _failed_sources(list(back.values_list("pk", flat=True)[:OLDER_LOOKED_AT]))
    newest, *older = failed.items()
    useful = [pk for pk, sources in older if not newest[1] or not newest[1] <= sources]
    for pk in useful[:OLDER_PARSED]:
        step()
        # Old ones are also deleted elsewhere, meanwhile.
        snapshot = Snapshot.objects.filter(pk=pk).first()
        if snapshot is None:
            continue
        try:
            with limited(OLDER_CPU_S):
                inventory = build(snapshot.host_document())
            yield carried(inventory, facts_of(pk), snapshot.observed_at)
        except ValueError:
            log.exception("an older document of a node is damaged", node=node.name)


def _failed_sources(pks: Sequence[int]) -> dict[int, set[tuple[str, str]]]:
    """What could not be read in each of these snapshots, in their order: sections with their sources.

    Those of many items are left out: their problems do not name the items, which may be others each time.
    """
    failed: dict[int, set[tuple[str, str]]] = {pk: set() for pk in pks}
    rows = SnapshotSection.objects.filter(snapshot__in=pks).exclude(problems=[])
    for pk, slug, problems in rows.values_list("snapshot_id", "slug", "problems"):
        failed[pk].update(
            (slug, problem["source"])
            for problem in problems
            if problem["code"] in _FITFUL and problem["source"] not in _OF_ITEMS
        )
    return failed


def _drop_unchanged(node: Node) -> None:
    doomed = list(Snapshot.objects.filter(node=node).beyond_retention().values_list("pk", flat=True))
    Snapshot.objects.filter(pk__in=doomed).delete()
