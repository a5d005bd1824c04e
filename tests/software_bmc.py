"""A BMC in software: sushy-tools' Redfish over TLS on loopback, which really switches libvirt's domains.

with LibvirtHost(tmp_path / "host") as host, SoftwareBmc(tmp_path / "bmc", prefix=host.inside) as bmc:
    ...  # every domain of that host is a system of the BMC
"""

from __future__ import annotations

import ipaddress
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import bcrypt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from nodes.hosts.bmc_target import BmcAddress, BmcTarget
from nodes.hosts.certificates import fingerprint_of
from tests.libvirtd import LibvirtHost
from tests.network import ANYWHERE
from tests.sshd import free_port

USER, PASSWORD = "admin", "hunter22-bmc"
EMULATOR = Path(sys.executable).parent / "sushy-emulator"


def define_machine(host: LibvirtHost, name: str, uuid: str) -> None:
    """A machine that is off: a domain that sits in its firmware once it is on."""
    file = host.folder / f"{name}.xml"
    file.write_text(
        f"""<domain type='qemu'><name>{name}</name><uuid>{uuid}</uuid><memory unit='MiB'>32</memory>
<vcpu>1</vcpu><os><type arch='x86_64' machine='pc'>hvm</type></os>
<devices><emulator>/usr/bin/qemu-system-x86_64</emulator></devices></domain>"""
    )
    host.virsh("define", str(file))


class Issuer:
    """A certificate authority of a test's own."""

    def __init__(self, name: str = "Test authority") -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.certificate = self._sign(self.name, self.key, None)

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def issue(self, folder: Path, address: str = "127.0.0.1") -> tuple[Path, Path]:
        """A certificate for ``address`` and its key, as files."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bmc")])
        certificate = self._sign(name, key, address)
        return write_pair(folder, certificate, key)

    def _sign(self, name: x509.Name, key: Any, address: str | None) -> x509.Certificate:
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=30))
            .add_extension(x509.BasicConstraints(ca=address is None, path_length=None), critical=True)
        )
        if address is not None:
            names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
            builder = builder.add_extension(names, critical=False)
        return builder.sign(self.key, hashes.SHA256())


def write_pair(folder: Path, certificate: x509.Certificate, key: Any) -> tuple[Path, Path]:
    """Certificate and key as PEM files in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    certificate_file, key_file = folder / "certificate.pem", folder / "key.pem"
    certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return certificate_file, key_file


class SoftwareBmc:
    """One emulator. ``user`` "" lets everybody in; ``issuer`` signs its certificate, else nobody known does.

    ``command`` is what runs, by default sushy-emulator over the libvirt that ``prefix`` leads to.
    ``config`` are further lines of its configuration.
    """

    def __init__(
        self,
        folder: Path,
        *,
        prefix: Sequence[str] = (),
        command: Sequence[str] = (str(EMULATOR), "--libvirt-uri", "qemu:///system"),
        user: str = USER,
        password: str = PASSWORD,
        issuer: Issuer | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.user, self.password = user, password
        self.address = BmcAddress("127.0.0.1", free_port())
        self._command = [*prefix, *command]
        self._config = dict(config or {})
        self._process: subprocess.Popen[bytes] | None = None
        self.certificate, self._key = (issuer or Issuer("Nobody known")).issue(folder)

    @property
    def fingerprint(self) -> str:
        """Of the certificate that it shows, 64 hexadecimal digits."""
        found = x509.load_pem_x509_certificate(self.certificate.read_bytes())
        return fingerprint_of(found.public_bytes(serialization.Encoding.DER))

    @property
    def commands(self) -> int:
        """How many times it was told to switch a machine."""
        return self.log.count("ComputerSystem.Reset HTTP")

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def target(self, **changes: Any) -> BmcTarget:
        """How to reach it, its certificate pinned; ``changes`` are fields of BmcTarget."""
        return replace(
            BmcTarget(self.address, self.user, self.password, self.fingerprint, rules=ANYWHERE), **changes
        )

    def new_certificate(self) -> None:
        """Show another certificate from now on."""
        self.stop()
        Issuer("Somebody else").issue(self.folder)
        self.start()

    def start(self) -> Self:
        config: dict[str, Any] = {
            "SUSHY_EMULATOR_LISTEN_IP": self.address.host,
            "SUSHY_EMULATOR_LISTEN_PORT": self.address.port,
            "SUSHY_EMULATOR_SSL_CERT": str(self.certificate),
            "SUSHY_EMULATOR_SSL_KEY": str(self._key),
            "SUSHY_EMULATOR_STATE_DIR": str(self.folder),
        } | self._config
        if self.user:
            entry = bcrypt.hashpw(self.password.encode(), bcrypt.gensalt(4)).decode()
            (self.folder / "users").write_text(f"{self.user}:{entry}\n")
            config["SUSHY_EMULATOR_AUTH_FILE"] = str(self.folder / "users")
        file = self.folder / "config.py"
        file.write_text("".join(f"{name} = {value!r}\n" for name, value in config.items()))
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*self._command, "--config", str(file)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + 60
        while True:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the BMC did not start: {self.log[-2000:]}")
            try:
                socket.create_connection((self.address.host, self.address.port), 1).close()
                return self
            except OSError:
                time.sleep(0.1)

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
