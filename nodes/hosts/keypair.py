"""nodeadmin's own SSH key pair."""

from __future__ import annotations

from dataclasses import dataclass, field

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


@dataclass(frozen=True, slots=True)
class KeyPair:
    """``public_key`` is one line for an authorized_keys file, ``private_key`` OpenSSH's text form."""

    public_key: str
    private_key: str = field(repr=False)


def generate_key_pair(comment: str = "nodeadmin") -> KeyPair:
    """A new ed25519 key pair without a passphrase: whoever stores it seals it."""
    if not comment.isprintable() or "\n" in comment:
        raise ValueError("a key's comment is one printable line")
    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    return KeyPair(f"{public.decode('ascii')} {comment}".rstrip(), private.decode("ascii"))
