"""A server does not keep the size that it once had, and does not look through all of it again and again."""

from __future__ import annotations

import subprocess
import sys

import pytest

MAPPED = """
import ctypes, sys
from nodeadmin.memory import give_back_memory

class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in "a b c d mapped e f g h i".split()]

libc = ctypes.CDLL(None)
libc.mallinfo2.restype = Info
if sys.argv[1] == "bounded":
    give_back_memory()
block = bytes(20 << 20)
del block
before = libc.mallinfo2().mapped
block = bytes(20 << 20)
print(libc.mallinfo2().mapped - before >= 20 << 20)
"""


@pytest.mark.parametrize(("how", "is_mapped"), [("bounded", "True"), ("as it is", "False")])
def test_a_large_block_goes_back_to_the_system_the_second_time_as_well(how: str, is_mapped: str) -> None:
    done = subprocess.run([sys.executable, "-c", MAPPED, how], capture_output=True, text=True, check=False)
    if "mallinfo2" in done.stderr:
        pytest.skip("this C library has no mallinfo2")
    assert done.stdout.strip() == is_mapped, done.stderr


FROZEN = """
import gc, sys
from nodeadmin.memory import leave_out_what_stays

kept = [[number] for number in range(100_000)]
if sys.argv[1] == "left out":
    leave_out_what_stays()
print(len(gc.get_objects(2)) < 1000, gc.isenabled())
"""


@pytest.mark.parametrize(("how", "few"), [("left out", "True"), ("as it is", "False")])
def test_what_is_there_at_the_start_is_not_looked_through_again(how: str, few: str) -> None:
    code = FROZEN if how == "left out" else FROZEN.replace("print", "gc.collect(); print")
    done = subprocess.run([sys.executable, "-c", code, how], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [few, "True"]
