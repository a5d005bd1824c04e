"""The section ``net``: a recorded host of bridges and VMs, a large one by hand, and what is broken."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nodes.inventory import net
from nodes.inventory.bonds import read_proc_bond
from nodes.inventory.build import build
from nodes.inventory.changes import compare
from nodes.inventory.document import HostDocument, SourceOutput, SourceStatus
from nodes.inventory.interface import read_speed
from nodes.inventory.net import NetFacts
from nodes.inventory.plain import to_plain
from tests.fixtures.large_pci import NETWORK_PORTS
from tests.inventory.documents import document_of, host_document

NETWORK = Path(__file__).parent.parent / "fixtures" / "network"


def recorded() -> HostDocument:
    """A host with libvirt: a bridge with STP and a veth in it, one VM with four cards, VXLAN."""
    return HostDocument.from_json((NETWORK / "bridges-and-vms.json").read_text(encoding="ascii"))


def large(**changed: str) -> HostDocument:
    """The large server; ``net_files="…"`` replaces that source's text."""
    document = host_document("large")
    sources = dict(document.sources)
    for name, text in changed.items():
        source = name.replace("__", ":").replace("_", "-")
        sources[source] = replace(sources[source], stdout=text)
    return replace(document, sources=sources)


def without(document: HostDocument, *names: str) -> HostDocument:
    sources = {
        name: SourceOutput(name, SourceStatus.MISSING) if name in names else output
        for name, output in document.sources.items()
    }
    return replace(document, sources=sources)


def facts(document: HostDocument) -> NetFacts:
    return net.parse(document).facts


def by_name(interfaces: Any) -> dict[str, Any]:
    return {interface.name: interface for interface in interfaces}


# -------------------------------------------------------------------------------------------- recorded host


def test_a_bridge_has_its_spanning_tree_its_ports_and_their_vms() -> None:
    bridge = by_name(facts(recorded()).bridges)["br0"]
    assert (bridge.stp, bridge.is_root, bridge.root_port) == ("kernel", True, None)
    assert bridge.bridge_id == bridge.root_id == "8000." + bridge.mac.replace(":", "")
    assert (bridge.hello_time_s, bridge.forward_delay_s, bridge.max_age_s) == (2.0, 4.0, 20.0)
    assert (bridge.priority, bridge.vlan_filtering, bridge.multicast_snooping) == (32768, False, True)
    ports = {port.name: (port.kind, port.state, port.vm and port.vm.vm_name) for port in bridge.ports}
    assert ports == {
        "v0": ("veth", "learning", None),
        "vnet0": ("tap", "listening", "web"),
        "vnet2": ("tap", "listening", "web"),
    }
    assert [port.number for port in bridge.ports] == [1, 2, 3]
    assert [address.address for address in bridge.addresses] == ["10.5.0.1"]


def test_taps_of_vms_stand_among_the_ports_and_in_no_other_list() -> None:
    found = facts(recorded())
    listed = {one.name for kind in (found.nics, found.other, found.tunnels, found.bonds) for one in kind}
    assert not listed & {"vnet0", "vnet1", "vnet2", "macvtap0"}
    web = {port.name: port for port in found.vm_ports if port.vm.vm_name == "web"}
    assert {name: (port.type, port.bridge, port.network) for name, port in web.items()} == {
        "vnet0": ("bridge", "br0", None),
        "vnet1": ("network", "virbr7", "inner"),
        "vnet2": ("bridge", "br0", "lan"),
        "macvtap0": ("direct", None, None),
    }
    assert (web["macvtap0"].lower_device, web["macvtap0"].mode) == ("v1", "bridge")
    assert web["vnet0"].counters is not None
    assert web["vnet0"].counters.tx_packets is not None


def test_a_vm_that_is_off_is_on_its_bridge_but_has_no_tap() -> None:
    found = facts(recorded())
    ports = [port for port in found.vm_ports if port.vm.vm_name == "db"]
    assert {(port.name, port.vm.running, port.counters) for port in ports} == {(None, False, None)}
    vms = by_name(found.bridges)["virbr7"].vms
    assert [(vm.vm_name, vm.running) for vm in vms] == [("web", True), ("db", False)]
    assert {port.link_up for port in ports if port.network == "inner"} == {False}


