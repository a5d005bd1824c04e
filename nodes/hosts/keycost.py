"""How much work a protected private key asks for before it opens.

A key names the number of rounds of its own key derivation. Whoever hands one in could name billions: OpenSSL
then computes for minutes with the interpreter's lock held, and the whole server stands still.

Sources: RFC 5958 (EncryptedPrivateKeyInfo), RFC 8018 (PBES1, PBES2, PBKDF2), OpenSSH's PROTOCOL.key.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
import struct
from collections.abc import Iterator

MAX_PKCS8_ITERATIONS = 2_000_000
"""About half a second. OpenSSL's own default is 2,048; advice for passwords is 600,000."""

MAX_OPENSSH_ROUNDS = 512
"""A few seconds, in which other threads go on. ssh-keygen's default is 24."""

MAX_SCRYPT_BLOCKS = 4 << 20
"""Cost times block size times parallelism (and key length, where it is told); the usual 16384 · 8 · 1 is far
below."""

_BLOCK = re.compile(r"-----BEGIN ([A-Z ]*PRIVATE KEY)-----(.*?)-----END \1-----", re.DOTALL)
_MARK = "PRIVATE KEY-----"
_FREE = frozenset({"PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY", "DSA PRIVATE KEY"})
"""Not protected, or in the way of old PEM files, which is one round of a hash."""

_OPENSSH_MAGIC = b"openssh-key-v1\0"
_SCRYPT = bytes.fromhex("06092b06010401da47040b")
_SEQUENCE, _INTEGER = 0x30, 0x02


def is_affordable(text: str) -> bool:
    """Whether opening the one private key in ``text`` (PEM or OpenSSH's format) is bounded work.

    False also where that cannot be told: for several keys, and for a protected one that is damaged.
    """
    if text.count(_MARK) < 2:
        return True  # a key without its end is opened by nobody
    blocks = _BLOCK.findall(text)
    if len(blocks) != 1 or text.count(_MARK) != 2:
        return False
    kind, body = blocks[0]
    if kind in _FREE:
        return True
    try:
        raw = base64.b64decode("".join(body.split()), validate=True)
        if kind == "OPENSSH PRIVATE KEY":
            return _openssh_rounds(raw) <= MAX_OPENSSH_ROUNDS
        return kind == "ENCRYPTED PRIVATE KEY" and _pkcs8_is_affordable(raw)
    except (binascii.Error, ValueError, struct.error, IndexError):
        return False


def openssh_key_type(text: str) -> str:
    """The type of the first key in OpenSSH's format, which no passphrase hides; "" where there is none."""
    for kind, body in _BLOCK.findall(text)[:1]:
        try:
            raw = base64.b64decode("".join(body.split()), validate=True)
            if kind != "OPENSSH PRIVATE KEY" or not raw.startswith(_OPENSSH_MAGIC):
                return ""
            rest = raw[len(_OPENSSH_MAGIC) :]
            for _part in ("cipher", "name of the derivation", "its options"):
                _value, rest = _string(rest)
            public, _rest = _string(rest[4:])  # after the number of keys
            return _string(public)[0].decode("ascii", errors="replace")
        except (binascii.Error, ValueError, struct.error):
            return ""
    return ""


def _pkcs8_is_affordable(raw: bytes) -> bool:
    numbers = tuple(_pkcs8_numbers(raw))
    if _SCRYPT in raw:
        return math.prod(numbers) <= MAX_SCRYPT_BLOCKS
    return max(numbers, default=0) <= MAX_PKCS8_ITERATIONS


def _openssh_rounds(raw: bytes) -> int:
    """The rounds of bcrypt; 0 without a passphrase."""
    if not raw.startswith(_OPENSSH_MAGIC):
        raise ValueError("no OpenSSH key")
    _cipher, rest = _string(raw[len(_OPENSSH_MAGIC) :])
    name, rest = _string(rest)
    options, _rest = _string(rest)
    if name == b"none":
        return 0
    _salt, rounds = _string(options)
    return int.from_bytes(struct.unpack(">4s", rounds)[0], "big")


def _string(raw: bytes) -> tuple[bytes, bytes]:
    """A string of the SSH protocol, and what follows it."""
    (length,) = struct.unpack(">I", raw[:4])
    if len(raw) < 4 + length:
        raise ValueError("cut off")
    return raw[4 : 4 + length], raw[4 + length :]


def _pkcs8_numbers(raw: bytes) -> Iterator[int]:
    """All integers in the description of the protection, which stands before the protected key itself."""
    tag, outer, _rest = _element(raw)
    inner, description, _rest = _element(outer)
    if tag != _SEQUENCE or inner != _SEQUENCE:
        raise ValueError("no EncryptedPrivateKeyInfo")
    waiting = [description]
    while waiting:
        rest = waiting.pop()
        while rest:
            tag, content, rest = _element(rest)
            if tag == _INTEGER:
                yield int.from_bytes(content, "big")
            elif tag & 0x20:
                waiting.append(content)


def _element(raw: bytes) -> tuple[int, bytes, bytes]:
    """Tag and content of the first element of DER, and what follows it."""
    tag, length, start = raw[0], raw[1], 2
    if length & 0x80:
        start += length & 0x7F
        length = int.from_bytes(raw[2:start], "big")
    if len(raw) < start + length:
        raise ValueError("cut off")
    return tag, raw[start : start + length], raw[start + length :]
