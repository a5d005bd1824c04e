"""When a migration counts as one that does not converge."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from nodes.hosts.libvirt.convergence import MIB, Convergence, Patience, Sample, explained

PATIENCE = Patience(seconds=10.0, passes=3)


def sample(number: int | None, left_mib: float | None, throttle: int | None = None) -> Sample:
    left = None if left_mib is None else int(left_mib * MIB)
    return Sample(number, left, 200.0 * MIB, 100.0 * MIB, throttle)


def stalls_at(samples: Sequence[Sample], patience: Patience = PATIENCE) -> int | None:
    """The second, one sample each, in which it counts as stalled."""
    following = Convergence(patience)
    found = (second for second, one in enumerate(samples) if following.stalled(float(second), one))
    return next(found, None)


def test_passes_that_stay_as_large_as_they_were_are_given_up_after_time_and_passes() -> None:
    assert stalls_at([sample(number, 500) for number in range(1, 40)]) == 12


def test_a_long_pass_is_not_given_up_before_there_were_enough_of_them() -> None:
    slow = [sample(1 + second // 20, 500) for second in range(200)]
    assert stalls_at(slow) == 100


def test_the_first_pass_over_a_large_memory_may_take_what_it_takes() -> None:
    assert stalls_at([sample(1, 60_000 - 10 * second) for second in range(5000)]) is None


def test_passes_that_shrink_even_slowly_are_waited_for() -> None:
    shrinking = [sample(1 + second // 5, 5000 * 0.95 ** (second // 5)) for second in range(400)]
    assert stalls_at(shrinking) is None


def test_what_remains_within_a_pass_goes_down_and_is_no_progress() -> None:
    within = [sample(1 + second // 4, 500 - 120 * (second % 4)) for second in range(100)]
    assert stalls_at(within) is not None


def test_a_guest_that_is_slowed_down_further_gets_the_whole_time_again() -> None:
    slowed = [sample(1 + second, 500, min(99, 20 + 10 * (second // 8))) for second in range(100)]
    assert stalls_at(slowed) == 8 * 8 + 10


@pytest.mark.parametrize(
    ("samples", "patience"),
    [
        ([sample(number, 500) for number in range(1, 500)], Patience(seconds=0.0, passes=1)),
        ([sample(None, 500)] * 100, PATIENCE),
        ([sample(number, None) for number in range(100)], PATIENCE),
    ],
    ids=["switched off", "no passes told", "nothing told of what remains"],
)
def test_nothing_is_concluded_from_what_is_not_told(samples: list[Sample], patience: Patience) -> None:
    assert stalls_at(samples, patience) is None


def test_the_words_have_both_rates_and_say_what_is_not_known() -> None:
    told = explained(Sample(9, 1, 290.4 * MIB, 3.5 * MIB, 99))
    assert "290 MiB/s" in told
    assert "3.5 MiB/s" in told
    assert "99 %" in told
    assert "no dirty rate" in explained(Sample(9, 1, None, 1.0, None))
    assert explained(None).endswith(".")


def test_a_sample_is_read_from_libvirts_statistics() -> None:
    stats = {
        "memory_iteration": 7,
        "memory_remaining": 3 << 20,
        "memory_dirty_rate": 256,
        "memory_page_size": 4096,
        "memory_bps": 5 << 20,
        "auto_converge_throttle": 30,
    }
    assert Sample.of(stats) == Sample(7, 3 << 20, float(1 << 20), float(5 << 20), 30)
    assert Sample.of({}) == Sample(None, None, None, None, None)