def test_names_addresses_and_links_are_those_of_ip() -> None:
    other = by_name(facts(recorded()).other)
    assert (other["v1"].alt_names, other["v1"].alias) == (("enp1s0longname",), "uplink to rack 3")
    assert (other["v0"].lower, other["v0"].master) == ("v1", "br0")
    loopback = other["lo"]
    assert (loopback.kind, loopback.mac, loopback.state) == ("loopback", None, None)
    assert [(a.address, a.prefix_length, a.scope) for a in loopback.addresses] == [
        ("127.0.0.1", 8, "host"),
        ("::1", 128, "host"),
    ]


@pytest.mark.parametrize(("assigned", "permanent"), [(0, "b4:96:91:aa:00:00"), (3, None)])
def test_an_address_that_nobody_has_set_is_the_permanent_one(assigned: int, permanent: str | None) -> None:
    files = f"eth0/address:b4:96:91:aa:00:00\neth0/addr_assign_type:{assigned}\neth0/type:1\n"
    links = "lrwxrwxrwx 1 root root 0 Mar  1 10:00 eth0/device -> ../../../0000:01:00.0\n"
    (card,) = facts(document_of(net_files=files, net_links=links)).nics
    assert card.permanent_mac == permanent


def test_a_tunnel_has_both_ends_and_its_way_out() -> None:
    (tunnel,) = facts(recorded()).tunnels
    assert (tunnel.name, tunnel.kind, tunnel.network_id, tunnel.port) == ("vx", "vxlan", 42, 4789)
    assert (tunnel.local, tunnel.remote, tunnel.lower) == ("10.5.0.1", "10.0.0.1", "v1")


def test_libvirt_networks_say_how_they_reach_out_and_who_is_on_them() -> None:
    networks = by_name(facts(recorded()).libvirt_networks)
    modes = {
        name: (network.forward_mode, network.active, network.bridge) for name, network in networks.items()
    }
    assert modes == {
        "default": ("nat", False, "virbr0"),
        "inner": ("isolated", True, "virbr7"),
        "lan": ("bridge", True, "br0"),
    }
    (address,) = networks["default"].addresses
    assert (address.address, address.prefix_length) == ("192.168.122.1", 24)
    assert address.dhcp_ranges == ("192.168.122.2-192.168.122.254",)
    assert [vm.vm_name for vm in networks["lan"].vms] == ["web"]


# ----------------------------------------------------------------------------------------------- large host


def test_the_eight_cards_have_their_hardware_facts() -> None:
    nics = by_name(facts(large()).nics)
    cards = {name: nic for name, nic in nics.items() if nic.physical_function is None}
    assert set(cards) == {port[0] for port in NETWORK_PORTS}
    for name, address, driver, speed, _, mac in NETWORK_PORTS:
        card = cards[name]
        assert (card.pci_address, card.driver, card.permanent_mac) == (address, driver, mac)
        assert (card.bus, card.numa_cell) == ("pci", 0 if address[5:7] in ("17", "31") else 1)
        assert card.supported_max_speed_mbps == speed
        assert card.firmware
    assert (cards["ens6f1"].mac, cards["ens6f1"].permanent_mac) == ("b4:96:91:aa:00:00", "b4:96:91:cc:00:01")
    assert cards["ens6f1"].autoneg is True
    assert cards["eno1"].autoneg is False
    assert (cards["eno1"].wake_on, cards["ens1f0"].port) == ("g", "Direct Attach Copper")
    assert (cards["ens5f0np0"].alias, cards["ens5f0np0"].alt_names) == (
        "migration network",
        ("enp152s0f0np0",),
    )


def test_a_card_without_a_link_has_no_speed_and_one_that_is_off_no_carrier_either() -> None:
    nics = by_name(facts(large()).nics)
    up, unplugged, off = nics["ens1f1"], nics["ens5f1np1"], nics["ens6f0"]
    assert (up.speed_mbps, up.duplex, up.carrier, up.admin_up) == (100000, "full", True, True)
    assert (unplugged.speed_mbps, unplugged.duplex, unplugged.carrier, unplugged.admin_up) == (
        None,
        None,
        False,
        True,
    )
    assert (off.speed_mbps, off.carrier, off.admin_up) == (None, None, False)


