"""The rich host is built as README.md promises: what Linux itself says about it."""

import json

from tests.lab.host import LabHost


def test_two_numa_cells_are_a_distance_of_21_apart(lab_rich: LabHost) -> None:
    distances = lab_rich.run("cat /sys/devices/system/node/node[01]/distance").stdout
    cpus = lab_rich.run("cat /sys/devices/system/node/node[01]/cpulist").stdout

    assert [line.split() for line in distances.splitlines()] == [["10", "21"], ["21", "10"]]
    assert cpus.split() == ["0-1", "2-3"]


def test_each_cell_holds_32_huge_pages_of_2_mib(lab_rich: LabHost) -> None:
    pages = lab_rich.run(
        "cat /sys/devices/system/node/node[01]/hugepages/hugepages-2048kB/nr_hugepages"
    ).stdout

    assert pages.split() == ["32", "32"]


def test_virtualization_is_offered_with_nesting_and_an_iommu_with_groups(lab_rich: LabHost) -> None:
    nested = lab_rich.run("cat /sys/module/kvm_amd/parameters/nested; test -c /dev/kvm").stdout.strip()
    iommus = lab_rich.run("ls /sys/class/iommu").stdout.split()
    groups = lab_rich.run("ls /sys/kernel/iommu_groups").stdout.split()

    assert nested == "1"
    assert iommus == ["dmar0"]
    assert len(groups) > 10


def test_two_virtual_functions_of_the_nvme_have_groups_of_their_own(lab_rich: LabHost) -> None:
    script = (
        "for vf in /sys/bus/pci/devices/*/physfn; do readlink -f $vf; readlink -f ${vf%/physfn}/iommu_group; "
        "readlink -f $vf/iommu_group; done"
    )
    lines = lab_rich.run(script).stdout.split()
    functions, groups, parents_groups = lines[::3], lines[1::3], lines[2::3]

    assert len(functions) == 2
    assert len(set(functions)) == 1, "both belong to one physical function"
    assert len({*groups, *parents_groups}) == 3


def test_disks_show_their_transport_and_rotation(lab_rich: LabHost) -> None:
    listing = json.loads(lab_rich.run("lsblk -J -d -e 7,11 -o NAME,SERIAL,TRAN,ROTA").stdout)
    disks = {
        disk["serial"]: (disk["tran"], disk["rota"]) for disk in listing["blockdevices"] if disk["serial"]
    }

    assert disks["LABNVME1"] == ("nvme", False)
    assert disks["LABHDD1"] == ("sata", True)
    assert disks["LABSSD1"] == ("sata", False)
    assert disks["LABSTICK1"][0] == "usb"
    assert "LABSAS1" in disks


def test_smartctl_finds_the_disk_behind_the_megaraid_controller(lab_rich: LabHost) -> None:
    # Bits 0 to 2 of the exit status mean that the disk could not be asked.
    found = [line for line in lab_rich.run("smartctl --scan").stdout.splitlines() if "megaraid,0" in line]
    assert len(found) == 1
    device = found[0].split()[0]
    answer = lab_rich.run(f"smartctl -i -d megaraid,0 {device}", check=False)

    assert answer.returncode & 0b111 == 0
    assert "LABSAS1" in answer.stdout


def test_sata_and_nvme_disks_pass_their_smart_check(lab_rich: LabHost) -> None:
    for device in ("/dev/disk/by-id/ata-LAB_HDD_LABHDD1", "/dev/nvme0"):
        assert "PASSED" in lab_rich.run(f"smartctl -H {device}", check=False).stdout, device


def test_logical_volume_on_a_partition_is_mounted(lab_rich: LabHost) -> None:
    mount = lab_rich.run("findmnt -n -o SOURCE,FSTYPE,LABEL /srv/data").stdout.split()

    assert mount == ["/dev/mapper/lab-data", "ext4", "lab-data"]


def test_usb_tree_has_a_hub_with_a_device_behind_it_and_a_super_speed_stick(lab_rich: LabHost) -> None:
    tree = lab_rich.run("lsusb -t").stdout.splitlines()

    hub = next(number for number, line in enumerate(tree) if "Class=Hub" in line)
    assert "Class=Human Interface Device" in tree[hub + 1]
    assert tree[hub + 1].index("|__") > tree[hub].index("|__")
    assert any("Driver=usb-storage" in line and "5000M" in line for line in tree)


def test_bond_takes_its_other_port_when_the_active_one_loses_its_cable(lab_rich: LabHost) -> None:
    active = "/sys/class/net/bond0/bonding/active_slave"
    links = {"52:54:00:4c:01:01": "bond_first", "52:54:00:4c:01:11": "bond_second"}
    before = lab_rich.run(f"cat {active}").stdout.strip()
    # All ports of a bond carry its address; which one this is only the bond itself still knows.
    own = lab_rich.run(
        f"awk '/^Slave Interface: {before}$/ {{ at = 1 }} at && /^Permanent/ {{ print $NF; exit }}' "
        "/proc/net/bonding/bond0"
    ).stdout.strip()

    lab_rich.set_link(links[own], up=False)
    after = lab_rich.run(
        f"for i in $(seq 100); do [ $(cat {active}) = {before} ] || break; sleep 0.1; done; cat {active}"
    ).stdout.strip()

    assert before and after and after != before


def test_bridge_runs_stp_over_the_bond(lab_rich: LabHost) -> None:
    bridge = "/sys/class/net/br0"

    assert lab_rich.run(f"cat {bridge}/bridge/stp_state").stdout.strip() == "1"
    assert lab_rich.run(f"ls {bridge}/brif").stdout.split() == ["bond0"]
    assert "id 42" in lab_rich.run("ip -d link show bond0.42").stdout


def test_device_can_be_plugged_in_and_out_while_the_host_runs(lab_rich: LabHost) -> None:
    seen = "lsusb -t | grep -c 'Class=Human Interface Device'"
    wait = f"for i in $(seq 100); do [ $({seen}) = %d ] && exit 0; sleep 0.1; done; lsusb -t; exit 1"

    lab_rich.plug("usb-kbd", "keyboard", bus="usb.0", port="1.2")
    try:
        lab_rich.run(wait % 2)
    finally:
        lab_rich.unplug("keyboard")
    lab_rich.run(wait % 1)
