"""Numbers of a host are read in one place, which nothing that a host prints can hurt."""

from __future__ import annotations

import ast
import math
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import nodes.hosts
import nodes.inventory
from nodes.inventory.jsontext import read_json, read_values
from nodes.inventory.parsing.numbers import LARGEST, capped, decimal, integer, wide_integer

OWN = {
    ("parsing/numbers.py", "*"): "the one place",
    ("smart_tree.py", "float(value)"): "a number of JSON, within 128 bits",
    ("migration.py", "float(speed)"): "libvirt's own number",
    ("placement.py", "int(connection.compareHypervisorCPU"): "libvirt's own number",
    ("placement.py", "int(info[2])"): "libvirt's own number",
    ("domains.py", "int(domain.snapshotNum())"): "libvirt's own number",
    ("power.py", "int(until_s)"): "a time of ours",
    ("qemu_logs.py", "int(filters.since.timestamp())"): "a time that a user asks for",
    ("journal_filters.py", "int(moment.replace(microsecond=0).timestamp())"): "a time that a user asks for",
    ("expression_worker.py", "int(self._match("): "what a C function returns",
    ("expression_worker.py", "int(found >= 0)"): "true or false",
    ("jump.py", "float('-inf')"): "a time before all others",
    ("jump.py", "int(self._channel.send("): "what a socket returns",
    ("local.py", "float('inf')"): "no limit",
    ("sshshell.py", "float('inf')"): "no limit",
    ("network_rules.py", "int(address)"): "an address that has been taken apart",
    ("wire.py", "int(self._unread.level)"): "a sum of ours",
}
"""Where int() and float() may be called, by file and how the call begins, and of what."""


def calls(package: object) -> Iterator[tuple[Path, str]]:
    for file in sorted(Path(str(package.__path__[0])).rglob("*.py")):  # type: ignore[attr-defined]
        for node in ast.walk(ast.parse(file.read_text())):
            named = isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
            if named and node.func.id in ("int", "float"):
                yield file, ast.unparse(node)


def test_text_of_a_host_becomes_a_number_in_one_place_alone() -> None:
    used = set()
    bare = []
    for file, call in [*calls(nodes.inventory), *calls(nodes.hosts)]:
        kept = [
            (name, begin)
            for name, begin in OWN
            if str(file).endswith(f"/{name}") and (begin == "*" or call.startswith(begin))
        ]
        used |= set(kept)
        if not kept:
            bare.append(f"{file}: {call}")
    assert bare == []
    assert used == set(OWN), "no longer called"


@pytest.mark.parametrize(
    "text",
    [
        *("9" * 5000, "9" * 1_000_000, "1" * 21, "1e400", "inf", "nan", "-inf", "Infinity", "0x", "", " "),
        *("1_000", "٣", "１２", "\x00" * 70, "--1", "1 2", "1.5.2", "0b1", "1\ud800", "+", "1e5", ".5", "5."),
    ],
)
def test_what_is_no_number_of_a_host_is_unknown(text: str) -> None:
    assert integer(text) is None
    assert integer(text, 16) is None or len(text) < 22
    assert decimal(text) is None or math.isfinite(decimal(text) or 0.0)
    assert capped(text) == LARGEST


def test_numbers_have_bounds_and_keep_their_value() -> None:
    assert integer(str(LARGEST)) == LARGEST
    assert integer(str(LARGEST + 1)) is None
    assert integer(" -12\n") == -12
    assert integer("0x1F", 16) == integer("1f", 16) == 31
    assert integer("755", 8) == 0o755
    assert integer("101", most=100) is None
    assert integer(b" 7\x00") == 7
    assert wide_integer(str(2**127)) == 2**127
    assert wide_integer("9" * 40) is None
    assert wide_integer("0x" + "f" * 32) == 2**128 - 1
    assert decimal("-0.25") == -0.25
    assert decimal("12") == 12.0


@given(st.text(max_size=60))
def test_no_text_raises(text: str) -> None:
    for base in (8, 10, 16):
        integer(text, base)
    decimal(text)
    wide_integer(text)
    read_values(text)


def test_json_with_gigantic_numbers_is_read_without_them() -> None:
    text = '[{"a": %s, "b": 1e400, "c": NaN, "d": -Infinity, "e": 1, "f": 2.5, "g": %s}, {"h": 3}]'
    found = read_json(text % ("9" * 5000, "1." + "0" * 5000))
    assert found == [{"a": None, "b": None, "c": None, "d": None, "e": 1, "f": 2.5, "g": None}, {"h": 3}]


@pytest.mark.parametrize("opening", ["[", '{"a":', '[{"a":'])
def test_json_nested_without_end_is_none(opening: str) -> None:
    assert read_values(opening * 100_000) in ([], [[]])
    with pytest.raises(ValueError, match=r"deep|Expecting"):
        read_json(opening * 100_000)