def test_virtual_functions_stand_under_their_card_with_who_has_them() -> None:
    nics = by_name(facts(large()).nics)
    sriov = nics["ens1f0"].sriov
    assert (sriov.total_vfs, sriov.configured_vfs, sriov.assigned_vfs, len(sriov.vfs)) == (128, 8, 1, 8)
    given, free = sriov.vfs[0], sriov.vfs[2]
    assert (given.pci_address, given.driver, given.interface) == ("0000:31:01.0", "vfio-pci", None)
    assert [(holder.vm_name, holder.running) for holder in given.held_by] == [("router", True)]
    assert (given.mac, given.vlan, given.spoof_check) == ("52:54:00:11:22:33", 100, True)
    assert (free.interface, free.held_by, free.trusted, free.vlan) == ("ens1f0v2", (), True, 0)
    assert (sriov.vfs[1].driver, sriov.vfs[1].held_by, sriov.vfs[3].mac) == (
        "vfio-pci",
        (),
        "2a:02:5e:00:00:03",
    )
    (waiting,) = nics["ens5f0np0"].sriov.vfs[0].held_by
    assert (waiting.vm_name, waiting.running, nics["ens5f0np0"].sriov.assigned_vfs) == ("spare", False, 0)
    owner = nics["ens1f0v2"].physical_function
    assert (owner.interface, owner.pci_address, owner.index) == ("ens1f0", "0000:31:00.0", 2)
    assert (nics["eno1"].sriov.total_vfs, nics["eno1"].sriov.configured_vfs) == (32, 0)
    assert nics["ens1f0v2"].sriov is None


def test_without_libvirt_who_has_a_virtual_function_is_unknown() -> None:
    document = large()
    kept = {name: output for name, output in document.sources.items() if not name.startswith("libvirt")}
    found = facts(replace(document, sources=kept))
    sriov = by_name(found.nics)["ens1f0"].sriov
    assert sriov.assigned_vfs is None
    assert sriov.vfs[0].held_by is None
    assert by_name(found.bridges)["br1"].vms is None
    # The taps are not known as VMs' then, and stand with the rest.
    assert "vnet0" in by_name(found.other)


def test_an_active_backup_bond_names_its_active_slave_and_what_failed() -> None:
    bond = by_name(facts(large()).bonds)["bond0"]
    assert (bond.mode, bond.active_slave, bond.primary, bond.degraded) == (
        "active-backup",
        "eno1",
        "eno1",
        True,
    )
    assert (bond.miimon_ms, bond.up_delay_ms, bond.arp_interval_ms) == (100, 200, 0)
    slaves = {s.name: (s.active, s.state, s.mii_status, s.failure_count, s.speed_mbps) for s in bond.slaves}
    assert slaves == {
        "eno1": (True, "active", "up", 0, 10000),
        "eno2": (False, "backup", "down", 2, None),
    }
    assert bond.slaves[1].permanent_mac == "3c:ec:ef:10:00:02"
    assert bond.lacp is None


def test_an_lacp_bond_names_its_partner() -> None:
    bond = by_name(facts(large()).bonds)["bond1"]
    assert (bond.mode, bond.hash_policy, bond.active_slave, bond.degraded) == (
        "802.3ad",
        "layer3+4",
        None,
        False,
    )
    assert (bond.speed_mbps, bond.min_links, bond.mtu) == (200000, 1, 9000)
    assert (bond.lacp.rate, bond.lacp.aggregator_id, bond.lacp.ports) == ("fast", 1, 2)
    assert bond.lacp.partner_mac == "00:23:04:ee:be:01"
    assert {(s.name, s.active, s.partner_mac) for s in bond.slaves} == {
        ("ens1f0", None, "00:23:04:ee:be:01"),
        ("ens6f1", None, "00:23:04:ee:be:01"),
    }


def test_the_active_slave_moves_when_the_first_fails() -> None:
    before = large()
    text = before.text("net-files")
    text = text.replace("bond0/bonding/active_slave:eno1", "bond0/bonding/active_slave:eno2")
    text = text.replace("eno1/bonding_slave/mii_status:up", "eno1/bonding_slave/mii_status:down")
    after = large(net_files=text)
    bond = by_name(facts(after).bonds)["bond0"]
    assert bond.active_slave == "eno2"
    assert {slave.name: slave.active for slave in bond.slaves} == {"eno1": False, "eno2": True}
    changes = compare(build(before, [net.SECTION]), build(after, [net.SECTION]), [net.SECTION])
    assert ("bonds.active_slave", "bond0", "eno1", "eno2") in [
        (change.path, change.subject, change.before, change.after) for change in changes
    ]


