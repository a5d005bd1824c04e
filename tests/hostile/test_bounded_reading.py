"""A document that takes too long to read costs its own sections, within a bound, and no others."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from nodes.inventory import build as building
from nodes.inventory.build import build
from nodes.inventory.document import HostDocument, SourceOutput, SourceStatus
from nodes.inventory.parsing import bounds
from nodes.inventory.parsing.bounds import bounded
from nodes.inventory.parsing.effort import TooMuchWork, limited, step, stepped
from nodes.inventory.registry import SECTIONS
from nodes.inventory.xmltext import parse_xml
from tests.hostile.damage import DAMAGES
from tests.inventory.documents import host_document


def test_a_section_that_takes_too_long_is_told_and_the_others_are_as_before(monkeypatch) -> None:
    document = host_document("lab-rich")
    before = build(document).plain()
    monkeypatch.setattr(building, "SECTION_CPU_S", 0.2)

    def endless(seen: HostDocument):
        for _turn in stepped(iter(int, 1)):
            pass

    slow = [replace(section, parse=endless) if section.slug == "usb" else section for section in SECTIONS]
    begin = time.thread_time()
    found = build(document, slow)
    assert time.thread_time() - begin < 5
    assert [(p.section, p.code) for p in found.problems if p.code == "too_large"] == [("usb", "too_large")]
    before.pop("usb")
    assert found.plain() == before


def test_a_document_that_takes_too_long_in_every_section_ends_within_its_bound(monkeypatch) -> None:
    monkeypatch.setattr(building, "CPU_S", 0.3)

    def endless(seen: HostDocument):
        for _turn in stepped(iter(int, 1)):
            pass

    begin = time.thread_time()
    found = build(host_document("lab-plain"), [replace(section, parse=endless) for section in SECTIONS])
    assert time.thread_time() - begin < 3
    assert {p.section for p in found.problems if p.code == "too_large"} == {s.slug for s in SECTIONS}


def test_the_bound_around_holds_within_a_longer_one() -> None:
    with pytest.raises(TooMuchWork), limited(0.0), limited(60.0):
        for _turn in range(10_000):
            step()
    step()


def test_what_is_too_large_is_cut_and_takes_no_room_from_its_neighbours(monkeypatch) -> None:
    monkeypatch.setattr(bounds, "MAX_TEXT", 1000)
    monkeypatch.setattr(bounds, "MAX_TOTAL", 1500)
    outputs = {
        name: SourceOutput(name, SourceStatus.OK, "x" * size)
        for name, size in (("large", 5000), ("small", 10), ("other", 1200), ("small:1", 5))
    }
    found = bounded(HostDocument("2026-01-01T00:00:00Z", outputs)).sources
    assert list(found) == list(outputs)
    assert found["small"] == outputs["small"]
    assert found["large"].status is found["other"].status is SourceStatus.TRUNCATED
    assert sum(len(output.stdout) for output in found.values()) <= 1500


def test_a_document_that_fits_is_the_same_one() -> None:
    document = host_document("large")
    assert bounded(document) is document


@pytest.mark.parametrize("damage", ["laughs", "nested XML", "attributes"])
def test_xml_that_is_made_to_hurt_is_none(damage: str) -> None:
    begin = time.thread_time()
    root = parse_xml(DAMAGES[damage](""))
    assert time.thread_time() - begin < 2
    assert root is None or damage == "attributes"
