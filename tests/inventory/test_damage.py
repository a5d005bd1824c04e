"""Every section against every kind of damage: it says so, and the others stay whole."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nodes.inventory.build import Inventory, build
from nodes.inventory.changes import ChangeKind, compare
from nodes.inventory.document import HostDocument, SourceOutput, SourceStatus
from nodes.inventory.passthrough import Verdict
from nodes.inventory.registry import SECTIONS
from tests.inventory.documents import host_document, host_names

DECLARED = {source.name for section in SECTIONS for source in (*section.sources, *section.libvirt)}


def whole(inventory: Inventory) -> bool:
    return all(problem.code != "parser_failed" for problem in inventory.problems)


def names(document: HostDocument) -> list[str]:
    """Every source; of one with many items, which one parser reads, the first, the middle and the last."""
    found: dict[str, list[str]] = {}
    for name in sorted(document.sources):
        found.setdefault(name if name in DECLARED else item_source(name), []).append(name)
    return [
        name
        for alike in found.values()
        for name in dict.fromkeys((alike[0], alike[len(alike) // 2], alike[-1]))
    ]


def item_source(name: str) -> str:
    """The source of an item: ``ethtool`` of ``ethtool:eth0``."""
    return max((source for source in DECLARED if name.startswith(f"{source}:")), key=len, default=name)


@pytest.mark.parametrize("host", host_names())
@pytest.mark.parametrize("status", [s for s in SourceStatus if s is not SourceStatus.OK])
def test_any_one_source_can_fail(host: str, status: SourceStatus) -> None:
    document = host_document(host)
    for name in names(document):
        failed = SourceOutput(name, status, "", "no such thing", 1)
        assert whole(build(document.with_sources({name: failed}))), name


@pytest.mark.parametrize("host", host_names())
def test_any_one_source_can_be_cut_anywhere(host: str) -> None:
    document = host_document(host)
    for name in names(document):
        text = document.get(name).stdout
        for part in (1, 3, 7, 9):
            cut = SourceOutput(name, SourceStatus.TRUNCATED, text[: len(text) * part // 10])
            assert whole(build(document.with_sources({name: cut}))), name


NOISE = "<html>504 gateway\nUsage: command [OPTION]…\n\x00\ufffd [[{ nothing: of the kind\n"


def readers(name: str) -> set[str]:
    """The sections that declare the source ``name`` or, of an item, its source."""
    return {
        section.slug
        for section in SECTIONS
        for source in (*section.sources, *section.libvirt)
        if name == source.name or name.startswith(f"{source.name}:")
    }


@pytest.mark.parametrize("host", ["large", "lab-rich", "arm-server"])
def test_a_source_that_gives_noise_is_named_by_every_section_that_reads_it(host: str) -> None:
    document = host_document(host)
    calm = {(problem.section, problem.source) for problem in build(document).problems}
    for name in kinds(document):
        noise = SourceOutput(name, SourceStatus.OK, NOISE, exit_status=0)
        found = build(document.with_sources({name: noise})).problems
        told = {p.section for p in found if (p.section, p.source) not in calm and p.code == "unreadable"}
        assert told == readers(name), name


def kinds(document: HostDocument) -> list[str]:
    """The sources that printed something; of those of many items the first."""
    found: dict[str, str] = {}
    for name, output in document.sources.items():
        if output.stdout and readers(name):
            found.setdefault(name if name in DECLARED else item_source(name), name)
    return list(found.values())


def test_what_every_host_prints_is_missed_where_nothing_came() -> None:
    document = host_document("large")
    for name in ("use-files", "use-links", "net-files", "ip-address", "system", "libvirt:domains"):
        empty = SourceOutput(name, SourceStatus.OK, "", exit_status=0)
        found = build(document.with_sources({name: empty})).problems
        assert {problem.section for problem in found} == readers(name)
    without = {name: SourceOutput(name, SourceStatus.OK) for name in ("usb-files", "usb-links", "disk-lvm")}
    assert build(document.with_sources(without)).problems == ()


def test_noise_makes_no_device_free_and_no_other_host() -> None:
    before = host_document("large")
    calm = build(before)
    for name in ("use-files", "pci-links", "libvirt:domains", "ip-address", "disk-lsblk"):
        after = build(before.with_sources({name: SourceOutput(name, SourceStatus.OK, NOISE)}))
        told = compare(calm, after)
        assert [c for c in told if c.kind is ChangeKind.REMOVED or c.after is None] == [], name
    noise = build(before.with_sources({"use-files": SourceOutput("use-files", SourceStatus.OK, NOISE)}))
    used = {
        device.address
        for device in calm.results["pci"].facts.devices
        if device.passthrough.verdict is Verdict.BLOCKED
    }
    for device in noise.results["pci"].facts.devices:
        assert device.address not in used or device.passthrough.verdict is not Verdict.READY


@pytest.mark.parametrize("host", host_names())
@given(data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_one_source_can_be_garbage(host: str, data: st.DataObject) -> None:
    document = host_document(host)
    name = data.draw(st.sampled_from(names(document)))
    text = document.get(name).stdout
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 40)))
    put = data.draw(
        st.text(st.characters(), max_size=30) | st.sampled_from(["9" * 5000, "[" * 3000, "-1", "0"])
    )
    damaged = SourceOutput(name, SourceStatus.OK, text[:start] + put + text[end:])
    assert whole(build(document.with_sources({name: damaged}))), name
