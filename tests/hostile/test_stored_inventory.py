"""An inventory that an enemy printed is stored whole: no column refuses what it says."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nodes.inventory.build import build
from nodes.inventory.document import SourceStatus
from nodes.models import Device, Snapshot, SnapshotSection
from nodes.operations import snapshots
from nodes.operations.columns import fitting
from nodes.operations.figures import copy_figures, parse_time
from nodes.operations.snapshots import Taken, store_snapshot
from tests.factories import make_node
from tests.hostile.damage import DAMAGES, damaged
from tests.inventory.documents import host_document

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    "damage", ["gigantic numbers", "negative", "surrogates", "NUL", "controls", "markup", "a token of 1 MB"]
)
def test_an_enemys_inventory_is_stored_with_what_changed(damage: str) -> None:
    assert damage in DAMAGES
    node = make_node("kvm-01")
    document = host_document("lab-rich")
    store_snapshot(node, Taken(document, build(document), 1.0))
    hurt = document.with_sources({name: damaged(output, damage) for name, output in document.sources.items()})
    store_snapshot(node, Taken(hurt, build(hurt), 1.0))
    node.refresh_from_db()
    assert Snapshot.objects.filter(node=node).count() == 2
    assert SnapshotSection.objects.filter(snapshot=node.snapshot).count() == len(build(document).results)
    assert "\0" not in node.cpu_model
    assert all(len(row.key) <= 255 for row in Device.objects.filter(node=node))


def test_figures_beyond_their_columns_are_unknown() -> None:
    node = make_node("kvm-01")
    inventory = build(host_document("lab-plain"))
    summary = inventory.results["summary"]
    memory = replace(summary.facts.memory, total_bytes=1 << 64, used_bytes=1 << 70)
    facts = replace(summary.facts, memory=memory, cpu=replace(summary.facts.cpu, threads=1 << 40))
    results = {**inventory.results, "summary": replace(summary, facts=facts)}
    copy_figures(node, replace(inventory, results=results), parse_time("+300000-01-01"))
    node.save()
    node.refresh_from_db()
    assert (node.memory_total_bytes, node.memory_used_bytes, node.cpu_threads) == (None, None, None)


def test_text_fits_its_column_and_numbers_keep_their_value() -> None:
    node = make_node("kvm-01")
    assert fitting(node, "cpu_model", "x\0\udc80" * 300) == ("x\ufffd" * 300)[:200]
    assert fitting(node, "cpu_model", None) == ""
    assert fitting(node, "memory_total_bytes", (1 << 63) - 1) == (1 << 63) - 1
    assert fitting(node, "memory_total_bytes", 1 << 63) is None
    assert fitting(node, "cpu_used_percent", float("inf")) is None


@pytest.mark.parametrize("limit_s", [5.0, 0.0])
def test_a_comparison_that_takes_too_long_ends_and_the_inventory_is_stored(
    monkeypatch: pytest.MonkeyPatch, limit_s: float
) -> None:
    """What was hidden sends it through older documents, and the node's row is locked meanwhile."""
    monkeypatch.setattr(snapshots, "COMPARISON_CPU_S", limit_s)
    node = make_node("kvm-01")
    document = host_document("lab-rich")
    silent = {
        name: replace(output, status=SourceStatus.TIMEOUT, stdout="")
        for name, output in document.sources.items()
    }
    hurt = document.with_sources({name: damaged(one, "markup") for name, one in document.sources.items()})
    for one in (document, document.with_sources(silent)):
        store_snapshot(node, Taken(one, build(one), 1.0))
    stored, changes = store_snapshot(node, Taken(hurt, build(hurt), 1.0))
    assert bool(changes) is bool(limit_s)
    node.refresh_from_db()
    assert node.snapshot_id == stored.pk