def test_a_bridge_that_filters_vlans_tells_those_of_its_ports() -> None:
    bridge = by_name(facts(large()).bridges)["br1"]
    assert (bridge.vlan_filtering, bridge.vlan_protocol, bridge.default_pvid) == (True, "802.1Q", 1)
    assert (bridge.is_root, bridge.root_port, bridge.root_path_cost) == (False, "bond1", 2)
    ports = by_name(bridge.ports)
    assert (ports["bond1"].pvid, ports["bond1"].tagged, ports["bond1"].untagged) == (1, "100-110", "1")
    assert (ports["vnet0"].pvid, ports["vnet0"].vm.vm_name) == (101, "vm01")
    assert len(bridge.vms) == 20
    assert by_name(facts(large()).bridges)["br0"].is_root is None


def test_open_vswitch_is_named_as_such_with_the_vm_on_it() -> None:
    bridge = by_name(facts(large()).bridges)["ovsbr0"]
    assert (bridge.type, [address.address for address in bridge.addresses]) == ("openvswitch", ["10.50.0.11"])
    ports = {port.name: (port.kind, port.pvid, port.vm and port.vm.vm_name) for port in bridge.ports}
    assert ports == {"ens1f1": ("nic", None, None), "vnet21": ("tap", 20, "vm21")}
    held = by_name(facts(large()).nics)["ens5f0np0"].held_by
    assert [(holder.vm_name, holder.running) for holder in held] == [("vm22", True)]


def test_a_running_vm_on_open_vswitch_is_on_the_bridge_and_not_on_the_kernels_datapath() -> None:
    on = {port.bridge for port in facts(large()).vm_ports if port.vm.running}
    assert "ovsbr0" in on
    assert "ovs-system" not in on


def test_vlans_have_their_parent_and_number() -> None:
    vlans = by_name(facts(large()).vlans)
    assert {(name, vlan.vlan_id, vlan.parent, vlan.protocol) for name, vlan in vlans.items()} == {
        ("bond1.100", 100, "bond1", "802.1Q"),
        ("bond1.200", 200, "bond1", "802.1Q"),
    }


# --------------------------------------------------------------------------------- one source without others


def test_without_ip_the_kernels_files_still_show_the_whole_picture() -> None:
    whole, bare = facts(large()), facts(without(large(), "ip-address"))
    for kind in ("nics", "bonds", "bridges", "vlans", "tunnels"):
        names = [one.name for one in getattr(whole, kind)]
        assert [one.name for one in getattr(bare, kind)] == names, kind
    assert by_name(bare.bonds)["bond0"].slaves == by_name(whole.bonds)["bond0"].slaves
    assert by_name(bare.vlans)["bond1.100"].parent == "bond1"
    assert by_name(bare.vlans)["bond1.100"].vlan_id == 100
    assert by_name(bare.bridges)["br0"].addresses is None
    nic = by_name(bare.nics)["eno1"]
    assert nic.counters is not None
    assert nic.counters.rx_bytes == by_name(whole.nics)["eno1"].counters.rx_bytes
    result = build(without(large(), "ip-address"), [net.SECTION]).results["net"]
    assert [(problem.source, problem.code) for problem in result.problems] == [("ip-address", "missing")]


def test_without_sysfs_ip_still_shows_who_is_what() -> None:
    whole, bare = facts(large()), facts(without(large(), "net-files", "net-links"))
    for kind in ("nics", "bonds", "bridges", "vlans", "tunnels", "other"):
        names = [one.name for one in getattr(whole, kind)]
        assert sorted(one.name for one in getattr(bare, kind)) == sorted(names), kind
    bond = by_name(bare.bonds)["bond0"]
    assert (bond.mode, bond.active_slave) == ("active-backup", "eno1")
    assert {s.name: (s.state, s.failure_count) for s in bond.slaves} == {
        "eno1": ("active", 0),
        "eno2": ("backup", 2),
    }
    assert by_name(bare.nics)["eno1"].pci_address == "0000:17:00.0"


def test_a_cut_answer_of_ip_keeps_the_interfaces_that_came_whole() -> None:
    text = large().text("ip-address")
    cut = facts(without(large(ip_address=text[: text.index('"ifname": "bond1"')]), "net-files", "net-links"))
    assert {nic.name for nic in cut.nics if nic.physical_function is None} >= {"eno1", "ens6f1"}
    assert [bond.name for bond in cut.bonds] == ["bond0"]


