"""Read a user's private key, whatever tool wrote it, and say plainly what is wrong with one that fails."""

from __future__ import annotations

import io

import paramiko
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from nodes.errors import AuthenticationFailed
from nodes.hosts.keycost import is_affordable, openssh_key_type
from nodes.hosts.target import SshKeyCredential

MIN_RSA_BITS = 2048
MAX_KEY_LENGTH = 16 << 10
CURVES = frozenset({"secp256r1", "secp384r1", "secp521r1"})
"""Those of RFC 5656, section 10.1."""

_Private = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def load_private_key(credential: SshKeyCredential) -> paramiko.PKey:
    """The key ready to sign with: ed25519, ECDSA on a NIST curve or RSA, in OpenSSH or PEM format.

    Raises AuthenticationFailed (field ``private_key`` or ``passphrase``); no message repeats any of the key.
    """
    key = _load(credential)
    plain = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    ).decode("ascii")
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return paramiko.Ed25519Key(file_obj=io.StringIO(plain))
    if isinstance(key, rsa.RSAPrivateKey):
        return paramiko.RSAKey.from_private_key(io.StringIO(plain))
    return paramiko.ECDSAKey.from_private_key(io.StringIO(plain))


def _load(credential: SshKeyCredential) -> _Private:
    text = credential.private_key.strip().replace("\r\n", "\n") + "\n"
    if text.startswith("PuTTY-User-Key-File"):
        raise _refuse("The key is in PuTTY's format.", "Export it from PuTTYgen as an OpenSSH key.")
    if text.startswith(("ssh-", "ecdsa-", "sk-")) or "BEGIN PUBLIC KEY" in text:
        raise _refuse("This is the public half of a key.", "Give the private one.")
    if "PRIVATE KEY-----" not in text or len(text) > MAX_KEY_LENGTH:
        raise _refuse("This is not a private key.", "It begins with a line “-----BEGIN … PRIVATE KEY-----”.")
    if (kind := openssh_key_type(text)).startswith("sk-"):
        raise _refuse(
            f"A key of type {kind} needs the security key (FIDO) that it was made on, plugged in and touched "
            "at each use.",
            "Give nodeadmin a key of its own without hardware: ssh-keygen -t ed25519.",
        )
    if not is_affordable(text):
        raise _refuse(
            "The key is damaged, there are several, or its protection takes too long to open.",
            "Give one whole private key; ssh-keygen -p protects it anew.",
        )
    passphrase = credential.passphrase.encode("utf-8", errors="replace") if credential.passphrase else None
    openssh = "BEGIN OPENSSH PRIVATE KEY" in text
    load = serialization.load_ssh_private_key if openssh else serialization.load_pem_private_key
    try:
        key = load(text.encode("utf-8", errors="replace"), passphrase)
    except TypeError as error:
        # cryptography's word for: a passphrase was given and none is needed, or the other way round.
        if passphrase is None:
            raise _refuse("The key is protected by a passphrase.", "Give it.", "passphrase") from error
        return _load(SshKeyCredential(credential.private_key))
    except (ValueError, UnsupportedAlgorithm) as error:
        if passphrase is not None:
            raise _refuse("The passphrase does not open the key.", field="passphrase") from error
        if openssh and "passphrase" in str(error).lower():
            raise _refuse("The key is protected by a passphrase.", "Give it.", "passphrase") from error
        raise _refuse("The key is damaged or of a kind that is not supported.") from error
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size < MIN_RSA_BITS:
        raise _refuse(f"An RSA key of {key.key_size} bits is too weak.", f"Use {MIN_RSA_BITS} or more.")
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name not in CURVES:
        raise _refuse(f"SSH has no keys on the curve {key.curve.name}.", "Use ed25519, ECDSA or RSA.")
    if isinstance(key, _Private):
        return key
    raise _refuse("A key of this kind is not supported.", "Use ed25519, ECDSA or RSA.")


def _refuse(message: str, remedy: str = "", field: str = "private_key") -> AuthenticationFailed:
    return AuthenticationFailed(message, remedy=remedy, field=field, extra={"reason": "unusable_key"})
