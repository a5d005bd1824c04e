"""No regular expression that reads what a host printed takes time that grows with the square of it."""

from __future__ import annotations

import gc
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest

import nodes.hosts
import nodes.inventory
from tests.hostile.expressions import Expression, attacks, expressions

LENGTH = 1000
TIMES = 8
MOST_GROWTH = 24
"""Of the time, where the text is :data:`TIMES` as long: 8 if it grows with the length, 64 with its square."""
LEAST_S = 0.002
"""What takes less for the longer text is too short to be measured, and hurts nobody."""
FAR_TOO_LONG_S = 0.02
"""For the shorter text, of which others take a hundredth: one that grows with the cube would never end."""
BOUNDED = {
    "keycost.py": "a private key that a user gave",
    "uri.py": "an address that a user gave",
    "smart_attributes.py": "a name of at most 100 characters",
}


@pytest.fixture(autouse=True)
def _no_search_for_cycles() -> Iterator[None]:
    """Matches would set it off, and it takes the longer the more this process has loaded."""
    gc.disable()
    yield
    gc.enable()


def is_slow(expression: Expression) -> bool:
    short = max(cost_s(expression, text) for text in attacks(expression, LENGTH))
    longest = max(LEAST_S, MOST_GROWTH * short)
    return short > FAR_TOO_LONG_S or any(
        cost_s(expression, text) > longest for text in attacks(expression, TIMES * LENGTH)
    )


def cost_s(expression: Expression, text: Any) -> float:
    """CPU seconds, the least of three tries where they take long enough to matter: others disturb."""
    used = []
    for _turn in range(3):
        begin = time.thread_time()
        run(expression.compiled(), expression.method, text)
        used.append(time.thread_time() - begin)
        if used[-1] < LEAST_S / MOST_GROWTH:
            break
    return min(used)


def run(pattern: re.Pattern[Any], method: str, text: Any) -> None:
    found = pattern.sub(text[:0], text) if method == "sub" else getattr(pattern, method)(text)
    if method == "finditer":
        list(found)


@pytest.mark.parametrize("package", [nodes.inventory, nodes.hosts], ids=["inventory", "hosts"])
def test_no_expression_is_slow_on_a_long_line(package: Any) -> None:
    known = [e for e in expressions(package) if e.place.partition(":")[0] not in BOUNDED]
    assert len(known) > 20
    assert [f"{each.place} {each.pattern!r}" for each in known if is_slow(each)] == []


@pytest.mark.parametrize(
    ("pattern", "method"),
    [
        (r"(\d+(?:\.\d+)?) Gb/s", "search"),
        (r"\[([^\]]+)\]", "search"),
        (r"((?:\S*(?:passw|secret)\S*?)=)\S+", "sub"),
    ],
)
def test_the_slow_ones_are_found(pattern: str, method: str) -> None:
    assert is_slow(Expression(pattern, 0, method, ""))
