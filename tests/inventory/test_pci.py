"""The section ``pci`` on whole hosts, on the kernel's formats one by one, and on garbage."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodes.inventory.build import build
from nodes.inventory.document import HostDocument, SourceOutput, SourceStatus
from nodes.inventory.iommu import IommuKind
from nodes.inventory.passthrough import Effect, Verdict
from nodes.inventory.pci import SECTION, parse
from nodes.inventory.pci_facts import PciDevice, PciFacts, PciKind
from nodes.inventory.plain import to_plain
from tests.inventory.documents import host_document
from tests.inventory.pci_hosts import device, document, domain, links, pci_hostdev

NIC = "0000:03:00.0"


def facts_of(texts: dict[str, str], **statuses: SourceStatus) -> PciFacts:
    return parse(document(texts, **statuses)).facts


def find(facts: PciFacts, address: str) -> PciDevice:
    [found] = [device for device in facts.devices if device.address == address]
    return found


def codes(found: PciDevice) -> dict[str, Effect]:
    return {reason.code: reason.effect for reason in found.passthrough.reasons}


def one_nic(group: str | None = "7", driver: str | None = "vfio-pci", **more: str) -> dict[str, str]:
    """A host with one network card."""
    targets = {name: value for name, value in (("iommu_group", group), ("driver", driver)) if value}
    return {"pci-files": device(NIC, "020000"), "pci-links": links(NIC, **targets)} | more


class TestLargeHost:
    facts = parse(host_document("large")).facts

    def test_counts_every_kind(self) -> None:
        expected = {"gpu": 5, "network": 36, "nvme": 8, "storage": 3, "usb-controller": 2, "other": 68}
        assert self.facts.counts == expected
        assert len(self.facts.devices) == 122

    def test_names_come_from_the_database(self) -> None:
        card = find(self.facts, "0000:31:00.0")
        assert card.vendor_name == "Intel Corporation"
        assert card.device_name == "Ethernet Controller E810-C for QSFP"
        assert (card.class_id, card.class_name) == ("020000", "Ethernet controller")
        assert find(self.facts, "0000:4b:00.0").programming_interface == "NVM Express"

    def test_a_physical_function_lists_its_virtual_ones_and_they_name_it(self) -> None:
        owner = find(self.facts, "0000:31:00.1")
        assert owner.physical_function is not None
        assert owner.physical_function.total_vfs == 128
        assert owner.physical_function.configured_vfs == 4
        assert owner.physical_function.virtual_functions[3] == "0000:31:02.3"
        function = find(self.facts, "0000:31:02.3")
        assert function.virtual_function is not None
        assert function.virtual_function.physical_function == "0000:31:00.1"
        assert function.virtual_function.index == 3

    def test_a_running_vm_holds_a_virtual_function_and_so_blocks_its_physical_one(self) -> None:
        function = find(self.facts, "0000:31:01.0")
        assert [holder.vm_name for holder in function.held_by or ()] == ["router"]
        assert function.passthrough.verdict is Verdict.BLOCKED
        assert codes(find(self.facts, "0000:31:00.0"))["virtual_functions_held"] is Effect.BLOCKS

    def test_what_is_bound_to_vfio_and_free_is_ready(self) -> None:
        function = find(self.facts, "0000:31:01.1")
        assert function.passthrough.verdict is Verdict.READY
        assert codes(function) == {"bound_to_vfio": Effect.NOTE}

    def test_a_stopped_vm_that_wants_it_is_a_cost(self) -> None:
        function = find(self.facts, "0000:98:01.0")
        assert codes(function)["assigned_to_stopped_vm"] is Effect.COSTS
        assert function.passthrough.verdict is Verdict.POSSIBLE

    def test_the_default_route_is_found_through_bond_and_bridge(self) -> None:
        found = {use.kind: use.names for use in find(self.facts, "0000:17:00.1").current_use}
        assert found == {"default_route": ("br0",), "address": ("br0",), "bond_slave": ("bond0",)}

    def test_the_system_disks_are_found_through_raid_and_lvm(self) -> None:
        uses = [use for use in find(self.facts, "0000:00:17.0").current_use if use.device == "sdp2"]
        assert [(use.kind, use.names, use.through, use.system) for use in uses] == [
            ("mount", ("/",), ("md1", "vg0-root"), True),
            ("swap", ("vg0-swap",), ("md1", "vg0-swap"), True),
        ]

    def test_zfs_and_btrfs_members_are_in_use_though_they_have_no_holders(self) -> None:
        uses = {use.device: use for use in find(self.facts, "0000:ca:00.0").current_use}
        assert (uses["sdl1"].kind, uses["sdl1"].names) == ("zfs", ("tank",))
        assert (uses["sdn"].kind, uses["sdn"].names) == ("mount", ("/srv",))

    def test_a_disk_of_a_vm_is_found_by_its_stable_name(self) -> None:
        [use] = find(self.facts, "0000:4d:00.0").current_use
        assert (use.kind, use.device, use.names) == ("vm_disk", "nvme2n1", ("database",))

    def test_data_that_nobody_uses_is_a_cost(self) -> None:
        assert codes(find(self.facts, "0000:cb:00.0"))["carries_data"] is Effect.COSTS

    def test_a_domain_of_five_digits_is_a_device_and_shares_the_group_of_its_vmd(self) -> None:
        drive = find(self.facts, "10000:e1:00.0")
        assert [disk.name for disk in drive.disks] == ["nvme7n1"]
        assert codes(drive)["group_shared"] is Effect.COSTS
        assert find(self.facts, "0000:64:05.5").passthrough.verdict is Verdict.BLOCKED
        assert self.facts.devices[-1].address == "10000:e1:00.0"

    def test_gpus_tell_what_their_drivers_tell(self) -> None:
        nvidia, amd = find(self.facts, "0000:65:00.0").gpu, find(self.facts, "0000:80:00.0").gpu
        assert nvidia is not None
        assert nvidia.vendor_model == "NVIDIA A40"
        assert nvidia.vendor_driver_version == "535.183.04"
        assert amd is not None
        assert amd.memory_bytes == 68702699520
        boot = find(self.facts, "0000:02:00.0")
        assert boot.gpu is not None
        assert boot.gpu.drm_nodes == ("card0",)
        assert [(c.name, c.enabled) for c in boot.gpu.connectors] == [("VGA-1", True)]

    def test_mediated_devices_have_types_instances_and_holders(self) -> None:
        card = find(self.facts, "0000:65:00.0")
        small, large = card.mdev_types
        assert (small.id, small.name, small.available, small.instances) == (
            "nvidia-557",
            "NVIDIA A40-1B",
            30,
            (),
        )
        assert len(large.instances) == 2
        holders = {instance.uuid[-2:]: instance.held_by for instance in card.mdev_instances}
        assert [holder.vm_name for holder in holders["01"] or ()] == ["desktop"]
        assert holders["02"] == ()
        assert codes(card)["mdev_held"] is Effect.BLOCKS

    def test_an_idle_link_is_shown_as_reduced(self) -> None:
        link = find(self.facts, "0000:65:00.0").link
        assert link is not None
        assert (link.speed_gtps, link.width, link.max_speed_gtps, link.max_width) == (2.5, 16, 16.0, 16)
        assert link.reduced is True

    def test_vpd_is_read_and_a_cut_one_says_so(self) -> None:
        whole, cut = find(self.facts, "0000:31:00.0").vpd, find(self.facts, "0000:31:00.1").vpd
        assert whole is not None
        assert (whole.part_number, whole.serial_number) == ("K91258-010", "B49691AA0000")
        assert whole.checksum_ok is True
        assert cut is not None
        assert cut.truncated
        assert find(self.facts, "0000:ca:00.0").vpd is None

    def test_a_bridge_in_the_group_does_not_stand_in_the_way(self) -> None:
        graphics = find(self.facts, "0000:02:00.0")
        assert codes(graphics)["group_has_bridge"] is Effect.NOTE
        assert "group_shared" not in codes(graphics)
        [group] = [group for group in self.facts.iommu_groups if group.number == graphics.iommu_group]
        assert group.isolated
        assert group.bridges == ("0000:01:00.0",)

    def test_two_functions_of_one_card_go_together(self) -> None:
        card = find(self.facts, "0000:67:00.0")
        [shared] = [reason for reason in card.passthrough.reasons if reason.code == "group_shared"]
        assert shared.subjects == ("0000:67:00.1",)
        assert "snd_hda_intel" in (shared.remedy or "")

    def test_a_usb_controller_is_blocked_by_what_is_behind_it(self) -> None:
        controller = find(self.facts, "0000:00:14.0")
        assert controller.usb_buses == (1, 2)
        assert codes(controller)["mount"] is Effect.BLOCKS
        assert codes(controller)["usb_device_held"] is Effect.BLOCKS

    def test_the_iommu_is_on_and_of_intel(self) -> None:
        assert self.facts.iommu_enabled is True
        assert self.facts.iommu_kind is IommuKind.VT_D
        assert self.facts.iommu_groups[0].number == 0

    def test_every_blocking_reason_but_a_bridges_has_a_remedy(self) -> None:
        bare = {
            reason.code
            for found in self.facts.devices
            for reason in found.passthrough.reasons
            if reason.effect is Effect.BLOCKS and reason.remedy is None
        }
        assert bare == {"bridge"}


class TestLabHost:
    """A real kernel's words, recorded."""

    facts = parse(host_document("lab-rich")).facts

    def test_one_virtual_function_is_held_the_other_is_ready(self) -> None:
        held, free = find(self.facts, "0000:01:00.1"), find(self.facts, "0000:01:00.2")
        assert [holder.vm_name for holder in held.held_by or ()] == ["holder"]
        assert held.driver == "vfio-pci"
        assert free.passthrough.verdict is Verdict.READY
        assert len({found.iommu_group for found in (held, free, find(self.facts, "0000:01:00.0"))}) == 3
        assert codes(find(self.facts, "0000:01:00.0"))["virtual_functions_held"] is Effect.BLOCKS

    def test_the_chipsets_functions_share_a_group_and_the_sata_disks_block_it(self) -> None:
        smbus = find(self.facts, "0000:00:1f.3")
        assert codes(smbus)["group_shared"] is Effect.COSTS
        assert codes(smbus)["group_member_in_use"] is Effect.BLOCKS
        sata = find(self.facts, "0000:00:1f.2")
        assert [disk.name for disk in sata.disks] == ["sdb", "sdc"]

    def test_both_ports_of_the_bond_are_blocked(self) -> None:
        for address in ("0000:00:08.0", "0000:00:09.0"):
            assert codes(find(self.facts, address))["bond_slave"] is Effect.BLOCKS


