"""Numbers in what a host printed: the one place where its text becomes an int or a float.

Python reads numbers of any length, in time that grows with the square of it, refuses more than 4,300 digits
with a ValueError of its own, takes digits of other scripts, and calls ``1e400`` infinite. No fact of a host
needs any of that: what is longer than an unsigned number of 64 bits is damage, and unknown.
"""

from __future__ import annotations

import math
import re

LARGEST = (1 << 64) - 1
"""Of whole numbers; the kernel's counters are 64 bits wide."""
LONGEST_BLANKS = 64
_DIGITS = {10: re.compile(r"[+-]?[0-9]{1,20}\Z"), 16: re.compile(r"[+-]?(?:0[xX])?[0-9a-fA-F]{1,16}\Z")}
_DIGITS |= {8: re.compile(r"[+-]?[0-7]{1,22}\Z")}
_WIDE = {10: re.compile(r"[0-9]{1,39}\Z"), 16: re.compile(r"0[xX][0-9a-fA-F]{1,32}\Z")}
_DECIMAL = re.compile(r"[+-]?[0-9]{1,20}(?:\.[0-9]{1,20})?\Z")
_LONGEST = 44
"""Characters of any number that is read here."""


def integer(text: str | bytes | None, base: int = 10, *, most: int = LARGEST) -> int | None:
    """A whole number from ``-most`` to ``most``, perhaps with blanks around it; None for all else.

    ``base`` is 8, 10 or 16; with 16, ``0x`` may stand before the digits.
    """
    digits = _short(text)
    if digits is None or not _DIGITS[base].match(digits):
        return None
    number = int(digits, base)
    return number if -most <= number <= most else None


def capped(text: str | bytes, base: int = 10) -> int:
    """The number in ``text``, which a pattern has found to be digits; :data:`LARGEST` where it is beyond.

    For what has to be a number, such as a key to sort by.
    """
    number = integer(text, base)
    return LARGEST if number is None else number


def wide_integer(digits: str) -> int | None:
    """A whole number without a sign of up to 128 bits, in hexadecimal after ``0x``: NVMe counts so far."""
    if digits[:2] in ("0x", "0X"):
        return int(digits, 16) if _WIDE[16].match(digits) else None
    return int(digits) if _WIDE[10].match(digits) else None


def decimal(text: str | bytes | None) -> float | None:
    """A number with or without a fraction (``12``, ``-0.5``), perhaps with blanks around it, else None.

    An exponent, an infinity and a NaN are none: no tool that is read writes them.
    """
    digits = _short(text)
    return float(digits) if digits is not None and _DECIMAL.match(digits) else None


def json_integer(digits: str) -> int | None:
    """For ``parse_int`` of :mod:`json`: a number of a host's JSON, None where it is beyond 128 bits.

    Some of smartctl's are that wide.
    """
    return int(digits) if len(digits) <= 39 else None


def json_decimal(digits: str) -> float | None:
    """For ``parse_float`` of :mod:`json`: None where it is not finite, as ``1e400`` is."""
    number = float(digits) if len(digits) <= 400 else math.inf
    return number if math.isfinite(number) else None


def _short(text: str | bytes | None) -> str | None:
    """``text`` without blanks and NULs around it, where it is short enough for a number."""
    if text is None or len(text) > _LONGEST + LONGEST_BLANKS:
        return None
    words = text.decode("ascii", "replace") if isinstance(text, bytes) else text
    stripped = words.strip(" \t\r\n\v\f\0")
    return stripped if len(stripped) <= _LONGEST else None
