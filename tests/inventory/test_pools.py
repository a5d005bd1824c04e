"""The section ``pools``: real descriptions of libvirt 9.0, pools of other kinds, and what is broken."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import libvirt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nodes.inventory import pools
from nodes.inventory.build import build
from nodes.inventory.changes import compare
from nodes.inventory.document import HostDocument, SourceOutput, SourceStatus
from nodes.inventory.plain import to_plain
from nodes.inventory.pools import Pool
from tests.inventory.documents import host_document

NETWORK = Path(__file__).parent.parent / "fixtures" / "network"


def recorded() -> HostDocument:
    return HostDocument.from_json((NETWORK / "bridges-and-vms.json").read_text(encoding="ascii"))


def found(document: HostDocument) -> dict[str, Pool]:
    return {pool.name: pool for pool in pools.parse(document).facts.pools}


def document_of(row: dict[str, Any] | None, xml: str | None) -> HostDocument:
    sources = {}
    if row is not None:
        text = json.dumps([{"uuid": "p-1", "name": "one", **row}])
        sources["libvirt:pools"] = SourceOutput("libvirt:pools", SourceStatus.OK, text)
    if xml is not None:
        sources["libvirt:pool:p-1"] = SourceOutput("libvirt:pool:p-1", SourceStatus.OK, xml)
    return HostDocument("", sources)


def test_a_running_pool_has_its_sizes_and_its_path() -> None:
    images = found(recorded())["images"]
    assert (images.type, images.state, images.active, images.autostart) == ("dir", "running", True, True)
    assert images.target_path == "/var/lib/libvirt/images"
    assert images.capacity_bytes == (images.allocation_bytes or 0) + (images.available_bytes or 0)
    assert images.used_percent == round(
        100 * (images.allocation_bytes or 0) / (images.capacity_bytes or 1), 1
    )
    assert images.volumes == 2


def test_an_inactive_pool_has_its_source_and_no_sizes() -> None:
    by_name = found(recorded())
    group, share = by_name["vg-old"], by_name["nfs"]
    assert (group.state, group.active, group.capacity_bytes, group.used_percent) == (
        "inactive",
        False,
        None,
        None,
    )
    assert group.source is not None
    assert (group.source.devices, group.source.name, group.source.format) == (("/dev/sdz",), "vgold", "lvm2")
    assert share.source is not None
    assert (share.source.hosts, share.source.directory, share.source.format) == (
        ("nas.example.org",),
        "/export/vm",
        "nfs",
    )


def test_pools_of_other_kinds_are_counted_and_have_their_sources() -> None:
    document = host_document("large")
    facts = pools.parse(document).facts
    assert (facts.total, facts.active) == (4, 3)
    by_name = found(document)
    assert by_name["vms"].source is not None
    assert (by_name["vms"].type, by_name["vms"].source.hosts) == ("rbd", ("mon1:6789", "mon2:6789"))
    assert by_name["vms"].used_percent == 0.0
    assert by_name["tank"].used_percent == 37.5


def test_adapters_and_initiators_are_part_of_the_source() -> None:
    xml = (
        "<pool type='scsi'><source><adapter type='fc_host' wwnn='20' wwpn='10'/></source></pool>",
        "<pool type='iscsi-direct'><source><host name='fd00::9' port='3260'/><device path='iqn.t'/>"
        "<initiator><iqn name='iqn.2013-06.com:i'/></initiator></source></pool>",
    )
    hba = found(document_of({"state": 2}, xml[0]))["one"].source
    target = found(document_of({"state": 2}, xml[1]))["one"].source
    assert hba is not None
    assert hba.adapter == "10"
    assert target is not None
    assert (target.hosts, target.initiator) == (("[fd00::9]:3260",), "iqn.2013-06.com:i")


def test_libvirts_test_driver_is_read() -> None:
    connection = libvirt.open("test:///default")
    pool = connection.storagePoolLookupByName("default-pool")
    state, capacity, allocation, available = pool.info()
    row = {
        "state": state,
        "capacity_bytes": capacity,
        "allocation_bytes": allocation,
        "available_bytes": available,
    }
    one = found(document_of(row, pool.XMLDesc()))["one"]
    assert (one.state, one.type, one.target_path) == ("running", "dir", "/default-pool")
    assert (one.capacity_bytes, one.allocation_bytes) == (capacity, allocation)
    connection.close()


@pytest.mark.parametrize(
    ("number", "name"),
    [
        (0, "inactive"),
        (1, "building"),
        (2, "running"),
        (3, "degraded"),
        (4, "inaccessible"),
        (9, None),
        (None, None),
    ],
)
def test_states_are_those_of_libvirt(number: int | None, name: str | None) -> None:
    assert found(document_of({"state": number}, None))["one"].state == name
    if name is not None:
        assert getattr(libvirt, f"VIR_STORAGE_POOL_{name.upper()}") == number


def test_without_the_list_the_description_tells_sizes_but_not_the_state() -> None:
    sizes = "<capacity unit='bytes'>100</capacity><allocation>40</allocation>"
    xml = f"<pool type='dir'><name>a</name>{sizes}</pool>"
    parsed = pools.parse(document_of(None, xml))
    (pool,) = parsed.facts.pools
    assert (pool.name, pool.state, pool.capacity_bytes, pool.allocation_bytes) == ("a", None, 100, 40)
    assert parsed.facts.total is None
    idle = (
        "<pool type='dir'><name>a</name><capacity unit='bytes'>0</capacity><allocation>0</allocation></pool>"
    )
    (pool,) = pools.parse(document_of(None, idle)).facts.pools
    assert (pool.capacity_bytes, pool.allocation_bytes) == (None, None)


def test_what_cannot_be_read_is_a_problem_of_that_pool() -> None:
    parsed = pools.parse(document_of({"state": 2, "capacity_bytes": 10}, "<pool"))
    (pool,) = parsed.facts.pools
    assert (pool.capacity_bytes, pool.type, pool.source) == (10, None, None)
    assert [(problem.source, problem.code) for problem in parsed.problems] == [
        ("libvirt:pool:p-1", "unreadable")
    ]


_XML = [output.stdout for name, output in recorded().sources.items() if name.startswith("libvirt:pool:")]


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.sampled_from(_XML),
    st.integers(0, 500),
    st.integers(0, 60),
    st.text(st.characters(exclude_categories=()), max_size=40),
    st.one_of(
        st.text(),
        st.sampled_from(["[", "[[]]", '[{"uuid": 1}]', '[{"uuid": "p-1", "capacity_bytes": 1e400}]']),
    ),
)
def test_nothing_that_libvirt_says_breaks_the_section(
    xml: str, at: int, length: int, junk: str, rows: str
) -> None:
    place = at % (len(xml) + 1)
    document = document_of(None, xml[:place] + junk + xml[place + length :]).with_sources(
        {"libvirt:pools": SourceOutput("libvirt:pools", SourceStatus.OK, rows)}
    )
    json.dumps(to_plain(pools.parse(document).facts))


def pool_on(kind: str, fs_type: str | None, capacity: int, target: str = "/tank/images") -> HostDocument:
    xml = f"<pool type='{kind}'><name>one</name><target><path>{target}</path></target></pool>"
    made = document_of({"state": 2, "capacity_bytes": capacity, "allocation_bytes": 1}, xml)
    line = f"/proc/self/mountinfo:40 1 0:50 / /tank rw,relatime shared:1 - {fs_type} tank rw\n"
    files = {} if fs_type is None else {"use-files": SourceOutput("use-files", SourceStatus.OK, line)}
    listed = {"libvirt:pools": made.get("libvirt:pools"), "libvirt:pool:p-1": made.get("libvirt:pool:p-1")}
    return HostDocument("", {**listed, **files})


@pytest.mark.parametrize(
    ("kind", "fs_type", "told"),
    [
        ("dir", "ext4", True),
        ("dir", "xfs", True),
        ("dir", "zfs", False),
        ("dir", "btrfs", False),
        ("dir", "nfs4", False),
        ("netfs", "fuse.glusterfs", False),
        ("netfs", None, False),
        ("dir", None, False),
        ("logical", "zfs", True),
        ("zfs", "zfs", True),
    ],
)
def test_a_size_that_others_move_is_no_change_and_a_grown_pool_is(
    kind: str, fs_type: str | None, told: bool
) -> None:
    before = build(pool_on(kind, fs_type, 100 << 30), [pools.SECTION])
    after = build(pool_on(kind, fs_type, 120 << 30), [pools.SECTION])
    changed = [(change.path, change.after) for change in compare(before, after, [pools.SECTION])]
    assert changed == ([("pools.capacity_bytes", 120 << 30)] if told else [])
