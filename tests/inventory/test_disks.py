"""Disks, partitions and what stands on them, from hosts written by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from nodes.inventory.build import build
from nodes.inventory.changes import compare
from nodes.inventory.disk_facts import Disk
from nodes.inventory.disks import SECTION, parse
from nodes.inventory.document import SourceOutput, SourceStatus
from nodes.inventory.smart import Health, SmartState
from tests.inventory.disk_host import PCI, DiskHost, disk_of, volume_of
from tests.inventory.documents import host_document

ATA_TREE: dict[str, Any] = {
    "device": {"type": "sat", "protocol": "ATA"},
    "model_name": "EXAMPLE 4000",
    "serial_number": "S1",
    "rotation_rate": 7200,
    "interface_speed": {"max": {"units_per_second": 60, "bits_per_unit": 100_000_000}},
    "smart_status": {"passed": True},
    "temperature": {"current": 30},
}


def roles(disk: Disk) -> list[tuple[str, str | None, str, str | None]]:
    return [(found.kind, found.name, found.role, found.state) for found in disk.memberships]


class TestHierarchy:
    def test_partitions_belong_to_their_parent_and_not_to_a_name_alike(self) -> None:
        host = DiskHost()
        host.partition("sda", 1, host.sata("sda", 1))
        host.partition("sdaa", 1, host.sata("sdaa", 2))
        facts = host.facts()
        assert [part.name for part in disk_of(facts, "sda").partitions] == ["sda1"]
        assert [part.name for part in disk_of(facts, "sdaa").partitions] == ["sdaa1"]

    def test_disks_come_in_the_order_people_expect(self) -> None:
        host = DiskHost()
        for name in ("sdaa", "sdb", "nvme10n1", "nvme2n1", "sda"):
            host.block(name, f"{PCI}/somewhere")
        assert [disk.name for disk in host.facts().disks] == ["nvme2n1", "nvme10n1", "sda", "sdb", "sdaa"]

    def test_names_with_a_slash_in_them(self) -> None:
        host = DiskHost()
        path = host.block("cciss!c0d0", f"{PCI}/cciss0/c0d0/block", kname="cciss/c0d0", serial="P1")
        host.partition("cciss!c0d0", 1, path, "cciss!c0d0p1", kname="cciss/c0d0p1", fstype="ext4")
        host.mount("cciss!c0d0p1", "/", source="/dev/cciss/c0d0p1")
        disk = host.disk("cciss/c0d0")
        assert (disk.path, disk.serial, disk.system) == ("/dev/cciss/c0d0", "P1", True)
        assert [(part.name, part.path) for part in disk.partitions] == [("cciss/c0d0p1", "/dev/cciss/c0d0p1")]
        assert disk.partitions[0].content is not None
        assert disk.partitions[0].content.mount_points == ("/",)

    def test_without_the_kernels_links_lsblks_tree_tells(self) -> None:
        host = DiskHost()
        host.sata("sdb")
        host.links.clear()
        host.rows[0]["children"] = [{"name": "sdb1", "kname": "sdb1", "type": "part", "fstype": "xfs"}]
        disk = host.disk("sdb")
        assert [(part.name, part.content.type) for part in disk.partitions if part.content] == [
            ("sdb1", "xfs")
        ]

    def test_sizes_are_bytes_whatever_the_sectors(self) -> None:
        host = DiskHost()
        path = host.sata("sda", size=1 << 40, files={"queue/logical_block_size": 4096})
        host.partition(
            "sda", 3, path, size=1 << 20, partuuid="u", parttype="t", partlabel="data", pttype=None
        )
        disk = host.disk("sda")
        part = disk.partitions[0]
        assert (disk.size_bytes, disk.logical_sector_bytes) == (1 << 40, 4096)
        assert (part.number, part.start_bytes, part.size_bytes) == (3, 1 << 20, 1 << 20)
        assert (part.uuid, part.type_id, part.label) == ("u", "t", "data")


class TestClutter:
    def test_what_is_no_disk_is_not_shown(self) -> None:
        host = DiskHost()
        for name in ("loop0", "zram0", "ram3", "mmcblk0boot0"):
            host.block(name, "/sys/devices/virtual/block")
        host.block("nvme0c0n1", f"{PCI}/nvme/nvme0", files={"hidden": 1})
        facts = host.facts()
        assert (facts.disks, facts.volumes, facts.hidden) == ((), (), ())

    def test_drives_without_a_medium_are_named_as_hidden(self) -> None:
        host = DiskHost()
        host.sata("sr0", 1, size=2_097_151 * 512, files={"device/vendor": "HL-DT-ST", "removable": 1})
        host.block("sdd", f"{PCI}/usb1/1-2/1-2:1.0/host6/t/6:0:0:0/block", size=0, files={"removable": 1})
        host.block("fd0", "/sys/devices/platform/floppy.0/block")
        host.block("nbd0", "/sys/devices/virtual/block", size=0)
        facts = host.facts()
        assert facts.disks == ()
        assert {(device.name, device.reason) for device in facts.hidden} == {
            (name, "no_medium") for name in ("sr0", "sdd", "fd0", "nbd0")
        }

    def test_a_disc_in_the_drive_is_shown(self) -> None:
        host = DiskHost()
        host.sata("sr0", 1, size=700 << 20, fstype="iso9660", files={"device/type": 5, "device/vendor": "X"})
        assert host.disk("sr0").type == "optical"

    @pytest.mark.parametrize(
        ("vendor", "model"),
        [
            ("AMI     ", "Virtual CDROM0  "),
            ("AMI     ", "Virtual HDisk0  "),
            ("iDRAC   ", "Virtual CD      "),
            ("iDRAC   ", "LCDRIVE         "),
            ("ATEN    ", "Virtual CDROM   "),
            ("PepperC ", "Virtual Disc 1  "),
            ("Cisco   ", "vKVM-Mapped vHDD"),
        ],
    )
    def test_virtual_media_of_a_bmc_are_hidden_until_used(self, vendor: str, model: str) -> None:
        host = DiskHost()
        files = {"device/vendor": vendor, "device/model": model, "removable": 1}
        host.block("sdc", f"{PCI}/usb1/1-3/1-3:1.0/host9/target9:0:0/9:0:0:0/block", files=files)
        facts = host.facts()
        assert [(device.name, device.reason) for device in facts.hidden] == [("sdc", "virtual_media")]
        host.mount("sdc", "/mnt")
        assert [disk.name for disk in host.facts().disks] == ["sdc"]

    def test_a_disk_that_died_with_size_zero_is_shown(self) -> None:
        host = DiskHost()
        host.sata("sdb", size=0, files={"device/state": "offline"})
        disk = host.disk("sdb")
        assert (disk.size_bytes, disk.state) == (0, "offline")

    def test_a_hypervisors_virtual_disk_is_no_bmcs(self) -> None:
        host = DiskHost()
        files = {"device/vendor": "Msft    ", "device/model": "Virtual Disk    "}
        host.block("sda", "/sys/devices/LNXSYSTM:00/VMBUS:00/host0/target0:0:0/0:0:0:0/block", files=files)
        disk = host.disk("sda")
        assert (disk.type, disk.emulated, disk.smart) == ("virtual", True, None)


def attached(path: str, name: str = "sdx", driver: str = "", **files: Any) -> Disk:
    host = DiskHost()
    host.block(name, path, files={"queue/rotational": 1} | files)
    if driver:
        host.files.append(f"/sys/class/scsi_host/host3/proc_name:{driver}")
    return host.disk(name)


class TestAttachment:
    SCSI = "host3/target3:0:0/3:0:0:0/block"

    @pytest.mark.parametrize(
        ("path", "driver", "vendor", "transport"),
        [
            (f"{PCI}/ata1/{SCSI}", "ahci", "ATA     ", "sata"),
            (f"{PCI}/host3/port-3:0/end_device-3:0/target3:0:0/3:0:0:0/block", "mpt3sas", "SEAGATE ", "sas"),
            (f"{PCI}/host3/port-3:0/end_device-3:0/target3:0:0/3:0:0:0/block", "mpt3sas", "ATA     ", "sata"),
            (f"{PCI}/{SCSI}", "megaraid_sas", "DELL    ", "sas"),
            (f"{PCI}/{SCSI}", "megaraid_sas", "ATA     ", "sata"),
            (f"{PCI}/usb2/2-1/2-1.4/2-1.4:1.0/{SCSI}", "uas", "WD      ", "usb"),
            (f"/sys/devices/platform/host3/session1/{SCSI[6:]}", "iscsi_tcp", "LIO-ORG ", "iscsi"),
            (f"{PCI}/host3/rport-3:0-1/{SCSI[6:]}", "qla2xxx", "NETAPP  ", "fc"),
            (f"{PCI}/virtio2/{SCSI}", "Virtio SCSI HBA", "QEMU    ", "virtio"),
            (f"{PCI}/{SCSI}", "vmw_pvscsi", "VMware  ", "scsi"),
        ],
    )
    def test_the_path_in_sysfs_tells_the_transport(
        self, path: str, driver: str, vendor: str, transport: str
    ) -> None:
        disk = attached(path, driver=driver, **{"device/vendor": vendor})
        assert disk.transport == transport

    def test_places_in_pci_and_usb(self) -> None:
        disk = attached(f"{PCI}/0000:03:00.0/usb2/2-1/2-1.4/2-1.4:1.0/{self.SCSI}")
        assert (disk.pci_address, disk.usb_path, disk.hctl) == ("0000:03:00.0", "2-1.4", "3:0:0:0")
        behind_vmd = attached(f"{PCI}/pci10000:e0/10000:e1:00.0/nvme/nvme0", name="nvme0n1")
        assert behind_vmd.pci_address == "10000:e1:00.0"

    def test_virtio_is_virtual(self) -> None:
        disk = attached(f"{PCI}/virtio1/block", name="vda")
        assert (disk.type, disk.transport, disk.emulated, disk.rotation_rpm) == (
            "virtual",
            "virtio",
            True,
            None,
        )

    def test_rotation_decides_where_smart_does_not(self) -> None:
        path = f"{PCI}/ata1/{self.SCSI}"
        assert attached(path, **{"device/vendor": "ATA"}).type == "hdd"
        flash = attached(path, **{"device/vendor": "ATA", "queue/rotational": 0})
        assert (flash.type, flash.rotation_rpm) == ("ssd", 0)

    def test_sticks_are_flash_though_the_kernel_says_rotating(self) -> None:
        path = f"{PCI}/usb1/1-1/1-1:1.0/{self.SCSI}"
        assert attached(path, removable=1).type == "ssd"
        assert attached(path, removable=0).type == "hdd"

    def test_pcie_speed_counts_lanes_and_encoding(self) -> None:
        host = DiskHost()
        host.block("nvme0n1", f"{PCI}/nvme/nvme0", files={"wwid": "eui.0025385b01234567"})
        base = "/sys/class/nvme/nvme0"
        host.files += [f"{base}/transport:pcie", f"{base}/model:Example  ", f"{base}/serial:S9 "]
        host.files += [
            f"{base}/device/current_link_speed:8.0 GT/s PCIe",
            f"{base}/device/current_link_width:4",
        ]
        host.files += [f"{base}/device/max_link_speed:16.0 GT/s PCIe", f"{base}/device/max_link_width:4"]
        disk = host.disk("nvme0n1")
        assert disk.link is not None
        assert (disk.link.name, disk.link.speed_mbps, disk.link.max_speed_mbps) == ("PCIe", 31508, 63015)
        assert (disk.link.width, disk.link.slowed) == (4, True)
        assert (disk.model, disk.serial, disk.wwn) == ("Example", "S9", "eui.0025385b01234567")

    def test_a_multipath_namespace_hangs_where_its_controller_does(self) -> None:
        host = DiskHost()
        host.block("nvme0n1", "/sys/devices/virtual/nvme-subsystem/nvme-subsys0")
        host.links.append(f"/sys/class/nvme/nvme0 -> {PCI}/nvme/nvme0")
        document = host.document()
        listed = document.text("use-links") + "drwxr-xr-x 9 0  /sys/class/nvme/nvme0/nvme0c0n1\n"
        links = {"use-links": SourceOutput("use-links", SourceStatus.OK, listed)}
        disk = disk_of(parse(document.with_sources(links)).facts, "nvme0n1")
        assert (disk.pci_address, disk.type, disk.transport) == ("0000:00:1f.2", "nvme", "nvme")

    def test_links_of_sas_sata_and_usb(self) -> None:
        sas = DiskHost()
        sas.block("sda", f"{PCI}/host3/port-3:0/end_device-3:0/target3:0:0/3:0:0:0/block")
        phy = "/sys/class/sas_port/port-3:0/device/phy-3:0/sas_phy/phy-3:0"
        sas.files += [f"{phy}/negotiated_linkrate:6.0 Gbit", f"{phy}/maximum_linkrate:12.0 Gbit"]
        link = sas.disk("sda").link
        assert link is not None
        assert (link.name, link.speed_mbps, link.max_speed_mbps, link.slowed) == ("SAS", 6000, 12000, True)
        sata = DiskHost()
        sata.sata("sdb", 4)
        sata.files += ["/sys/class/ata_link/link4/sata_spd:3.0 Gbps"]
        sata.smart("/dev/sdb", ATA_TREE)
        link = sata.disk("sdb").link
        assert link is not None
        assert (link.name, link.speed_mbps, link.max_speed_mbps, link.slowed) == ("SATA", 3000, 6000, True)
        usb = DiskHost()
        usb.block("sdc", f"{PCI}/usb1/1-1/1-1:1.0/{self.SCSI}")
        usb.files += ["/sys/bus/usb/devices/1-1/speed:1.5", "/sys/bus/usb/devices/1-1/version: 1.10"]
        link = usb.disk("sdc").link
        assert link is not None
        assert (link.name, link.speed_mbps, link.max_speed_mbps) == ("USB", 1.5, 12)

    def test_speeds_that_the_kernel_does_not_know_are_none(self) -> None:
        host = DiskHost()
        host.sata("sda", 1)
        host.files += ["/sys/class/ata_link/link1/sata_spd:<unknown>"]
        link = host.disk("sda").link
        assert link is not None
        assert (link.speed_mbps, link.max_speed_mbps) == (None, None)

    def test_the_vendor_stands_beside_the_model(self) -> None:
        path = f"{PCI}/usb1/1-1/1-1:1.0/{self.SCSI}"
        disk = attached(path, **{"device/vendor": "QEMU    ", "device/model": "QEMU HARDDISK   "})
        assert (disk.vendor, disk.model) == ("QEMU", "QEMU HARDDISK")
        host = DiskHost()
        host.block("sda", f"{PCI}/host3/port-3:0/end_device-3:0/target3:0:0/3:0:0:0/block")
        host.smart(
            "/dev/sda", {"scsi_vendor": "ACME", "scsi_model_name": "ACME X1", "device": {"protocol": "SCSI"}}
        )
        disk = host.disk("sda")
        assert (disk.vendor, disk.model) == ("ACME", "X1")

    def test_names_of_udev(self) -> None:
        host = DiskHost()
        host.sata("sda")
        host.links += ["/dev/disk/by-id/ata-EX_S1 -> ../../sda", "/dev/disk/by-id/wwn-0x5 -> ../../sda"]
        host.links += ["/dev/disk/by-path/pci-0000:00:1f.2-ata-1 -> ../../sda"]
        disk = host.disk("sda")
        assert disk.by_id == ("wwn-0x5", "ata-EX_S1")
        assert disk.by_path == ("pci-0000:00:1f.2-ata-1",)

    def test_emmc_tells_its_wear_without_smart(self) -> None:
        files = {"device/name": "DG4064", "device/life_time": "0x02 0x03", "device/pre_eol_info": "0x01"}
        disk = attached(f"{PCI}/mmc_host/mmc0/mmc0:0001/block", name="mmcblk0", **files)
        assert (disk.type, disk.transport, disk.model) == ("ssd", "mmc", "DG4064")
        assert disk.smart is not None
        assert (disk.smart.health, disk.smart.wear_used_percent) == (Health.HEALTHY, 30)
        urgent = attached(
            f"{PCI}/mmc_host/mmc0/mmc0:0001/block", name="mmcblk0", **files | {"device/pre_eol_info": "0x03"}
        )
        assert urgent.smart is not None
        assert urgent.smart.health is Health.FAILED


class TestContent:
    def test_file_systems_with_their_use(self) -> None:
        host = DiskHost()
        path = host.sata("sda", pttype="gpt", ptuuid="pt")
        sizes = {"fssize": 1000, "fsused": 250, "fsavail": 700}
        host.partition("sda", 1, path, fstype="ext4", label="My  data", uuid="u1", fsver="1.0", **sizes)
        host.mount("sda1", "/srv/two words")
        host.mount("sda1", "/srv")
        disk = host.disk("sda")
        content = disk.partitions[0].content
        assert content is not None
        assert (content.kind, content.type, content.label, content.uuid) == (
            "filesystem",
            "ext4",
            "My  data",
            "u1",
        )
        assert content.mount_points == ("/srv", "/srv/two words")
        assert (content.size_bytes, content.used_bytes, content.used_percent) == (1000, 250, 26.3)
        assert (disk.table_type, disk.table_id, disk.unused) == ("gpt", "pt", False)

    def test_an_unmounted_file_system_has_no_use(self) -> None:
        host = DiskHost()
        host.sata("sda", fstype="xfs")
        content = host.disk("sda").content
        assert content is not None
        assert (content.active, content.mount_points, content.used_percent) == (False, (), None)

    def test_a_mount_tells_the_type_where_nobody_else_does(self) -> None:
        host = DiskHost()
        host.sata("sda", fstype=None)
        host.mount("sda", "/", "ext4")
        content = host.disk("sda").content
        assert content is not None
        assert (content.type, content.active) == ("ext4", True)

    def test_swap(self) -> None:
        host = DiskHost()
        host.sata("sda", fstype="swap")
        host.files += ["/proc/swaps:Filename Type Size Used Priority"]
        host.files += ["/proc/swaps:/dev/sda partition 1024 256 -2", "/proc/swaps:/swap.img file 8 0 5"]
        facts = host.facts()
        content = disk_of(facts, "sda").content
        assert content is not None
        assert (content.kind, content.active, content.used_percent) == ("swap", True, 25.0)
        assert [(swap.path, swap.size_bytes, swap.priority) for swap in facts.swaps] == [
            ("/dev/sda", 1 << 20, -2),
            ("/swap.img", 8192, 5),
        ]

    def test_an_empty_disk_is_unused_and_one_of_unknown_content_is_not_said_to_be(self) -> None:
        host = DiskHost()
        host.sata("sda")
        assert host.disk("sda").unused is True
        host.texts["disk-lsblk"] = ""
        assert host.disk("sda").unused is None

    @pytest.mark.parametrize(
        ("kind", "source", "volume", "running", "known"),
        [
            ("scsi", "<adapter type='fc_host' wwnn='20' wwpn='10'/>", "unit:0:0:1", False, False),
            ("scsi", "<adapter type='scsi_host' name='scsi_host1'/>", "unit:0:0:1", False, True),
            ("scsi", "<adapter type='scsi_host' name='scsi_host1'/>", "unit:0:0:1", True, False),
            ("scsi", "<adapter type='scsi_host' name='scsi_host1'/>", "unit:0:0:0", True, True),
            ("iscsi", "<device path='iqn.2024-01.org.example:a'/>", "odd", False, False),
            ("zfs", "<name>tank</name>", "gone", False, True),
            ("zfs", "<name>tank</name>", "twin", False, False),
            ("zfs", "<name>tank</name>", "web", True, True),
            ("dir", "", "web.qcow2", True, True),
        ],
    )
    def test_a_volume_of_a_vm_whose_device_is_not_known_may_be_any_disk(
        self, kind: str, source: str, volume: str, running: bool, known: bool
    ) -> None:
        host = DiskHost()
        host.sata("sda", 1)
        host.sata("sdb", 2)
        for number, name in enumerate(("vms/old/web", "vms/twin", "data/twin")):
            host.block(f"zd{16 * number}", "/sys/devices/virtual/block")
            host.links.append(f"/dev/zvol/tank/{name} -> ../../zd{16 * number}")
        host.pool("one", kind, f"<source>{source}</source>")
        host.texts["libvirt:domains"] = json.dumps([{"uuid": "u", "id": 1 if running else None, "state": 5}])
        host.texts["libvirt:domain:u"] = (
            "<domain><name>web</name><devices><disk type='volume'>"
            f"<source pool='one' volume='{volume}'/></disk></devices></domain>"
        )
        facts = host.facts()
        assert disk_of(facts, "sdb").unused is (True if known else None)
        assert (disk_of(facts, "sdb").use.vms is not None) == known
        if volume == "web":
            assert [vm.name for vm in volume_of(facts, "tank/vms/old/web").use.vms or ()] == ["web"]


class TestMemberships:
    def test_lvm_without_its_own_report(self) -> None:
        host = DiskHost()
        path = host.sata("sda")
        host.partition("sda", 2, path, fstype="LVM2_member")
        host.volume("dm-0", ["sda2"], known_as="my--group-root", uuid="LVM-x")
        host.mount("dm-0", "/")
        facts = host.facts()
        part = disk_of(facts, "sda").partitions[0]
        assert [(m.kind, m.name, m.state) for m in part.memberships] == [("lvm", "my-group", "in use")]
        assert part.use.holders == ("my--group-root",)
        assert [(group.kind, group.name, group.members, group.disks) for group in facts.groups] == [
            ("lvm", "my-group", ("sda2",), ("sda",))
        ]
        root = volume_of(facts, "my--group-root")
        assert (root.path, root.disks) == ("/dev/mapper/my--group-root", ("sda",))
        assert root.lvm is not None
        assert (root.lvm.group, root.lvm.name, root.lvm.health) == ("my-group", "root", None)
        assert disk_of(facts, "sda").system

    def test_a_physical_volume_of_no_group(self) -> None:
        host = DiskHost()
        host.sata("sda", fstype="LVM2_member")
        assert roles(host.disk("sda")) == [("lvm", None, "physical volume", "inactive")]
        report = {"report": [{"pv": [{"pv_name": "/dev/sda", "vg_name": "", "pv_missing": ""}]}]}
        host.texts["disk-lvm"] = json.dumps(report)
        assert roles(host.disk("sda")) == [("lvm", None, "physical volume", "unassigned")]

    def test_arrays_with_a_faulty_member(self) -> None:
        host = DiskHost()
        host.sata("sda", 1, fstype="linux_raid_member")
        host.sata("sdb", 2, fstype="linux_raid_member")
        files = {"md/level": "raid1", "md/raid_disks": 2, "md/degraded": 1, "md/array_state": "clean"}
        files |= {"md/dev-sda/state": "in_sync", "md/dev-sdb/state": "faulty,blocked"}
        host.volume("md127", ["sda", "sdb"], files=files | {"md/sync_completed": "none"})
        facts = host.facts()
        assert roles(disk_of(facts, "sda")) == [("raid", "md127", "member", "in_sync")]
        assert roles(disk_of(facts, "sdb")) == [("raid", "md127", "faulty", "faulty,blocked")]
        array = volume_of(facts, "md127")
        assert array.raid is not None
        assert (array.raid.level, array.raid.missing, array.raid.done_percent) == ("raid1", 1, None)
        assert array.parents == array.disks == ("sda", "sdb")

    def test_an_array_may_have_a_name(self) -> None:
        host = DiskHost()
        host.sata("sda")
        host.volume("md_home", ["sda"], files={"md/level": "raid1"})
        facts = host.facts()
        assert [disk.name for disk in facts.disks] == ["sda"]
        assert volume_of(facts, "md_home").kind == "raid"

    def test_volumes_below_a_thin_pool_are_no_physical_volumes(self) -> None:
        host = DiskHost()
        host.sata("sda", fstype="LVM2_member")
        host.volume("dm-0", ["sda"], known_as="vg-pool_tdata", uuid="LVM-1-tdata")
        host.volume("dm-1", ["dm-0"], known_as="vg-pool-tpool", uuid="LVM-1-tpool")
        host.volume("dm-2", ["dm-1"], known_as="other-inner", uuid="LVM-2")
        facts = host.facts()
        assert roles(disk_of(facts, "sda")) == [("lvm", "vg", "physical volume", "in use")]
        assert volume_of(facts, "vg-pool_tdata").memberships == ()
        inner = volume_of(facts, "vg-pool-tpool").memberships
        assert [(member.kind, member.name) for member in inner] == [("lvm", "other")]

    def test_partitions_of_an_array_are_volumes(self) -> None:
        host = DiskHost()
        host.sata("sda")
        host.volume("md0", ["sda"])
        host.partition("md0", 1, "/sys/devices/virtual/block/md0", "md0p1", fstype="ext4")
        host.mount("md0p1", "/boot")
        facts = host.facts()
        part = volume_of(facts, "md0p1")
        assert (part.kind, part.parents, part.disks) == ("partition", ("md0",), ("sda",))
        assert disk_of(facts, "sda").system

    def test_luks_open_and_closed(self) -> None:
        host = DiskHost()
        host.sata("sda", 1, fstype="crypto_LUKS")
        host.sata("sdb", 2, fstype="crypto_LUKS", uuid="u2")
        host.volume("dm-1", ["sda"], known_as="secret", uuid="CRYPT-LUKS2-ab-secret")
        facts = host.facts()
        assert roles(disk_of(facts, "sda")) == [("luks", "secret", "container", "open")]
        assert roles(disk_of(facts, "sdb")) == [("luks", None, "container", "closed")]
        assert volume_of(facts, "secret").kind == "crypt"

    def test_bcache(self) -> None:
        host = DiskHost()
        host.sata("sda", fstype="bcache")
        host.volume("bcache0", ["sda"], files={"bcache/state": "dirty"})
        facts = host.facts()
        assert roles(disk_of(facts, "sda")) == [("bcache", "bcache0", "member", "dirty")]
        assert (volume_of(facts, "bcache0").kind, volume_of(facts, "bcache0").state) == ("bcache", "dirty")

    def test_ceph_on_a_whole_disk_and_by_its_partition_types(self) -> None:
        host = DiskHost()
        host.sata("sda", 1, fstype="ceph_bluestore")
        path = host.sata("sdb", 2)
        host.partition("sdb", 1, path, parttype="45B0969E-9B03-4F30-B4C6-B4B80CEFF106")
        facts = host.facts()
        assert roles(disk_of(facts, "sda")) == [("ceph", None, "osd", None)]
        journal = disk_of(facts, "sdb").partitions[0].memberships
        assert [(m.kind, m.role) for m in journal] == [("ceph", "osd journal")]

    def paths(self, held: bool) -> DiskHost:
        host = DiskHost()
        for index, name in enumerate(("sda", "sdb")):
            path = f"{PCI}/host3/port-3:{index}/end_device-3:{index}/target3:0:{index}/3:0:{index}:0/block"
            host.block(name, path, files={"device/wwid": "naa.5000c500aa", "device/state": "running"})
        if held:
            host.volume("dm-0", ["sda", "sdb"], known_as="mpatha", uuid="mpath-35000c500aa")
        return host

    def test_multipath(self) -> None:
        facts = self.paths(held=True).facts()
        assert [disk.multipath for disk in facts.disks] == ["mpatha", "mpatha"]
        assert facts.broken_multipath == ()
        assert [path.disk for path in volume_of(facts, "mpatha").paths] == ["sda", "sdb"]
        assert len({disk.id for disk in facts.disks}) == 2

    def test_paths_that_nothing_holds_together(self) -> None:
        facts = self.paths(held=False).facts()
        assert [(gap.wwn, gap.disks) for gap in facts.broken_multipath] == [("0x5000c500aa", ("sda", "sdb"))]
        assert roles(facts.disks[0]) == [("multipath", None, "path", "missing map")]

    def scsi(self, place: str, serial: str = "ZC1A0001", **more: Any) -> tuple[str, dict[str, Any]]:
        way = "rport-3:0-0/" if more.pop("fc", False) else ""
        target = place.rpartition(":")[0]
        path = f"{PCI}/host{place[0]}/{way}target{target}/{place}/block"
        files = {"device/vendor": "ACME", "device/model": "ARRAY"} | more.pop("files", {})
        return path, {"files": files, "serial": serial, **more}

    @pytest.mark.parametrize(
        ("one", "two", "told"),
        [
            (("3:0:0:1", {"fc": True}), ("4:0:0:1", {"fc": True}), True),
            (("3:0:0:1", {}), ("4:0:0:1", {}), True),
            # Other units of the array, of other sizes or models, or on the same port.
            (("3:0:0:1", {}), ("4:0:0:2", {}), False),
            (("3:0:0:1", {}), ("4:0:0:1", {"size": 1 << 31}), False),
            (("3:0:0:1", {}), ("4:0:0:1", {"files": {"device/model": "OTHER"}}), False),
            (("3:0:0:1", {}), ("4:0:0:1", {"serial": "ZC1A0002"}), False),
            (("3:0:0:1", {}), ("4:0:0:1", {"files": {"device/wwid": "naa.5000c500aa"}}), False),
            (("3:0:0:1", {"serial": "0123456789AB"}), ("4:0:0:1", {"serial": "0123456789AB"}), False),
            (("3:0:0:1", {"serial": "0000000000"}), ("4:0:0:1", {"serial": "0000000000"}), False),
            # One name on one port is a name given twice.
            (
                ("3:0:0:1", {"files": {"device/wwid": "naa.5000c500aa"}}),
                ("3:0:0:2", {"files": {"device/wwid": "naa.5000c500aa"}}),
                False,
            ),
            (
                ("3:0:0:1", {"files": {"device/wwid": "naa.0000000000000000"}}),
                ("4:0:0:1", {"files": {"device/wwid": "naa.0000000000000000"}}),
                False,
            ),
            (
                ("3:0:0:1", {"files": {"device/wwid": "naa.5000c500aa"}}),
                ("4:0:0:1", {"wwn": "0x5000c500aa"}),
                True,
            ),
        ],
    )
    def test_paths_are_told_by_name_or_serial_and_by_their_ports(
        self, one: tuple[str, dict[str, Any]], two: tuple[str, dict[str, Any]], told: bool
    ) -> None:
        host = DiskHost()
        for name, (place, more) in (("sda", one), ("sdb", two)):
            path, row = self.scsi(place, **more)
            host.block(name, path, **row)
        assert [gap.disks for gap in host.facts().broken_multipath] == ([("sda", "sdb")] if told else [])

    @pytest.mark.parametrize(
        ("serials", "wwid", "told"),
        [
            (("S5XENG0N", "S5XENG0N"), "eui.00253885c1b00001", True),
            (("S5XENG0N", "S5XENG0M"), "eui.00253885c1b00001", False),
            (("0123456789", "0123456789"), "nvme.126f-30313233", False),
            (("S5XENG0N", "S5XENG0N"), "eui.0000000000000000", False),
        ],
    )
    def test_namespaces_of_two_controllers(self, serials: tuple[str, str], wwid: str, told: bool) -> None:
        host = DiskHost()
        for number, serial in enumerate(serials):
            place = f"{PCI}/000{number}:01:00.0/nvme/nvme{number}"
            host.links.append(f"/sys/class/nvme/nvme{number} -> {place}")
            host.files.append(f"/sys/class/nvme/nvme{number}/serial:{serial}")
            host.block(f"nvme{number}n1", place, files={"wwid": wwid})
        gaps = [gap.disks for gap in host.facts().broken_multipath]
        assert gaps == ([("nvme0n1", "nvme1n1")] if told else [])

    def test_namespaces_of_one_controller_with_one_name_are_no_paths(self) -> None:
        host = DiskHost()
        place = f"{PCI}/0000:01:00.0/nvme/nvme0"
        for name in ("nvme0n1", "nvme0n2"):
            host.block(name, place, files={"wwid": "eui.00253885c1b00001"})
        assert host.facts().broken_multipath == ()

    def test_a_lost_path_is_one_disk_less_and_none_more(self) -> None:
        both, one = self.paths(held=True), DiskHost()
        path = f"{PCI}/host3/port-3:1/end_device-3:1/target3:0:1/3:0:1:0/block"
        one.block("sdb", path, files={"device/wwid": "naa.5000c500aa", "device/state": "running"})
        one.volume("dm-0", ["sdb"], known_as="mpatha", uuid="mpath-35000c500aa")
        before, after = (build(host.document(), [SECTION]) for host in (both, one))
        told = [(change.kind, change.path) for change in compare(before, after, [SECTION])]
        assert told == [("removed", "disks")]

    def test_a_path_left_out_of_the_map(self) -> None:
        host = self.paths(held=False)
        host.volume("dm-0", ["sda"], known_as="mpatha", uuid="mpath-35000c500aa")
        facts = host.facts()
        assert [(gap.disks) for gap in facts.broken_multipath] == [("sdb",)]
        assert roles(disk_of(facts, "sda"))[0][1] == "mpatha"

    def test_zfs_by_its_list(self) -> None:
        host = DiskHost()
        host.sata("sda", 1)
        host.sata("sdb", 2)
        row = (
            "tank\t100\t40\t60\t-\t-\t0\t40\t1.00\tONLINE\t-\n\t/dev/sda\t100\t-\t-\t-\t-\t-\t-\t-\tONLINE\n"
        )
        host.texts["disk-zpool"] = row + "cache      -      -\n\t/dev/sdb\t10\t-\t-\t-\t-\t-\t-\t-\tONLINE\n"
        host.mount("none", "/", "zfs", "tank/root")
        facts = host.facts()
        assert roles(disk_of(facts, "sda")) == [("zfs", "tank", "member", "ONLINE")]
        assert roles(disk_of(facts, "sdb")) == [("zfs", "tank", "cache", "ONLINE")]
        assert disk_of(facts, "sda").system
        group = facts.groups[0]
        assert (group.kind, group.name, group.health, group.free_bytes) == ("zfs", "tank", "ONLINE", 60)

    def test_a_mirror_of_zfs_whose_other_half_was_not_there_at_the_import(self) -> None:
        host = DiskHost()
        host.sata("sda", 1)
        host.sata("sdb", 2)
        lines = (
            "tank\t100\t40\t60\t-\t-\t0\t40\t1.00\tDEGRADED\t-",
            "\tmirror-0\t100\t40\t60\t-\t-\t0\t40\t-\tDEGRADED",
            "\t/dev/sda\t-\t-\t-\t-\t-\t-\t-\t-\tONLINE",
            "\t12345678901234567890\t-\t-\t-\t-\t-\t-\t-\t-\tUNAVAIL",
            "logs\t-\t-\t-\t-\t-\t-\t-\t-\t-",
            "\t/dev/sdb\t10\t1\t9\t-\t-\t-\t-\t-\tONLINE",
        )
        host.texts["disk-zpool"] = "\n".join(lines) + "\n"
        facts = host.facts()
        assert [(group.name, group.health, group.missing) for group in facts.groups] == [
            ("tank", "DEGRADED", 1)
        ]
        assert roles(disk_of(facts, "sda")) == [("zfs", "tank", "member", "ONLINE")]
        assert roles(disk_of(facts, "sdb")) == [("zfs", "tank", "log", "ONLINE")]


class TestUse:
    def test_pools_on_devices_groups_and_directories(self) -> None:
        host = DiskHost()
        host.sata("sda", 1)
        host.mount("sda", "/var")
        host.sata("sdb", 2, fstype="LVM2_member")
        host.volume("dm-0", ["sdb"], known_as="vg-lv", uuid="LVM-1")
        host.partition("sdc", 1, host.sata("sdc", 3))
        host.links += ["/dev/disk/by-id/ata-C-part1 -> ../../sdc1"]
        host.pool("default", "dir", "<target><path>/var/lib/libvirt/images</path></target>")
        host.pool("fast", "logical", "<source><name>vg</name></source><target><path>/dev/vg</path></target>")
        host.pool("files", "fs", "<source><device path='/dev/disk/by-id/ata-C-part1'/></source>")
        facts = host.facts()
        assert disk_of(facts, "sda").use.pools == ("default",)
        assert disk_of(facts, "sdb").use.pools == ("fast",)
        assert disk_of(facts, "sdc").use.pools == ("files",)

    def test_a_directory_on_the_network_uses_no_disk(self) -> None:
        host = DiskHost()
        host.sata("sda")
        host.mount("sda", "/")
        host.mount("none", "/mnt/share", "nfs4", "server:/export")
        host.pool("share", "dir", "<target><path>/mnt/share/images</path></target>")
        assert host.disk("sda").use.pools == ()

    def test_vms_with_a_disk_or_a_volume_of_the_host(self) -> None:
        host = DiskHost()
        host.sata("sda", 1)
        host.sata("sdb", 2)
        host.volume("dm-0", ["sdb"], known_as="vg-vm", uuid="LVM-1")
        disks = "".join(
            f"<disk type='block'><source dev='{path}'/></disk>" for path in ("/dev/sda", "/dev/vg/vm")
        )
        host.texts["libvirt:domain:u1"] = (
            f"<domain id='3'><name>web</name><devices>{disks}</devices></domain>"
        )
        facts = host.facts()
        for name in ("sda", "sdb"):
            assert [(vm.name, vm.running) for vm in disk_of(facts, name).use.vms] == [("web", True)]
        assert disk_of(facts, "sda").unused is False

    @pytest.mark.parametrize("source", ["libvirt:domains", "libvirt:pools"])
    def test_a_disk_is_not_called_unused_while_libvirt_does_not_answer(self, source: str) -> None:
        host = DiskHost()
        host.sata("sda")
        assert (host.disk("sda").unused, host.disk("sda").use.vms) == (True, ())
        host.outputs[source] = SourceOutput(source, SourceStatus.TIMEOUT)
        disk = host.disk("sda")
        assert disk.unused is None
        assert disk.use.vms == (None if source == "libvirt:domains" else ())

    def test_a_volume_of_zfs_has_its_name_and_its_vm(self) -> None:
        host = DiskHost()
        host.volume("zd16", [])
        host.partition("zd16", 1, "/sys/devices/virtual/block/zd16", "zd16p1")
        host.links.append("/dev/zvol/tank/vms/web -> ../../../zd16")
        host.links.append("/dev/zvol/tank/vms/web-part1 -> ../../../zd16p1")
        disk = "<disk type='block'><source dev='/dev/zvol/tank/vms/web'/></disk>"
        host.texts["libvirt:domain:u1"] = f"<domain id='3'><name>web</name><devices>{disk}</devices></domain>"
        volume = volume_of(host.facts(), "tank/vms/web")
        assert (volume.kind, volume.kernel_name, volume.path) == ("zvol", "zd16", "/dev/zvol/tank/vms/web")
        assert [vm.name for vm in volume.use.vms] == ["web"]

    def test_counters_of_the_kernel(self) -> None:
        host = DiskHost()
        host.sata("sda", files={"stat": "   10  0  80  5  20  0  160  9  0  11  14 0 0 0 0 0 0"})
        io = host.disk("sda").io
        assert io is not None
        assert (io.read_operations, io.read_bytes, io.write_operations, io.write_bytes) == (
            10,
            40960,
            20,
            81920,
        )
        assert io.busy_ms == 11


class TestSmart:
    def test_it_tells_more_of_a_disk_than_the_kernel_knows(self) -> None:
        host = DiskHost()
        host.sata("sda", files={"device/model": "EXAMPLE", "device/rev": "1"})
        host.smart("/dev/sda", ATA_TREE)
        disk = host.disk("sda")
        assert (disk.model, disk.serial, disk.rotation_rpm, disk.type) == ("EXAMPLE 4000", "S1", 7200, "hdd")
        assert disk.smart is not None
        assert (disk.smart.health, disk.smart.temperature_celsius) == (Health.HEALTHY, 30)

    @pytest.mark.parametrize(
        ("status", "state"),
        [
            (SourceStatus.MISSING, SmartState.MISSING),
            (SourceStatus.DENIED, SmartState.DENIED),
        ],
    )
    def test_disks_that_nobody_could_ask_say_why(self, status: SourceStatus, state: SmartState) -> None:
        host = DiskHost()
        host.sata("sda")
        host.block("vda", f"{PCI}/virtio1/block")
        host.outputs["disk-smart"] = SourceOutput("disk-smart", status)
        facts = host.facts()
        asked, virtual = disk_of(facts, "sda").smart, disk_of(facts, "vda").smart
        assert asked is not None
        assert (asked.state, asked.health, asked.reasons[0].code) == (state, Health.UNKNOWN, state.value)
        assert virtual is None

    def test_a_disk_that_hangs_costs_only_its_own_facts(self) -> None:
        host = DiskHost()
        host.sata("sda", 1)
        host.sata("sdb", 2)
        host.smart("/dev/sda", "", SourceStatus.TIMEOUT)
        host.smart("/dev/sdb", ATA_TREE)
        facts = host.facts()
        slow, quick = disk_of(facts, "sda").smart, disk_of(facts, "sdb").smart
        assert slow is not None
        assert quick is not None
        assert (slow.state, quick.health) == (SmartState.TIMEOUT, Health.HEALTHY)

    def raid(self, serial: str) -> DiskHost:
        host = DiskHost()
        path = f"{PCI}/0000:02:00.0/host0/target0:2:0/0:2:0:0/block"
        files = {"device/vendor": "LSI", "device/model": "MR9361-8i", "queue/rotational": 1}
        host.block("sda", path, files=files, serial=serial)
        host.files.append("/sys/class/scsi_host/host0/proc_name:megaraid_sas")
        for number in (8, 9):
            tree = ATA_TREE | {
                "serial_number": f"S{number}",
                "device": {"type": f"sat+megaraid,{number}", "protocol": "ATA"},
            }
            host.smart(f"/dev/bus/0 -d megaraid,{number}", tree)
        return host

    def test_disks_behind_a_raid_controller_stand_beside_its_volume(self) -> None:
        facts = self.raid("00aabbcc").facts()
        assert [disk.name for disk in facts.disks] == ["sda", "host0 megaraid,8", "host0 megaraid,9"]
        volume, first, _ = facts.disks
        assert volume.smart is None
        assert volume.physical_disks == ("host0 megaraid,8", "host0 megaraid,9")
        assert (first.block_device, first.transport, first.pci_address) == (False, "sata", "0000:02:00.0")
        assert first.smart is not None
        assert (first.smart.health, first.smart.device_type) == (Health.HEALTHY, "sat+megaraid,8")

    def test_a_disk_that_the_controller_passes_through_is_shown_once(self) -> None:
        facts = self.raid("S8").facts()
        assert [disk.name for disk in facts.disks] == ["sda", "host0 megaraid,9"]
        assert facts.disks[0].smart is not None
        assert facts.disks[0].smart.device_type == "sat+megaraid,8"

    def array(self, driver: str) -> DiskHost:
        host = DiskHost()
        path = f"{PCI}/0000:02:00.0/host3/target3:1:0/3:1:0:0/block"
        files = {"device/vendor": "HP", "device/model": "LOGICAL VOLUME", "queue/rotational": 1}
        host.block("sda", path, files=files)
        host.files.append(f"/sys/class/scsi_host/host3/proc_name:{driver}")
        host.texts["disk-smart"] = ""
        return host

    @pytest.mark.parametrize(
        ("driver", "item"), [("hpsa", "/dev/sda -d cciss,4"), ("aacraid", "/dev/sda -d aacraid,0,0,4")]
    )
    def test_disks_behind_other_controllers_are_found_by_their_host(self, driver: str, item: str) -> None:
        host = self.array(driver)
        host.smart(item, ATA_TREE | {"serial_number": "S4"})
        volume, behind = host.facts().disks
        assert (volume.smart, volume.physical_disks) == (None, (behind.name,))
        assert behind.name == f"host3 {item.rpartition(' ')[2]}"
        assert (behind.serial, behind.pci_address, behind.driver) == ("S4", "0000:02:00.0", driver)

    @pytest.mark.parametrize("driver", ["hpsa", "aacraid", "arcmsr", "3w-sas"])
    def test_a_controller_whose_disks_cannot_be_listed_is_a_problem(self, driver: str) -> None:
        [problem] = parse(self.array(driver).document()).problems
        assert (problem.source, problem.code) == ("disk-smart", "not_listed")
        assert driver in problem.message
        assert "0000:02:00.0" in problem.message

    def test_a_disk_of_its_own_on_such_a_controller_is_none(self) -> None:
        host = self.array("smartpqi")
        host.smart("/dev/sda", ATA_TREE)
        assert parse(host.document()).problems == ()

    def test_a_disk_behind_a_controller_that_hangs_is_no_other_disk(self) -> None:
        host = self.array("hpsa")
        item = "/dev/sda -d cciss,4"
        host.smart(item, ATA_TREE | {"serial_number": "S4"})
        before = build(host.document(), [SECTION])
        host.smart(item, "", SourceStatus.TIMEOUT)
        assert compare(before, build(host.document(), [SECTION]), [SECTION]) == ()


class TestIdentity:
    def test_ids_outlive_new_names_and_sleep(self) -> None:
        host = DiskHost()
        host.sata("sda", serial="S1", files={"device/wwid": "naa.5000c500aabbccdd"})
        host.smart("/dev/sda", ATA_TREE)
        asleep = DiskHost()
        asleep.sata("sdq", 7, serial="S1", files={"device/wwid": "naa.5000c500aabbccdd"})
        assert host.disk("sda").id == asleep.disk("sdq").id == "wwn-0x5000c500aabbccdd"

    def ids_on_usb(self, first_host: int, *ports: int, serial: str = "0123456789AB") -> list[str]:
        host = DiskHost()
        for number, usb in enumerate(ports):
            scsi = first_host + number
            port = f"0000:00:14.0/usb2/2-{usb}/2-{usb}:1.0"
            path = f"/sys/devices/pci0000:00/{port}/host{scsi}/target{scsi}:0:0/{scsi}:0:0:0/block"
            host.block(f"sd{'abc'[number]}", path, serial=serial, files={"device/model": "Generic"})
        return [disk.id for disk in host.facts().disks]

    def test_ids_of_twins_on_usb_outlive_being_plugged_in_again(self) -> None:
        assert self.ids_on_usb(9, 3, 4) == self.ids_on_usb(12, 3, 4)
        assert len(set(self.ids_on_usb(9, 3, 4))) == 2

    @pytest.mark.parametrize("serial", ["0123456789AB", "1234567890", "000000000"])
    def test_no_twin_on_usb_takes_over_the_name_of_one_that_is_unplugged(self, serial: str) -> None:
        first, second = self.ids_on_usb(9, 3, 4, serial=serial)
        assert self.ids_on_usb(9, 3, serial=serial) == [first]
        assert self.ids_on_usb(9, 4, serial=serial) == [second]

    def test_twins_on_usb_with_serials_of_their_own_kind_are_both_told_by_their_ports(self) -> None:
        alone = self.ids_on_usb(9, 3, serial="DD5641988396B")
        assert alone == ["serial-Generic-DD5641988396B"]
        both = self.ids_on_usb(9, 3, 4, serial="DD5641988396B")
        assert both == [f"{alone[0]}@2-3", f"{alone[0]}@2-4"]

    def test_ids_of_twins_differ(self) -> None:
        host = DiskHost()
        host.sata("sda", 1, serial="0000")
        host.sata("sdb", 2, serial="0000")
        assert len({disk.id for disk in host.facts().disks}) == 2


def test_output_of_lsblk_that_is_none_is_a_problem_of_its_own() -> None:
    host = DiskHost()
    host.sata("sda")
    host.texts["disk-lsblk"] = "lsblk: unbekannte Spalte"
    parsed = parse(host.document())
    assert [problem.source for problem in parsed.problems] == ["disk-lsblk"]
    assert [disk.name for disk in parsed.facts.disks] == ["sda"]


def test_an_empty_document_has_no_disks() -> None:
    document = DiskHost().document()
    assert parse(replace(document, sources={})).facts.disks == ()
    assert {source.name for source in SECTION.sources} >= {"disk-files", "disk-lsblk", "disk-smart"}


@pytest.mark.parametrize("host", ["development", "lab-plain", "lab-rich"])
def test_the_root_file_system_is_as_full_as_the_summary_says(host: str) -> None:
    results = build(host_document(host)).results
    summary, disks = results["summary"].plain, results["disks"].plain
    assert summary is not None
    assert disks is not None
    root = summary["system"]["root_file_system"]
    contents = [
        part["content"]
        for disk in [*disks["disks"], *disks["volumes"]]
        for part in [disk, *(disk.get("partitions") or [])]
        if part.get("content") and "/" in part["content"]["mount_points"]
    ]
    assert contents
    assert contents[0]["used_percent"] == pytest.approx(root["used_percent"], abs=0.2)
