"""VM steps side by side: what a failure, a cancel and a lost claim do to the others."""

from __future__ import annotations

import threading
import time

import pytest

from nodes.errors import HostTimeout
from nodes.operations.base import ClaimLost, OperationCancelled
from nodes.operations.crew import Job, do_jobs


@pytest.fixture(autouse=True)
def _database(transactional_db: None) -> None:
    """The threads close their connections to it."""


def raising(error: BaseException):
    def work() -> None:
        raise error

    return work


def test_two_at_once_and_no_more():
    inside, most, guard = 0, 0, threading.Lock()

    def work() -> None:
        nonlocal inside, most
        with guard:
            inside += 1
            most = max(most, inside)
        time.sleep(0.1)
        with guard:
            inside -= 1

    assert do_jobs([Job(str(number), work) for number in range(6)], at_once=2, go_on=True) == {}
    assert most == 2


def test_after_a_failure_what_runs_ends_and_the_rest_is_not_begun():
    done, under_way, failed = [], threading.Event(), threading.Event()

    def bad() -> None:
        under_way.wait(5)
        failed.set()
        raise HostTimeout("no")

    def slow() -> None:
        under_way.set()
        failed.wait(5)
        time.sleep(0.3)
        done.append("under way")

    jobs = [Job("bad", bad), Job("slow", slow), Job("later", lambda: done.append("later"))]
    assert list(do_jobs(jobs, at_once=2, go_on=False)) == ["bad"]
    assert done == ["under way"]


def test_where_it_is_to_go_on_the_others_are_done_all_the_same():
    done = []
    jobs = [Job("bad", raising(HostTimeout("no"))), *(Job(n, lambda n=n: done.append(n)) for n in "abc")]
    assert list(do_jobs(jobs, at_once=2, go_on=True)) == ["bad"]
    assert sorted(done) == ["a", "b", "c"]


@pytest.mark.parametrize("error", [OperationCancelled(), ClaimLost(), RuntimeError("a bug")])
def test_what_ends_the_whole_operation_is_raised_in_its_own_thread(error):
    begun = []
    with pytest.raises(type(error)):
        do_jobs([Job("ends", raising(error)), Job("later", lambda: begun.append(1))], at_once=1, go_on=True)
    assert begun == []


def test_a_lost_claim_outweighs_a_cancel():
    barrier = threading.Barrier(2)

    def both(error: BaseException):
        def work() -> None:
            barrier.wait(5)
            raise error

        return work

    with pytest.raises(ClaimLost):
        do_jobs([Job("a", both(OperationCancelled())), Job("b", both(ClaimLost()))], at_once=2, go_on=True)
