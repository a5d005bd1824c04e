"""The shell that asks smartctl: which disks, with which logs, side by side; over a sysfs made for it."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from nodes.inventory.disk_sources import DISK_LSBLK, DISK_LVM, DISK_MULTIPATH, DISK_SMART, DISK_ZPOOL
from nodes.inventory.document import SourceOutput, SourceStatus
from nodes.inventory.script import build_script, parse_output
from nodes.inventory.source import Source

GOOD = {"smartctl": {"exit_status": 0}, "device": {"protocol": "ATA"}, "smart_status": {"passed": True}}


class FakeHost:
    """A sysfs in a directory, and tools that note how they were called."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.calls = root / "calls"
        (root / "bin").mkdir()
        (root / "class/block").mkdir(parents=True)
        (root / "class/scsi_host").mkdir()

    def disk(self, name: str, place: str, **files: str) -> None:
        """A disk whose device is at ``place``, a path with the buses in it."""
        device = self.root / "devices" / place / f"{len(place)}-{name}"
        (device / "block" / name).mkdir(parents=True)
        for file, text in ({"vendor": "ATA", "state": "running"} | files).items():
            where = device / "block" / name if file == "size" else device
            (where / file).write_text(text + "\n")
        if "size" not in files:
            (device / "block" / name / "size").write_text("2048\n")
        (device / "block" / name / "device").symlink_to(device)
        (self.root / "class/block" / name).symlink_to(device / "block" / name)

    def scsi_host(self, number: int, driver: str, unique_id: int | None = None) -> None:
        directory = self.root / "class/scsi_host" / f"host{number}"
        directory.mkdir()
        (directory / "proc_name").write_text(driver + "\n")
        if unique_id is not None:
            (directory / "unique_id").write_text(f"{unique_id}\n")

    def tool(self, name: str, body: str) -> None:
        path = self.root / "bin" / name
        path.write_text(f'#!/bin/sh\necho "$*" >>"{self.calls}"\n{body}\n')
        path.chmod(0o755)

    def run(self, *sources: Source) -> Mapping[str, SourceOutput]:
        here = [
            replace(
                source,
                command=source.command.replace("/sys/", f"{self.root}/"),
                items=source.items.replace("/sys/", f"{self.root}/"),
                needs_root=False,
            )
            for source in sources
        ]
        script = build_script(here)
        environment = {**os.environ, "PATH": f"{self.root}/bin:{os.environ['PATH']}"}
        done = subprocess.run(
            ["sh", "-s"], input=script.encode(), capture_output=True, env=environment, timeout=60, check=True
        )
        return parse_output(done.stdout, here)

    def called(self) -> list[str]:
        return sorted(self.calls.read_text().splitlines()) if self.calls.exists() else []


@pytest.fixture
def host(tmp_path: Path) -> FakeHost:
    return FakeHost(tmp_path)


def items(outputs: Mapping[str, SourceOutput]) -> list[str]:
    return sorted(name.partition(":")[2] for name in outputs if name.startswith("disk-smart:"))


def sleeps(process: str) -> bool:
    try:
        return b"sleep" in Path("/proc", process, "cmdline").read_bytes()
    except OSError:
        return False


