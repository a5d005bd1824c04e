"""Certificates for QEMU's encrypted migrations, made on the spot: an authority, and a folder a host."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = timedelta(days=1)


class Authority:
    """Signs certificates, and writes the files that QEMU looks for (its docs/system/tls.rst)."""

    def __init__(self, name: str = "migrations") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        usage = x509.KeyUsage(False, False, False, False, False, True, False, False, False)
        self._certificate = (
            _draft(name, name, self._key)
            .add_extension(x509.BasicConstraints(True, None), critical=True)
            .add_extension(usage, critical=True)
            .sign(self._key, hashes.SHA256())
        )

    def equip(self, folder: Path, name: str, *, names: Sequence[str] = ()) -> None:
        """Write all five files for the host ``name`` into ``folder``. ``names``: the DNS names and addresses
        that its certificate is for."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "ca-cert.pem").write_bytes(_pem(self._certificate))
        for side, purpose in (
            ("server", ExtendedKeyUsageOID.SERVER_AUTH),
            ("client", ExtendedKeyUsageOID.CLIENT_AUTH),
        ):
            key = ec.generate_private_key(ec.SECP256R1())
            draft = _draft(name, self._certificate.subject, key)
            draft = draft.add_extension(x509.BasicConstraints(False, None), critical=True)
            draft = draft.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
            if names:
                told = x509.SubjectAlternativeName([_general(entry) for entry in names])
                draft = draft.add_extension(told, critical=False)
            (folder / f"{side}-cert.pem").write_bytes(_pem(draft.sign(self._key, hashes.SHA256())))
            (folder / f"{side}-key.pem").write_bytes(
                key.private_bytes(
                    serialization.Encoding.PEM,
                    serialization.PrivateFormat.PKCS8,
                    serialization.NoEncryption(),
                )
            )


def _draft(name: str, issuer: str | x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(_named(name))
        .issuer_name(_named(issuer) if isinstance(issuer, str) else issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - DAY)
        .not_valid_after(now + 30 * DAY)
    )


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
