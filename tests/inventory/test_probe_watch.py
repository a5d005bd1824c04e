"""What can be no probe's output is known for it before it has all come."""

from __future__ import annotations

import pytest

from nodes.inventory.probe_watch import HEAD_WITHIN, ProbeWatch
from nodes.inventory.script import MAX_TABLE

HEAD = b"@@nodeadmin-probe 1 bound=8388609 elevate=root uid=0\n@@names 0:one 1:two\n"
WHOLE = HEAD + b"3 0.o\n0 0.e\n5 0.s\n@@data\nabc0 1 2@@end\n"


def watched(printed: bytes, piece: int) -> int:
    """How many bytes of it are taken before it is known."""
    watch = ProbeWatch()
    for start in range(0, len(printed), piece):
        if not watch(printed[start : start + piece]):
            return start + piece
    return len(printed)


@pytest.mark.parametrize("piece", [1, 7, 4096])
@pytest.mark.parametrize("before", [b"", b"Welcome to kvm-01\n" * 100])
def test_a_probe_is_taken_whole_however_it_is_cut(before: bytes, piece: int) -> None:
    printed = before + WHOLE
    assert watched(printed, piece) == len(printed)


def test_what_the_sources_print_is_not_looked_at() -> None:
    printed = HEAD + b"9000000 0.o\n@@data\n" + b"x" * 9_000_000
    assert watched(printed, 65536) == len(printed)


@pytest.mark.parametrize("printed", [b"\n", b"x", b"\x00\xff", b"@@nodeadmin-probe 2\n"])
def test_another_output_is_given_up_after_the_first_bytes(printed: bytes) -> None:
    endless = printed * (4 * HEAD_WITHIN // len(printed))
    assert watched(endless, 16384) <= HEAD_WITHIN + 16384


def test_a_table_without_an_end_is_given_up() -> None:
    assert watched(HEAD + b"0 1.1.o\n" * MAX_TABLE, 65536) <= MAX_TABLE + 2 * 65536
