"""Vital product data: whole, cut at every byte, and foreign."""

from __future__ import annotations

import base64

from hypothesis import given
from hypothesis import strategies as st

from nodes.inventory.vpd import decode_vpd, parse_vpd

NAME = b"Ethernet Adapter"


def vpd(*fields: tuple[bytes, bytes], name: bytes = NAME, end: bytes = b"\x78", spoil: int = 0) -> bytes:
    body = b"".join(key + bytes([len(value)]) + value for key, value in fields)
    data = b"\x82" + len(name).to_bytes(2, "little") + name
    data += b"\x90" + (len(body) + 4).to_bytes(2, "little") + body + b"RV\x01"
    return data + bytes([(spoil - sum(data)) & 0xFF]) + end


WHOLE = vpd((b"PN", b"K91258-010 "), (b"SN", b"ABC123"), (b"V0", b"\x00\x00"), (b"YA", b"rack 7"))


def test_fields_are_read_and_filling_is_left_out() -> None:
    found = parse_vpd(WHOLE)
    assert found is not None
    assert (found.name, found.part_number, found.serial_number) == (
        "Ethernet Adapter",
        "K91258-010",
        "ABC123",
    )
    assert found.fields == {"YA": "rack 7"}
    assert (found.truncated, found.checksum_ok) == (False, True)


def test_a_wrong_checksum_is_said() -> None:
    found = parse_vpd(vpd((b"SN", b"ABC123"), spoil=1))
    assert found is not None
    assert found.checksum_ok is False


def test_cut_at_any_byte_it_gives_only_whole_values() -> None:
    for length in range(len(WHOLE)):
        found = parse_vpd(WHOLE[:length])
        if found is not None:
            assert found.truncated
            assert found.serial_number in (None, "ABC123")
            assert found.part_number in (None, "K91258-010")


def test_writable_fields_count_too() -> None:
    writable = b"YB\x04slot" + b"RW\x02\x00\x00"
    data = vpd((b"SN", b"1"), end=b"\x91" + len(writable).to_bytes(2, "little") + writable + b"\x78")
    found = parse_vpd(data)
    assert found is not None
    assert found.fields == {"YB": "slot"}
    assert not found.truncated


def test_storage_that_is_empty_or_erased_is_no_vpd() -> None:
    assert parse_vpd(b"") is None
    assert parse_vpd(bytes(256)) is None
    assert parse_vpd(b"\xff" * 256) is None


def test_base64_is_read_however_it_is_broken() -> None:
    text = base64.encodebytes(WHOLE).decode()
    assert decode_vpd(text) == WHOLE
    for length in range(len(text)):
        assert WHOLE.startswith(decode_vpd(text[:length]))


@given(st.binary(max_size=300))
def test_foreign_bytes_never_raise(data: bytes) -> None:
    parse_vpd(data)
    parse_vpd(b"\x82" + data)
    parse_vpd(b"\x90" + data)


@given(st.text(max_size=300))
def test_foreign_text_never_raises(text: str) -> None:
    decode_vpd(text)
