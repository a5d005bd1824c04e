"""Vital product data of PCI devices: part and serial numbers that a card carries about itself.

Format: PCI Local Bus Specification 3.0, appendix I. A chain of resources: the identifier string (0x82), the
read-only fields (0x90), the writable ones (0x91), an end tag (0x78). Each field has a two-letter keyword and
a length. The kernel gives the raw bytes in ``/sys/bus/pci/devices/ADDRESS/vpd``, to root alone; many cards
answer slowly, some with nothing but 0x00 or 0xff, and some stop in the middle.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from nodes.inventory.forms import lines_like
from nodes.inventory.source import Source

VPD = Source(
    name="pci-vpd",
    items="cd /sys/bus/pci/devices 2>/dev/null || exit 0\n"
    'for device in *; do [ -e "$device/vpd" ] && echo "$device"; done\n'
    ":",
    command='base64 "/sys/bus/pci/devices/$1/vpd"',
    needs="base64",
    needs_root=True,
    max_bytes=64 << 10,
    # A card whose storage is empty or broken makes the kernel answer with an error: it has no VPD then.
    ok_statuses=None,
    form=lines_like(r"^[0-9a-f]{4,8}:"),
    item_form=lines_like(r"\A[A-Za-z0-9+/=\s]*\Z"),
)

_IDENTIFIER, _READ_ONLY, _WRITABLE, _END = 0x82, 0x90, 0x91, 0x78
_KEYWORD = re.compile(r"[A-Z][A-Z0-9]\Z")
_NOT_BASE64 = re.compile(r"[^A-Za-z0-9+/=]")


@dataclass(frozen=True, slots=True)
class Vpd:
    """What a card says of itself.

    ``fields`` are all other fields by keyword (``V0``… and ``VA``… the vendor's, ``YA`` the asset tag).
    ``truncated``: the data ended before its end tag. ``checksum_ok``: whether the bytes up to the field RV
    sum up to zero, None where there is no such field.
    """

    name: str | None = None
    part_number: str | None = None
    serial_number: str | None = None
    engineering_change: str | None = None
    manufacture_id: str | None = None
    fields: Mapping[str, str] = field(default_factory=dict)
    truncated: bool = False
    checksum_ok: bool | None = None


def decode_vpd(text: str) -> bytes:
    """The bytes of a base64 text, however it is broken into lines or cut off."""
    characters = _NOT_BASE64.sub("", text.partition("=")[0])
    # One character left over holds less than a byte; the others need their padding back.
    characters = characters[: len(characters) - (len(characters) % 4 == 1)]
    try:
        return base64.b64decode(characters + "=" * (-len(characters) % 4))
    except (binascii.Error, ValueError):
        return b""


def parse_vpd(data: bytes) -> Vpd | None:
    """Read VPD as far as it goes; None where ``data`` does not begin as VPD does or says nothing."""
    if not data or data[0] not in (_IDENTIFIER, _READ_ONLY, _WRITABLE):
        return None
    name: str | None = None
    fields: dict[str, str] = {}
    checksum_ok: bool | None = None
    position, ended = 0, False
    while position < len(data) and not ended:
        tag = data[position]
        if tag == _END:
            ended = True
        elif tag & 0x80 == 0:  # a small resource: its length is in its tag
            position += 1 + (tag & 7)
        else:
            length = int.from_bytes(data[position + 1 : position + 3], "little")
            body_start, body_end = position + 3, position + 3 + length
            if tag == _IDENTIFIER:
                name = _text(data[body_start:body_end])
            elif tag in (_READ_ONLY, _WRITABLE):
                for keyword, start, end in _fields(data, body_start, min(body_end, len(data))):
                    if keyword == "RV":
                        checksum_ok = start < len(data) and sum(data[: start + 1]) & 0xFF == 0
                    elif keyword != "RW" and (value := _text(data[start:end])):
                        fields.setdefault(keyword, value)
            else:
                break  # no resource of VPD: what follows is noise
            position = body_end
    if name is None and not fields:
        return None
    return Vpd(
        name=name,
        part_number=fields.pop("PN", None),
        serial_number=fields.pop("SN", None),
        engineering_change=fields.pop("EC", None),
        manufacture_id=fields.pop("MN", None),
        fields=fields,
        truncated=not ended,
        checksum_ok=checksum_ok,
    )


def _fields(data: bytes, start: int, end: int) -> Iterator[tuple[str, int, int]]:
    """The fields between two positions, as keyword and the range of the value. Stops at what is none."""
    while start + 3 <= end:
        keyword = data[start : start + 2].decode("ascii", "replace")
        value_end = start + 3 + data[start + 2]
        if _KEYWORD.match(keyword) is None:
            return
        if value_end > end and keyword != "RV":
            return  # a value that is cut in the middle would look like another number
        yield keyword, start + 3, min(value_end, end)
        start = value_end


def _text(value: bytes) -> str | None:
    """A field's text: printable, without the blanks and zero bytes that fill it up."""
    text = value.decode("latin-1").replace("\0", " ").strip()
    return text if text and text.isprintable() else None