class TestArmServer:
    facts = parse(host_document("arm-server")).facts

    def test_every_root_complex_is_a_domain(self) -> None:
        domains = {found.address[:4] for found in self.facts.devices}
        assert domains == {"0003", "000c", "000d"}

    def test_the_smmu_is_on_and_no_cell_is_none(self) -> None:
        assert self.facts.iommu_kind is IommuKind.SMMU
        assert {found.numa_cell for found in self.facts.devices} == {None}

    def test_the_root_disk_is_blocked(self) -> None:
        assert codes(find(self.facts, "000d:01:00.0"))["mount"] is Effect.BLOCKS


class TestFormats:
    def test_group_0_is_a_group_and_no_group_is_none(self) -> None:
        assert find(facts_of(one_nic("0")), NIC).iommu_group == 0
        other = one_nic(None)
        other["pci-files"] += device("0000:04:00.0", "020000")
        other["pci-links"] += links("0000:04:00.0", iommu_group="3")
        facts = facts_of(other)
        assert find(facts, NIC).iommu_group is None
        assert codes(find(facts, NIC))["no_iommu_group"] is Effect.BLOCKS

    @pytest.mark.parametrize(("text", "cell"), [("-1", None), ("0", 0), ("1", 1), ("", None), ("x", None)])
    def test_numa_cell(self, text: str, cell: int | None) -> None:
        facts = facts_of({"pci-files": device(NIC, "020000", numa_node=text)})
        assert find(facts, NIC).numa_cell == cell

    @pytest.mark.parametrize(
        ("speed", "width", "expected"),
        [
            ("2.5 GT/s PCIe", "1", (2.5, 1)),
            ("16.0 GT/s PCIe", "16", (16.0, 16)),
            ("8 GT/s", "4", (8.0, 4)),  # before Linux 4.20
            ("Unknown", "0", (None, None)),
            ("Unknown speed", "255", (None, None)),
        ],
    )
    def test_link(self, speed: str, width: str, expected: tuple[float | None, int | None]) -> None:
        files = {"current_link_speed": speed, "current_link_width": width, "max_link_width": "16"}
        link = find(facts_of({"pci-files": device(NIC, "020000", **files)}), NIC).link
        assert link is not None
        assert (link.speed_gtps, link.width) == expected
        assert link.reduced is None

    def test_conventional_pci_has_no_link(self) -> None:
        assert find(facts_of({"pci-files": device(NIC, "020000")}), NIC).link is None

    @pytest.mark.parametrize(
        ("code", "kind"),
        [
            ("030000", PciKind.GPU),
            ("030200", PciKind.GPU),
            ("020700", PciKind.NETWORK),
            ("010802", PciKind.NVME),
            ("010601", PciKind.STORAGE),
            ("0c0330", PciKind.USB_CONTROLLER),
            ("0c0500", PciKind.OTHER),
            ("060000", PciKind.OTHER),
        ],
    )
    def test_kind(self, code: str, kind: PciKind) -> None:
        assert find(facts_of({"pci-files": device(NIC, code)}), NIC).kind is kind

    @pytest.mark.parametrize(
        ("ids", "kind"),
        [("1002:74a1", PciKind.GPU), ("10de:1234", PciKind.GPU), ("1da3:1000", PciKind.OTHER)],
    )
    def test_a_gpu_without_a_display_calls_itself_an_accelerator(self, ids: str, kind: PciKind) -> None:
        assert find(facts_of({"pci-files": device(NIC, "120000", ids)}), NIC).kind is kind

    def test_a_device_without_any_file_is_listed_all_the_same(self) -> None:
        found = find(facts_of({"pci-links": links(NIC, driver="e1000e")}), NIC)
        assert (found.vendor_id, found.driver, found.kind) == (None, "e1000e", PciKind.OTHER)

    def test_modules_are_unknown_without_libkmod_and_empty_for_a_device_that_has_none(self) -> None:
        text = f"{NIC} 0200: 8086:10d3\n\tKernel driver in use: e1000e\n"
        assert find(facts_of(one_nic(**{"pci-modules": text})), NIC).modules is None
        text += "0000:04:00.0 0300: 10de:2235\n\tKernel modules: nouveau, nvidia_drm, nvidia\n"
        texts = one_nic(**{"pci-modules": text})
        texts["pci-files"] += device("0000:04:00.0", "030000")
        facts = facts_of(texts)
        assert find(facts, NIC).modules == ()
        assert find(facts, "0000:04:00.0").modules == ("nouveau", "nvidia_drm", "nvidia")

    def test_multipath_nvme_is_found_through_its_subsystem(self) -> None:
        path = "pci0000:00/0000:00:04.0/0000:01:00.0/nvme/nvme0"
        texts = one_nic() | {
            "use-links": f"lrwxrwxrwx 1 0  /sys/class/nvme/nvme0 -> ../../devices/{path}\n"
            "drwxr-xr-x 3 0  /sys/class/nvme/nvme0/nvme2c0n1\n"
            "lrwxrwxrwx 1 0  /sys/class/block/nvme2n1 ->"
            " ../../devices/virtual/nvme-subsystem/nvme-subsys2/nvme2n1\n"
            "lrwxrwxrwx 1 0  /sys/class/block/nvme2n1p1 ->"
            " ../../devices/virtual/nvme-subsystem/nvme-subsys2/nvme2n1/nvme2n1p1\n",
            "use-files": "/sys/class/block/nvme2n1/dev:259:1\n/sys/class/block/nvme2n1p1/dev:259:2\n"
            "/sys/class/block/nvme2n1/size:2048\n"
            "/proc/self/mountinfo:29 1 259:2 / / rw - ext4 /dev/nvme2n1p1 rw\n",
        }
        texts["pci-files"] += device("0000:01:00.0", "010802")
        drive = find(facts_of(texts), "0000:01:00.0")
        assert [(disk.name, disk.size_bytes) for disk in drive.disks] == [("nvme2n1", 1048576)]
        assert [(use.kind, use.device, use.system) for use in drive.current_use] == [
            ("mount", "nvme2n1p1", True)
        ]
        assert [controller.name for controller in drive.nvme] == ["nvme0"]


