"""One budget a host: busy hosts share a part of a core, and what is held by number is refused beyond it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from nodes.errors import HostBudgetExceeded
from nodes.hosts.deadlines import run_within
from nodes.hosts.host_budget import DEFAULT, HostBudgets, Meter
from nodes.hosts.hypervisor import in_thread
from nodes.hosts.shared_pool import SharedPool
from tests.patience import Deadline

STEP_S = 0.01


def spend_until(budgets: HostBudgets, keys: list[str], seconds: float) -> dict[str, float]:
    """What hosts that never have enough come to use in so many seconds, if each pauses as it is told."""
    used = dict.fromkeys(keys, 0.0)
    ready = dict.fromkeys(keys, 0.0)
    end = time.monotonic() + seconds
    while (now := time.monotonic()) < end:
        for key in keys:
            if ready[key] <= now:
                used[key] += STEP_S
                ready[key] = now + max(STEP_S, budgets.of(key).spend(STEP_S))
        time.sleep(0.001)
    return used


def test_a_host_that_is_busy_alone_is_not_held_back_for_its_burst() -> None:
    budgets = HostBudgets()
    assert sum(budgets.of("one").spend(STEP_S) for _ in range(int(4 / STEP_S))) == 0.0


def test_busy_hosts_share_a_part_of_one_core_and_a_quiet_one_never_waits() -> None:
    budgets = HostBudgets(replace(DEFAULT, cpu_burst_of_several_s=0.05))
    used = spend_until(budgets, ["one", "two", "three"], 1.5)
    assert sum(used.values()) < 1.5 * DEFAULT.cpu_share_of_several + 3 * 0.05 + 0.4
    assert budgets.of("quiet").spend(0.0005) == 0.0


def test_a_request_has_precedence_over_a_busy_host_that_is_within_its_burst() -> None:
    budgets = HostBudgets()
    host = budgets.of("one")
    for _ in range(20):
        assert host.spend(STEP_S) == 0.0
    budgets.precede()
    assert host.spend(STEP_S) > STEP_S


def test_a_new_connection_refills_no_budget() -> None:
    budgets = HostBudgets()
    first = budgets.of("node", "kvm-01")
    first.spend(60.0)
    assert budgets.of("node").spend(STEP_S) > 0


@pytest.mark.parametrize(
    ("resource", "amount"), [("sessions", 48), ("threads", 64), ("held_bytes", 32 << 20)]
)
def test_beyond_a_number_a_host_is_refused_with_what_and_how_much(resource, amount) -> None:
    budget = HostBudgets().of("node", "kvm-01")
    budget.take(resource, amount)
    shown = str(amount >> 20 if resource == "held_bytes" else amount)
    with pytest.raises(HostBudgetExceeded, match=f"kvm-01 .*{shown}"):
        budget.take(resource)
    budget.give_back(resource, amount)
    budget.take(resource)


def test_another_host_has_its_own_numbers() -> None:
    budgets = HostBudgets()
    budgets.of("one").take("sessions", 48)
    budgets.of("two").take("sessions")


def test_calls_that_hang_count_until_they_end_and_not_until_they_are_given_up() -> None:
    budget = HostBudgets(replace(DEFAULT, threads=2)).of("node", "kvm-01")
    go_on = threading.Event()
    for _ in range(2):
        with pytest.raises(Exception, match="did not end"):
            in_thread(budget, lambda: go_on.wait(20), 0.05, "A call")
    with pytest.raises(HostBudgetExceeded, match="2 calls"):
        in_thread(budget, lambda: True, 0.05, "A call")
    go_on.set()
    assert in_thread(budget, lambda: True, 10, "A call")


def test_a_reader_that_is_over_budget_wakes_as_soon_as_it_is_closed() -> None:
    budget = HostBudgets().of("node")
    meter, closing = Meter(budget), threading.Event()
    meter.settle()
    budget.spend(1000.0)
    threading.Timer(0.1, closing.set).start()
    deadline = Deadline(1)
    assert meter.rest(None, closing) > 0
    assert not deadline.over()


# -- pools -----------------------------------------------------------------------------------------


@pytest.fixture
def slow_work() -> Callable[[], Callable[[], bool]]:
    release = threading.Event()
    yield lambda: lambda: release.wait(30)
    release.set()


def test_one_host_has_its_share_of_the_threads_and_no_more(slow_work) -> None:
    pool = SharedPool(8, "test", share=2)
    for _ in range(20):
        pool.submit("bad", slow_work())
    assert pool.submit("good", lambda: "done").result(10) == "done"
    assert pool.running("bad") == 2
    pool.close()


def test_many_hosts_that_hang_leave_room_for_one_that_answers(slow_work) -> None:
    pool = SharedPool(8, "test", share=2, slow_s=0.2)
    pool.submit("good", lambda: None).result(10)
    for number in range(40):
        pool.submit(f"bad-{number}", slow_work())
    assert pool.submit("good", lambda: "done").result(10) == "done"
    assert pool.running() <= 12
    pool.close()


def test_a_host_that_was_slow_waits_with_its_like_the_next_time() -> None:
    pool = SharedPool(4, "test", share=4, slow_s=0.05)
    pool.submit("bad", lambda: time.sleep(0.2)).result(10)
    release = threading.Event()
    for _ in range(4):
        pool.submit("bad", lambda: release.wait(20))
    assert run_within(lambda: pool.submit("good", lambda: True).result(10), 10, "The good one")
    assert pool.running("bad") == 2
    release.set()
    pool.close()


def test_what_waits_in_a_pool_that_is_closed_is_cancelled(slow_work) -> None:
    pool = SharedPool(1, "test", share=1)
    pool.submit("one", slow_work())
    waiting = pool.submit("one", lambda: True)
    pool.close()
    assert waiting.cancelled()