class TestWhoIsAsked:
    def test_disks_with_smart_alone(self, host: FakeHost) -> None:
        host.tool("smartctl", f"echo '{json.dumps(GOOD)}'")
        host.disk("sda", "pci0000:00/ata1/host1/t/1:0:0:0")
        host.disk("sdab", "pci0000:00/usb2/2-1/host2/t/2:0:0:0", vendor="WD")
        host.disk("sdb", "pci0000:00/virtio3/host3/t/3:0:0:0", vendor="RedHat")
        host.disk("sdc", "pci0000:00/ata2/host4/t/4:0:0:0", size="0")
        host.disk("sdd", "pci0000:00/ata3/host5/t/5:0:0:0", state="offline")
        host.disk("sde", "platform/host6/session1/t/6:0:0:1", vendor="LIO-ORG")
        host.disk("sdf", "pci0000:00/host7/rport-7:0-0/t/7:0:0:1", vendor="NETAPP")
        host.disk("sdg", "pci0000:00/host8/t/8:0:0:0", vendor="QEMU")
        host.disk("nvme0n1", "pci0000:00/nvme/nvme0")
        host.disk("nvme0c0n1", "pci0000:00/nvme/nvme0")
        host.disk("vda", "pci0000:00/virtio1")
        for name in ("sda1", "nvme0n1p2"):
            (host.root / "class/block" / name).symlink_to(host.root / "class/block/sda")
        outputs = host.run(DISK_SMART)
        assert items(outputs) == ["/dev/nvme0n1", "/dev/sda", "/dev/sdab"]
        assert {output.status for output in outputs.values()} == {SourceStatus.OK}

    def test_a_host_without_disks_runs_nothing(self, host: FakeHost) -> None:
        host.tool("smartctl", "exit 0")
        host.disk("vda", "pci0000:00/virtio1")
        assert items(host.run(DISK_SMART)) == []
        assert host.called() == []

    def test_physical_disks_instead_of_the_volumes_of_a_megaraid(self, host: FakeHost) -> None:
        scan = (
            "/dev/sda -d scsi # /dev/sda, SCSI device\n"
            "/dev/bus/0 -d megaraid,8 # /dev/bus/0 [megaraid_disk_08], SCSI device\n"
            "/dev/bus/0 -d sat+megaraid,9 # /dev/bus/0 [megaraid_disk_09], SCSI device"
        )
        host.tool("smartctl", f"case $1 in --scan) echo '{scan}' ;; *) echo '{json.dumps(GOOD)}' ;; esac")
        host.scsi_host(0, "megaraid_sas")
        host.scsi_host(1, "ahci")
        host.disk("sda", "pci0000:00/host0/t/0:2:0:0", vendor="DELL")
        host.disk("sdb", "pci0000:00/ata1/host1/t/1:0:0:0")
        assert items(host.run(DISK_SMART)) == [
            "/dev/bus/0 -d megaraid,8",
            "/dev/bus/0 -d sat+megaraid,9",
            "/dev/sdb",
        ]
        assert sum(call.endswith("/dev/bus/0 -d megaraid,8") for call in host.called()) == 1

    def test_physical_disks_of_a_smart_array_up_to_the_first_that_is_not_there(self, host: FakeHost) -> None:
        disk = "Device type:          disk\nTransport protocol:   SAS (SPL-4)"
        said = (
            "case $* in *cciss,[02]\\ *) echo '%s' ;; *cciss,1\\ *) echo 'Device is in STANDBY mode' ;;"
            " *cciss,3\\ *) echo 'Device type:          storage array'; exit 4 ;;"
            " *-d\\ cciss*) echo 'failed: INQUIRY [SAT]: No such device or address'; exit 2 ;;"
            " *) echo '%s' ;; esac"
        )
        host.tool("smartctl", said % (disk, json.dumps(GOOD)))
        host.scsi_host(0, "hpsa")
        host.scsi_host(1, "smartpqi")
        host.disk("sda", "pci0000:00/host0/t/0:1:0:0", vendor="HP", model="LOGICAL VOLUME")
        host.disk("sdb", "pci0000:00/host0/t/0:1:0:1", vendor="HP", model="LOGICAL VOLUME")
        host.disk("sdc", "pci0000:00/host1/t/1:0:1:0", vendor="HPE", model="EG001200", raid_level="N/A")
        assert items(host.run(DISK_SMART)) == [
            *(f"/dev/sda -d cciss,{number}" for number in (0, 1, 2)),
            "/dev/sdc",
        ]
        listed = [call for call in host.called() if call.startswith("-n standby -i -d")]
        assert len(listed) == 16

    def test_sata_disks_of_a_smart_array_tell_no_type(self, host: FakeHost) -> None:
        said = "Device Model:     MB4000GVYZK\\nSerial Number:    ZC1A0001"
        self.array(
            host, f"case $* in *cciss,0\\ *) printf '{said}' ;; *) echo 'No such device'; exit 2 ;; esac"
        )
        assert items(host.run(DISK_SMART)) == ["/dev/sda -d cciss,0"]

    def array(self, host: FakeHost, smartctl: str) -> None:
        host.tool("smartctl", smartctl)
        host.scsi_host(0, "hpsa")
        host.disk("sda", "pci0000:00/host0/t/0:1:0:0", vendor="HP", model="LOGICAL VOLUME")

    def test_the_disks_of_a_smart_array_are_asked_through_sudo(self, host: FakeHost) -> None:
        self.array(host, "echo 'Smartctl open device: /dev/sda failed: Permission denied'; exit 2")
        assert items(host.run(DISK_SMART)) == []
        host.tool(
            "sudo",
            "case $* in '-n smartctl -n standby -i -d cciss,'[01]' '*) echo 'Device type:          disk' ;;"
            " *) echo 'No such device'; exit 2 ;; esac",
        )
        function = 'smartctl() { sudo -n smartctl "$@"; }\n'
        elevated = replace(DISK_SMART, items=function + DISK_SMART.items)
        assert items(host.run(elevated)) == ["/dev/sda -d cciss,0", "/dev/sda -d cciss,1"]

    def test_what_hangs_behind_the_function_is_not_left_behind(self, host: FakeHost) -> None:
        self.array(host, "exit 2")
        left = host.root / "left"
        host.tool(
            "sudo",
            f"case $* in *'-i -d cciss,0 '*) echo $$ >'{left}'; exec sleep 300 ;;"
            " *) echo 'No such device'; exit 2 ;; esac",
        )
        function = 'smartctl() { sudo -n smartctl "$@"; }\n'
        elevated = replace(DISK_SMART, items=function + DISK_SMART.items)
        assert items(host.run(elevated)) == ["/dev/sda -d cciss,0"]
        deadline = time.monotonic() + 30
        while sleeps(left.read_text().strip()) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not sleeps(left.read_text().strip())

    def test_more_disks_of_smart_arrays_than_are_asked_at_once_are_listed_together(
        self, host: FakeHost
    ) -> None:
        disk = "Device type:          disk"
        self.array(
            host,
            "sleep 0.3; case $* in *cciss,[0-9]\\ * | *cciss,1[0-9]\\ * | *cciss,2[0-3]\\ *)"
            f" echo '{disk}' ;; *) echo 'No such device'; exit 2 ;; esac",
        )
        host.scsi_host(1, "hpsa")
        host.disk("sdb", "pci0000:00/host1/t/1:1:0:0", vendor="HP", model="LOGICAL VOLUME")
        found = items(host.run(DISK_SMART))
        assert found == sorted(f"/dev/{name} -d cciss,{n}" for name in ("sda", "sdb") for n in range(24))

    def test_a_disk_of_a_smart_array_that_hangs_costs_the_others_nothing(self, host: FakeHost) -> None:
        disk = "Device type:          disk"
        host.tool(
            "smartctl",
            f"case $* in '-n standby -i -d cciss,1 '*) exec sleep 60 ;; *cciss,[02]\\ *) echo '{disk}' ;;"
            " *) echo 'No such device'; exit 2 ;; esac",
        )
        host.scsi_host(0, "hpsa")
        host.disk("sda", "pci0000:00/host0/t/0:1:0:0", vendor="HP", model="LOGICAL VOLUME")
        assert items(host.run(DISK_SMART)) == [f"/dev/sda -d cciss,{number}" for number in (0, 1, 2)]

    @pytest.mark.parametrize(
        ("said", "listed"),
        [
            ("Serial number: X", 0),
            ("smartctl: Input/output error", 0),
            ("Device type:          disk", 128),
            ("Device type:          enclosure", 0),
        ],
    )
    def test_a_controller_that_names_no_end_is_counted_to_a_bound(
        self, host: FakeHost, said: str, listed: int
    ) -> None:
        self.array(host, f"case $* in *-i\\ -d*) echo '{said}' ;; *) echo '{json.dumps(GOOD)}' ;; esac")
        assert len(items(host.run(DISK_SMART))) == listed

    def test_physical_disks_that_aacraid_shows_without_a_block_device(self, host: FakeHost) -> None:
        host.tool("smartctl", f"echo '{json.dumps(GOOD)}'")
        host.scsi_host(2, "aacraid", unique_id=0)
        host.disk("sda", "pci0000:00/host2/target2:0:0/2:0:0:0", vendor="ASR8405")
        host.disk("sdb", "pci0000:00/host2/target2:1:9/2:1:9:0", vendor="SEAGATE")
        for place, kind in (("2:1:8:0", 0), ("2:1:9:0", 0), ("2:3:0:0", 13), ("2:0:0:0", 0)):
            device = host.root / "class/scsi_device" / place / "device"
            device.mkdir(parents=True)
            (device / "type").write_text(f"{kind}\n")
            if place != "2:1:8:0":
                (device / "block").mkdir()
        assert items(host.run(DISK_SMART)) == ["/dev/sda -d aacraid,0,0,8", "/dev/sdb"]

    @pytest.mark.parametrize(("unique_id", "volume"), [(None, True), (0, False)])
    def test_an_adapter_without_a_number_or_a_volume_is_not_guessed_at(
        self, host: FakeHost, unique_id: int | None, volume: bool
    ) -> None:
        host.tool("smartctl", f"echo '{json.dumps(GOOD)}'")
        host.scsi_host(2, "aacraid", unique_id)
        if volume:
            host.disk("sda", "pci0000:00/host2/target2:0:0/2:0:0:0", vendor="ASR8405")
        device = host.root / "class/scsi_device/2:1:8:0/device"
        device.mkdir(parents=True)
        (device / "type").write_text("0\n")
        assert items(host.run(DISK_SMART)) == []