class TestIommu:
    def test_no_group_anywhere_means_off(self) -> None:
        cpu = {"intel": "ven0000fam0006mod008F", "amd": "ven0002fam0019mod0001"}
        for vendor, word in (("intel", "intel_iommu=on"), ("amd", "AMD-Vi")):
            files = device(NIC, "020000") + (
                f"/sys/devices/system/cpu/modalias:cpu:type:x86,{cpu[vendor]}:feature:,0000\n"
                "/proc/cmdline:BOOT_IMAGE=/vmlinuz root=/dev/sda1 quiet\n"
            )
            facts = facts_of(one_nic(None) | {"pci-files": files})
            assert facts.iommu_enabled is False
            assert word in (facts.iommu_remedy or "")
            blocked = find(facts, NIC)
            assert blocked.passthrough.verdict is Verdict.BLOCKED
            assert blocked.passthrough.reasons[0].code == "iommu_off"
            assert blocked.passthrough.reasons[0].remedy == facts.iommu_remedy

    def test_a_parameter_that_is_there_already_is_not_asked_for(self) -> None:
        files = device(NIC, "020000") + (
            "/sys/devices/system/cpu/modalias:cpu:type:x86,ven0000fam0006mod008F:feature:,0000\n"
            "/proc/cmdline:root=/dev/sda1 intel_iommu=on,sm_on iommu=off\n"
        )
        remedy = facts_of(one_nic(None) | {"pci-files": files}).iommu_remedy or ""
        assert "Remove iommu=off" in remedy
        assert "Add intel_iommu=on" not in remedy
        assert "VT-d" in remedy

    def test_an_arm_host_is_told_of_its_firmware(self) -> None:
        files = (
            device(NIC, "020000") + "/sys/devices/system/cpu/modalias:cpu:type:aarch64:feature:,0000,0001\n"
        )
        assert "SMMU" in (facts_of(one_nic(None) | {"pci-files": files}).iommu_remedy or "")

    def test_links_that_could_not_be_read_leave_it_unknown(self) -> None:
        facts = facts_of({"pci-files": device(NIC, "020000")})
        assert facts.iommu_enabled is None
        assert codes(find(facts, NIC))["iommu_unknown"] is Effect.COSTS
        cut = facts_of(one_nic(None), pci_links=SourceStatus.TRUNCATED)
        assert cut.iommu_enabled is None

    def test_a_host_without_pci_says_nothing(self) -> None:
        facts = facts_of({"pci-files": "", "pci-links": ""})
        assert (facts.devices, facts.iommu_enabled) == ((), None)

    def test_groups_of_unsafe_mode_are_no_iommu(self) -> None:
        texts = one_nic("0")
        texts["pci-files"] += "/sys/kernel/iommu_groups/0/name:vfio-noiommu\n"
        facts = facts_of(texts)
        assert facts.iommu_enabled is False
        assert find(facts, NIC).passthrough.verdict is Verdict.BLOCKED


