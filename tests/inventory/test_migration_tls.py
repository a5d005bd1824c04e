"""What a host has for encrypted migrations, and the certificates themselves."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodes.inventory.document import HostDocument, SourceOutput, SourceStatus
from nodes.inventory.libvirt.migration_tls import QEMU_TLS, MigrationTls, read_migration_tls
from nodes.inventory.parsing.x509 import Certificate, read_certificates
from nodes.inventory.plain import to_plain
from tests.inventory.documents import document_of, host_document
from tests.inventory.qemu_tls import AUTHORITY, CLIENT, SERVER

FILES = ("ca-cert.pem", "server-cert.pem", "server-key.pem", "client-cert.pem", "client-key.pem")


def tls(text: str) -> MigrationTls:
    found = read_migration_tls(document_of(qemu_tls=text))
    assert found is not None
    return found


def certificate(text: str) -> Certificate:
    (found,) = read_certificates(text)
    return found


def test_a_host_that_encrypts_has_its_certificates_in_the_folder_that_qemu_conf_names() -> None:
    found = read_migration_tls(host_document("large"))
    assert found is not None
    assert (found.folder, found.files) == ("/srv/pki/migration", FILES)
    assert found.server[0].names == ("kvm-large.example.com", "192.0.2.41", "2001:db8::41")
    assert found.client[0].names == ("kvm-large",), "the common name, where there is nothing else"
    assert found.authorities[0].subject == "O=Example, CN=QEMU migration CA"
    assert (found.verifies_client, found.required) == (True, True)


def test_a_host_without_certificates_says_where_they_would_be() -> None:
    found = read_migration_tls(host_document("lab-plain"))
    assert found is not None
    assert (found.folder, found.files, found.server, found.required) == ("/etc/pki/qemu", (), (), False)


@pytest.mark.parametrize(
    ("lines", "folder"),
    [
        ("", "/etc/pki/qemu"),
        ("folder:/etc/pki/libvirt-migrate\n", "/etc/pki/libvirt-migrate"),
        ('set:default_tls_x509_cert_dir = "/srv/a"\n', "/srv/a"),
        ("set:default_tls_x509_cert_dir='/srv/a'\nset:migrate_tls_x509_cert_dir='/srv/b'\n", "/srv/b"),
        (
            'set:default_tls_x509_cert_dir = "/srv/a"\nfolder:/etc/pki/libvirt-migrate\n',
            "/etc/pki/libvirt-migrate",
        ),
    ],
)
def test_the_folder_is_the_one_that_libvirt_takes(lines: str, folder: str) -> None:
    assert tls("libvirt:yes\n" + lines).folder == folder


@pytest.mark.parametrize(
    ("lines", "verifies"),
    [
        ("", True),
        ("set:default_tls_x509_verify = 0\n", False),
        ("set:default_tls_x509_verify = 0\nset:migrate_tls_x509_verify = 1\n", True),
        ("set:migrate_tls_x509_verify=0\n", False),
    ],
)
def test_whether_the_source_has_to_show_a_certificate_follows_qemu_conf(lines: str, verifies: bool) -> None:
    assert tls("libvirt:yes\n" + lines).verifies_client is verifies


@pytest.mark.parametrize("status", [s for s in SourceStatus if s is not SourceStatus.OK])
def test_what_could_not_be_read_is_unknown_and_not_absent(status: SourceStatus) -> None:
    output = SourceOutput(QEMU_TLS.name, status, "libvirt:yes\n")
    assert read_migration_tls(HostDocument("", {QEMU_TLS.name: output})) is None
    assert read_migration_tls(HostDocument("", {})) is None
    assert read_migration_tls(document_of(qemu_tls="libvirt:no\n")) is None


def test_a_damaged_certificate_is_none_beside_a_file_that_is_there() -> None:
    found = tls(
        "libvirt:yes\nfolder:/etc/pki/qemu\nfile:ca-cert.pem\n"
        "-----BEGIN CERTIFICATE-----\nbm9uc2Vuc2U=\n-----END CERTIFICATE-----\nfile:server-cert.pem\n"
    )
    assert (found.files, found.authorities, found.server) == (("ca-cert.pem", "server-cert.pem"), (), ())


def test_the_facts_come_back_out_of_an_inventorys_json() -> None:
    found = read_migration_tls(host_document("large"))
    assert MigrationTls.from_plain(json.loads(json.dumps(to_plain(found)))) == found


def test_a_certificate_tells_its_names_times_and_issuer() -> None:
    server, authority = certificate(SERVER), certificate(AUTHORITY)
    assert (server.subject, server.issuer) == ("CN=kvm-large", authority.subject)
    assert (server.not_before, server.not_after) == ("2026-11-29T13:01:10Z", "2046-08-16T13:01:10Z")
    assert server.sha256 == "bf61d684010381f7d3df4d93d63249008168e6b86e1c86c10508b83b85282147"
    assert server.may_be_signed_by(authority)
    assert not server.may_be_signed_by(certificate(CLIENT))
    assert server.valid_at(datetime(2030, 1, 1, tzinfo=UTC))
    assert not server.valid_at(datetime(2050, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize("content", ["", "MAA=", "MAIwAA=="])
def test_an_element_that_is_empty_costs_the_certificate_and_nothing_else(content: str) -> None:
    empty = f"-----BEGIN CERTIFICATE-----\n{content}\n-----END CERTIFICATE-----\n"
    assert read_certificates(empty + SERVER) == read_certificates(SERVER) != ()


def test_an_authority_of_the_same_name_and_another_key_is_another() -> None:
    other = replace(certificate(AUTHORITY), key_id="00" * 20)
    assert not certificate(SERVER).may_be_signed_by(other)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_damage_of_any_kind_costs_the_certificate_and_nothing_else(data: st.DataObject) -> None:
    text = list(SERVER + CLIENT)
    for position in data.draw(st.lists(st.integers(0, len(SERVER) - 1), max_size=6)):
        text[position] = data.draw(st.sampled_from("AZaz09+/=- \n\x00é"))
    for found in read_certificates("".join(text)):
        assert isinstance(found.subject, str)
