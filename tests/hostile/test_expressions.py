"""No regular expression that reads what a host printed takes time that grows with the square of it."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest

import nodes.hosts
import nodes.inventory
from tests.hostile.expressions import Expression, attacks, expressions

LENGTH = 4000
LONGEST_S = 0.03
"""For 4,000 characters a quadratic one takes ten times as long, one that is not a hundredth of it."""
OUR_OWN = {
    "keycost.py": "a private key that a user gave",
    "uri.py": "an address that a user gave",
}


def cost_s(expression: Expression, text: Any) -> float:
    """CPU seconds, the least of three tries where the first one takes long: another process may disturb."""
    used = []
    for _turn in range(3):
        begin = time.thread_time()
        run(expression.compiled(), expression.method, text)
        used.append(time.thread_time() - begin)
        if used[-1] < LONGEST_S:
            break
    return min(used)


def run(pattern: re.Pattern[Any], method: str, text: Any) -> None:
    found = pattern.sub(text[:0], text) if method == "sub" else getattr(pattern, method)(text)
    if method == "finditer":
        list(found)


@pytest.mark.parametrize("package", [nodes.inventory, nodes.hosts], ids=["inventory", "hosts"])
def test_no_expression_is_slow_on_a_long_line(package: Any) -> None:
    known = [e for e in expressions(package) if e.place.partition(":")[0] not in OUR_OWN]
    assert len(known) > 20
    slow = {
        f"{expression.place} {expression.pattern!r}"
        for expression in known
        for text in attacks(expression, LENGTH)
        if cost_s(expression, text) > LONGEST_S
    }
    assert slow == set()


@pytest.mark.parametrize(
    ("pattern", "method"),
    [
        (r"(\d+(?:\.\d+)?) Gb/s", "search"),
        (r"\[([^\]]+)\]", "search"),
        (r"((?:\S*(?:passw|secret)\S*?)=)\S+", "sub"),
    ],
)
def test_the_slow_ones_are_found(pattern: str, method: str) -> None:
    expression = Expression(pattern, 0, method, "")
    assert any(cost_s(expression, text) > LONGEST_S for text in attacks(expression, LENGTH))
