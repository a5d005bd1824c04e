"""The network section of a real host: beside what ``ip`` and the kernel's bonding driver say, before and
after a cable is pulled, and with a VM on the bridge."""

import json
import re
from typing import Any

import pytest

from nodes.inventory import net, vms
from nodes.inventory.bonds import Bond
from nodes.inventory.build import build
from nodes.inventory.counters import rates, readings_of_plain
from nodes.inventory.document import HostDocument, SourceOutput, SourceStatus
from nodes.inventory.net import NetFacts
from nodes.inventory.script import build_script, parse_output
from tests.lab import vm
from tests.lab.host import LabHost

_CABLES = {"52:54:00:4c:01:01": "bond_first", "52:54:00:4c:01:11": "bond_second"}


def _document(host: LabHost) -> HostDocument:
    """The probe of the section, and what virsh says instead of libvirt's calls."""
    sources = net.SECTION.sources
    printed = host.run("sh -s", stdin=build_script(sources), timeout_s=120).stdout
    outputs = dict(parse_output(printed.encode("utf-8", "surrogateescape"), sources))
    rows = []
    for uuid in host.run("virsh list --all --uuid").stdout.split():
        name = f"libvirt:domain:{uuid}"
        outputs[name] = SourceOutput(name, SourceStatus.OK, host.run(f"virsh dumpxml {uuid}").stdout)
        active = host.run(f"virsh domstate {uuid}").stdout.strip() == "running"
        rows.append({"uuid": uuid, "state": 1 if active else 5, "id": 1 if active else None})
    outputs["libvirt:domains"] = SourceOutput("libvirt:domains", SourceStatus.OK, json.dumps(rows))
    outputs["libvirt:networks"] = SourceOutput("libvirt:networks", SourceStatus.OK, "[]")
    return HostDocument("", outputs, "ssh", "root")


def _facts(host: LabHost) -> NetFacts:
    result = build(_document(host), [net.SECTION]).results["net"]
    assert result.problems == ()
    facts: NetFacts = result.facts
    return facts


def _bond(facts: NetFacts) -> Bond:
    [bond] = facts.bonds
    return bond


def _told(host: LabHost, name: str) -> dict[str, Any]:
    [told] = json.loads(host.run(f"ip -j -d addr show {name}").stdout)
    return dict(told)


def test_cards_are_those_of_ip_with_what_their_driver_says(lab_rich: LabHost) -> None:
    facts = _facts(lab_rich)
    assert len(facts.nics) == 3
    for card in facts.nics:
        told = _told(lab_rich, card.name)
        assert (card.mac, card.mtu, card.index) == (told["address"], told["mtu"], told["ifindex"])
        assert card.state == told["operstate"].lower()
        assert card.master == told.get("master")
        assert card.pci_address == told["parentdev"] or card.driver == "virtio_net"
        found = [(address.address, address.prefix_length) for address in card.addresses or ()]
        assert found == [(address["local"], address["prefixlen"]) for address in told["addr_info"]]
    bonded = [card for card in facts.nics if card.master == "bond0"]
    assert {card.permanent_mac for card in bonded} == set(_CABLES)
    assert {(card.driver, card.speed_mbps, card.duplex, card.autoneg) for card in bonded} == {
        ("e1000e", 1000, "full", True)
    }
    assert all(card.supported_max_speed_mbps == 1000 and card.firmware for card in bonded)


def test_the_bond_is_what_its_driver_says(lab_rich: LabHost) -> None:
    bond = _bond(_facts(lab_rich))
    text = lab_rich.run("cat /proc/net/bonding/bond0").stdout
    assert "fault-tolerance (active-backup)" in text
    assert bond.mode == "active-backup"
    assert bond.active_slave == re.findall(r"Currently Active Slave: (\S+)", text)[0]
    assert bond.miimon_ms == int(re.findall(r"MII Polling Interval \(ms\): (\d+)", text)[0])
    blocks = text.split("Slave Interface: ")[1:]
    assert {
        slave.name: (slave.mii_status, slave.failure_count, slave.permanent_mac) for slave in bond.slaves
    } == {
        block.split()[0]: (
            re.findall(r"MII Status: (.+)", block)[0],
            int(re.findall(r"Link Failure Count: (\d+)", block)[0]),
            re.findall(r"Permanent HW addr: (\S+)", block)[0],
        )
        for block in blocks
    }
    assert bond.degraded is False


