"""The hosts in the fixtures are whole, and the one of another architecture is told right in every section."""

from __future__ import annotations

import pytest

from nodes.inventory import disks, net, pci, pools, vms
from nodes.inventory.build import build
from nodes.inventory.passthrough import Verdict
from tests.inventory.documents import host_document

WHOLE = {
    "arm-server": set(),
    "development": {("missing", "libvirt:sysinfo")},
    "lab-plain": set(),
    "lab-rich": set(),
    "large": set(),
}
"""Problems by host: a machine without SMBIOS has no sysinfo."""


@pytest.mark.parametrize("host", WHOLE)
def test_every_section_of_the_host_was_asked_and_read(host: str) -> None:
    results = build(host_document(host)).results.values()
    assert all(result.facts is not None for result in results)
    assert {(problem.code, problem.source) for r in results for problem in r.problems} == WHOLE[host]


class TestArmNetwork:
    facts = net.parse(host_document("arm-server")).facts

    def test_the_cards_stand_on_a_pci_domain_of_their_own(self) -> None:
        first, second = self.facts.nics
        assert (first.name, first.pci_address) == ("enP12p1s0f0np0", "000c:01:00.0")
        assert (first.driver, first.speed_mbps, first.carrier) == ("mlx5_core", 25000, True)
        assert (first.firmware, first.numa_cell) == ("14.32.1010 (MT_2420110034)", None)
        assert (second.speed_mbps, second.duplex, second.carrier) == (None, None, False)
        assert (second.mac, second.permanent_mac) == ("0c:42:a1:5e:10:20", "0c:42:a1:5e:10:21")

    def test_the_bond_runs_on_one_of_its_two_slaves(self) -> None:
        (bond,) = self.facts.bonds
        assert (bond.mode, bond.active_slave, bond.degraded) == ("active-backup", "enP12p1s0f0np0", True)
        assert [(slave.mii_status, slave.failure_count) for slave in bond.slaves] == [("up", 0), ("down", 3)]

    def test_the_vm_is_on_the_bridge_above_the_bond(self) -> None:
        (bridge,) = self.facts.bridges
        assert [port.name for port in bridge.ports] == ["bond0", "vnet0"]
        assert [vm.vm_name for vm in bridge.vms] == ["build"]
        assert [address.address for address in bridge.addresses or ()] == ["192.0.2.20", "2001:db8:2::20"]


class TestArmDisks:
    facts = disks.parse(host_document("arm-server")).facts
    by_name = {disk.name: disk for disk in facts.disks}

    def test_types_and_transports(self) -> None:
        told = {name: (disk.type, disk.transport, disk.rotation_rpm) for name, disk in self.by_name.items()}
        nvme = ("nvme", "nvme", 0)
        assert told == {"nvme0n1": nvme, "nvme1n1": nvme, "sda": ("hdd", "sata", 7200)}

    def test_the_controllers_are_on_domains_3_and_13(self) -> None:
        addresses = {name: disk.pci_address for name, disk in self.by_name.items()}
        nvme = {"nvme0n1": "000d:01:00.0", "nvme1n1": "000d:03:00.0"}
        assert addresses == nvme | {"sda": "0003:03:00.0"}

    def test_health(self) -> None:
        told = {name: disk.smart for name, disk in self.by_name.items()}
        assert {name: str(smart.health) for name, smart in told.items() if smart is not None} == {
            "nvme0n1": "healthy",
            "nvme1n1": "healthy",
            "sda": "warning",
        }
        nvme = told["nvme0n1"]
        assert nvme is not None
        assert (nvme.temperature_celsius, nvme.power_on_hours, nvme.wear_used_percent) == (41, 21500, 7)
        sda = told["sda"]
        assert sda is not None
        assert {reason.code for reason in sda.reasons} == {"pending_sectors", "uncorrectable_sectors"}

    def test_only_the_first_is_the_systems(self) -> None:
        assert [name for name, disk in self.by_name.items() if disk.system] == ["nvme0n1"]
        contents = {part.name: part.content for part in self.by_name["nvme0n1"].partitions}
        assert {name: (use.type, use.mount_points) for name, use in contents.items() if use} == {
            "nvme0n1p1": ("vfat", ("/boot/efi",)),
            "nvme0n1p2": ("ext4", ("/",)),
            "nvme0n1p3": ("swap", ()),
        }

    def test_the_second_is_a_volume_groups_and_the_vm_on_it_is_named(self) -> None:
        second = self.by_name["nvme1n1"]
        assert [(member.kind, member.name) for member in second.memberships] == [("lvm", "guests")]
        assert [vm.name for vm in second.use.vms] == ["build"]
        assert second.use.pools == ("guests",)


class TestArmDevices:
    facts = pci.parse(host_document("arm-server")).facts
    by_address = {device.address: device for device in facts.devices}

    def test_a_controller_knows_its_disk_and_what_holds_it(self) -> None:
        sata = self.by_address["0003:03:00.0"]
        assert [disk.name for disk in sata.disks] == ["sda"]
        assert (sata.kind, sata.passthrough.verdict) == ("storage", Verdict.BLOCKED)

    def test_only_the_usb_controller_can_be_had(self) -> None:
        free = [a for a, found in self.by_address.items() if found.passthrough.verdict is not Verdict.BLOCKED]
        assert free == ["0003:01:00.0"]

    def test_the_way_out_leads_over_bridge_and_bond(self) -> None:
        for address in ("000c:01:00.0", "000c:01:00.1"):
            codes = {reason.code for reason in self.by_address[address].passthrough.reasons}
            assert {"default_route", "bond_slave"} <= codes


def test_arm_vms_and_pools() -> None:
    document = host_document("arm-server")
    build_vm, tester = vms.parse(document).facts.vms
    assert (build_vm.name, build_vm.active, tester.name, tester.active) == ("build", True, "tester", False)
    assert build_vm.boot is not None
    assert (build_vm.boot.arch, build_vm.boot.machine) == ("aarch64", "virt-7.2")
    assert [(pool.name, pool.type) for pool in pools.parse(document).facts.pools] == [
        ("default", "dir"),
        ("guests", "logical"),
    ]
