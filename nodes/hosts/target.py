"""How to reach one host: its address, the user, the credential and the host key that was confirmed.

A target is all that this package needs to know of a node; where it comes from (a database row, a command
line) is no concern of it. Secrets never show in a ``repr``, so a target may stand in a log line or in an
assertion's message.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import struct
from dataclasses import dataclass, field
from typing import Literal, Self

from nodes.hosts.network_rules import NetworkRules

Transport = Literal["local", "ssh", "test"]
_FINGERPRINT = re.compile(r"SHA256:[A-Za-z0-9+/]{43}")

HOST_KEY_TYPES = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "ssh-rsa",
)
"""Types of host keys that can be pinned (RFC 4253, 5656, 8709; RSA is used with SHA-2 alone, RFC 8332)."""


@dataclass(frozen=True, slots=True)
class HostKey:
    """A public host key: its type and the key itself in the wire format of RFC 4253, section 6.6."""

    type: str
    blob: bytes = field(repr=False)

    @property
    def fingerprint(self) -> str:
        """As OpenSSH prints it: ``SHA256:`` and unpadded base64, 43 characters."""
        digest = hashlib.sha256(self.blob).digest()
        return "SHA256:" + base64.b64encode(digest).decode("ascii").rstrip("=")

    @staticmethod
    def is_fingerprint(text: str) -> bool:
        """Whether ``text`` has the form that :attr:`fingerprint` gives."""
        return _FINGERPRINT.fullmatch(text) is not None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``ssh-ed25519 AAAA…`` with an optional comment, as in a ``.pub`` file.

        Raises ValueError where it is not a public key of a type of :data:`HOST_KEY_TYPES`, or where the
        type named in front is not the one inside.
        """
        words = text.split()
        if len(words) < 2:
            raise ValueError("a host key is its type and the key in base64")
        try:
            blob = base64.b64decode(words[1], validate=True)
        except (binascii.Error, ValueError) as error:
            raise ValueError("the host key is not valid base64") from error
        return cls.from_blob(blob, expected=words[0])

    @classmethod
    def from_blob(cls, blob: bytes, *, expected: str = "") -> Self:
        """Read a key as it comes over the wire. Raises ValueError as :meth:`parse` does."""
        if len(blob) < 4:
            raise ValueError("the host key is too short")
        (length,) = struct.unpack(">I", blob[:4])
        kind = blob[4 : 4 + length].decode("ascii", errors="replace")
        if kind not in HOST_KEY_TYPES:
            raise ValueError("the host key is of a type that is not supported")
        if expected and kind != expected:
            raise ValueError(f"the host key says it is {expected}, but is {kind}")
        if len(blob) <= 4 + length:
            raise ValueError("the host key is cut off")
        return cls(kind, blob)

    def to_text(self) -> str:
        """``TYPE BASE64``: what :meth:`parse` reads."""
        return f"{self.type} {base64.b64encode(self.blob).decode('ascii')}"


@dataclass(frozen=True, slots=True)
class SshKeyCredential:
    """A private key as text (OpenSSH or PEM) and the passphrase that opens it, if it has one.

    ``alternatives`` are further private keys, without passphrase, which are offered in their order where the
    host refuses the first: while nodeadmin replaces its own key, some hosts have the one and some the other.
    """

    private_key: str = field(repr=False)
    passphrase: str | None = field(default=None, repr=False)
    alternatives: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class PasswordCredential:
    """The user's password."""

    password: str = field(repr=False)


Credential = SshKeyCredential | PasswordCredential


@dataclass(frozen=True, slots=True)
class JumpTarget:
    """Where a jump host is and how to enter it. ``key`` and ``name`` are what nodeadmin calls it; ``jump`` is
    the jump host in front of it, None where it is reached directly."""

    key: str
    name: str
    host: str
    port: int = 22
    user: str = ""
    credential: Credential | None = None
    host_key: HostKey | None = None
    jump: JumpTarget | None = None
    rules: NetworkRules = field(kw_only=True)

    @property
    def target(self) -> HostTarget:
        """The same as the target of a connection."""
        return HostTarget(
            key=self.key,
            transport="ssh",
            host=self.host,
            port=self.port,
            user=self.user,
            credential=self.credential,
            host_key=self.host_key,
            jump=self.jump,
            rules=self.rules,
        )

    def digest(self) -> str:
        """As :meth:`HostTarget.digest`, over the whole chain."""
        return self.target.digest()


@dataclass(frozen=True, slots=True)
class HostTarget:
    """Where a host is and how to enter it.

    ``key`` names the node (its UUID, or "" before there is one). ``local`` needs nothing else; ``ssh`` needs
    host, port, user, credential and host key; ``test`` is libvirt's test driver, which has no shell.
    ``libvirt_uri`` is what libvirt opens at the host's side, ``qemu:///system`` or ``test:///…``. With
    ``jump`` the connection is made from that jump host, which then also looks the name ``host`` up.
    """

    key: str
    transport: Transport
    host: str = ""
    port: int = 22
    user: str = ""
    credential: Credential | None = None
    host_key: HostKey | None = None
    libvirt_uri: str = "qemu:///system"
    sudo_password: str | None = field(default=None, repr=False)
    """Where the user's sudo asks for one; None for a sudo that asks for none."""
    jump: JumpTarget | None = None
    rules: NetworkRules = field(kw_only=True)
    """Which addresses its name may lead to. No default: whoever makes a target has thought of it."""

    @property
    def address(self) -> str:
        """Host and port as people write them, for messages."""
        if self.transport != "ssh":
            return "this machine" if self.transport == "local" else self.libvirt_uri
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == 22 else f"{host}:{self.port}"

    @property
    def budget_key(self) -> str:
        """What names the host among budgets: the node, or the address of one that is no node yet."""
        return self.key or self.address

    def digest(self) -> str:
        """A hash over everything that decides how the host is entered, secrets included.

        Two targets with the same digest may share a connection; a changed credential or host key gives
        another digest, so that no connection outlives what it was allowed by. Alternative keys are no part
        of it: who replaces nodeadmin's key drops the connections that stand.
        """
        parts: list[str] = [self.key, self.transport, self.host, str(self.port), self.user, self.libvirt_uri]
        match self.credential:
            case SshKeyCredential(private_key=private_key, passphrase=passphrase):
                parts += ["key", private_key, "" if passphrase is None else f"={passphrase}"]
            case PasswordCredential(password):
                parts += ["password", password]
            case None:
                parts += ["none"]
        parts.append(self.host_key.to_text() if self.host_key else "")
        if self.jump is not None:
            parts.append(self.jump.digest())
        if self.sudo_password is not None:
            parts.append(self.sudo_password)
        packed = b"".join(struct.pack(">I", len(raw)) + raw for raw in (part.encode() for part in parts))
        return hashlib.sha256(packed).hexdigest()