class TestHowTheyAreAsked:
    def test_nobody_is_woken_and_each_kind_gives_its_own_logs(self, host: FakeHost) -> None:
        host.tool("smartctl", f"echo '{json.dumps(GOOD)}'")
        host.disk("sda", "pci0000:00/ata1/host1/t/1:0:0:0")
        host.disk("sdb", "pci0000:00/host2/port-2:0/t/2:0:0:0", vendor="SEAGATE")
        host.disk("nvme0n1", "pci0000:00/nvme/nvme0")
        host.run(DISK_SMART)
        calls = {call.rpartition(" ")[2]: call for call in host.called()}
        assert all("-n standby" in call and "--json=c" in call for call in calls.values())
        assert "-l devstat" in calls["/dev/sda"]
        assert "-l error" in calls["/dev/sdb"]
        assert "devstat" not in calls["/dev/sdb"]
        assert "-B /dev/null" in calls["/dev/nvme0n1"]

    def test_an_old_smartctl_is_asked_for_text(self, host: FakeHost) -> None:
        usage = "case $* in *--json*) echo '=======> UNRECOGNIZED OPTION: json=c'; exit 1 ;; esac"
        host.tool("smartctl", f"{usage}\necho 'SMART Health Status: OK'; exit 4")
        host.disk("sda", "pci0000:00/ata1/host1/t/1:0:0:0")
        output = host.run(DISK_SMART)["disk-smart:/dev/sda"]
        assert (output.stdout, output.exit_status) == ("SMART Health Status: OK\n", 4)
        assert output.status is SourceStatus.OK

    def test_the_exit_status_is_smartctls(self, host: FakeHost) -> None:
        host.tool("smartctl", f"echo '{json.dumps(GOOD)}'; exit 216")
        host.disk("sda", "pci0000:00/ata1/host1/t/1:0:0:0")
        assert host.run(DISK_SMART)["disk-smart:/dev/sda"].exit_status == 216

    def test_twenty_four_slow_disks_take_hardly_longer_than_one(self, host: FakeHost) -> None:
        host.tool("smartctl", f"sleep 0.5; echo '{json.dumps(GOOD)}'")
        for number in range(24):
            host.disk(f"sd{chr(97 + number)}", f"pci0000:00/ata{number}/host{number}/t/{number}:0:0:0")
        started = time.monotonic()
        outputs = host.run(DISK_SMART)
        took = time.monotonic() - started
        slowest = max(output.duration_s or 0.0 for output in outputs.values())
        assert len(items(outputs)) == 24
        assert took <= 1.5 * slowest


