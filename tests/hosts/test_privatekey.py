"""Private keys as people hand them in: which are taken, and what is said of the others."""

from __future__ import annotations

import base64
import textwrap
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa

from nodes.errors import AuthenticationFailed
from nodes.hosts.privatekey import load_private_key
from nodes.hosts.target import SshKeyCredential

PEM, OPENSSH = serialization.PrivateFormat.PKCS8, serialization.PrivateFormat.OpenSSH
OLD = serialization.PrivateFormat.TraditionalOpenSSL
PASSPHRASE = "pässword"


def text_of(key: Any, form: Any = PEM, passphrase: str = "") -> str:
    protection: Any = serialization.NoEncryption()
    if passphrase and form is OPENSSH:
        protection = OPENSSH.encryption_builder().kdf_rounds(2).build(passphrase.encode())
    elif passphrase:
        protection = serialization.BestAvailableEncryption(passphrase.encode())
    raw: bytes = key.private_bytes(serialization.Encoding.PEM, form, protection)
    return raw.decode()


def armoured(kind: str, raw: bytes) -> str:
    lines = textwrap.wrap(base64.b64encode(raw).decode(), 64)
    return "\n".join([f"-----BEGIN {kind}-----", *lines, f"-----END {kind}-----", ""])


def der(tag: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    size = len(content)
    length = bytes([size]) if size < 128 else bytes([0x82]) + size.to_bytes(2, "big")
    return bytes([tag]) + length + content


def number(value: int) -> bytes:
    return der(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def protected(derivation: str, *numbers: int) -> str:
    """A key under PBES2, whose key derivation is named by its OID and takes these numbers."""
    parameters = der(0x30, der(0x04, b"8bytes.."), *map(number, numbers))
    kdf = der(0x30, bytes.fromhex(derivation), parameters)
    cipher = der(0x30, bytes.fromhex("060960864801650304012a"), der(0x04, b"\0" * 16))
    description = der(0x30, bytes.fromhex("06092a864886f70d01050d"), der(0x30, kdf, cipher))
    return armoured("ENCRYPTED PRIVATE KEY", der(0x30, description, der(0x04, b"\0" * 64)))


PBKDF2, SCRYPT = "06092a864886f70d01050c", "06092b06010401da47040b"
ED25519, P256 = ed25519.Ed25519PrivateKey.generate(), ec.generate_private_key(ec.SECP256R1())
RSA = rsa.generate_private_key(65537, 2048)


def refusal(text: str, passphrase: str | None = None) -> AuthenticationFailed:
    with pytest.raises(AuthenticationFailed) as caught:
        load_private_key(SshKeyCredential(text, passphrase))
    assert caught.value.extra["reason"] == "unusable_key"
    return caught.value


FORMS = [(key, form) for key in (ED25519, P256, RSA) for form in (PEM, OPENSSH, OLD)]
FORMS.remove((ED25519, OLD))  # there is no such format


@pytest.mark.parametrize(("key", "form"), FORMS)
@pytest.mark.parametrize("passphrase", ["", PASSPHRASE], ids=["open", "protected"])
def test_every_kind_in_every_format_opens(key: Any, form: Any, passphrase: str) -> None:
    text = text_of(key, form, passphrase)
    # A passphrase that is not needed does no harm.
    loaded = load_private_key(SshKeyCredential(text, PASSPHRASE))
    wanted = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    assert loaded.get_base64().encode() in wanted
    if passphrase:
        assert refusal(text).field == "passphrase"
        assert refusal(text, "wrong").field == "passphrase"


@pytest.mark.parametrize(
    "mangle",
    [
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace("\n", " "),
        lambda text: "\ufeff" + text,
        lambda text: textwrap.indent(text, "    "),
        lambda text: f"Here it is:\n{text}\n",
    ],
)
def test_what_copying_does_to_a_key_is_forgiven(mangle: Callable[[str], str]) -> None:
    for text in (text_of(ED25519), text_of(ED25519, OPENSSH, PASSPHRASE), text_of(P256, PEM, PASSPHRASE)):
        load_private_key(SshKeyCredential(mangle(text), PASSPHRASE))


@pytest.mark.parametrize(
    ("key", "word"),
    [
        (ec.generate_private_key(ec.SECP256K1()), "secp256k1"),
        (ec.generate_private_key(ec.BrainpoolP256R1()), "brainpoolP256r1"),
        (dsa.generate_private_key(1024), "ed25519"),
        (rsa.generate_private_key(65537, 1024), "1024 bits"),
    ],
    ids=["secp256k1", "brainpool", "dsa", "short"],
)
def test_keys_that_ssh_does_not_take_are_refused_with_the_reason(key: Any, word: str) -> None:
    assert word in refusal(text_of(key)).detail()


@pytest.mark.parametrize("rounds", [2_000_001, 2**31, 2**62])
def test_a_protection_that_would_stop_the_server_is_not_opened(rounds: int) -> None:
    """OpenSSL counts these rounds with the interpreter's lock held: nothing else would run meanwhile."""
    assert "too long" in refusal(protected(PBKDF2, rounds), PASSPHRASE).detail()
    assert "too long" in refusal(protected(SCRYPT, 1 << 14, 1, rounds), PASSPHRASE).detail()
    raw = bytearray(base64.b64decode("".join(text_of(ED25519, OPENSSH, PASSPHRASE).splitlines()[1:-1])))
    place = raw.index(b"bcrypt") + 6 + 4 + 4 + 16
    assert raw[place : place + 4] == b"\0\0\0\2"
    raw[place : place + 4] = min(rounds, 2**31).to_bytes(4, "big")
    assert "too long" in refusal(armoured("OPENSSH PRIVATE KEY", bytes(raw)), PASSPHRASE).detail()


@pytest.mark.parametrize("numbers", [(PBKDF2, 600_000, 32), (SCRYPT, 1 << 14, 8, 1, 32)])
def test_a_protection_in_use_is_tried(numbers: Any) -> None:
    assert "passphrase" in refusal(protected(*numbers), PASSPHRASE).detail()


def test_of_two_keys_none_is_chosen() -> None:
    assert "several" in refusal(text_of(ED25519) + protected(PBKDF2, 2**31), PASSPHRASE).detail()


@pytest.mark.parametrize("kind", ["sk-ssh-ed25519@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com"])
@pytest.mark.parametrize("cipher", [b"none", b"aes256-ctr"])
def test_a_key_that_needs_hardware_is_named_as_such(kind: str, cipher: bytes) -> None:
    """As ssh-keygen -t ed25519-sk writes it (OpenSSH's PROTOCOL.key and PROTOCOL.u2f)."""

    def string(raw: bytes) -> bytes:
        return len(raw).to_bytes(4, "big") + raw

    public = string(kind.encode()) + string(b"k" * 32) + string(b"ssh:")
    derivation = string(b"bcrypt") + string(string(b"s" * 16) + (16).to_bytes(4, "big"))
    if cipher == b"none":
        derivation = string(b"none") + string(b"")
    raw = b"openssh-key-v1\0" + string(cipher) + derivation
    raw += (1).to_bytes(4, "big") + string(public) + string(b"p" * 64)
    text = base64.encodebytes(raw).decode()
    key = f"-----BEGIN OPENSSH PRIVATE KEY-----\n{text}-----END OPENSSH PRIVATE KEY-----\n"
    with pytest.raises(AuthenticationFailed) as caught:
        load_private_key(SshKeyCredential(key, None if cipher == b"none" else "secret"))
    assert kind in caught.value.message
    assert "security key" in caught.value.message
    assert caught.value.remedy.endswith("ssh-keygen -t ed25519.")