def test_the_text_of_proc_tells_a_bond_where_sysfs_does_not() -> None:
    lines = [
        "Ethernet Channel Bonding Driver: v5.10",
        "Bonding Mode: fault-tolerance (active-backup) (fail_over_mac active)",
        "Primary Slave: eth0 (primary_reselect always)",
        "Currently Active Slave: eth1",
        "MII Status: up",
        "MII Polling Interval (ms): 50",
        "Slave Interface: eth0",
        "MII Status: down",
        "Speed: Unknown",
        "Duplex: Unknown",
        "Link Failure Count: 3",
        "Permanent HW addr: 52:54:00:00:00:01",
        "Slave Interface: eth1",
        "MII Status: up",
        "Speed: 1000 Mbps",
        "Duplex: full",
        "Link Failure Count: 0",
    ]
    proc = read_proc_bond(lines)
    assert list(proc.slaves) == ["eth0", "eth1"]
    names = ("eth0", "eth1", "bond7")
    text = "".join(f"/proc/net/bonding/bond7:{line}\n" for line in lines)
    text += "".join(f"{name}/uevent:INTERFACE={name}\n" for name in names) + "bond7/uevent:DEVTYPE=bond\n"
    document = HostDocument("", {"net-files": SourceOutput("net-files", SourceStatus.OK, text)})
    (bond,) = facts(document).bonds
    assert (bond.mode, bond.active_slave, bond.primary, bond.miimon_ms) == (
        "active-backup",
        "eth1",
        "eth0",
        50,
    )
    assert [(s.name, s.mii_status, s.failure_count, s.speed_mbps, s.active) for s in bond.slaves] == [
        ("eth0", "down", 3, None, False),
        ("eth1", "up", 0, 1000, True),
    ]


# ----------------------------------------------------------------------------------------------- small cases


@pytest.mark.parametrize("text", [None, "", "-1", "0", "65535", "4294967295", "Unknown!", "1e9", "٣٠"])
def test_no_speed_is_none_however_it_is_said(text: str | None) -> None:
    assert read_speed(text) is None


@pytest.mark.parametrize(("text", "speed"), [("10", 10), ("2500", 2500), ("400000", 400000)])
def test_a_speed_is_a_number_of_megabits(text: str, speed: int) -> None:
    assert read_speed(text) == speed


LINK = "lrwxrwxrwx 1 root root 0 Mar  1 10:00 {} -> {}\n"


def single(name: str, path: str, bus: str, driver: str, files: str = "", ip: str = "") -> Any:
    links = LINK.format(name, f"../../devices/{path}/net/{name}") + LINK.format(f"{name}/device", "../..")
    links += LINK.format(f"{name}/device/subsystem", f"../../../bus/{bus}")
    links += LINK.format(f"{name}/device/driver", f"../../../bus/{bus}/drivers/{driver}")
    texts = {"net-files": f"{name}/type:1\n{files}", "net-links": links, "ip-address": ip}
    sources = {key: SourceOutput(key, SourceStatus.OK, text) for key, text in texts.items()}
    (nic,) = facts(HostDocument("", sources)).nics
    return nic


def test_a_virtio_card_has_the_pci_function_below_it() -> None:
    nic = single("ens3", "pci0000:00/0000:00:03.0/virtio2", "virtio", "virtio_net")
    assert (nic.bus, nic.pci_address, nic.vendor_id, nic.driver) == (
        "virtio",
        "0000:00:03.0",
        None,
        "virtio_net",
    )


def test_a_card_on_usb_has_its_port_and_no_pci_function() -> None:
    path = "pci0000:00/0000:00:14.0/usb2/2-1/2-1.4/2-1.4:1.0"
    nic = single("enx00", path, "usb", "r8152", "enx00/device/../product:USB 10/100/1000 LAN\n")
    assert (nic.usb_path, nic.pci_address, nic.model) == ("2-1.4", None, "USB 10/100/1000 LAN")


def test_a_pci_domain_may_have_five_digits_and_no_cell() -> None:
    files = "enP7/device/numa_node:-1\nenP7/device/vendor:0x8086\nenP7/device/device:0x1572\n"
    nic = single("enP7", "pci10000:00/10000:00:02.0/10000:01:00.0", "pci", "i40e", files)
    assert (nic.pci_address, nic.numa_cell, nic.vendor_id, nic.device_id) == (
        "10000:01:00.0",
        None,
        "8086",
        "1572",
    )


