"""What all constraints have in common: how their findings are put together, and that each is in use."""

from __future__ import annotations

import pkgutil
from dataclasses import replace

from nodes.operations.plan import constraints
from nodes.operations.plan.constraints import CONSTRAINTS, judge
from nodes.operations.plan.host_state import Verdicts
from nodes.operations.plan.vm_state import VmState
from nodes.operations.plans import Note, Reason
from tests.operations.plan.constraints.states import UUID, codes, source, target, vm


def test_every_file_of_a_constraint_is_one_line_of_the_tuple():
    files = {module.name for module in pkgutil.iter_modules(constraints.__path__)}
    named = [check.__module__.rpartition(".")[2] for check in CONSTRAINTS]
    assert sorted(files) == sorted(named)


def test_all_findings_are_given_in_their_order_and_the_same_words_once():
    two = (Reason("a", "has no a"), Note("Not verified: b"), Reason("c", "has no c"))
    found = judge(vm(), source(), target(), (lambda *_: two, lambda *_: two[:2]))
    assert (codes(found), found.notes) == (["a", "c"], ("Not verified: b",))


def test_two_bare_hosts_of_which_nothing_is_known_keep_no_plain_vm_apart():
    assert judge(vm(), source(), target()).reasons == ()


def test_what_libvirt_and_the_network_say_against_a_target_is_told_with_their_words():
    there = target(verdicts={UUID: Verdicts((False, "no pc-q35-7.2"), (False, "lacks avx512f"))})
    here = source(reaches={"u-target": (False, "Connection refused")})
    found = judge(vm(), here, replace(there, names={"web": "another"}))
    expected = ["hypervisor_differs", "cpu_incompatible", "name_taken_on_target", "migration_network"]
    assert codes(found) == expected
    told = " ".join(reason.message for reason in found.reasons)
    assert all(word in told for word in ("no pc-q35-7.2", "lacks avx512f", "refused", "192.0.2.2", "kvm-1"))


def test_what_cannot_be_told_is_a_note_and_keeps_no_vm_away():
    there = target(verdicts={UUID: Verdicts((None, "late"), (None, "host-passthrough"))})
    found = judge(vm(), source(reaches={"u-target": (None, "no shell")}), there)
    assert found.reasons == ()
    assert [
        word for note in found.notes for word in ("late", "host-passthrough", "no shell") if word in note
    ] == [
        "late",
        "host-passthrough",
        "no shell",
    ]


def test_the_same_vm_under_its_own_name_is_no_other_one():
    assert judge(vm(), source(), target(names={"web": UUID})).reasons == ()


def test_a_vm_whose_description_cannot_be_read_is_asked_about_nothing():
    known = vm()
    unread = VmState.of(replace(known.facts, xml="<no xml"))
    assert (unread.xml, unread.element, unread.name) == (None, None, "web")
    assert judge(unread, source(), target()).reasons == ()
