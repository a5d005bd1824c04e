"""Whether a plan sends VMs encrypted, by what both inventories tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from nodes.inventory.libvirt.migration_tls import MigrationTls
from nodes.inventory.parsing.x509 import Certificate, read_certificates
from nodes.inventory.plain import to_plain
from nodes.operations.plan.encryption import Encryption, encryption
from nodes.operations.plan.host_state import HostState
from tests.inventory.qemu_tls import AUTHORITY, CLIENT, SERVER

NOW = datetime(2030, 1, 1, tzinfo=UTC)
FILES = ("ca-cert.pem", "server-cert.pem", "server-key.pem", "client-cert.pem", "client-key.pem")


def certificates(text: str) -> tuple[Certificate, ...]:
    return read_certificates(text)


TLS = MigrationTls(
    folder="/etc/pki/qemu",
    files=FILES,
    authorities=certificates(AUTHORITY),
    server=certificates(SERVER),
    client=certificates(CLIENT),
    verifies_client=True,
    required=False,
)
"""Of kvm-large.example.com, 192.0.2.41 and 2001:db8::41."""


def host(
    name: str, tls: MigrationTls | None, *, address: str = "192.0.2.41", hostname: str = ""
) -> HostState:
    libvirt: dict[str, Any] = {"migration_tls": to_plain(tls) if tls else None, "hostname": hostname or None}
    return HostState(name, name, address=address, inventory={"summary": {"libvirt": libvirt, "system": {}}})


def sent(
    source: MigrationTls | None = TLS, target: MigrationTls | None = TLS, mode: str = "prefer", **fields: str
) -> Encryption:
    return encryption(host("one", source), host("two", target, **fields), mode=mode, now=NOW)


def named(*names: str) -> MigrationTls:
    return replace(TLS, server=(replace(TLS.server[0], names=names),))


@pytest.mark.parametrize("mode", ["prefer", "require"])
def test_with_certificates_on_both_hosts_it_is_encrypted(mode: str) -> None:
    assert sent(mode=mode) == Encryption(True)


def test_where_it_is_switched_off_nothing_is_encrypted() -> None:
    assert sent(mode="off") == Encryption(False)


@pytest.mark.parametrize(
    ("address", "hostname", "names", "verified"),
    [
        ("192.0.2.41", "", ("192.0.2.41",), ""),
        ("[2001:db8:0::41]", "", ("2001:db8::41",), ""),
        ("kvm-2.example.com", "", ("kvm-2.example.com",), ""),
        ("kvm-2.example.com", "", ("*.example.com",), ""),
        ("10.0.0.2", "kvm-2.example.com", ("a.example.com", "kvm-2.example.com"), "kvm-2.example.com"),
        ("10.0.0.2", "kvm-2.example.com", ("*.example.com",), "kvm-2.example.com"),
        ("10.0.0.2", "kvm-2", ("two",), "two"),
        ("10.0.0.2", "", ("migration.kvm-2.lan",), "migration.kvm-2.lan"),
        ("10.0.0.2", "", ("localhost", "127.0.0.1", "192.0.2.9"), "192.0.2.9"),
    ],
)
def test_the_targets_name_is_verified(
    address: str, hostname: str, names: Sequence[str], verified: str
) -> None:
    found = sent(target=named(*names), address=address, hostname=hostname)
    assert found == Encryption(True, verified)


@pytest.mark.parametrize("names", [(), ("localhost",), ("127.0.0.1", "::1"), ("*.other.example.com",)])
def test_a_certificate_that_names_no_host_cannot_be_verified(names: Sequence[str]) -> None:
    found = sent(target=named(*names), address="10.0.0.2", hostname="kvm-2.example.com")
    assert found.encrypted is False
    assert "can be verified" in found.notes[0]


def expired(chain: Sequence[Certificate]) -> tuple[Certificate, ...]:
    return tuple(replace(one, not_after="2029-01-01T00:00:00Z") for one in chain)


OTHERS = tuple(replace(one, key_id="00" * 20) for one in TLS.authorities)
WITHOUT = {
    "unknown on the source": (None, TLS, "one does not tell"),
    "unknown on the target": (TLS, None, "two does not tell"),
    "no files": (
        TLS,
        replace(TLS, files=(), server=(), client=()),
        "two lacks in /etc/pki/qemu: ca-cert.pem",
    ),
    "no key on the target": (TLS, replace(TLS, files=FILES[:2] + FILES[3:]), "server-key.pem"),
    "no client on the source": (replace(TLS, files=FILES[:3], client=()), TLS, "one lacks"),
    "expired": (TLS, replace(TLS, server=expired(TLS.server)), "to 2029-01-01T00:00:00Z"),
    "expired client": (replace(TLS, client=expired(TLS.client)), TLS, "client-cert.pem of one"),
    "unreadable": (TLS, replace(TLS, server=()), "no certificate that can be read"),
    "another authority on the source": (replace(TLS, authorities=OTHERS), TLS, "certificate of two"),
    "another authority on the target": (TLS, replace(TLS, authorities=OTHERS), "certificate of two"),
    "authority expired": (replace(TLS, authorities=expired(TLS.authorities)), TLS, "No authority"),
}


@pytest.mark.parametrize("case", WITHOUT, ids=str)
def test_what_is_missing_is_told_and_with_require_stands_in_the_way(case: str) -> None:
    source, target, words = WITHOUT[case]
    preferred = sent(source, target)
    assert (preferred.encrypted, preferred.reasons) == (False, ())
    assert words in preferred.notes[0]
    required = sent(source, target, mode="require")
    assert (required.encrypted, required.notes) == (False, ())
    (reason,) = required.reasons
    assert (reason.code, words in reason.message) == ("migration_not_encrypted", True)
    assert "NODEADMIN_MIGRATION_TLS" in reason.remedy


def test_a_source_that_nobody_asks_who_it_is_needs_no_certificate() -> None:
    target = replace(TLS, verifies_client=False)
    assert sent(replace(TLS, files=("ca-cert.pem",), client=()), target) == Encryption(True)


@pytest.mark.parametrize("strict", ["one", "two"])
def test_a_host_that_refuses_plain_migrations_gets_none(strict: str) -> None:
    demanding, bare = replace(TLS, required=True), replace(TLS, files=(), server=(), client=())
    source, target = (demanding, bare) if strict == "one" else (bare, demanding)
    found = sent(source, target)
    assert [reason.code for reason in found.reasons] == ["migration_not_encrypted"]
    assert f"libvirt on {strict} refuses" in found.reasons[0].message
    off = sent(replace(TLS, required=True), TLS, mode="off")
    assert "NODEADMIN_MIGRATION_TLS is off" in off.reasons[0].message


def test_an_intermediate_authority_leads_to_the_one_that_is_trusted() -> None:
    root = TLS.authorities[0]
    middle = replace(root, subject="CN=middle", key_id="aa", sha256="0")
    server = replace(TLS.server[0], issuer="CN=middle", issuer_key_id="aa")
    assert sent(target=replace(TLS, server=(server, middle))) == Encryption(True)
    assert sent(target=replace(TLS, server=(server,))).encrypted is False


def test_an_inventory_of_another_version_is_unknown_and_no_error() -> None:
    odd = HostState("two", "two", inventory={"summary": {"libvirt": {"migration_tls": {"folder": "/x"}}}})
    found = encryption(host("one", TLS), odd, mode="prefer", now=NOW)
    assert "two does not tell" in found.notes[0]