def test_infiniband_has_a_long_address_and_zeros_are_none() -> None:
    mac = "80:00:02:08:fe:80:00:00:00:00:00:00:e4:1d:2d:03:00:1a:2b:3c"
    nic = single("ib0", "pci0000:00/0000:05:00.0", "pci", "mlx5_core", f"ib0/address:{mac}\n")
    assert nic.mac == mac
    zero = single("ib0", "pci0000:00/0000:05:00.0", "pci", "mlx5_core", "ib0/address:00:00:00:00:00:00\n")
    assert zero.mac is None


def test_a_wireless_card_and_its_flags_are_told_apart() -> None:
    ip = json.dumps(
        [
            {
                "ifname": "wlp2s0",
                "addr_info": [{"family": "inet6", "local": "fd00::5", "prefixlen": 64, "dynamic": True}],
            }
        ]
    )
    nic = single("wlp2s0", "pci0000:00/0000:02:00.0", "pci", "iwlwifi", "wlp2s0/uevent:DEVTYPE=wlan\n", ip)
    assert nic.medium == "wireless"
    assert [(a.address, a.flags) for a in nic.addresses] == [("fd00::5", ("dynamic",))]


# -------------------------------------------------------------------------------------------- whatever comes


def _spoiled(text: str) -> st.SearchStrategy[str]:
    """``text`` cut, with something else in the middle, with its lines turned around, or none of it."""
    junk = st.text(st.characters(exclude_categories=()), max_size=60)
    place = st.integers(0, len(text))
    return st.one_of(
        place.map(lambda end: text[:end]),
        st.tuples(place, junk).map(lambda both: text[: both[0]] + both[1] + text[both[0] + len(both[1]) :]),
        st.tuples(place, place).map(lambda both: text[max(both) :] + text[: min(both)]),
        junk,
        st.sampled_from(
            ["[", "[{}]", "null", '[{"ifname": 5}]', "\0", "{" * 3000, "[" * 3000, "Datei nicht gefunden\n"]
        ),
    )


def _broken_documents() -> st.SearchStrategy[HostDocument]:
    section = [source.name for source in (*net.SECTION.sources, *net.SECTION.libvirt)]
    whole = {**large().sources, **recorded().sources}
    whole = {name: output for name, output in whole.items() if name.startswith(tuple(section))}
    whole["ovs"] = SourceOutput(
        "ovs", SourceStatus.OK, (NETWORK / "openvswitch.json").read_text(encoding="utf-8")
    )
    names = st.lists(st.sampled_from(sorted(whole)), min_size=1, max_size=4, unique=True)

    def spoil(chosen: list[str]) -> st.SearchStrategy[HostDocument]:
        texts = st.tuples(*(_spoiled(whole[name].stdout) for name in chosen))
        return texts.map(lambda found: _document(whole, dict(zip(chosen, found, strict=True))))

    return names.flatmap(spoil)


def _document(whole: Mapping[str, SourceOutput], spoiled: Mapping[str, str]) -> HostDocument:
    changed = {name: replace(whole[name], stdout=text) for name, text in spoiled.items()}
    return HostDocument("", {**whole, **changed})


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(_broken_documents())
def test_nothing_that_a_host_prints_breaks_the_section(document: HostDocument) -> None:
    parsed = net.parse(document)
    json.dumps(to_plain(parsed.facts))


def _single_sources() -> Iterator[str]:
    yield from sorted(
        {name for name in large().sources if not name.startswith(("libvirt:domain:", "ethtool:"))}
    )


@pytest.mark.parametrize("name", list(_single_sources()))
def test_each_source_can_be_missing(name: str) -> None:
    found = facts(without(large(), name))
    assert [bond.name for bond in found.bonds] == ["bond0", "bond1"]


