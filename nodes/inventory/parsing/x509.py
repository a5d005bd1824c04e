"""Public certificates, read from their PEM text: names, validity, and what tells who signed them.

No signature is verified: that is for the TLS handshake. Only as much of ASN.1 is read as that takes.
Sources: RFC 5280 (certificates), RFC 7468 (PEM), ITU-T X.690 (DER).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from nodes.inventory.parsing.numbers import capped

MOST_CERTIFICATES = 64
"""A file of authorities may be a whole system's bundle; QEMU's has one or two."""

_PEM = re.compile(
    r"^-----BEGIN CERTIFICATE-----[ \t\r]*$([^-]*)^-----END CERTIFICATE-----[ \t\r]*$", re.MULTILINE
)
_ATTRIBUTES = {
    "2.5.4.3": "CN",
    "2.5.4.6": "C",
    "2.5.4.7": "L",
    "2.5.4.8": "ST",
    "2.5.4.10": "O",
    "2.5.4.11": "OU",
    "0.9.2342.19200300.100.1.25": "DC",
}
_SUBJECT_KEY, _ALTERNATIVE_NAMES, _AUTHORITY_KEY = "2.5.29.14", "2.5.29.17", "2.5.29.35"
_INTEGER, _OCTETS, _OID, _UTC_TIME, _TIME = 0x02, 0x04, 0x06, 0x17, 0x18
_SEQUENCE, _SET, _VERSION, _EXTENSIONS = 0x30, 0x31, 0xA0, 0xA3
_DNS_NAME, _IP_ADDRESS, _KEY_ID = 0x82, 0x87, 0x80


@dataclass(frozen=True, slots=True)
class Certificate:
    """A public certificate.

    ``subject`` and ``issuer`` as ``CN=host, O=Example``. ``names``: the DNS names and IP addresses that a TLS
    client may verify it by, lower case; the common name where it has no alternative names of these kinds
    (RFC 6125, 6.4.4). Times are RFC 3339 in UTC. ``key_id`` and ``issuer_key_id`` are the key identifiers of
    its own key and of its issuer's, as hexadecimal digits, None where it has none.
    """

    subject: str
    issuer: str
    names: tuple[str, ...]
    not_before: str
    not_after: str
    sha256: str
    key_id: str | None
    issuer_key_id: str | None

    def valid_at(self, now: datetime) -> bool:
        """Whether ``now`` (with a time zone) is within its validity."""
        return datetime.fromisoformat(self.not_before) <= now <= datetime.fromisoformat(self.not_after)

    def may_be_signed_by(self, other: Certificate) -> bool:
        """Whether ``other`` is named as its issuer; the signature itself is not verified."""
        if self.issuer != other.subject:
            return False
        return None in (self.issuer_key_id, other.key_id) or self.issuer_key_id == other.key_id


def read_certificates(text: str) -> tuple[Certificate, ...]:
    """The certificates in ``text``, in their order, the first 64; what is none or is damaged is left out."""
    found = []
    for match in list(_PEM.finditer(text))[:MOST_CERTIFICATES]:
        try:
            found.append(_certificate(base64.b64decode("".join(match.group(1).split()), validate=True)))
        except (ValueError, IndexError, OverflowError, binascii.Error):
            continue
    return tuple(found)


# -- DER -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Element:
    tag: int
    content: bytes


def _elements(data: bytes) -> Iterator[_Element]:
    """The elements that ``data`` is made of. Raises ValueError or IndexError for what is no DER."""
    position = 0
    while position < len(data):
        tag, length, position = data[position], data[position + 1], position + 2
        if length & 0x80:
            count = length & 0x7F
            if not 1 <= count <= 4:
                raise ValueError("no definite length")
            length, position = int.from_bytes(data[position : position + count]), position + count
        if position + length > len(data):
            raise ValueError("cut off")
        yield _Element(tag, data[position : position + length])
        position += length


def _first(data: bytes) -> _Element:
    """The first element of ``data``. Raises ValueError where there is none."""
    found = next(_elements(data), None)
    if found is None:
        raise ValueError("empty")
    return found


def _certificate(der: bytes) -> Certificate:
    outer = _first(der)
    body = _first(outer.content)
    if outer.tag != _SEQUENCE or body.tag != _SEQUENCE:
        raise ValueError("no certificate")
    fields = list(_elements(body.content))
    if fields[0].tag == _VERSION:
        fields = fields[1:]
    # serial number, signature algorithm, issuer, validity, subject, public key, …
    _serial, _algorithm, issuer, validity, subject = fields[:5]
    extensions = _extensions(fields[5:])
    begin, end = _elements(validity.content)
    names = tuple(_alternative_names(extensions.get(_ALTERNATIVE_NAMES, b"")))
    return Certificate(
        subject=", ".join(f"{name}={value}" for name, value in _name(subject)),
        issuer=", ".join(f"{name}={value}" for name, value in _name(issuer)),
        names=names or tuple(value.lower() for name, value in _name(subject) if name == "CN"),
        not_before=_time(begin),
        not_after=_time(end),
        sha256=hashlib.sha256(der).hexdigest(),
        key_id=_key_id(extensions.get(_SUBJECT_KEY)),
        issuer_key_id=_issuer_key_id(extensions.get(_AUTHORITY_KEY)),
    )


def _name(element: _Element) -> list[tuple[str, str]]:
    """The attributes of a distinguished name, each with its short name or object identifier."""
    found = []
    for part in _elements(element.content):
        for pair in _elements(part.content):
            kind, value = _elements(pair.content)
            oid = _oid(kind.content)
            text = value.content.decode("utf-16-be" if value.tag == 0x1E else "utf-8", "replace")
            found.append((_ATTRIBUTES.get(oid, oid), text))
    return found


def _oid(content: bytes) -> str:
    numbers, number = [], 0
    for byte in content:
        number = number << 7 | byte & 0x7F
        if not byte & 0x80:
            numbers.append(number)
            number = 0
    first = min(numbers[0] // 40, 2)
    return ".".join(str(part) for part in (first, numbers[0] - 40 * first, *numbers[1:]))


def _time(element: _Element) -> str:
    text = element.content.decode("ascii")
    if element.tag == _UTC_TIME:
        # RFC 5280, 4.1.2.5.1: years of two digits are 1950 to 2049.
        text = ("19" if capped(text[:2]) >= 50 else "20") + text
    elif element.tag != _TIME:
        raise ValueError("no time")
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).isoformat().replace("+00:00", "Z")


def _extensions(fields: list[_Element]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for field in fields:
        if field.tag != _EXTENSIONS:
            continue
        for extension in _elements(_first(field.content).content):
            parts = list(_elements(extension.content))
            if parts[0].tag == _OID and parts[-1].tag == _OCTETS:
                found[_oid(parts[0].content)] = parts[-1].content
    return found


def _alternative_names(value: bytes) -> Iterator[str]:
    if not value:
        return
    for name in _elements(_first(value).content):
        if name.tag == _DNS_NAME:
            yield name.content.decode("ascii", "replace").lower()
        elif name.tag == _IP_ADDRESS:
            yield str(ipaddress.ip_address(name.content))


def _key_id(value: bytes | None) -> str | None:
    return _first(value).content.hex() if value else None


def _issuer_key_id(value: bytes | None) -> str | None:
    parts = _elements(_first(value).content) if value else iter(())
    return next((part.content.hex() for part in parts if part.tag == _KEY_ID), None)
