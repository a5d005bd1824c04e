"""The small readers that all sections stand on: CPU lists, grep's output, plain facts, names of devices."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodes.inventory.cpulist import format_cpu_list, parse_cpu_list
from nodes.inventory.hwids import parse_ids, pci_names, usb_names
from nodes.inventory.plain import clean_text, to_plain
from nodes.inventory.procfiles import Files, integer, kib_to_bytes
from nodes.inventory.xmltext import child_text, parse_xml


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("0-3,8", (0, 1, 2, 3, 8)),
        ("0-8:2/4", (0, 1, 4, 5, 8)),
        ("3,1,1", (1, 3)),
        ("", ()),
        (None, ()),
        ("4-2", ()),
        ("0-99999999", ()),
        ("1-3:1/0,7", (7,)),
        ("x,5,-1", (5,)),
    ],
)
def test_cpu_lists(text: str | None, ids: tuple[int, ...]) -> None:
    assert parse_cpu_list(text) == ids


@given(st.sets(st.integers(0, 300)))
def test_cpu_lists_come_back(ids: set[int]) -> None:
    assert parse_cpu_list(format_cpu_list(ids)) == tuple(sorted(ids))


@given(st.text())
def test_cpu_lists_take_any_text(text: str) -> None:
    parse_cpu_list(text)


def test_files_by_path() -> None:
    files = Files("/a:1\n/a:2\n/b: x:y \nnoise\n/c:\0\n")
    assert files.lines("/a") == ["1", "2"]
    assert (files.get("/b"), files.get("/c"), files.get("/d")) == ("x:y", None, None)
    assert files.integer("/a") == 1
    assert "/a" in files


@pytest.mark.parametrize(
    ("text", "number"),
    [("12", 12), (" -3\n", -3), ("9" * 21, None), ("1.5", None), ("", None), (None, None), ("١٢", None)],
)
def test_integers(text: str | None, number: int | None) -> None:
    assert integer(text) == number


def test_kibibytes() -> None:
    assert (kib_to_bytes("  16 kB"), kib_to_bytes("16"), kib_to_bytes("x kB")) == (16384, 16384, None)


class Colour(StrEnum):
    RED = "red"


@dataclass(frozen=True)
class Fact:
    colour: Colour
    sizes: tuple[int, ...]
    ratio: float
    inner: Fact | None = None


def test_facts_become_plain() -> None:
    fact = Fact(Colour.RED, (1, 2), float("nan"), Fact(Colour.RED, (), 0.5))
    plain = to_plain({"a": fact, "b": frozenset({"y", "x"})})
    assert json.loads(json.dumps(plain, allow_nan=False)) == {
        "a": {
            "colour": "red",
            "sizes": [1, 2],
            "ratio": None,
            "inner": {"colour": "red", "sizes": [], "ratio": 0.5, "inner": None},
        },
        "b": ["x", "y"],
    }


def test_what_is_no_fact_is_refused() -> None:
    with pytest.raises(TypeError, match="no fact"):
        to_plain({"a": object()})


@given(st.binary(max_size=40))
def test_any_bytes_become_text_that_databases_take(data: bytes) -> None:
    cleaned = clean_text(data.decode("utf-8", "surrogateescape"))
    assert "\0" not in cleaned
    cleaned.encode("utf-8")


@given(st.text(st.characters(), max_size=40))
def test_any_text_becomes_text_that_databases_take(text: str) -> None:
    clean_text(text).encode("utf-8")


def test_xml_is_read_without_entities_and_never_raises() -> None:
    bomb = "<!DOCTYPE a [<!ENTITY x SYSTEM 'file:///etc/hostname'>]><a><b>&x;</b></a>"
    assert child_text(parse_xml(bomb), "b") is None
    root = parse_xml("<?xml version='1.0' encoding='UTF-16'?><a><b> text </b></a>")
    assert child_text(root, "b") == "text"
    assert parse_xml("<a>") is None
    assert parse_xml("") is None


@given(st.text(st.characters(), max_size=60))
def test_xml_takes_any_text(text: str) -> None:
    parse_xml(text)
    parse_xml(f"<a>{text}</a>")


IDS = """# comment
8086  Intel Corporation
\t1533  I210 Gigabit Network Connection
\t\t8086 0001  Ethernet Server Adapter I210-T1
C 01  Mass storage controller
\t08  Non-Volatile memory controller
\t\t02  NVM Express
L 0001  Arabic
\t01  Saudi Arabia
"""


def test_names_of_devices() -> None:
    names = parse_ids(IDS.encode())
    assert names.vendor("8086") == "Intel Corporation"
    assert names.device("8086", "1533") == "I210 Gigabit Network Connection"
    assert names.subsystem("8086", "1533", "8086", "0001") == "Ethernet Server Adapter I210-T1"
    assert names.class_name("01", "08", "02") == "NVM Express"
    assert names.class_name("01", "08", "99") == "Non-Volatile memory controller"
    assert names.class_name("01", "99") == "Mass storage controller"
    assert (names.vendor("ffff"), names.device("8086", "ffff"), names.class_name("77")) == (None, None, None)


def test_a_database_in_capitals_is_read_as_any_other() -> None:
    names = parse_ids(
        b"ABCD  Maker\n\t00ff  FACE  A\n\tEF01  Card\n\t\tABCD 00FE  Board\nC 0C  Bus\n\t0A  FireWire\n"
    )
    assert names.vendor("abcd") == "Maker"
    assert names.device("abcd", "ef01") == "Card"
    assert names.device("abcd", "00ff") == "FACE  A"
    assert names.subsystem("abcd", "ef01", "abcd", "00fe") == "Board"
    assert names.class_name("0c", "0a") == "FireWire"


@given(st.binary(max_size=200))
def test_a_damaged_database_never_raises(text: bytes) -> None:
    names = parse_ids(b"8086  Intel\n\t1533  I210\n" + text)
    names.vendor("8086")
    names.subsystem("8086", "1533", "8086", "0001")


@pytest.mark.parametrize("odd", ["", "\n\t1533", "\udcff", "15 33", "١٥٣٣"])
def test_what_is_no_id_has_no_name(odd: str) -> None:
    names = parse_ids(IDS.encode())
    assert names.vendor(odd) is names.device("8086", odd) is names.device(odd, "1533") is None
    assert names.subsystem("8086", "1533", odd, "0001") is None
    assert names.subsystem("8086", "1533", "8086", odd) is None
    assert names.class_name(odd) is None


@pytest.mark.skipif(not Path("/usr/share/hwdata/pci.ids").exists(), reason="hwdata is not installed")
def test_the_databases_of_hwdata() -> None:
    assert pci_names().vendor("8086") == "Intel Corporation"
    assert pci_names().class_name("03", "00") == "VGA compatible controller"
    assert usb_names().vendor("1D6B") == "Linux Foundation"
    assert usb_names().class_name("09") == "Hub"