def switchdev(port: str) -> NetFacts:
    """A card whose switch shows the host the port of its one VF under the name ``port``."""
    card, function = "0000:c1:00.0", "0000:c1:00.2"
    files, links = [], []
    for name, address, label in (("ens1np0", card, "p0"), ("ens1_0", card, port), ("ens1v0", function, "")):
        files += [f"{name}/type:1", *([f"{name}/phys_switch_id:a2b3c4"] if label else [])]
        files += [f"{name}/phys_port_name:{label}"] if label else []
        files += [f"{name}/device/sriov_totalvfs:8", f"{name}/device/sriov_numvfs:1"] if label else []
        links += [f"{name} -> ../../devices/pci0000:c0/{address}/net/{name}"]
        links += [f"{name}/device -> ../../../{address}", f"{name}/device/subsystem -> ../../bus/pci"]
        links += [f"{name}/device/virtfn0 -> ../{function}"] if label else []
    links.append(f"ens1v0/device/physfn -> ../{card}")
    lines = "".join(f"lrwxrwxrwx 1 0  {line}\n" for line in links)
    return facts(document_of(net_files="\n".join(files) + "\n", net_links=lines))


@pytest.mark.parametrize("port", ["pf0vf0", "c1pf0vf0", "pf0sf88", "0"])
def test_the_port_of_a_vf_in_the_cards_switch_is_no_card_that_can_be_divided(port: str) -> None:
    cards = {card.name: card for card in switchdev(port).nics}
    assert cards["ens1_0"].sriov is None
    assert cards["ens1np0"].sriov is not None
    assert [function.interface for function in cards["ens1np0"].sriov.vfs] == ["ens1v0"]
    owner = cards["ens1v0"].physical_function
    assert owner is not None
    assert (owner.interface, owner.index) == ("ens1np0", 0)


def bridged(carrier: int, *ports: str, mac: str = "52:54:00:00:00:01") -> HostDocument:
    """A bridge in sysfs, with ports: ``vnet`` is a VM's, ``eno`` a card."""
    state = "up" if carrier else "down"
    own = {"type": 1, "flags": "0x1003", "carrier": carrier, "operstate": state, "address": mac, "mtu": 1500}
    files = [f"virbr0/{name}:{value}" for name, value in own.items()]
    files += ["virbr0/uevent:DEVTYPE=bridge", f"virbr0/bridge/bridge_id:8000.{mac.replace(':', '')}"]
    links = ["lrwxrwxrwx 1 0  virbr0 -> ../../devices/virtual/net/virbr0"]
    for port in ports:
        card = port.startswith("eno")
        files += [f"{port}/type:1", f"{port}/flags:0x1003", f"{port}/brport/port_no:0x1"]
        files += [] if card else [f"{port}/tun_flags:0x1002"]
        place = "pci0000:00/0000:00:19.0" if card else "virtual"
        links += [f"lrwxrwxrwx 1 0  {port} -> ../../devices/{place}/net/{port}"]
        links += [f"lrwxrwxrwx 1 0  {port}/master -> ../virbr0"]
        links += [f"lrwxrwxrwx 1 0  {port}/device -> ../../../0000:00:19.0"] if card else []
    link_local = {"family": "inet6", "local": "fe80::1", "prefixlen": 64, "scope": "link"}
    told = [{"ifname": "virbr0", "addr_info": [link_local] if carrier else []}]
    running = "vnet0" in ports
    target = "<target dev='vnet0'/>" if running else ""
    described = "<interface type='bridge'><mac address='52:54:00:00:00:09'/><source bridge='virbr0'/>"
    described += f"{target}</interface>"
    return document_of(
        net_files="\n".join(files) + "\n",
        net_links="\n".join(links) + "\n",
        ip_address=json.dumps(told),
        libvirt__domains=json.dumps([{"uuid": "u-1", "name": "web", "state": 1 if running else 5}]),
        libvirt__domain__u_1=f"<domain><name>web</name><devices>{described}</devices></domain>",
        libvirt__networks="[]",
    )


def test_a_bridge_of_vms_alone_gains_and_loses_its_carrier_with_them() -> None:
    off, on = bridged(0), bridged(1, "vnet0", mac="fe:54:00:00:00:02")
    for before, after in ((off, on), (on, off)):
        assert compare(build(before, [net.SECTION]), build(after, [net.SECTION]), [net.SECTION]) == ()


def test_a_bridge_to_the_outside_that_loses_its_carrier_is_a_change() -> None:
    before, after = (build(bridged(carrier, "eno1", "vnet0"), [net.SECTION]) for carrier in (1, 0))
    assert {change.path for change in compare(before, after, [net.SECTION])} == {
        "bridges.carrier",
        "bridges.state",
    }
