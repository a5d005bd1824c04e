"""A server does not keep the size that it once had."""

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
