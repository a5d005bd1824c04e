"""Nodes as the hosts that a plan asks: how each is reached, and what the database tells constraints of it.

Read for all nodes of a batch together: what is asked of the database does not grow with their number.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from nodes import access
from nodes.errors import NodeAdminError
from nodes.models import DeclaredSharedStorage, Node, SnapshotSection
from nodes.operations.host_reading import Host
from nodes.operations.options import Options, Wish
from nodes.operations.plan.host_readers import SECTIONS
from nodes.operations.plan.refusals import Refusal
from nodes.operations.storage import DeclaredShare

Refusals = Mapping[int, Mapping[str, Refusal]]
"""What nodes have refused before, by the node's key and the VM's UUID."""


def host_of(node: Node, refusals: Refusals | None = None) -> Host | NodeAdminError:
    """The host of one node, or why it cannot be reached."""
    return hosts_of([node], refusals)[node.pk]


def hosts_of(
    nodes: Sequence[Node], refusals: Refusals | None = None, options: Options | None = None
) -> dict[int, Host | NodeAdminError]:
    """The hosts of ``nodes`` by the node's key, in their order, or why one cannot be reached. ``options`` may
    name nodes as the targets of single VMs."""
    targets = access.targets_for(nodes)
    inventories, declared = _inventories(nodes), _declared(nodes)
    found: dict[int, Host | NodeAdminError] = {}
    for node in nodes:
        target = targets[node.pk]
        if isinstance(target, NodeAdminError):
            found[node.pk] = target
            continue
        found[node.pk] = Host(
            uuid=str(node.uuid),
            name=node.name,
            target=target,
            address=node.migration_address or access.read_uri(node.uri).host,
            address_forced=node.migration_address_forced,
            inventory=inventories.get(node.snapshot_id or 0, {}),
            declared=tuple(declared.get(node.pk, ())),
            refusals=(refusals or {}).get(node.pk, {}),
            named_for=_named_for(node, options) if options is not None else frozenset(),
        )
    return found


def _named_for(node: Node, options: Options) -> frozenset[str]:
    """The VMs, by the name or UUID that the options have, whose own target the node is."""
    wishes = {vm: Wish.of(given) for vm, given in options.vm_overrides.items()}
    return frozenset(vm for vm, wish in wishes.items() if wish.target in (str(node.uuid), node.name))


def _declared(nodes: Sequence[Node]) -> Mapping[int, list[DeclaredShare]]:
    """By node the storage that it was declared to share, the oldest declaration first."""
    found: dict[int, list[DeclaredShare]] = defaultdict(list)
    rows = DeclaredSharedStorage.objects.filter(nodes__in=[node.pk for node in nodes]).order_by("pk")
    for node, key, kind, name, who in rows.values_list("nodes", "pk", "kind", "name", "declared_by_name"):
        found[node].append(DeclaredShare(key, kind, name, who or "?"))
    return found


def _inventories(nodes: Sequence[Node]) -> Mapping[int, dict[str, Any]]:
    """By snapshot the newest facts of the sections that constraints ask for, by slug."""
    found: dict[int, dict[str, Any]] = defaultdict(dict)
    snapshots = [node.snapshot_id for node in nodes if node.snapshot_id is not None]
    rows = SnapshotSection.objects.filter(snapshot__in=snapshots, slug__in=SECTIONS).exclude(facts=None)
    for snapshot, slug, facts in rows.values_list("snapshot_id", "slug", "facts"):
        found[snapshot][slug] = facts
    return found
