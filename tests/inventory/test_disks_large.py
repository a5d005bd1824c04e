"""The disks of the large server, whole and with every kind of damage; what is kept of SMART over time."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodes.inventory.blocktree import natural
from nodes.inventory.build import build
from nodes.inventory.changes import compare_section
from nodes.inventory.disk_facts import DisksFacts
from nodes.inventory.disks import SECTION, parse
from nodes.inventory.document import HostDocument, SourceOutput, SourceStatus
from nodes.inventory.lsblk import read_lsblk
from nodes.inventory.lvm import read_lvm, split_mapped_name
from nodes.inventory.mounts import mount_of, read_mounts
from nodes.inventory.multipath import read_multipath
from nodes.inventory.plain import to_plain
from nodes.inventory.smart_history import carry_over, smart_point, smart_points
from nodes.inventory.zpool import read_zpool
from tests.fixtures.large_disks import FAILING, SLEEPER, WARNED, WORN, disk_sources
from tests.fixtures.large_use import vm_sources
from tests.inventory.disk_host import disk_of, volume_of

AT = "2025-03-01T10:00:00+00:00"


@cache
def texts() -> Mapping[str, str]:
    return disk_sources() | vm_sources()


def document(changed: Mapping[str, SourceOutput] | None = None) -> HostDocument:
    ok = SourceStatus.OK
    outputs = {name: SourceOutput(name, ok, text, "", 0, 0.1) for name, text in texts().items()}
    return HostDocument(AT, {**outputs, **(changed or {})}, "test", "root")


@cache
def facts() -> DisksFacts:
    return parse(document()).facts


def plain(of: HostDocument) -> dict[str, Any]:
    found = to_plain(parse(of).facts)
    assert isinstance(found, dict)
    return found


class TestWhole:
    def test_every_disk_is_there_once_with_type_and_transport(self) -> None:
        kinds = [(disk.type, disk.transport) for disk in facts().disks]
        assert len(kinds) == 29
        assert kinds.count(("nvme", "nvme")) == 8
        assert kinds.count(("hdd", "sas")) == 12
        assert kinds.count(("ssd", "sas")) == 2
        assert kinds.count(("ssd", "sata")) == 2
        assert kinds.count(("ssd", "usb")) == 1
        assert kinds.count(("hdd", "iscsi")) == 4
        assert [device.name for device in facts().hidden] == ["sr0"]

    def test_only_the_mirrored_pair_is_the_system(self) -> None:
        assert [disk.name for disk in facts().disks if disk.system] == ["sdo", "sdp"]

    @pytest.mark.parametrize(
        ("name", "health", "code"),
        [
            (FAILING, "failed", "failing"),
            (SLEEPER, "unknown", "standby"),
            (WARNED, "warning", "reallocated_sectors"),
            (WORN, "warning", "endurance_used_up"),
            ("sdq", "unknown", "unknown_bridge"),
            ("sda", "healthy", "passed"),
        ],
    )
    def test_health_with_its_reason(self, name: str, health: str, code: str) -> None:
        smart = disk_of(facts(), name).smart
        assert smart is not None
        assert (smart.health.value, smart.reasons[0].code) == (health, code)

    def test_everything_that_holds_a_disk(self) -> None:
        def kinds(name: str) -> set[tuple[str, str | None]]:
            disk = disk_of(facts(), name)
            parts = (found for part in disk.partitions for found in part.memberships)
            return {(found.kind, found.name) for found in (*disk.memberships, *parts)}

        assert kinds("sda") == {("zfs", "tank")}
        assert kinds("sdm") == {("btrfs", "srv")}
        assert kinds("sdo") == {("raid", "md0"), ("raid", "md1")}
        assert kinds("sdr") == {("multipath", "mpatha")}
        assert kinds("sdt") == {("multipath", None)}
        assert kinds("nvme0n1") == {("lvm", "vms")}
        assert kinds("nvme4n1") == {("ceph", None)}
        assert kinds("nvme5n1") == {("luks", "luks-8e1f")}
        assert kinds("nvme6n1") == {("lvm", "ceph-5b0c1e7a")}
        assert [disk.name for disk in facts().disks if disk.unused] == [WORN]

    def test_volumes_know_the_disks_below_them(self) -> None:
        root = volume_of(facts(), "vg0-root")
        assert (root.parents, root.disks) == (("md1",), ("sdo", "sdp"))
        osd = next(volume for volume in facts().volumes if volume.lvm and volume.lvm.group == "ceph-5b0c1e7a")
        assert [(found.kind, found.name) for found in osd.memberships] == [("ceph", "osd.7")]

    def test_groups_and_what_they_miss(self) -> None:
        found = {(group.kind, group.name): (group.health, group.missing) for group in facts().groups}
        assert found == {
            ("btrfs", "srv"): (None, None),
            ("lvm", "ceph-5b0c1e7a"): ("complete", 0),
            ("lvm", "vg0"): ("complete", 0),
            ("lvm", "vms"): ("partial", 1),
            ("zfs", "tank"): ("DEGRADED", 1),
        }

    def test_a_rebuilding_array_and_a_failed_path(self) -> None:
        boot = volume_of(facts(), "md0").raid
        assert boot is not None
        assert (boot.action, boot.done_percent, boot.missing) == ("recover", 50.0, 1)
        states = [(path.disk, path.checker) for path in volume_of(facts(), "mpatha").paths]
        assert states == [("sdr", "ready"), ("sds", "faulty")]
        assert [gap.disks for gap in facts().broken_multipath] == [("sdt", "sdu")]

    def test_no_problem_but_the_missing_libvirt(self) -> None:
        problems = build(document(), (SECTION,)).problems
        assert {problem.source for problem in problems} <= {"libvirt:pools", "libvirt:pool"}


class TestDamage:
    @pytest.mark.parametrize("status", [SourceStatus.MISSING, SourceStatus.TIMEOUT, SourceStatus.NOT_RUN])
    @pytest.mark.parametrize("name", sorted(source.name for source in SECTION.sources))
    def test_any_one_source_may_be_missing(self, name: str, status: SourceStatus) -> None:
        gone = {key: SourceOutput(key, status) for key in texts() if key.partition(":")[0] == name}
        result = build(document(gone), (SECTION,)).results["disks"]
        assert isinstance(result.facts, DisksFacts)
        assert len(result.facts.disks) >= 24
        expected_quiet = name in SECTION.optional and status is SourceStatus.MISSING
        assert expected_quiet or any(problem.source == name for problem in result.problems)

    @settings(max_examples=60, deadline=None)
    @given(st.data())
    def test_sources_cut_or_spoilt_anywhere(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(texts())))
        text = texts()[name]
        place = data.draw(st.integers(0, len(text)))
        garbage = data.draw(st.text(max_size=40))
        spoilt = text[:place] + garbage + (text[place:] if data.draw(st.booleans()) else "")
        output = SourceOutput(name, SourceStatus.TRUNCATED, spoilt, "", 0, 0.1)
        to_plain(parse(document({name: output})).facts)

    @settings(max_examples=60, deadline=None)
    @given(st.sampled_from([source.name for source in SECTION.sources]), st.text(max_size=300))
    def test_any_text_instead_of_a_source(self, name: str, text: str) -> None:
        output = SourceOutput(name, SourceStatus.OK, text, "", 0, 0.1)
        to_plain(parse(document({name: output})).facts)

    def test_a_ring_of_volumes_ends(self) -> None:
        ring = texts()["use-links"] + "".join(
            f"lrwxrwxrwx 1 0  /sys/class/block/{low}/holders/{high} -> /sys/devices/virtual/block/{high}\n"
            for low, high in (("dm-0", "dm-1"), ("dm-1", "dm-0"))
        )
        output = SourceOutput("use-links", SourceStatus.OK, ring, "", 0, 0.1)
        assert len(parse(document({"use-links": output})).facts.disks) == 29


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def rows_of(*names: str) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(st.sampled_from(names), VALUES, max_size=len(names))


class TestParsersAlone:
    @given(st.text(max_size=300))
    def test_any_text(self, text: str) -> None:
        read_lsblk(text), read_lvm(text), read_zpool(text), read_multipath(text)
        mount_of("/a", read_mounts(text.split("\n")))
        split_mapped_name(text)
        sorted(("sda", text, "sdb", "٣-"), key=natural)

    @given(st.lists(rows_of("name", "kname", "size", "ro", "fstype", "children"), max_size=4))
    def test_rows_of_lsblk_with_anything_in_them(self, rows: list[dict[str, Any]]) -> None:
        for device in read_lsblk(json.dumps({"blockdevices": rows})).values():
            assert device.size_bytes is None or device.size_bytes >= 0

    @given(
        rows_of("vg", "pv", "lv"), st.lists(rows_of("vg_name", "pv_name", "lv_name", "vg_size"), max_size=3)
    )
    def test_reports_of_lvm_with_anything_in_them(self, report: dict[str, Any], rows: list[Any]) -> None:
        read_lvm(json.dumps({"report": [report, {"vg": rows, "pv": rows, "lv": rows}]}))

    @given(st.lists(rows_of("sysfs", "path_groups", "name"), max_size=3))
    def test_maps_of_multipath_with_anything_in_them(self, maps: list[dict[str, Any]]) -> None:
        read_multipath(json.dumps({"maps": maps}))

    @given(st.lists(st.lists(st.text(max_size=6), max_size=12), max_size=6))
    def test_lines_of_zpool_with_anything_in_them(self, lines: list[list[str]]) -> None:
        read_zpool("\n".join("\t".join(line) for line in lines))

    def test_numbers_of_old_lsblk_are_texts(self) -> None:
        row = {"name": "sda", "size": "1000204886016", "ro": "0", "rm": "1", "rota": "1", "mountpoint": None}
        device = read_lsblk(json.dumps({"blockdevices": [row]}))["sda"]
        assert (device.size_bytes, device.read_only, device.removable) == (1000204886016, False, True)

    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("vg-lv", ("vg", "lv")),
            ("my--vg-my--lv", ("my-vg", "my-lv")),
            ("mpatha", None),
            ("", None),
        ],
    )
    def test_names_of_logical_volumes(self, name: str, expected: tuple[str, str] | None) -> None:
        assert split_mapped_name(name) == expected

    def test_the_last_mount_on_a_point_hides_the_others(self) -> None:
        lines = ["1 0 8:1 / /a rw - ext4 /dev/sda1 rw", "2 0 8:2 / /a rw - xfs /dev/sdb rw"]
        found = mount_of("/a/b", read_mounts(lines))
        assert found is not None
        assert found.source == "/dev/sdb"


class TestHistory:
    def smart_of(self, of: Mapping[str, Any], name: str) -> dict[str, Any]:
        return next(disk["smart"] for disk in of["disks"] if disk["name"] == name)

    def asleep(self, name: str) -> HostDocument:
        key = f"disk-smart:/dev/{name}"
        text = texts()[f"disk-smart:/dev/{SLEEPER}"]
        return document({key: SourceOutput(key, SourceStatus.OK, text, "", 2, 0.1)})

    def test_a_point_has_the_figures_of_its_disk(self) -> None:
        points = {point.disk_id: point for point in smart_points(plain(document()))}
        point = points[disk_of(facts(), WORN).id]
        assert (point.health, point.wear_used_percent, point.temperature_celsius) == ("warning", 101, 38)
        assert (point.power_on_hours, point.media_errors, point.reallocated_sectors) == (20_000, 0, None)
        # Neither the sleeper nor the unknown bridge gives one.
        assert len(points) == 23

    def test_points_differ_by_what_does_not_come_back(self) -> None:
        disk = next(disk for disk in plain(document())["disks"] if disk["name"] == "sda")
        point = smart_point(disk)
        warmer = smart_point(disk | {"smart": disk["smart"] | {"temperature_celsius": 55}})
        worse = smart_point(disk | {"smart": disk["smart"] | {"reallocated_sectors": 3, "health": "warning"}})
        unknown = smart_point(disk | {"smart": disk["smart"] | {"health": "unknown"}})
        assert point is not None
        assert warmer is not None
        assert worse is not None
        assert unknown is not None
        assert not warmer.differs(point)
        assert worse.differs(point)
        assert worse.worse_than(point)
        assert not point.worse_than(worse)
        assert not unknown.worse_than(point)

    def test_a_sleeping_disk_keeps_its_last_values_and_their_time(self) -> None:
        before, now = plain(document()), plain(self.asleep("sda"))
        assert self.smart_of(now, "sda")["temperature_celsius"] is None
        first = carry_over(before, AT, now)
        smart = self.smart_of(first, "sda")
        assert (smart["state"], smart["health"]) == ("standby", "healthy")
        assert smart["temperature_celsius"] == self.smart_of(before, "sda")["temperature_celsius"]
        assert smart["values_observed_at"] == AT
        assert [reason["code"] for reason in smart["reasons"]] == ["standby", "passed"]
        # Still asleep a day later: the values are as old as they are.
        again = carry_over(first, "2025-03-02T10:00:00+00:00", plain(self.asleep("sda")))
        assert self.smart_of(again, "sda")["values_observed_at"] == AT
        assert [reason["code"] for reason in self.smart_of(again, "sda")["reasons"]] == ["standby", "passed"]
        assert smart_point(next(disk for disk in again["disks"] if disk["name"] == "sda")) is None

    def test_nothing_is_carried_to_disks_that_answered_or_were_not_known(self) -> None:
        before, now = plain(document()), plain(document())
        assert carry_over(before, AT, now) == now
        assert carry_over({}, AT, now) == now
        assert carry_over({"disks": [None, {"id": 3}]}, AT, {"disks": [None, {"id": "x"}]})["disks"]

    @pytest.mark.parametrize("status", [SourceStatus.FAILED, SourceStatus.DENIED, SourceStatus.OK])
    def test_a_disk_that_smartctl_cannot_ask_is_still_who_it_was(self, status: SourceStatus) -> None:
        before = build(document(), [SECTION])
        noise = SourceOutput("disk-smart:/dev/sda", status, "")
        after = build(document({noise.name: noise}), [SECTION])
        old, new = before.results["disks"].plain, after.results["disks"].plain
        assert old is not None
        assert new is not None
        kept = carry_over(old, "2025-03-01T10:00:00Z", new)
        [was, now] = [next(d for d in facts["disks"] if d["name"] == "sda") for facts in (old, kept)]
        assert [now[name] for name in ("model", "serial", "type")] == [
            was[name] for name in ("model", "serial", "type")
        ]
        assert now["smart"]["power_on_hours"] is None

    LINK: ClassVar[Mapping[str, Any]] = {
        "name": "SATA",
        "speed_mbps": 6000,
        "max_speed_mbps": 6000,
        "slowed": False,
    }

    def kept(self, before: dict[str, Any], now: dict[str, Any], state: str = "denied") -> dict[str, Any]:
        """The disk ``now`` after ``before``, which SMART had told."""
        was = {"id": "wwn-0x5", "smart": {"state": "read"}} | before
        told = {"id": was["id"], "smart": {"state": state}} | now
        return carry_over({"disks": [was]}, AT, {"disks": [told]})["disks"][0]

    @pytest.mark.parametrize("state", ["denied", "missing", "standby", "timeout"])
    def test_a_link_that_got_slower_and_new_firmware_are_the_kernels_to_tell(self, state: str) -> None:
        slow = {"name": "SATA", "speed_mbps": 1500, "max_speed_mbps": None, "slowed": None}
        disk = self.kept({"link": self.LINK, "firmware": "1.0"}, {"link": slow, "firmware": "2.0"}, state)
        assert disk["firmware"] == "2.0"
        assert disk["link"] == {"name": "SATA", "speed_mbps": 1500, "max_speed_mbps": 6000, "slowed": True}
        fast = {"name": "PCIe", "speed_mbps": 31508, "max_speed_mbps": 31508, "slowed": False}
        assert self.kept({"link": {**fast, "max_speed_mbps": 63015}}, {"link": fast}, state)["link"] == fast

    def test_the_kernels_part_of_the_firmware_is_no_other_one(self) -> None:
        assert self.kept({"firmware": "SC61AB07"}, {"firmware": "AB07"})["firmware"] == "SC61AB07"
        assert self.kept({"firmware": "SC61AB07"}, {"firmware": None})["firmware"] == "SC61AB07"
        assert self.kept({"firmware": None}, {"firmware": "AB07"})["firmware"] == "AB07"

    def test_a_speed_that_nobody_tells_now_is_known_of_a_sleeping_disk_alone(self) -> None:
        unknown = {"name": "SATA", "speed_mbps": 6000, "max_speed_mbps": 6000, "slowed": False}
        for now in (None, {"name": "SATA", "speed_mbps": None, "max_speed_mbps": None, "slowed": None}):
            assert self.kept({"link": unknown}, {"link": now}, "standby")["link"] == unknown
        link = self.kept({"link": unknown}, {"link": None})["link"]
        assert (link["speed_mbps"], link["max_speed_mbps"], link["slowed"]) == (None, 6000, None)

    @pytest.mark.parametrize("disk_id", ["path-pci-0000:00:1f.2-ata-1", "name-sda"])
    def test_the_disk_in_a_place_may_be_another(self, disk_id: str) -> None:
        was = {"id": disk_id, "serial": "S1", "model": "Old", "link": self.LINK}
        now = {"serial": None, "model": "New", "link": None, "smart": {"state": "denied"}}
        assert self.kept(was, now) == {"id": disk_id, **now}

    def test_falling_asleep_is_no_change_of_the_host(self) -> None:
        before = build(document(), (SECTION,)).results["disks"]
        after = build(self.asleep("sda"), (SECTION,)).results["disks"]
        assert before.plain is not None
        assert after.plain is not None
        carried = replace(after, plain=carry_over(before.plain, AT, after.plain))
        changed = compare_section(SECTION, before, carried)
        assert [change.path for change in changed if not change.path.startswith("disks.smart.reasons")] == []

    def test_a_removed_disk_is_a_change(self) -> None:
        lines = texts()
        gone = {
            name: SourceOutput(name, SourceStatus.OK, _without(lines[name], "sdn"), "", 0, 0.1)
            for name in ("use-files", "use-links", "disk-files")
        }
        tree = json.loads(lines["disk-lsblk"])
        tree["blockdevices"] = [row for row in tree["blockdevices"] if row["name"] != "sdn"]
        gone["disk-lsblk"] = SourceOutput("disk-lsblk", SourceStatus.OK, json.dumps(tree), "", 0, 0.1)
        before = build(document(), (SECTION,)).results["disks"]
        after = build(document(gone), (SECTION,)).results["disks"]
        removed = [change for change in compare_section(SECTION, before, after) if change.path == "disks"]
        assert [(change.kind.value, change.subject) for change in removed] == [
            ("removed", disk_of(facts(), "sdn").id)
        ]


def _without(text: str, name: str) -> str:
    return "\n".join(line for line in text.split("\n") if f"/{name}" not in line)
