"""Waits of tests: as long as their bound on a machine at rest, longer on a slow one, and never for ever."""

from __future__ import annotations

import time

import pytest

from tests import patience
from tests.patience import MOST, Deadline


@pytest.fixture(autouse=True)
def no_boots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "_boots", [])


def works_for(seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine takes so long for the piece of work that it is measured by."""
    monkeypatch.setattr(patience, "_work", lambda: time.sleep(seconds))


def test_a_machine_at_rest_is_given_the_bound_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    works_for(0, monkeypatch)
    deadline = Deadline(0.05)
    assert not deadline.over()
    time.sleep(0.06)
    assert deadline.over()
    assert deadline.seconds == 0.05


def test_a_busy_machine_is_given_as_many_times_more(monkeypatch: pytest.MonkeyPatch) -> None:
    works_for(3 * patience.WORK_S, monkeypatch)
    deadline = Deadline(0.2)
    time.sleep(0.21)
    assert not deadline.over()
    assert 0.55 < deadline.seconds < 1.5
    time.sleep(deadline.seconds - deadline.waited_s + 0.01)
    works_for(0, monkeypatch)
    assert deadline.over()


def test_one_whose_hosts_took_long_to_start_is_slow_though_it_rests_now(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    works_for(0, monkeypatch)
    patience.note_boot(2 * patience.BOOT_S)
    patience.note_boot(9 * patience.BOOT_S)  # a reboot in a test, which may have had reasons of its own
    assert patience.slowness() == 2


def test_nobody_waits_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    works_for(0, monkeypatch)
    patience.note_boot(1e6)
    assert patience.slowness() == MOST
