"""VMs that run on a node in maintenance though nobody meant it: what one inventory after another tells."""

from __future__ import annotations

from nodes.operations.node_state.maintenance_vms import Baseline, judge


def told(known: Baseline | None, *looks: tuple[str, set[str]]) -> list[tuple[str, ...]]:
    """What each of the inventories, a boot ID and the running VMs, has told."""
    found = []
    for boot_id, active in looks:
        known, unmeant = judge(known, boot_id, active)
        found.append(unmeant)
    return found


def test_what_runs_when_maintenance_is_first_looked_at_is_meant():
    assert told(None, ("a", {"web", "db"}), ("a", {"web", "db"})) == [(), ()]


def test_a_vm_that_comes_is_told_once_and_again_when_it_ends_and_comes_back():
    looks = [("a", set()), ("a", {"web"}), ("a", {"web"}), ("a", set()), ("a", {"web"})]
    assert told(None, *looks) == [(), ("web",), (), (), ("web",)]


def test_after_a_restart_that_nobody_asked_for_every_vm_was_started_anew():
    assert told(None, ("a", {"web"}), ("b", {"web", "db"}), ("b", {"web", "db"})) == [(), ("db", "web"), ()]


def test_what_an_operation_says_comes_up_is_meant_even_where_it_comes_late():
    known = Baseline({"web": False}, before_boot_id="a")
    looks = [("a", set()), ("b", set()), ("b", {"web"}), ("b", {"web", "db"}), ("b", {"db"}), ("b", {"web"})]
    assert told(known, *looks) == [(), (), (), ("db",), (), ("web",)]


def test_until_the_boot_has_ended_nothing_is_judged():
    known = Baseline({}, before_boot_id="a")
    assert told(known, ("a", {"late"}), ("", {"late"}), ("b", {"late"})) == [(), (), ("late",)]


def test_a_boot_id_that_could_not_be_read_is_no_restart():
    assert told(Baseline({"web": True}, "a"), ("", {"web"}), ("a", {"web"})) == [(), ()]
