"""Open vSwitch, by what ovs-vsctl 3.1 prints and by what the kernel alone shows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nodes.inventory import net
from nodes.inventory.bridges import Bridge
from nodes.inventory.document import HostDocument, SourceOutput, SourceStatus

NETWORK = Path(__file__).parent.parent / "fixtures" / "network"
DATABASE = (NETWORK / "openvswitch.json").read_text(encoding="utf-8")
INTERFACES = json.dumps(
    [
        {
            "ifindex": 3,
            "ifname": "ovs-system",
            "link_type": "ether",
            "linkinfo": {"info_kind": "openvswitch"},
        },
        {
            "ifindex": 4,
            "ifname": "ovsbr0",
            "link_type": "ether",
            "mtu": 1500,
            "linkinfo": {"info_kind": "openvswitch"},
            "addr_info": [{"family": "inet", "local": "10.8.0.2", "prefixlen": 24}],
        },
        {
            "ifindex": 9,
            "ifname": "vnet9",
            "link_type": "ether",
            "master": "ovs-system",
            "linkinfo": {"info_kind": "tun", "info_data": {"type": "tap"}, "info_slave_kind": "openvswitch"},
        },
        {"ifindex": 5, "ifname": "eth4", "link_type": "ether", "master": "ovs-system"},
    ]
)
DOMAIN = (
    "<domain type='kvm' id='3'><name>app</name><devices><interface type='bridge'>"
    "<mac address='52:54:00:00:00:09'/><source bridge='ovsbr0'/><virtualport type='openvswitch'/>"
    "<target dev='vnet9'/></interface></devices></domain>"
)


def bridges(database: str) -> dict[str, Bridge]:
    ok = SourceStatus.OK
    texts = {"ip-address": INTERFACES, "ovs": database, "libvirt:domain:u-1": DOMAIN, "libvirt:domains": "[]"}
    sources = {
        name: SourceOutput(name, ok if text else SourceStatus.MISSING, text) for name, text in texts.items()
    }
    return {bridge.name: bridge for bridge in net.parse(HostDocument("", sources)).facts.bridges}


def test_bridges_are_named_as_what_they_are_with_their_ports_and_vlans() -> None:
    found = bridges(DATABASE)
    assert set(found) == {"ovsbr0", "ovsbr1"}
    bridge = found["ovsbr0"]
    assert (bridge.type, bridge.kind, bridge.stp, bridge.datapath) == (
        "openvswitch",
        "openvswitch",
        "stp",
        "system",
    )
    assert [address.address for address in bridge.addresses or ()] == ["10.8.0.2"]
    ports = {port.name: port for port in bridge.ports}
    assert set(ports) == {"vnet9", "ovsbond", "vx", "trunkp"}
    assert (ports["vnet9"].pvid, ports["vnet9"].untagged, ports["vnet9"].kind) == (20, "20", "tap")
    assert ports["trunkp"].tagged == "10,20,30"
    assert (ports["ovsbond"].kind, ports["ovsbond"].bond_mode) == ("bond", "balance-tcp")
    assert ports["ovsbond"].interfaces == ("eth4", "eth5")
    assert ports["vx"].kind == "vxlan"
    assert found["ovsbr1"].ports == ()


def test_the_vm_on_a_port_is_known() -> None:
    bridge = bridges(DATABASE)["ovsbr0"]
    port = next(port for port in bridge.ports if port.name == "vnet9")
    assert port.vm is not None
    assert (port.vm.vm_name, port.vm.running) == ("app", True)
    assert [vm.vm_name for vm in bridge.vms or ()] == ["app"]


@pytest.mark.parametrize(
    "database", ["", "ovs-vsctl: unix:/run/db.sock: database connection failed", "{}", DATABASE[:900]]
)
def test_without_the_tool_the_datapath_stands_for_its_bridges(database: str) -> None:
    (bridge,) = bridges(database).values()
    assert (bridge.name, bridge.type) == ("ovs-system", "openvswitch")
    assert [(port.name, port.kind) for port in bridge.ports] == [("eth4", "nic"), ("vnet9", "tap")]
    assert [vm.vm_name for vm in bridge.vms or ()] == ["app"]
