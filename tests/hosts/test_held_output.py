"""What commands print is held within the bounds of the command, of its host, and of all hosts together."""

from __future__ import annotations

import threading

import pytest

from nodes.errors import HostBudgetExceeded
from nodes.hosts.held_output import FREE_BYTES, HeldOutput, Room
from nodes.hosts.host_budget import HostBudgets
from tests.patience import slowness

MIB = b"x" * (1 << 20)


def output(name: str, room: Room, max_bytes: int = 64 << 20) -> HeldOutput:
    return HeldOutput(HostBudgets().of(name, name), max_bytes, shared=room)


def fill(held: HeldOutput, pieces: int) -> None:
    for _ in range(pieces):
        assert held.add(MIB, 0.0)


def test_what_a_command_held_is_free_again_after_it() -> None:
    room, budget = Room(4 << 20), HostBudgets().of("node")
    for _ in range(3):
        held = HeldOutput(budget, 64 << 20, shared=room)
        fill(held, 4)
        assert held.value() == MIB * 4
        held.release()
    assert (budget.taken("held_bytes"), room.taken) == (0, 0)


def test_a_small_output_has_room_where_others_have_taken_all() -> None:
    room = Room(2 << 20)
    fill(output("one", room), 3)
    small = output("two", room)
    assert small.add(MIB[:FREE_BYTES], 0.0)


def test_who_holds_more_than_an_equal_part_is_refused_and_says_how_much_there_is() -> None:
    room = Room(4 << 20)
    large, other = output("large", room), output("other", room)
    fill(large, 4)
    fill(other, 2)
    with pytest.raises(HostBudgetExceeded, match=r"large sent more .* 4 MiB"):
        large.add(MIB, 30.0)


def test_who_holds_less_waits_until_the_larger_one_is_gone() -> None:
    room = Room(4 << 20)
    large, small = output("large", room), output("small", room)
    fill(large, 4)
    fill(small, 2)
    threading.Timer(0.1, large.release).start()
    assert small.add(MIB, 20.0 * slowness())
    assert small.value() == MIB * 3


def test_an_output_ends_at_its_own_bound_and_where_the_rest_is_not_wanted() -> None:
    budget, room = HostBudgets().of("node"), Room()
    bounded = HeldOutput(budget, 3, shared=room)
    assert bounded.add(b"ab", 0.0)
    assert not bounded.add(b"cde", 0.0)
    assert bounded.value() == b"abc"
    watched = HeldOutput(budget, 100, lambda chunk: b"no" not in chunk, shared=room)
    assert watched.add(b"yes", 0.0)
    assert not watched.add(b"no", 0.0)
