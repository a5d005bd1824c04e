"""Where a target takes migrations: at an address of its own, which the source has not as well."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest

from nodes.hosts.target import HostTarget
from nodes.inventory import net
from nodes.inventory.plain import to_plain
from nodes.operations.host_reading import Host
from nodes.operations.looking import fault_of_address
from nodes.operations.plan.constraints import migration_address
from nodes.operations.plan.host_state import HostState
from nodes.operations.plan.migration_address import literal, shown_addresses
from nodes.operations.plans import Note, Reason
from tests.inventory.documents import host_document
from tests.network import ANYWHERE
from tests.operations.plan.constraints import states

OWN = "192.0.2.20"


def facts(*addresses: str, **flags: Any) -> dict[str, Any]:
    rows = [{"address": address, "flags": list(flags.get("flags", ()))} for address in addresses]
    return {"nics": [{"name": "eth0", "addresses": rows}]}


def host(name: str, net_facts: Any, address: str = "", *, forced: bool = False) -> HostState:
    inventory = {"net": net_facts} if net_facts is not None else {}
    return HostState(name, name, address=address, address_forced=forced, inventory=inventory)


def found(target: HostState, source: HostState | None = None) -> list[Reason | Note]:
    return list(migration_address.check(states.vm(), source or host("one", facts("192.0.2.10")), target))


@pytest.mark.parametrize("address", [OWN, "2001:db8:2::20", "[2001:db8:2:0::20]"])
def test_an_address_of_its_own_is_good(address: str) -> None:
    assert found(host("two", facts(OWN, "2001:db8:2::20"), address)) == []


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("192.0.2.99", "no longer shows 192.0.2.99"),
        ("127.0.0.1", "leads to no other host"),
        ("[::1]", "leads to no other host"),
        ("169.254.1.1", "leads to no other host"),
    ],
)
def test_any_other_keeps_every_vm_from_it_and_says_which_there_are(address: str, words: str) -> None:
    (reason,) = found(host("two", facts(OWN), address))
    assert isinstance(reason, Reason)
    assert (reason.code, words in reason.message, OWN in reason.remedy) == ("migration_network", True, True)


def test_an_address_that_both_hosts_have_leads_back_to_the_source() -> None:
    bridge = "192.168.122.1"
    (reason,) = found(host("two", facts(OWN, bridge), bridge), host("one", facts(bridge, "192.0.2.10")))
    assert isinstance(reason, Reason)
    assert "which one has as well" in reason.message


@pytest.mark.parametrize(
    ("address", "words"),
    [
        (OWN, ""),
        ("192.0.2.99", "which is no address of two"),
        ("127.0.1.1", "which is no address of two"),
        ("192.168.122.1", "which one has as well"),
    ],
)
def test_a_name_is_judged_by_where_it_leads_on_the_source(address: str, words: str) -> None:
    bridge, local = "192.168.122.1", HostTarget("", "local", rules=ANYWHERE)
    here = Host("one", "one", local, inventory={"net": facts("192.0.2.10", bridge)})
    there = Host("two", "two", local, address="two.example", inventory={"net": facts(OWN, bridge)})
    assert fault_of_address(address, here, there).endswith(words)
    assert bool(fault_of_address(address, here, there)) == bool(words)


@pytest.mark.parametrize("address", ["127.0.0.1", "192.0.2.99"])
def test_one_that_an_administrator_has_forced_is_taken(address: str) -> None:
    assert found(host("two", facts(OWN), address, forced=True)) == []


@pytest.mark.parametrize("unknown", [None, {}, {"nics": [{"name": "eth0", "addresses": None}]}])
def test_what_the_inventory_does_not_know_is_not_verified_and_stops_nothing(unknown: Any) -> None:
    (note,) = found(host("two", unknown, OWN))
    assert isinstance(note, Note)
    assert note.message.startswith("Not verified: the inventory of two")


def test_a_target_without_any_address_is_told_elsewhere() -> None:
    assert found(host("two", facts(OWN), "")) == []


def test_shown_are_the_addresses_of_every_kind_of_interface_that_others_may_reach() -> None:
    plain: Any = to_plain(net.parse(host_document("arm-server")).facts)
    shown = shown_addresses(plain)
    assert shown is not None
    assert {str(address) for address in shown} >= {OWN, "2001:db8:2::20"}
    assert not any(address.is_loopback or address.is_link_local for address in shown)
    assert shown_addresses(facts(OWN, flags=("tentative",))) == ()


def test_a_mapped_address_is_the_one_that_it_stands_for() -> None:
    assert literal("::ffff:192.0.2.20") == ipaddress.ip_address(OWN)
    assert literal("kvm-2.example.com") is None
