"""One alarm for many losses."""

from __future__ import annotations

from nodes.monitor.fleet import CutOff


def test_a_tenth_that_is_missing_is_no_sign_of_being_cut_off() -> None:
    assert CutOff().judge(1000, 100) is None


def test_most_of_the_fleet_at_once_is_and_it_is_said_once() -> None:
    cut_off = CutOff()
    assert cut_off.judge(10, 5) is True
    assert cut_off.judge(10, 9) is None


def test_it_ends_when_most_are_heard_again_and_does_not_waver() -> None:
    cut_off = CutOff()
    cut_off.judge(10, 10)
    assert cut_off.judge(10, 4) is None
    assert cut_off.judge(10, 2) is False
    assert cut_off.judge(10, 4) is None


def test_two_nodes_may_well_both_be_down() -> None:
    assert CutOff().judge(2, 2) is None
