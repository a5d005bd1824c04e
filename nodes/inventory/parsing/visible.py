r"""Text of a host as it may leave in a file or to a terminal: what cannot be seen is written out.

Anybody who can log a line, name a VM or label a disk writes into what an administrator reads later. A line
break would forge a record, an escape sequence drive the terminal, a bidirectional override show another name.
Such characters become ``\xNN``, ``\uNNNN`` or ``\UNNNNNNNN``, and a backslash that could be taken for the
beginning of one is doubled, so that what was there can be told: one record is one line.

See Unicode Technical Report 36 (security considerations) and CWE-117, CWE-150, CWE-1236.
"""

from __future__ import annotations

import re

_UNSEEN = (
    r"\x00-\x1f\x7f-\x9f"  # C0, DEL and C1, NEL among them
    r"\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180e"
    r"\u200b-\u200f\u2028-\u202e\u2060-\u206f"  # zero width, separators, marks, overrides and isolates
    r"\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb"
    r"\U000e0000-\U000e0fff"  # tags
    "\ud800-\udfff"  # bytes that were no UTF-8
)
_ESCAPED = re.compile(rf"\\(?=[xuU\\{_UNSEEN}])|[{_UNSEEN}]")
_NOT_TABS = re.compile(_ESCAPED.pattern.replace(r"\x00-\x1f", r"\x00-\x08\x0a-\x1f"))
_IN_JSON = re.compile(rf"[{_UNSEEN}]")
_FORMULA = tuple("=+-@\t\r\n|%＝＋－＠")
_NUMBER = re.compile(r"[+-]?[0-9]{1,40}(?:\.[0-9]{1,40})?(?:[eE][+-]?[0-9]{1,3})?\Z")


def visible(text: object, *, keep_tabs: bool = False) -> str:
    """``text`` with everything that cannot be seen written out, as one line."""
    return (_NOT_TABS if keep_tabs else _ESCAPED).sub(_written_out, str(text))


def visible_json(encoded: str) -> str:
    """JSON that says the same, with everything that cannot be seen as ``\\uNNNN``: line breaks too, so it has
    to be on one line, or is made of such lines."""
    return _IN_JSON.sub(_json_escape, encoded)


def visible_answer(encoded: bytes) -> bytes:
    """The same for a whole answer or message. Whoever asks with a command line reads it on a terminal."""
    if encoded.isascii() and b"\x7f" not in encoded:
        return encoded  # nearly all: controls before the space are escaped in JSON
    return visible_json(encoded.decode()).encode()


def spreadsheet_cell(text: str) -> str:
    """``text`` for a CSV file: visible, and with a ``'`` before what a spreadsheet would run as a formula."""
    shown = visible(text)
    begin = text.lstrip(" \xa0")[:1]
    return f"'{shown}" if begin and begin in _FORMULA and not _NUMBER.match(text) else shown


def _written_out(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code == 0x5C:
        return "\\\\"
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def _json_escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code <= 0xFFFF:
        return f"\\u{code:04x}"
    code -= 0x10000
    return f"\\u{0xD800 | code >> 10:04x}\\u{0xDC00 | code & 0x3FF:04x}"