class TestVerdicts:
    def test_bound_to_vfio_alone_in_its_group_is_ready(self) -> None:
        assert find(facts_of(one_nic()), NIC).passthrough.verdict is Verdict.READY

    @pytest.mark.parametrize("driver", ["mlx5_vfio_pci", "xe-vfio-pci", "pci-stub", None])
    def test_so_are_vendors_vfio_drivers_and_no_driver(self, driver: str | None) -> None:
        assert find(facts_of(one_nic(driver=driver)), NIC).passthrough.verdict is Verdict.READY

    def test_a_host_driver_makes_it_possible_and_names_the_command(self) -> None:
        found = find(facts_of(one_nic(driver="e1000e")), NIC)
        assert found.passthrough.verdict is Verdict.POSSIBLE
        [reason] = found.passthrough.reasons
        assert "virsh nodedev-detach pci_0000_03_00_0" in (reason.remedy or "")

    def test_a_running_vm_that_holds_it_blocks(self) -> None:
        held = domain(pci_hostdev("0x03", "0x00"))
        found = find(facts_of(one_nic() | held), NIC)
        assert found.passthrough.verdict is Verdict.BLOCKED
        assert found.passthrough.reasons[0].subjects == ("guest",)

    def test_a_stopped_vm_makes_it_possible(self) -> None:
        held = domain(pci_hostdev("0x03", "0x00"), running=False)
        assert codes(find(facts_of(one_nic() | held), NIC))["assigned_to_stopped_vm"] is Effect.COSTS

    def test_a_silent_libvirt_leaves_the_holder_unknown(self) -> None:
        found = find(facts_of(one_nic(), **{"libvirt:domains": SourceStatus.TIMEOUT}), NIC)
        assert found.held_by is None
        assert codes(found)["holders_unknown"] is Effect.COSTS

    def test_another_vms_device_in_the_group_blocks_and_its_own_does_not(self) -> None:
        texts = one_nic()
        texts["pci-files"] += device("0000:03:00.1", "020000")
        texts["pci-links"] += links("0000:03:00.1", iommu_group="7", driver="vfio-pci")
        other = domain(pci_hostdev("0x03", "0x00", "0x1"))
        assert codes(find(facts_of(texts | other), NIC))["group_held_by_vm"] is Effect.BLOCKS
        both = domain(pci_hostdev("0x03", "0x00") + pci_hostdev("0x03", "0x00", "0x1"))
        assert set(codes(find(facts_of(texts | both), NIC))) == {"held_by_vm", "group_shared"}

    def test_a_neighbour_in_use_by_the_host_blocks(self) -> None:
        texts = one_nic()
        texts["pci-files"] += device("0000:03:00.1", "020000")
        texts["pci-links"] += links("0000:03:00.1", iommu_group="7", driver="e1000e")
        place = "../../devices/pci0000:00/0000:03:00.1/net/eth0"
        texts["use-links"] = f"lrwxrwxrwx 1 0  /sys/class/net/eth0 -> {place}\n"
        row = "00000000\t0101A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0"
        texts["use-files"] = f"/proc/net/route:eth0\t{row}\n/sys/class/net/eth0/flags:0x1003\n"
        found = find(facts_of(texts), NIC)
        assert codes(found)["group_member_in_use"] is Effect.BLOCKS
        assert codes(found)["group_shared"] is Effect.COSTS

    def test_neighbours_without_a_host_driver_are_only_noted(self) -> None:
        texts = one_nic()
        texts["pci-files"] += device("0000:03:00.1", "040300")
        texts["pci-links"] += links("0000:03:00.1", iommu_group="7")
        found = find(facts_of(texts), NIC)
        assert codes(found)["group_shared"] is Effect.NOTE
        assert found.passthrough.verdict is Verdict.READY

    @pytest.mark.parametrize(
        ("driver", "code"), [("pcieport", "group_has_bridge"), ("shpchp", "group_bridge_driver")]
    )
    def test_bridges_follow_the_kernels_rule(self, driver: str, code: str) -> None:
        texts = one_nic()
        texts["pci-files"] += device("0000:00:1c.0", "060400")
        texts["pci-links"] += links("0000:00:1c.0", iommu_group="7", driver=driver)
        facts = facts_of(texts)
        assert code in codes(find(facts, NIC))
        assert find(facts, "0000:00:1c.0").passthrough.verdict is Verdict.BLOCKED
        [group] = facts.iommu_groups
        assert group.isolated

    def test_a_virtual_function_that_the_host_uses_blocks_its_physical_one(self) -> None:
        function = "0000:03:10.0"
        texts = one_nic(driver="ixgbe")
        texts["pci-files"] += device(function, "020000") + f"{NIC}/sriov_totalvfs:63\n{NIC}/sriov_numvfs:1\n"
        texts["pci-links"] += links(function, iommu_group="8", driver="ixgbevf", physfn=NIC)
        texts["pci-links"] += f"lrwxrwxrwx 1 0  {NIC}/virtfn0 -> ../{function}\n"
        assert codes(find(facts_of(texts), NIC))["has_virtual_functions"] is Effect.COSTS
        place = f"../../devices/pci0000:00/{function}/net/eth0"
        texts["use-links"] = f"lrwxrwxrwx 1 0  /sys/class/net/eth0 -> {place}\n"
        row = "00000000\t0101A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0"
        texts["use-files"] = f"/proc/net/route:eth0\t{row}\n/sys/class/net/eth0/flags:0x1003\n"
        found = find(facts_of(texts), NIC)
        assert codes(found)["virtual_function_in_use"] is Effect.BLOCKS
        assert found.passthrough.reasons[0].subjects == (function,)

    def test_who_holds_a_mediated_device_is_unknown_where_libvirt_is_silent(self) -> None:
        uuid = "4b20d080-1b54-4048-85b3-a6a62d165c01"
        texts = one_nic()
        texts["pci-links"] += (
            f"lrwxrwxrwx 1 0  /sys/bus/mdev/devices/{uuid} -> ../../../devices/pci0000:00/{NIC}/{uuid}\n"
        )
        [instance] = find(facts_of(texts), NIC).mdev_instances
        assert instance.held_by == ()
        [instance] = find(facts_of(texts, **{"libvirt:domains": SourceStatus.TIMEOUT}), NIC).mdev_instances
        assert instance.held_by is None

    def test_boot_graphics_cost_the_console(self) -> None:
        texts = {
            "pci-files": device(NIC, "030000", boot_vga=1),
            "pci-links": links(NIC, iommu_group="2", driver="ast"),
        }
        found = find(facts_of(texts), NIC)
        assert codes(found)["boot_vga"] is Effect.COSTS
        assert found.boot_vga is True

    def test_what_the_kernel_cannot_reset_is_noted_where_it_tells(self) -> None:
        texts = one_nic()
        assert "no_reset" not in codes(find(facts_of(texts), NIC))
        texts["pci-files"] += device("0000:04:00.0", "020000", reset_method="flr bus")
        assert codes(find(facts_of(texts), NIC))["no_reset"] is Effect.NOTE


