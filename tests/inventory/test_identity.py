"""Who a host is, and which identifiers tell nothing."""

from __future__ import annotations

import pytest

from nodes.inventory.identity import HostIdentity, clean_firmware_uuid, clean_machine_id, host_identity
from nodes.inventory.summary import parse
from tests.inventory.documents import document_of, host_document

MACHINE = "b08dfa6083e7567a1921a715000001fb"
UUID = "4c4c4544-0051-3010-8052-b4c04f4d3233"


def identity(machine_id: str | None, uuid: str | None) -> HostIdentity | None:
    system = f"/etc/machine-id:{machine_id}\n" if machine_id else ""
    root = f"/sys/class/dmi/id/product_uuid:{uuid}\n" if uuid else ""
    return parse(document_of(system=system, machine_identity=root)).facts.identity


def known(machine_id: str | None, uuid: str | None) -> HostIdentity:
    found = identity(machine_id, uuid)
    assert found is not None
    return found


def test_both_are_kept_in_one_form() -> None:
    facts = parse(host_document("two-socket")).facts
    assert facts.identity is not None
    assert (facts.identity.machine_id, facts.identity.firmware_uuid) == (MACHINE, UUID)
    assert facts.identity == host_identity(MACHINE.upper(), facts.machine)
    assert len(facts.identity.digest) == 64


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "00000000-0000-0000-0000-000000000000",
        "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF",
        "fefefefe-fefe-fefe-fefe-fefefefefefe",
        "03000200-0400-0500-0006-000700080009",
        "03000200-0400-0500-0006-000700080009 ",
        "12345678-1234-5678-90ab-cddeefaabbcc",
        "Not Settable",
        "Not Present",
        "To be filled by O.E.M.",
        "4c4c4544-0051-3010-8052",
    ],
)
def test_a_uuid_that_many_boards_share_is_none(text: str | None) -> None:
    assert clean_firmware_uuid(text) is None


@pytest.mark.parametrize("text", [None, "", "uninitialized", "0" * 32, "f" * 32, "abc"])
def test_a_machine_id_that_is_none(text: str | None) -> None:
    assert clean_machine_id(text) is None


def test_one_is_enough_and_none_is_no_identity() -> None:
    assert known(MACHINE, "Not Settable").firmware_uuid is None
    assert known("uninitialized", UUID).machine_id is None
    assert identity(None, None) is None
    assert identity("uninitialized", "Not Settable") is None


def test_clones_of_one_image_on_two_boards_are_two_hosts() -> None:
    other = "4c4c4544-0051-3010-8052-b4c04f4d3234"
    assert not known(MACHINE, UUID).same_host(known(MACHINE, other))
    assert known(MACHINE, UUID).digest != known(MACHINE, other).digest


def test_two_systems_on_boards_of_one_uuid_are_two_hosts() -> None:
    assert not known(MACHINE, UUID).same_host(known("c" * 31 + "d", UUID))


def test_a_host_seen_without_root_is_the_same() -> None:
    assert known(MACHINE, None).same_host(known(MACHINE, UUID))
    assert known(None, UUID).same_host(known(MACHINE, UUID))


def test_nothing_known_of_both_is_not_the_same() -> None:
    assert not known(MACHINE, None).same_host(known(None, UUID))
