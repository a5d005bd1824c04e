"""What a host prints in place of the probe's output: read within bounds, and told as a problem."""

from __future__ import annotations

import pytest

from nodes.inventory.document import SourceStatus
from nodes.inventory.script import MAX_FRAMES, MAX_ITEMS, parse_output
from nodes.inventory.source import Source
from tests.hostile.cost import is_within

FIRST = Source("first", "true")
MANY = Source("many", "true", items="true")
HEAD = b"@@nodeadmin-probe 1 bound=1048577 elevate=root uid=0\n@@names 0:first 1:many\n"


def printed(*rows: bytes, body: bytes = b"", head: bytes = HEAD) -> bytes:
    return head + b"".join(row + b"\n" for row in rows) + b"@@data\n" + body + b"@@end\n"


def is_quick(raw: bytes) -> bool:
    return is_within(lambda: parse_output(raw, [FIRST, MANY]), 1.0)


def test_a_table_of_three_million_frames_is_read_to_a_bound_and_told() -> None:
    rows = b"".join(b"0 1.%d.o\n" % (number % 999_999) for number in range(3_000_000))
    raw = HEAD + b"3 0.o\n" + rows + b"@@data\nyes@@end\n"
    assert is_quick(raw)
    found = parse_output(raw, [FIRST, MANY])
    assert found["first"].stdout == "yes"
    assert found["many"].status is SourceStatus.TRUNCATED
    assert found["probe"].stdout.endswith("complete no\n")


def test_a_table_at_the_bound_is_whole_and_one_row_more_is_not() -> None:
    rows = [b"0 2.%d.o" % (number % 999_999) for number in range(MAX_FRAMES)]
    assert parse_output(printed(*rows), [])["probe"].stdout.endswith("complete yes\n")
    assert parse_output(printed(*rows, b"0 3.o"), [])["probe"].stdout.endswith("complete no\n")


@pytest.mark.parametrize("digits", [5000, 1_000_000])
def test_gigantic_numbers_are_read_as_what_is_there(digits: int) -> None:
    gigantic = b"9" * digits
    head = b"@@nodeadmin-probe 1 bound=%b uid=%b\n@@names 0:first %b:many\n" % (gigantic, gigantic, gigantic)
    raw = printed(b"3 0.o", gigantic + b" 1.o", b"%d 0.s" % (digits + 4), body=b"yes", head=head)
    found = parse_output(raw, [FIRST, MANY])
    assert found["first"].stdout == "yes"
    assert is_quick(raw)
    status = gigantic + b" 1 2"
    raw = printed(b"3 0.o", b"%d 0.s" % len(status), body=b"yes" + status)
    assert parse_output(raw, [FIRST])["first"].exit_status is None
    raw = printed(b"3 0.o", b"5 0.s", body=b"yes0 1 nan")
    assert parse_output(raw, [FIRST])["first"].duration_s is None


def test_a_million_items_are_read_to_a_bound_and_told() -> None:
    listed = b"disk\n" * 200_000
    raw = printed(b"%d 1.o" % len(listed), b"8 1.s", body=listed + b"0 1 2   ")
    assert is_quick(raw)
    found = parse_output(raw, [FIRST, MANY])
    assert found["many"].status is SourceStatus.TRUNCATED
    several = "".join(f"d{number}\n" for number in range(MAX_ITEMS + 5)).encode()
    raw = printed(b"%d 1.o" % len(several), b"8 1.s", body=several + b"0 1 2   ")
    found = parse_output(raw, [FIRST, MANY])
    assert len(found) == MAX_ITEMS + 3
    assert found["many"].status is SourceStatus.TRUNCATED


@pytest.mark.parametrize(
    "raw",
    [
        b"@@nodeadmin-probe 1 " + b"a=b " * 500_000 + b"\n@@names\n@@data\n@@end\n",
        b"@@nodeadmin-probe 1 a=b\n@@names " + b"0:first " * 500_000 + b"\n@@data\n@@end\n",
        b"@@nodeadmin-probe 1 a=b\n" + b"@@data\n" * 500_000,
        b"@@nodeadmin-probe 1 " * 200_000,
        HEAD + b"\n" * 4_000_000 + b"@@data\n@@end\n",
        HEAD + b"9" * 4_000_000 + b"@@data\n@@end\n",
    ],
    ids=["head", "names", "data", "heads", "empty rows", "one row"],
)
def test_no_part_of_the_output_takes_long(raw: bytes) -> None:
    assert is_quick(raw)
