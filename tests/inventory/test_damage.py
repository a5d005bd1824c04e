"""Every section against every kind of damage: it says so, and the others stay whole."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nodes.inventory.build import Inventory, build
from nodes.inventory.document import HostDocument, SourceOutput, SourceStatus
from tests.inventory.documents import host_document, host_names


def whole(inventory: Inventory) -> bool:
    return all(problem.code != "parser_failed" for problem in inventory.problems)


def names(document: HostDocument) -> list[str]:
    return sorted(document.sources)


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
