r"""What leaves in a file or to a terminal shows what cannot be seen, and can be read back."""

from __future__ import annotations

import csv
import io
import json
import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodes.inventory.parsing.visible import spreadsheet_cell, visible, visible_json
from nodes.web.listing import csv_lines, json_lines

UNSEEN = [
    *range(0x20),
    *range(0x7F, 0xA0),
    0x85,
    0xAD,
    0x61C,
    0x2028,
    0x2029,
    0xFEFF,
    0xE0001,
    0xDC80,
    0xD800,
]
UNSEEN += [*range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x2060, 0x2070)]


def read_back(shown: str) -> str:
    """What :func:`visible` was given."""
    found = re.compile(r"\\(?:\\|x([0-9a-f]{2})|u([0-9a-f]{4})|U([0-9a-f]{8}))")
    return found.sub(lambda m: chr(int(m[1] or m[2] or m[3], 16)) if m[1] or m[2] or m[3] else "\\", shown)


@pytest.mark.parametrize("code", UNSEEN)
def test_what_cannot_be_seen_is_written_out_everywhere(code: int) -> None:
    text = f"a{chr(code)}b"
    shown = visible(text)
    assert shown.isprintable()
    assert read_back(shown) == text
    assert visible_json(json.dumps({"x": text}, ensure_ascii=False)).isprintable()
    for line in (*csv_lines([{"x": text}]), *json_lines([{"x": text}])):
        assert line.strip("\r\n").isprintable()


@given(st.text(st.characters(exclude_categories=())))
def test_any_text_is_one_line_that_can_be_read_back(text: str) -> None:
    shown = visible(text)
    assert read_back(shown) == text
    assert len(shown.splitlines()) <= 1
    kinds = {unicodedata.category(char) for char in shown}
    assert not kinds & {"Cc", "Zl", "Zp", "Cs"}
    encoded = json.dumps(text, ensure_ascii=False)
    assert json.loads(visible_json(encoded)) == json.loads(encoded)
    rows = list(csv.reader(io.StringIO("".join(csv_lines([{"x": text, "y": [text]}])), newline="")))
    assert len(rows) == 2
    assert read_back(rows[1][0].removeprefix("'")) == text.removeprefix("'")


def test_plain_text_of_any_script_stays_as_it_is() -> None:
    for text in ("C:\\Program Files", "Größe 5 µm", "节点", "مرحبا", "шина", "a\\b", ""):
        assert visible(text) == text
    assert visible("a\tb", keep_tabs=True) == "a\tb"
    assert visible("a\nb\\", keep_tabs=True) == "a\\x0ab\\"
    assert visible("\\x41") != visible("\\") + visible("x41")


@pytest.mark.parametrize("begin", ["=", "+", "-", "@", "\t", "\r", "\n", " =", "|", "%", "＝", "\xa0="])
def test_no_cell_is_a_formula(begin: str) -> None:
    assert spreadsheet_cell(f"{begin}cmd|'/C calc'!A0").startswith("'")


@pytest.mark.parametrize("text", ["-1", "+2.5", "-1e5", "12", "kvm-01", "", "a=b"])
def test_numbers_and_words_are_cells_as_they_are(text: str) -> None:
    assert spreadsheet_cell(text) == text
