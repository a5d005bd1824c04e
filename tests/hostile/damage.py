"""What an enemy puts into the output of a source: a table of kinds of damage."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from nodes.inventory.document import SourceOutput, SourceStatus

MILLION = 1_000_000
CONTROLS = "".join(map(chr, [*range(1, 32), *range(127, 160)]))
BIDI = "\u202e\u2066\u2067\u200e\u200f\u061c\u2028\u2029\u200b\ufeff"
MARKUP = "\"'><script>alert(1)</script><img src=x onerror=alert(1)>{{7*7}}{%x%}&amp;"
_DIGITS = re.compile(r"\d+")
_WORD = re.compile(r"[A-Za-z]{4,}")


def _numbers(put: str) -> Callable[[str], str]:
    """Every number of the text is ``put``; at most a million characters in all."""

    def change(text: str) -> str:
        most = max(1, MILLION // len(put))
        return _DIGITS.sub(lambda _found: put, text, count=most)

    return change


def _words(put: str) -> Callable[[str], str]:
    def change(text: str) -> str:
        return _WORD.sub(lambda found: found[0] + put, text, count=max(1, MILLION // len(put)))

    return change


def _middle(put: str) -> Callable[[str], str]:
    def change(text: str) -> str:
        at = len(text) // 2
        return text[:at] + put + text[at:]

    return change


def _again(text: str) -> str:
    """Its own lines, again and again, up to four million characters."""
    return text * max(2, min(4 * MILLION // max(1, len(text)), 20_000)) if text else ""


DAMAGES: dict[str, Callable[[str], str]] = {
    "gigantic numbers": _numbers("18446744073709551616"),
    "5,000 digits": _numbers("9" * 5000),
    "a range of all": _numbers("0-4294967295"),
    "negative": _numbers("-1"),
    "infinite": _numbers("1e400"),
    "no number": _numbers("NaN"),
    "other digits": _numbers("٣"),
    "nested lists": lambda _text: "[" * 10_000 + "]" * 10_000,
    "nested objects": lambda _text: '{"children":[' * 10_000,
    "nested in it": _middle('[{"children":' * 10_000),
    "nested XML": lambda _text: "<domain>" * 10_000,
    "laughs": lambda _text: (
        '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">'
        + "".join(f'<!ENTITY {chr(98 + n)} "{f"&{chr(97 + n)};" * 10}">' for n in range(9))
        + "]><domain><name>&j;</name></domain>"
    ),
    "attributes": lambda _text: "<domain " + " ".join(f'a{n}="1"' for n in range(50_000)) + "/>",
    "a token of 1 MB": _middle("A" * MILLION),
    "1 MB of digits": _middle("9" * MILLION),
    "1 MB of blanks": _middle(" " * MILLION),
    "1 MB of slashes": _middle("/a" * (MILLION // 2)),
    "NUL": _words("\0"),
    "controls": _words(CONTROLS),
    "right to left": _words(BIDI),
    "markup": _words(MARKUP),
    "surrogates": _words("\ud800\udc80\udcff"),
    "a million lines": lambda text: text + "\n" * MILLION,
    "a million short lines": lambda text: text + "a:1\n" * MILLION,
    "itself again": _again,
    "backwards": lambda text: "\n".join(reversed(text.split("\n"))),
    "nothing": lambda _text: "",
}


def damaged(output: SourceOutput, damage: str) -> SourceOutput:
    """``output``, which says that it is well, with the damage of that name."""
    return replace(output, status=SourceStatus.OK, stdout=DAMAGES[damage](output.stdout))
