"""Every section against every kind of damage: it says so, and the others stay whole.

A section is parsed from a document that shows it the sources it declares and refuses all others. So what one
source does to it, it does in the sections that declare it alone, and only these are parsed again for it; in
``script/soak inventory`` (``NODEADMIN_SOAK=1``) all are, with more examples.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nodes.inventory.build import Inventory, build
from nodes.inventory.changes import ChangeKind, compare
from nodes.inventory.document import HostDocument, SourceOutput, SourceStatus
from nodes.inventory.passthrough import Verdict
from nodes.inventory.registry import SECTIONS
from tests.hostile.damage import DAMAGES, damaged
from tests.inventory.documents import host_document, host_names
from tests.patience import slowness

SOAK = os.environ.get("NODEADMIN_SOAK") == "1"
DECLARED = {source.name for section in SECTIONS for source in (*section.sources, *section.libvirt)}
BESIDES = {"summary": {"probe"}, "vms": {"disk-files"}}
"""What a section reads of sources that others declare: its name in their problems would be no news."""


@dataclass(frozen=True)
class Watched(HostDocument):
    """A document of which only these sources and their items may be read."""

    declared: frozenset[str] = frozenset()

    def get(self, name: str) -> SourceOutput:
        assert name in self.declared or item_source(name) in self.declared, f"{name} is not declared"
        return super().get(name)

    def items(self, name: str) -> Iterator[tuple[str, SourceOutput]]:
        assert name in self.declared, f"{name} is not declared"
        return super().items(name)

    def with_sources(self, outputs: Mapping[str, SourceOutput]) -> HostDocument:
        return watched(super().with_sources(outputs), self.declared)


def watched(document: HostDocument, declared: Set[str]) -> Watched:
    fields = (document.observed_at, document.sources, document.transport, document.user)
    return Watched(*fields, declared=frozenset(declared))


def rebuilt(document: HostDocument, *changed: SourceOutput) -> Inventory:
    """The sections that read one of the ``changed`` outputs, each from what it declares alone."""
    document = document.with_sources({output.name: output for output in changed})
    results = {}
    for section in SECTIONS:
        read = {source.name for source in (*section.sources, *section.libvirt)}
        read |= BESIDES.get(section.slug, set())
        if SOAK or any({output.name, item_source(output.name)} & read for output in changed):
            results |= build(watched(document, read), [section]).results
    return Inventory(document.observed_at, results)


def whole(inventory: Inventory) -> bool:
    return all(problem.code != "parser_failed" for problem in inventory.problems)


@pytest.mark.parametrize("host", host_names())
def test_a_section_reads_what_it_declares_alone(host: str) -> None:
    document = host_document(host)
    found = rebuilt(document, *document.sources.values())
    assert whole(found)
    everything = build(document).plain()
    assert found.plain() == {slug: everything[slug] for slug in found.results}


def test_a_section_that_reads_what_it_does_not_declare_is_found() -> None:
    document = host_document("large")
    assert set(rebuilt(document, *document.sources.values()).results) == {s.slug for s in SECTIONS}

    def too_curious(seen: HostDocument) -> Any:
        seen.text("disk-lsblk")
        return SECTIONS[0].parse(seen)

    declared = {source.name for source in (*SECTIONS[0].sources, *SECTIONS[0].libvirt)}
    curious = replace(SECTIONS[0], parse=too_curious)
    assert not whole(build(watched(document, {*declared, "probe"}), [curious]))


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


def sampled(found: list[str], host: str, turn: int, of: int) -> list[str]:
    """Of the large host, which takes ten times as long as the others, one in ``of``: others each turn."""
    return found if SOAK or host != "large" else found[turn % of :: of]


def item_source(name: str) -> str:
    """The source of an item: ``ethtool`` of ``ethtool:eth0``."""
    return max((source for source in DECLARED if name.startswith(f"{source}:")), key=len, default=name)


@pytest.mark.parametrize("host", host_names())
@pytest.mark.parametrize("status", [s for s in SourceStatus if s is not SourceStatus.OK])
def test_any_one_source_can_fail(host: str, status: SourceStatus) -> None:
    document = host_document(host)
    for name in sampled(names(document), host, list(SourceStatus).index(status), 4):
        failed = SourceOutput(name, status, "", "no such thing", 1)
        assert whole(rebuilt(document, failed)), name


@pytest.mark.parametrize("host", host_names())
def test_any_one_source_can_be_cut_anywhere(host: str) -> None:
    document = host_document(host)
    for turn, part in enumerate((1, 3, 7, 9)):
        for name in sampled(names(document), host, turn, 2):
            text = document.get(name).stdout
            cut = SourceOutput(name, SourceStatus.TRUNCATED, text[: len(text) * part // 10])
            assert whole(rebuilt(document, cut)), name


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
        found = rebuilt(document, noise).problems
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
@settings(max_examples=300 if SOAK else 30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
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
    assert whole(rebuilt(document, damaged)), name


MOST_CPU_S = 4.0


@pytest.mark.parametrize("host", host_names() if SOAK else ["lab-rich"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_no_damage_takes_long_or_reaches_another_section(host: str, damage: str) -> None:
    """In ``script/soak inventory`` every source of every host; here others for each damage."""
    document = host_document(host)
    before = build(document).plain()
    chosen = names(document)
    for name in chosen if SOAK else chosen[list(DAMAGES).index(damage) % 23 :: 23]:
        output = damaged(document.get(name), damage)
        begin = time.thread_time()
        found = rebuilt(document, output)
        used = time.thread_time() - begin
        assert used < MOST_CPU_S or used < MOST_CPU_S * slowness(), name
        assert whole(found), name
        told = found.plain()
        assert all(is_clean(facts) for facts in told.values()), name
        others = {slug for slug in before if not reads(slug, name)}
        assert others.isdisjoint(told) or all(told[slug] == before[slug] for slug in others), name


def reads(slug: str, name: str) -> bool:
    declared = {
        s.name for section in SECTIONS if section.slug == slug for s in (*section.sources, *section.libvirt)
    }
    return bool({name, item_source(name)} & (declared | BESIDES.get(slug, set())))


def is_clean(value: Any) -> bool:
    """Whether any database takes it as JSON."""
    if isinstance(value, dict):
        return all(is_clean(key) and is_clean(item) for key, item in value.items())
    if isinstance(value, list):
        return all(map(is_clean, value))
    if isinstance(value, str):
        return "\0" not in value and not any(0xD800 <= ord(char) <= 0xDFFF for char in value)
    return not isinstance(value, float) or math.isfinite(value)
