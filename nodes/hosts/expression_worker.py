"""Matches messages by one PCRE2 expression, in a process that may be lost: run by :mod:`journal_search`.

A few characters of a user's own can keep a matcher busy for longer than the universe has stood. Here they
cost one second of CPU time, after which the kernel ends this process, even where nobody reads its answer.

Standard input: the options (32 bits) and the expression, then any number of requests; each is a size (32
bits) and as many bytes. A request is messages, each behind its size. Standard output: one byte for whether
the expression compiles, and why not; then a byte a message, 1 where it matches. The matcher is the library
that journalctl itself uses, called with the same options (pcre2api(3)), so that both find the same.
"""

from __future__ import annotations

import ctypes
import resource
import signal
import struct
import sys

LIBRARY = "libpcre2-8.so.0"
CASELESS = 0x8
NO_MATCH, FAILED = -1, 2
CPU_S = 1.0
MEMORY_BYTES = 512 << 20
NO_LIBRARY = 3
_SIZE = struct.Struct("<I")
_LIMITS = (-47, -53, -63)
"""PCRE2_ERROR_MATCHLIMIT, _DEPTHLIMIT and _HEAPLIMIT: it gave up, as journalctl would."""


class Expression:
    """A compiled expression."""

    def __init__(self, library: ctypes.CDLL, pattern: bytes, options: int) -> None:
        self._match = library.pcre2_match_8
        self._match.argtypes = [
            ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_uint32,
            ctypes.c_void_p, ctypes.c_void_p,
        ]  # fmt: skip
        compile_ = library.pcre2_compile_8
        compile_.restype = ctypes.c_void_p
        error, offset = ctypes.c_int(), ctypes.c_size_t()
        self._code = compile_(
            pattern,
            ctypes.c_size_t(len(pattern)),
            ctypes.c_uint32(options),
            ctypes.byref(error),
            ctypes.byref(offset),
            None,
        )
        if not self._code:
            said = ctypes.create_string_buffer(200)
            library.pcre2_get_error_message_8(error, said, ctypes.c_size_t(len(said)))
            raise ValueError(said.value.decode("ascii", errors="replace"))
        create = library.pcre2_match_data_create_8
        create.restype = ctypes.c_void_p
        self._data = create(ctypes.c_uint32(1), None)

    def match(self, message: bytes) -> int:
        """1, 0, or FAILED where it gave up."""
        found = int(self._match(self._code, message, len(message), 0, 0, self._data, None))
        return FAILED if found in _LIMITS else int(found >= 0)


def messages(request: bytes) -> list[bytes]:
    found, at = [], 0
    while at < len(request):
        (size,) = _SIZE.unpack_from(request, at)
        found.append(request[at + 4 : at + 4 + size])
        at += 4 + size
    return found


def _request() -> bytes | None:
    head = sys.stdin.buffer.read(4)
    return sys.stdin.buffer.read(_SIZE.unpack(head)[0]) if len(head) == 4 else None


def main() -> int:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        library = ctypes.CDLL(LIBRARY)
    except OSError:
        return NO_LIBRARY
    out = sys.stdout.buffer
    first = _request()
    if first is None:
        return 0
    try:
        expression = Expression(library, first[4:], _SIZE.unpack_from(first)[0])
    except ValueError as error:
        out.write(b"\x00" + str(error).encode())
        return 0
    out.write(b"\x01")
    out.flush()
    while (request := _request()) is not None:
        # No handler: the signal's own action ends the process, also in the middle of the library.
        signal.setitimer(signal.ITIMER_PROF, CPU_S)
        out.write(bytes(map(expression.match, messages(request))))
        signal.setitimer(signal.ITIMER_PROF, 0)
        out.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