class TestNotRead:
    """What is not known never reads as free."""

    def test_a_device_whose_links_are_missing_is_not_called_free(self) -> None:
        texts = one_nic()
        texts["pci-files"] += device("0000:04:00.0", "020000")
        found = find(facts_of(texts), "0000:04:00.0")
        assert codes(found) == {"iommu_unknown": Effect.COSTS, "driver_unknown": Effect.COSTS}

    @pytest.mark.parametrize("source", ["use_files", "use_links"])
    def test_a_device_with_a_host_driver_may_be_in_use(self, source: str) -> None:
        statuses = {source: SourceStatus.TIMEOUT}
        assert "use_unknown" in codes(find(facts_of(one_nic(driver="e1000e"), **statuses), NIC))
        assert "use_unknown" not in codes(find(facts_of(one_nic(), **statuses), NIC))


class TestBrokenDocuments:
    large = host_document("large")

    @pytest.mark.parametrize("status", [s for s in SourceStatus if s is not SourceStatus.OK])
    @pytest.mark.parametrize("name", [source.name for source in SECTION.sources])
    def test_a_source_that_fails_is_named_and_the_rest_stays(self, name: str, status: SourceStatus) -> None:
        broken = replace(self.large.get(name), status=status, stdout="")
        result = build(self.large.with_sources({name: broken}), [SECTION]).results["pci"]
        assert result.plain is not None
        expected = status is SourceStatus.MISSING and name in SECTION.optional
        assert (name in {problem.source for problem in result.problems}) is not expected
        assert len(result.facts.devices) == 122

    @settings(max_examples=60, deadline=None)
    @given(st.data())
    def test_truncation_never_raises(self, data: st.DataObject) -> None:
        outputs: dict[str, SourceOutput] = {}
        for name, output in self.large.sources.items():
            length = data.draw(st.integers(0, len(output.stdout)))
            outputs[name] = replace(output, stdout=output.stdout[:length], status=SourceStatus.TRUNCATED)
        to_plain(parse(HostDocument("", outputs)).facts)

    @settings(max_examples=100, deadline=None)
    @given(
        st.dictionaries(
            st.sampled_from([*(source.name for source in SECTION.sources), "pci-vpd:0000:03:00.0"]),
            st.text(max_size=200),
        )
    )
    def test_foreign_text_never_raises(self, texts: dict[str, str]) -> None:
        to_plain(parse(document(texts)).facts)

    @settings(max_examples=100, deadline=None)
    @given(
        st.lists(
            st.tuples(
                st.sampled_from(["0000:03:00.0", "10000:e1:00.0", "0000:zz:00.0", "", "../.."]),
                st.sampled_from(["modalias", "numa_node", "sriov_totalvfs", "boot_vga", "max_link_speed"]),
                st.text(max_size=30) | st.integers().map(str),
            ),
            max_size=12,
        ),
        st.lists(
            st.tuples(
                st.sampled_from(
                    [f"{NIC}/iommu_group", f"{NIC}/driver", f"{NIC}/virtfn0", f"{NIC}/physfn", NIC]
                ),
                st.text(max_size=30) | st.just("../../../kernel/iommu_groups/4"),
            ),
            max_size=8,
        ),
    )
    def test_odd_values_never_raise(
        self, values: list[tuple[str, str, str]], targets: list[tuple[str, str]]
    ) -> None:
        files = "".join(f"{address}/{name}:{value}\n" for address, name, value in values)
        listed = "".join(f"lrwxrwxrwx 1 0  {path} -> {target}\n" for path, target in targets)
        to_plain(parse(document({"pci-files": files, "pci-links": listed})).facts)