class TestToolsOfVolumes:
    def test_they_are_left_alone_where_nothing_is_theirs(self, host: FakeHost) -> None:
        for name in ("zpool", "multipathd"):
            host.tool(name, "exit 3")
        outputs = host.run(DISK_ZPOOL, DISK_MULTIPATH)
        assert [(output.status, output.stdout) for name, output in outputs.items() if name != "probe"] == [
            (SourceStatus.OK, "")
        ] * 2
        assert host.called() == []

    def test_lvm_is_asked_where_a_volume_is_active(self, host: FakeHost) -> None:
        host.tool("lvm", "echo '{}'")
        volume = host.root / "class/block/dm-0/dm"
        volume.mkdir(parents=True)
        (volume / "uuid").write_text("LVM-abc\n")
        assert host.run(DISK_LVM)["disk-lvm"].stdout == "{}\n"
        assert host.called()[0].startswith("fullreport --reportformat json")

    def test_lsblk_of_old_versions_is_asked_for_all_it_has(self, host: FakeHost) -> None:
        host.tool(
            "lsblk", "case $* in *FSVER*) echo 'lsblk: unknown column: FSVER' >&2; exit 1 ;; esac\necho all"
        )
        output = host.run(DISK_LSBLK)["disk-lsblk"]
        assert (output.stdout, output.stderr, output.status) == ("all\n", "", SourceStatus.OK)
