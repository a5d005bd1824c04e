"""What counts as a change of a host, and what does not."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodes.inventory.build import Inventory, SectionResult, build
from nodes.inventory.changes import Change, ChangeKind, compare, compare_section, compare_since
from nodes.inventory.disks import SECTION as DISKS_SECTION
from nodes.inventory.document import HostDocument, SourceOutput, SourceStatus
from nodes.inventory.plain import Plain
from nodes.inventory.section import Parsed, Section
from nodes.inventory.summary import SECTION as SUMMARY
from tests.inventory.disk_host import DiskHost
from tests.inventory.documents import host_document


def never(document: HostDocument) -> Parsed[Any]:
    raise AssertionError("nothing is parsed here")


DISKS: Section[Any] = Section(
    slug="disks",
    title="Disks",
    sources=(),
    parse=never,
    identity={"disks": "name", "disks.partitions": "name", "caches": "level,kind", "labels": "*"},
    volatile=frozenset({"temperature_celsius", "disks.partitions.used_bytes"}),
    presence=frozenset({"lsblk"}),
)


def disk(name: str, **facts: Plain) -> dict[str, Plain]:
    return {"name": name, "model": f"Disk {name}", "temperature_celsius": 30, "health": "healthy", **facts}


def changes(
    before: dict[str, Plain],
    after: dict[str, Plain],
    unread_before: dict[str, str] | None = None,
    unread_after: dict[str, str] | None = None,
    section: Section[Any] = DISKS,
) -> tuple[Change, ...]:
    return compare_section(
        section,
        SectionResult(section.slug, None, before, (), unread_before or {}),
        SectionResult(section.slug, None, after, (), unread_after or {}),
    )


def test_the_same_facts_have_no_change() -> None:
    assert changes({"disks": [disk("sda")]}, {"disks": [disk("sda")]}) == ()


def test_an_item_that_came_and_one_that_went() -> None:
    found = changes({"disks": [disk("sda"), disk("sdb")]}, {"disks": [disk("sdc"), disk("sda")]})
    assert [(c.kind, c.path, c.subject, c.label) for c in found] == [
        (ChangeKind.REMOVED, "disks", "sdb", "sdb"),
        (ChangeKind.ADDED, "disks", "sdc", "sdc"),
    ]
    assert found[0].before == {"name": "sdb", "model": "Disk sdb", "health": "healthy"}
    assert found[0].after is None


def test_a_fact_of_an_item_with_before_and_after() -> None:
    [change] = changes({"disks": [disk("sda", size=1)]}, {"disks": [disk("sda", size=2)]})
    assert change == Change("disks", ChangeKind.CHANGED, "disks.size", "sda", "sda", 1, 2)


def test_items_in_another_order_are_the_same() -> None:
    assert changes({"disks": [disk("sda"), disk("sdb")]}, {"disks": [disk("sdb"), disk("sda")]}) == ()


def test_temperatures_and_counters_are_no_changes() -> None:
    before = disk("sda", temperature_celsius=30, partitions=[{"name": "sda1", "used_bytes": 5}])
    after = disk("sda", temperature_celsius=50, partitions=[{"name": "sda1", "used_bytes": 6}])
    assert changes({"disks": [before]}, {"disks": [after]}) == ()


def test_items_within_items_are_named_by_both() -> None:
    before = disk("sda", partitions=[{"name": "sda1", "label": "old"}])
    after = disk("sda", partitions=[{"name": "sda1", "label": "new"}, {"name": "sda2", "label": "x"}])
    found = changes({"disks": [before]}, {"disks": [after]})
    assert [(c.kind, c.path, c.subject) for c in found] == [
        (ChangeKind.CHANGED, "disks.partitions.label", "sda/sda1"),
        (ChangeKind.ADDED, "disks.partitions", "sda/sda2"),
    ]


def test_two_fields_together_can_be_the_name() -> None:
    before: list[Plain] = [{"level": 1, "kind": "data", "kb": 32}, {"level": 1, "kind": "code", "kb": 32}]
    after: list[Plain] = [{"level": 1, "kind": "data", "kb": 32}, {"level": 1, "kind": "code", "kb": 64}]
    [change] = changes({"caches": before}, {"caches": after})
    assert (change.subject, change.before, change.after) == ("1 code", 32, 64)


def test_a_mapping_can_hold_items_under_their_names() -> None:
    found = changes({"labels": {"a": "1", "b": "2"}}, {"labels": {"b": "3", "c": "4"}})
    assert [(c.kind, c.subject) for c in found] == [
        (ChangeKind.REMOVED, "a"),
        (ChangeKind.CHANGED, "b"),
        (ChangeKind.ADDED, "c"),
    ]


def test_items_without_a_name_are_told_by_their_value() -> None:
    before: list[Plain] = [{"port": 1}, {"port": 1}, {"port": 2}]
    found = changes({"things": before}, {"things": [{"port": 2}, {"port": 1}]})
    assert [(c.kind, c.before) for c in found] == [(ChangeKind.REMOVED, {"port": 1})]


def test_lists_of_plain_values_change_as_a_whole() -> None:
    [change] = changes({"flags": ["a", "b"]}, {"flags": ["a"]})
    assert (change.kind, change.path, change.before, change.after) == (
        ChangeKind.CHANGED,
        "flags",
        ["a", "b"],
        ["a"],
    )


def test_a_fact_that_only_one_parser_knew_is_no_change() -> None:
    assert changes({"disks": [disk("sda")]}, {"disks": [disk("sda", added_later=1)], "new": 5}) == ()


ONE, TWO = {"disks": [disk("sda")]}, {"disks": [disk("sda"), disk("sdb")]}


@pytest.mark.parametrize("status", ["timeout", "failed", "denied", "missing", "truncated", "not_run"])
def test_not_seen_is_not_removed(status: str) -> None:
    assert changes(TWO, ONE, {}, {"lsblk": status}) == ()
    assert changes(ONE, TWO, {"lsblk": status}, {}) == ()


def test_between_two_views_that_are_limited_alike_items_come_and_go() -> None:
    [change] = changes(TWO, ONE, {"lsblk": "denied"}, {"lsblk": "denied"})
    assert change.kind is ChangeKind.REMOVED
    assert changes(TWO, ONE, {"lsblk": "timeout"}, {"lsblk": "timeout"}) == ()


def test_a_source_that_tells_no_presence_hides_no_removal() -> None:
    [change] = changes(TWO, ONE, {"smartctl": "timeout"}, {})
    assert (change.kind, change.subject) == (ChangeKind.REMOVED, "sdb")


def test_facts_that_could_not_be_read_did_not_become_unknown() -> None:
    before, after = {"disks": [disk("sda", wear=5)]}, {"disks": [disk("sda", wear=None, health="unknown")]}
    assert changes(before, after, {}, {"smartctl": "timeout"}) == ()
    assert changes(after, before, {"smartctl": "timeout"}, {}) == ()
    assert len(changes(before, after)) == 2


def test_a_value_that_a_drive_gives_only_at_times_is_no_change_but_another_value_is() -> None:
    fitful = replace(DISKS, fitful=frozenset({"disks.smart"}))

    def told(before: int | None, after: int | None) -> int:
        old, new = (
            {"disks": [disk("sda", smart={"reallocated_sectors": count})]} for count in (before, after)
        )
        return len(changes(old, new, section=fitful))

    assert told(0, None) == told(None, 0) == 0
    assert told(0, 5) == 1


def test_a_fact_that_is_another_counts_even_in_a_limited_view() -> None:
    before, after = {"disks": [disk("sda", firmware="1")]}, {"disks": [disk("sda", firmware="2")]}
    [change] = changes(before, after, {}, {"smartctl": "timeout"})
    assert (change.before, change.after) == ("1", "2")


def test_items_that_come_and_go_by_themselves_are_no_changes() -> None:
    section = replace(
        DISKS, passing={"disks": {"kind": frozenset({"stick"}), "flags": frozenset({"temporary"})}}
    )
    some, more = {"disks": [disk("sda")]}, disk("sdb", kind="stick")
    for passing in (more, disk("sdb", flags=["dynamic", "temporary"])):
        after: dict[str, Plain] = {"disks": [disk("sda"), passing]}
        assert changes(some, after, section=section) == changes(after, some, section=section) == ()
    assert (
        len(changes(some, {"disks": [disk("sda"), disk("sdb", kind=None, flags=[])]}, section=section)) == 1
    )
    [change] = changes({"disks": [more]}, {"disks": [more | {"model": "Other"}]}, section=section)
    assert change.kind is ChangeKind.CHANGED


def test_a_section_that_could_not_be_parsed_has_no_changes() -> None:
    broken = SectionResult("disks", None, None)
    assert compare_section(DISKS, broken, SectionResult("disks", None, TWO)) == ()


def summary(document: HostDocument) -> Inventory:
    return build(document, [SUMMARY])


def edited(document: HostDocument, source: str, old: str, new: str) -> HostDocument:
    text = document.text(source)
    assert old in text
    return document.with_sources({source: SourceOutput(source, SourceStatus.OK, text.replace(old, new))})


def test_a_host_that_only_lived_on_has_no_changes() -> None:
    before = host_document("two-socket")
    after = edited(before, "system", "/proc/uptime:3888000.00", "/proc/uptime:3888900.00")
    after = edited(after, "system", "/proc/loadavg:64.00", "/proc/loadavg:12.00")
    after = edited(after, "memory", "MemFree:", "MemFree:  1")
    after = edited(after, "cpuinfo", "3400.000", "2700.000")
    assert compare(summary(before), summary(after), [SUMMARY]) == ()


def test_a_reboot_with_another_kernel_and_firmware_set_up() -> None:
    before = host_document("two-socket")
    after = edited(before, "system", "6.8.0-52-generic", "6.8.0-60-generic")
    after = edited(after, "system", "c0a1f2e7-9e38-4a11-8f55-3f1f7b1f9d02", "d1")
    after = edited(after, "system", "kvm_intel/parameters/nested:Y", "kvm_intel/parameters/nested:N")
    found = compare(summary(before), summary(after), [SUMMARY])
    told = {(c.path, c.subject, c.before, c.after) for c in found if not c.path.endswith("remedy")}
    assert told == {
        ("system.kernel.release", "", "6.8.0-52-generic", "6.8.0-60-generic"),
        ("system.boot_id", "", "c0a1f2e7-9e38-4a11-8f55-3f1f7b1f9d02", "d1"),
        ("virtualization.nested", "", True, False),
        ("virtualization.features.state", "nested", "on", "off"),
    }


def test_memory_that_is_gone_is_told_with_its_cell() -> None:
    before = host_document("two-socket")
    after = edited(before, "numa", "Node 3 MemTotal:       134217728", "Node 3 MemTotal:       100663296")
    [change] = compare(summary(before), summary(after), [SUMMARY])
    assert (change.path, change.subject) == ("numa.cells.memory_total_bytes", "3")
    assert change.after == 96 << 30


def everywhere(document: HostDocument, pattern: str, put: str, source: str = "") -> HostDocument:
    """``document`` with ``pattern`` replaced in all sources whose name begins with ``source``."""
    spelled = {
        name: replace(output, stdout=re.sub(pattern, put, output.stdout))
        for name, output in document.sources.items()
        if name.startswith(source)
    }
    assert spelled != document.sources
    return document.with_sources(spelled)


def test_a_vms_tap_under_another_name_is_no_change() -> None:
    before = host_document("large")
    after = everywhere(before, r"\bvnet(\d+)\b", r"vnet9\1")
    assert any(port["name"] == "vnet90" for port in build(after).plain()["net"]["bridges"][1]["ports"])
    assert compare(build(before), build(after)) == ()


def test_memory_that_is_some_pages_less_after_a_start_is_no_change() -> None:
    before = host_document("two-socket")
    total = re.search(r"MemTotal:\s+(\d+)", before.text("memory"))
    assert total is not None
    after = edited(before, "memory", total.group(1), str(int(total.group(1)) - 512))
    after = edited(after, "numa", "Node 3 MemTotal:       134217728", "Node 3 MemTotal:       134217600")
    assert compare(summary(before), summary(after), [SUMMARY]) == ()


@pytest.mark.parametrize(
    ("state", "told"), [(2, []), (4, ["bridges.ports.state"]), (0, ["bridges.ports.state"])]
)
def test_a_port_that_learns_is_no_change_and_one_that_blocks_is(state: int, told: list[str]) -> None:
    before = host_document("large")
    after = everywhere(before, r"(vnet0/brport/state):3", rf"\1:{state}")
    assert [change.path for change in compare(build(before), build(after))] == told


def test_another_kernel_is_no_change_of_the_root_hubs() -> None:
    before = host_document("large")
    after = everywhere(before, r"manufacturer:Linux 6[\w.-]+", "manufacturer:Linux 6.12.9", "usb")
    after = everywhere(after, r"(usb\d+/bcdDevice):\d+", r"\1:0612", "usb")
    assert compare(build(before), build(after)) == ()


def test_a_usb_device_of_a_vm_that_was_plugged_in_again_is_no_other_device_of_the_vm() -> None:
    before = host_document("lab-rich")
    after = everywhere(before, r"bus='(\d+)' device='(\d+)'", r"bus='\1' device='9\2'", "libvirt:domain:")
    told = compare(build(before), build(after))
    assert [change.path for change in told if change.section == "vms"] == []


def test_an_array_that_is_written_to_is_no_change_and_one_that_stands_still_is() -> None:
    before = host_document("large")
    written = everywhere(before, r"array_state:clean", "array_state:active")
    assert compare(build(before), build(written)) == ()
    stopped = everywhere(before, r"(md1/md/array_state):clean", r"\1:inactive")
    assert [change.path for change in compare(build(before), build(stopped))] == ["volumes.raid.state"]


@pytest.mark.parametrize(
    ("state", "told"), [("dirty", []), ("inconsistent", ["disks.memberships.state", "volumes.state"])]
)
def test_a_cache_that_is_written_to_is_no_change(state: str, told: list[str]) -> None:
    def cached(now: str) -> Inventory:
        host = DiskHost()
        host.sata("sda", 1)
        host.volume("bcache0", ["sda"], files={"bcache/state": now})
        return build(host.document(), [DISKS_SECTION])

    paths = [change.path for change in compare(cached("clean"), cached(state), [DISKS_SECTION])]
    assert paths == told


def test_that_a_vm_has_started_is_told_of_the_vm_and_of_none_of_its_devices() -> None:
    before = host_document("large")
    domains = json.loads(before.text("libvirt:domains"))
    for domain in domains:
        domain |= {"state": 5, "id": None} if domain["state"] == 1 else {"state": 1, "id": 70}
    after = before.with_sources(
        {"libvirt:domains": replace(before.get("libvirt:domains"), stdout=json.dumps(domains))}
    )
    held = [device["held_by"] for device in build(after).plain()["pci"]["devices"] if device["held_by"]]
    assert held != [
        device["held_by"] for device in build(before).plain()["pci"]["devices"] if device["held_by"]
    ]
    told = {(change.section, change.path) for change in compare(build(before), build(after))}
    assert {path for section, path in told if section in ("pci", "usb", "disks")} == set()
    assert ("vms", "vms.state") in told
    assert not any(path.startswith(("nics", "vm_ports")) for section, path in told if section == "net")


_OTHER_NAMES = {"sda": "sdb", "sdb": "sda", "sdc": "sdd", "sdd": "sdc", "nvme0": "nvme1", "nvme1": "nvme0"}


def found_in_another_order(text: str) -> str:
    text = re.sub(
        r"(?<![-\w])(sd[a-d]|nvme[01])(?=\d|[nc]\d|\b)", lambda match: _OTHER_NAMES[match.group(1)], text
    )
    text = re.sub(r"(?<![-\w])card(\d)\b", r"card4\1", text)
    return re.sub(r"(?<![-\w])event(\d+)\b", r"event5\1", text)


@pytest.mark.parametrize("host", ["large", "lab-rich"])
def test_devices_that_a_start_of_the_host_found_in_another_order_are_the_same(host: str) -> None:
    before = host_document(host)
    outputs = before.sources.values()
    other = {
        found_in_another_order(output.name): replace(
            output,
            name=found_in_another_order(output.name),
            stdout=found_in_another_order(output.stdout),
        )
        for output in outputs
    }
    assert other != before.sources
    assert compare(build(before), build(replace(before, sources=other))) == ()


def test_a_command_that_a_drive_refuses_at_times_is_no_change() -> None:
    before = host_document("large")
    after = everywhere(before, r'"exit_status": ?0\b', '"exit_status":4', "disk-smart:")
    assert compare(build(before), build(after)) == ()


def test_a_hot_drive_that_warms_further_is_no_change_and_one_more_bad_sector_is_one() -> None:
    def hot(degrees: int, pending: int = 1) -> HostDocument:
        rows = [{"id": 197, "name": "Current_Pending_Sector", "value": 100, "raw": {"string": str(pending)}}]
        limits = {"current": degrees, "op_limit_max": 60}
        tree = {"model_name": "X", "smart_status": {"passed": True}, "temperature": limits}
        host = DiskHost()
        host.sata("sda", files={"device/wwid": "naa.5000c500a1b2c3d4"})
        host.smart("/dev/sda", tree | {"ata_smart_attributes": {"table": rows}})
        return host.document()

    assert compare(build(hot(61), [DISKS_SECTION]), build(hot(62), [DISKS_SECTION])) == ()
    [change] = compare(build(hot(61), [DISKS_SECTION]), build(hot(61, 2), [DISKS_SECTION]))
    assert (change.path, change.before, change.after) == ("disks.smart.pending_sectors", 1, 2)


def test_a_lost_link_and_another_mount_point_are_told_once_by_what_they_are_of() -> None:
    before = host_document("large")
    down = everywhere(before, r"\beno1/operstate:up", "eno1/operstate:down")
    down = everywhere(down, r"\beno1/carrier:1", "eno1/carrier:0")
    told = {(change.section, change.path) for change in compare(build(before), build(down))}
    assert told == {("net", "nics.state"), ("net", "nics.carrier")}
    moved = everywhere(before, r"(mountinfo:.* )/boot( .* ext4 )", r"\1/other\2")
    [change] = compare(build(before), build(moved))
    assert (change.section, change.path) == ("disks", "volumes.content.mount_points")


def test_what_changed_while_a_source_failed_is_told_when_it_is_back() -> None:
    first = host_document("large")
    listed = json.loads(first.text("libvirt:domains"))
    lost = f"libvirt:domain:{listed[0]['uuid']}"
    left = {name: output for name, output in first.sources.items() if name != lost}
    left["libvirt:domains"] = replace(left["libvirt:domains"], stdout=json.dumps(listed[1:]))
    mute = {name: output for name, output in first.sources.items() if not name.startswith("libvirt:domain")}
    mute["libvirt:domains"] = SourceOutput("libvirt:domains", SourceStatus.TIMEOUT)
    down = everywhere(replace(first, sources=mute), r"\beno1/operstate:up", "eno1/operstate:down")
    back = everywhere(replace(first, sources=left), r"\beno1/operstate:up", "eno1/operstate:down")
    whole, silent, again = build(first), build(down), build(back)
    assert {change.path for change in compare(whole, silent)} == {"nics.state"}
    assert compare(silent, again) == ()
    told = [(c.section, c.kind, c.path) for c in compare_since(silent, again, iter([silent, whole]))]
    assert ("vms", ChangeKind.REMOVED, "vms") in told
    missed = [(c.section, c.kind, c.path) for c in compare(whole, again) if c.path != "nics.state"]
    assert sorted(told) == sorted(missed)
    # Nothing was hidden, or nothing is shown again: no older one is parsed.
    assert compare_since(again, again, untouched()) == ()
    assert compare_since(silent, silent, untouched()) == ()


def test_what_went_while_one_source_after_another_failed_is_told_in_the_end() -> None:
    def seen(facts: dict[str, Plain], *unread: str) -> Inventory:
        result = SectionResult("disks", None, facts, (), dict.fromkeys(unread, "timeout"))
        return Inventory("2025-03-01T10:00:00Z", {"disks": result})

    section = replace(DISKS, presence=frozenset({"lsblk", "files"}))
    whole, first, second = seen(TWO), seen(ONE, "lsblk"), seen(ONE, "files")
    assert compare_since(first, second, iter([whole]), [section]) == ()
    [change] = compare_since(second, seen(ONE), iter([first, whole]), [section])
    assert (change.kind, change.subject) == (ChangeKind.REMOVED, "sdb")
    # What tells no presence is not waited for.
    older = chain([seen(TWO, "smartctl")], untouched())
    [change] = compare_since(seen(ONE, "lsblk"), seen(ONE), older, [section])
    assert (change.kind, change.subject) == (ChangeKind.REMOVED, "sdb")
    # Where all older ones hide something, the newest of those that read the source has to do.
    worn, hidden, new = ({"disks": [disk("sda", wear=wear)]} for wear in (9, None, 5))
    [change] = compare_since(seen(hidden, "lsblk"), seen(worn), [seen(new, "files")], [section])
    assert (change.path, change.before, change.after) == ("disks.wear", 5, 9)


def untouched() -> Iterator[Inventory]:
    yield build(HostDocument("2025-03-01T10:00:00Z"))
    raise AssertionError("no older inventory is needed")


def test_a_disk_that_hangs_hides_no_other() -> None:
    def host(*names: str) -> HostDocument:
        disks = DiskHost()
        for number, name in enumerate(names):
            disks.sata(name, number, files={"device/wwid": f"naa.5000c500a1b2c3d{number}"})
        disks.smart("/dev/sda", "", SourceStatus.TIMEOUT)
        return disks.document()

    [change] = compare(build(host("sda", "sdb"), [DISKS_SECTION]), build(host("sda"), [DISKS_SECTION]))
    assert (change.kind, change.path, change.subject) == (
        ChangeKind.REMOVED,
        "disks",
        "wwn-0x5000c500a1b2c3d1",
    )


def test_a_source_that_failed_loses_nothing() -> None:
    before = host_document("two-socket")
    failed = SourceOutput("numa", SourceStatus.TIMEOUT)
    assert compare(summary(before), summary(before.with_sources({"numa": failed})), [SUMMARY]) == ()


def test_sections_that_one_inventory_lacks_are_left_out() -> None:
    whole = summary(host_document("two-socket"))
    assert compare(whole, replace(whole, results={}), [SUMMARY]) == ()


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["disks", "name", "labels", "partitions", "x"]), inner, max_size=4)
    ),
    max_leaves=15,
)
facts = st.dictionaries(st.sampled_from(["disks", "caches", "labels", "x"]), plain, max_size=3)


@given(facts, facts)
@settings(max_examples=200, deadline=None)
def test_any_two_inventories_can_be_compared(before: dict[str, Plain], after: dict[str, Plain]) -> None:
    changes(before, after)
    assert changes(before, before) == ()
