"""A target that has refused a VM, for as long as the VM is the same."""

from __future__ import annotations

from datetime import UTC, datetime

from lxml import etree

from nodes.operations.plan.constraints import earlier_refusal
from nodes.operations.plan.refusals import Refusal, description_digest
from tests.operations.plan.constraints.states import codes, disk, found, source, target, vm

AT = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)


def refusal(of) -> Refusal:
    return Refusal(
        "cpu_incompatible", "Host CPU does not provide avx512f.", AT, description_digest(of.element)
    )


def test_a_refusal_counts_for_the_vm_as_it_was_and_for_no_other():
    web = vm()
    there = target(refusals={web.uuid: refusal(web)})
    (reason,) = found(earlier_refusal.check, web, source(), there).reasons
    assert reason.code == "target_refused"
    assert "2026-01-02" in reason.message and "avx512f" in reason.message
    assert codes(found(earlier_refusal.check, vm(disk("file='/new'")), source(), there)) == []
    assert codes(found(earlier_refusal.check, web, source(), target())) == []


def test_a_target_that_a_person_named_is_tried_again_and_the_refusal_is_told():
    web = vm()
    for named in (web.uuid, web.name):
        there = target(refusals={web.uuid: refusal(web)}, named_for=frozenset({named}))
        findings = found(earlier_refusal.check, web, source(), there)
        assert not findings.reasons and "avx512f" in findings.notes[0]


def test_what_changes_by_itself_while_a_vm_runs_makes_it_no_other():
    root = vm().element
    before = etree.tostring(root)
    again = etree.fromstring(before)
    again.set("id", "77")
    etree.SubElement(again, "currentMemory").text = "4096"
    assert description_digest(again) == description_digest(root)
    again.find("memory").text = "1024"
    assert description_digest(again) != description_digest(root)
    assert etree.tostring(root) == before