def test_the_active_slave_is_the_other_one_after_its_cable_is_pulled(lab_rich: LabHost) -> None:
    before = _bond(_facts(lab_rich))
    [slave] = [slave for slave in before.slaves if slave.active]
    assert slave.permanent_mac is not None
    lab_rich.set_link(_CABLES[slave.permanent_mac], up=False)
    try:
        active = "/sys/class/net/bond0/bonding/active_slave"
        lab_rich.run(f"for i in $(seq 100); do [ $(cat {active}) = {slave.name} ] || break; sleep 0.1; done")
        after = _facts(lab_rich)
    finally:
        lab_rich.set_link(_CABLES[slave.permanent_mac], up=True)
    bond = _bond(after)
    assert bond.active_slave == next(one.name for one in bond.slaves if one.name != slave.name)
    assert bond.degraded is True
    lost = {one.name: one for one in bond.slaves}[slave.name]
    assert (lost.mii_status, lost.failure_count, lost.active) == (
        "down",
        (slave.failure_count or 0) + 1,
        False,
    )
    card = {nic.name: nic for nic in after.nics}[slave.name]
    assert (card.carrier, card.speed_mbps, card.duplex) == (False, None, None)


def test_the_bridge_has_its_spanning_tree_and_the_vlan_its_parent(lab_rich: LabHost) -> None:
    facts = _facts(lab_rich)
    bridge = {bridge.name: bridge for bridge in facts.bridges}["br0"]
    told = _told(lab_rich, "br0")["linkinfo"]["info_data"]
    assert (bridge.stp, bridge.priority, bridge.vlan_filtering) == ("kernel", told["priority"], False)
    assert (bridge.hello_time_s, bridge.forward_delay_s) == (
        told["hello_time"] / 100,
        told["forward_delay"] / 100,
    )
    bonded = {port.name: port for port in bridge.ports}["bond0"]
    assert (bonded.kind, bonded.state, bonded.vm) == ("bond", "forwarding", None)
    [vlan] = facts.vlans
    assert (vlan.name, vlan.vlan_id, vlan.parent, vlan.protocol) == ("bond0.42", 42, "bond0", "802.1Q")
    assert "10.99.42.1" in [address.address for address in vlan.addresses or ()]


def test_without_ip_the_picture_is_the_same_but_for_the_addresses(lab_rich: LabHost) -> None:
    document = _document(lab_rich)
    sources = {**document.sources, "ip-address": SourceOutput("ip-address", SourceStatus.MISSING)}
    whole = net.parse(document).facts
    bare = net.parse(HostDocument("", sources)).facts
    for kind in ("nics", "bonds", "bridges", "vlans", "tunnels"):
        names = [one.name for one in getattr(whole, kind)]
        assert [one.name for one in getattr(bare, kind)] == names
    assert _bond(bare).slaves == _bond(whole).slaves
    assert [(vlan.vlan_id, vlan.parent) for vlan in bare.vlans] == [(42, "bond0")]


def test_a_vm_on_the_bridge_is_seen_on_its_port_and_its_traffic_counted(lab_rich: LabHost) -> None:
    guest = vm.VmSpec("netguest", bridge="br0")
    vm.start(lab_rich, guest)
    try:
        first = _document(lab_rich)
        second = _document(lab_rich)
    finally:
        vm.remove(lab_rich, guest.name)
    results = [build(document, [net.SECTION]).results["net"].plain for document in (first, second)]
    facts = net.parse(first).facts
    [port] = [port for port in facts.vm_ports if port.vm.vm_name == guest.name]
    assert (port.bridge, port.vm.running, port.model) == ("br0", True, "virtio")
    ports = {one.name: one for one in {b.name: b for b in facts.bridges}["br0"].ports}
    assert port.name is not None
    assert ports[port.name].vm == port.vm
    assert port.name not in {nic.name for nic in facts.nics}
    found = rates(readings_of_plain(results[0]), readings_of_plain(results[1]), 2.0)
    assert found[port.name].tx_packets_per_s is not None
    described = {one.name: one for one in vms.parse(first).facts.vms}[guest.name]
    assert [card.target_device for card in described.interfaces] == [port.name]


@pytest.mark.parametrize("tool", ["ethtool", "ip"])
def test_a_host_without_a_tool_says_so_and_shows_the_rest(lab_rich: LabHost, tool: str) -> None:
    document = _document(lab_rich)
    names = {"ethtool": "ethtool", "ip": "ip-address"}
    sources = {
        name: SourceOutput(names[tool], SourceStatus.MISSING) if name == names[tool] else output
        for name, output in document.sources.items()
        if not name.startswith(f"{names[tool]}:")
    }
    result = build(HostDocument("", sources), [net.SECTION]).results["net"]
    assert [(problem.source, problem.code) for problem in result.problems] == [(names[tool], "missing")]
    assert tool in result.problems[0].message
    assert len(result.facts.nics) == 3
