"""The section ``vms``: real descriptions of libvirt 9.0, its test driver, thirty VMs, and what is broken."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import libvirt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nodes.inventory import vms
from nodes.inventory.build import build
from nodes.inventory.changes import compare
from nodes.inventory.document import HostDocument, SourceOutput, SourceStatus
from nodes.inventory.domain_states import REASONS, STATES, reason_name, state_name
from nodes.inventory.plain import to_plain
from nodes.inventory.vms import Vm
from tests.inventory.documents import host_document

NETWORK = Path(__file__).parent.parent / "fixtures" / "network"


def recorded() -> HostDocument:
    return HostDocument.from_json((NETWORK / "bridges-and-vms.json").read_text(encoding="ascii"))


def large(**changed: SourceOutput) -> HostDocument:
    """The large server; ``libvirt__domains=…`` is another output of that source."""
    document = host_document("large")
    outputs = {name.replace("__", ":"): output for name, output in changed.items()}
    return document.with_sources(outputs)


def found(document: HostDocument) -> dict[str, Vm]:
    return {vm.name: vm for vm in vms.parse(document).facts.vms}


def document_of(row: dict[str, Any] | None, xml: str | None) -> HostDocument:
    sources = {}
    if row is not None:
        text = json.dumps([{"uuid": "u-1", "name": "one", **row}])
        sources["libvirt:domains"] = SourceOutput("libvirt:domains", SourceStatus.OK, text)
    if xml is not None:
        sources["libvirt:domain:u-1"] = SourceOutput("libvirt:domain:u-1", SourceStatus.OK, xml)
    return HostDocument("", sources)


# ---------------------------------------------------------------------------------------------- real texts


def test_a_running_vm_has_its_state_its_size_and_its_consoles() -> None:
    web = found(recorded())["web"]
    assert (web.state, web.reason, web.active, web.id, web.type) == ("running", "booted", True, 1, "qemu")
    assert (web.vcpus_current, web.vcpus_max) == (1, 2)
    assert web.memory_current_bytes == web.memory_max_bytes == 64 << 20
    assert web.boot is not None
    assert (web.boot.arch, web.boot.machine, web.boot.firmware) == ("x86_64", "pc-q35-7.2", "bios")
    (console,) = web.graphics
    assert (console.type, console.port, console.listen, console.automatic_port) == (
        "vnc",
        5900,
        "127.0.0.1",
        True,
    )
    assert (web.autostart, web.persistent, web.managed_save) == (False, True, False)


def test_disks_have_their_source_by_its_kind() -> None:
    disks = {disk.target: disk for vm in found(recorded()).values() for disk in vm.disks if vm.name == "db"}
    assert {target: (disk.source_kind, disk.source) for target, disk in disks.items()} == {
        "vda": ("block", "/dev/vg0/db"),
        "vdb": ("volume", "images/base.qcow2"),
        "vdc": ("network", "rbd:vms/db"),
        "vde": ("nvme", "0000:5e:00.0"),
    }
    assert (disks["vdb"].readonly, disks["vdb"].pool, disks["vdb"].volume) == (True, "images", "base.qcow2")
    assert (disks["vdc"].shareable, disks["vdc"].serial) == (True, "S-17")
    assert disks["vdc"].hosts == ("mon1:6789", "[fd00::3]:6789")


def test_an_overlay_has_what_is_below_it_and_an_empty_drive_nothing() -> None:
    overlay, drive = found(recorded())["web"].disks
    assert overlay.source == "/var/lib/libvirt/images/web.qcow2"
    assert overlay.backing == ("/var/lib/libvirt/images/base.qcow2",)
    assert (overlay.format, overlay.cache) == ("qcow2", "none")
    assert (drive.device, drive.source_kind, drive.source, drive.readonly) == ("cdrom", None, None, True)


def test_host_devices_of_every_kind_have_their_address() -> None:
    devices = found(recorded())["db"].host_devices
    assert [(device.type, device.address, device.through) for device in devices] == [
        ("pci", "0000:86:00.0", "hostdev"),
        ("usb", None, "hostdev"),
        ("usb", "1:4", "hostdev"),
        ("mdev", "c2177883-f1bb-47f0-914d-32a22e3a8804", "hostdev"),
        ("scsi", "0:0:2:5", "hostdev"),
        ("pci", "0000:3b:02.1", "interface"),
        ("pci", "0000:5e:00.0", "disk"),
    ]
    assert (devices[1].vendor_id, devices[1].product_id) == ("0529", "0001")
    assert {device.managed for device in devices if device.type == "pci"} == {True}


def test_pinning_and_numa_are_what_was_configured() -> None:
    database = found(recorded())["db"]
    pinning = database.pinning
    assert pinning is not None
    assert [(pin.vcpu, pin.cpus) for pin in pinning.vcpus] == [(0, "0"), (1, "1")]
    assert (pinning.cpus, pinning.emulator_cpus, pinning.pinned) == ("0-1", "0-1", True)
    assert (pinning.memory_mode, pinning.memory_host_cells) == ("strict", "0")
    assert [(cell.cell, cell.mode, cell.host_cells) for cell in pinning.cells] == [(0, "preferred", "0")]
    assert [(cell.id, cell.cpus, cell.memory_bytes) for cell in database.guest_cells] == [(0, "0-3", 8 << 30)]
    assert database.huge_pages is True
    assert database.cpu is not None
    assert (database.cpu.model, database.cpu.cores, database.cpu.threads) == ("Skylake-Server", 2, 2)


def test_a_vm_that_is_off_has_its_firmware_and_its_cards() -> None:
    database = found(recorded())["db"]
    assert (database.state, database.active, database.id, database.title) == (
        "shutoff",
        False,
        None,
        "Ledger",
    )
    assert (database.memory_current_bytes, database.memory_max_bytes) == (4 << 30, 8 << 30)
    assert database.boot is not None
    assert (database.boot.firmware, database.boot.secure_boot) == ("uefi", True)
    function, card = database.interfaces
    assert (function.type, function.pci_address, function.vlan_tags) == ("hostdev", "0000:3b:02.1", (42,))
    assert (card.network, card.link_up, card.mtu, card.target_device) == ("inner", False, 9000, None)
    assert database.tpm == "passthrough"


def test_a_paused_vm_is_active() -> None:
    asleep = found(recorded())["asleep"]
    assert (asleep.state, asleep.reason, asleep.active) == ("paused", "user", True)


def test_libvirts_test_driver_is_read() -> None:
    connection = libvirt.open("test:///default")
    domain = connection.lookupByName("test")
    state, reason = domain.state()
    row = {"state": state, "reason": reason, "id": domain.ID(), "memory_kib": domain.info()[2]}
    (vm,) = vms.parse(document_of(row, domain.XMLDesc())).facts.vms
    assert (vm.name, vm.state, vm.type, vm.vcpus_max) == ("one", "running", "test", 2)
    assert (vm.memory_max_bytes, vm.memory_current_bytes) == (8 << 30, 2 << 30)
    connection.close()


# ------------------------------------------------------------------------------------------------ thirty VMs


def test_thirty_vms_are_counted_and_ordered_by_name() -> None:
    facts = vms.parse(large()).facts
    assert (facts.total, facts.active) == (30, 26)
    names = [vm.name for vm in facts.vms]
    assert names == sorted(names)
    by_name = {vm.name: vm for vm in facts.vms}
    assert (by_name["vm19"].state, by_name["vm19"].active) == ("paused", True)
    assert (by_name["vm25"].state, by_name["vm25"].reason, by_name["vm25"].active) == (
        "crashed",
        "panicked",
        False,
    )
    assert (by_name["vm18"].persistent, by_name["vm23"].managed_save) == (False, True)
    assert (by_name["vm03"].vcpus_current, by_name["vm03"].vcpus_max) == (4, 8)
    assert (by_name["vm21"].interfaces[0].virtual_port, by_name["vm21"].interfaces[0].vlan_tags) == (
        "openvswitch",
        (20,),
    )


def test_devices_of_the_host_are_under_those_that_hold_them() -> None:
    by_name = found(large())
    held = {
        name: [(d.type, d.address) for d in vm.host_devices]
        for name, vm in by_name.items()
        if vm.host_devices
    }
    assert held == {
        "render": [("pci", "0000:66:00.0"), ("usb", "1:5")],
        "router": [("pci", "0000:31:01.0")],
        "desktop": [("mdev", "4b20d080-1b54-4048-85b3-a6a62d165c01")],
        "spare": [("pci", "0000:98:01.0"), ("usb", None)],
    }
    assert by_name["spare"].host_devices[1].vendor_id == "0403"


def test_the_size_of_a_block_device_is_the_hosts() -> None:
    files = (
        "/sys/class/block/dm-3/size:2097152\n/sys/class/block/dm-3/dm/name:vg0-db\n"
        "/sys/class/block/sda/size:4096\n/sys/class/block/cciss!c0d0/size:8\n"
        "/sys/class/block/dm-4/size:16\n/sys/class/block/dm-4/dm/name:my--group-the--volume\n"
    )
    disks = "".join(
        f"<disk type='block'><source dev='{path}'/><target dev='vd{letter}'/></disk>"
        for letter, path in zip(
            "abcdef",
            (
                "/dev/vg0/db",
                "/dev/mapper/vg0-db",
                "/dev/sda",
                "/dev/cciss/c0d0",
                "/dev/my-group/the-volume",
                "/dev/x",
            ),
            strict=True,
        )
    )
    document = document_of({}, f"<domain><name>one</name><devices>{disks}</devices></domain>")
    document = document.with_sources({"disk-files": SourceOutput("disk-files", SourceStatus.OK, files)})
    (vm,) = vms.parse(document).facts.vms
    assert [disk.capacity_bytes for disk in vm.disks] == [1 << 30, 1 << 30, 2 << 20, 4096, 8192, None]


# -------------------------------------------------------------------------------------------- what is lacking


def test_without_the_list_the_descriptions_still_show_what_runs() -> None:
    parsed = vms.parse(large(libvirt__domains=SourceOutput("libvirt:domains", SourceStatus.TIMEOUT)))
    assert (parsed.facts.total, parsed.facts.active) == (None, None)
    by_name = {vm.name: vm for vm in parsed.facts.vms}
    assert (by_name["vm01"].active, by_name["vm01"].state, by_name["vm01"].autostart) == (True, None, None)
    assert (by_name["vm25"].active, by_name["vm25"].memory_max_bytes) == (False, 16 << 30)


def test_a_vm_whose_description_is_missing_or_broken_is_shown_by_the_list() -> None:
    for xml in (None, "<domain><name>one", "<network/>", "Fehler"):
        parsed = vms.parse(document_of({"state": 1, "id": 4, "vcpus": 2}, xml))
        (vm,) = parsed.facts.vms
        assert (vm.name, vm.state, vm.vcpus_current, vm.described) == ("one", "running", 2, False)
        assert (vm.vcpus_max, vm.boot, vm.huge_pages) == (None, None, None)
        assert [problem.code for problem in parsed.problems] == (["unreadable"] if xml else [])


def test_a_list_that_cannot_be_read_is_a_problem_and_an_empty_one_is_none() -> None:
    broken = HostDocument("", {"libvirt:domains": SourceOutput("libvirt:domains", SourceStatus.OK, "error:")})
    parsed = vms.parse(broken)
    assert (parsed.facts.total, [problem.code for problem in parsed.problems]) == (None, ["unreadable"])
    empty = HostDocument("", {"libvirt:domains": SourceOutput("libvirt:domains", SourceStatus.OK, "[]")})
    assert (vms.parse(empty).facts.total, vms.parse(empty).problems) == (0, ())


@pytest.mark.parametrize(
    ("unit", "amount", "size"),
    [
        ("KiB", 4, 4096),
        ("k", 4, 4096),
        ("KB", 4, 4000),
        ("MiB", 1, 1 << 20),
        ("G", 2, 2 << 30),
        ("b", 7, 7),
        ("bytes", 7, 7),
        ("parsecs", 7, None),
        ("MiB", -1, None),
    ],
)
def test_memory_is_in_bytes_whatever_its_unit(unit: str, amount: int, size: int | None) -> None:
    (vm,) = vms.parse(
        document_of(None, f"<domain><memory unit='{unit}'>{amount}</memory></domain>")
    ).facts.vms
    assert vm.memory_max_bytes == size


@pytest.mark.parametrize(
    ("system", "firmware"),
    [
        ("<type arch='x86_64'>hvm</type>", "bios"),
        ("<type arch='aarch64'>hvm</type>", None),
        ("<type arch='aarch64'>hvm</type><loader type='pflash'>/AAVMF.fd</loader>", "uefi"),
        ("<type arch='x86_64'>hvm</type><loader type='rom'>/bios.bin</loader>", "bios"),
    ],
)
def test_firmware_is_told_from_the_loader(system: str, firmware: str | None) -> None:
    (vm,) = vms.parse(document_of(None, f"<domain><os>{system}</os></domain>")).facts.vms
    assert vm.boot is not None
    assert vm.boot.firmware == firmware


def test_a_password_of_a_console_is_no_fact() -> None:
    xml = "<domain><devices><graphics type='vnc' port='-1' passwd='hunter2'/></devices></domain>"
    parsed = vms.parse(document_of(None, xml))
    assert parsed.facts.vms[0].graphics[0].port is None
    assert "hunter2" not in json.dumps(to_plain(parsed.facts))


# ----------------------------------------------------------------------------------------------------- names


def test_states_are_those_of_libvirt() -> None:
    prefix = "VIR_DOMAIN_"
    for number, name in STATES.items():
        assert getattr(libvirt, prefix + name.upper()) == number
    for state, names in REASONS.items():
        for number, reason in enumerate(names):
            constant = f"{prefix}{state.upper()}_{reason.upper()}"
            if constant != "VIR_DOMAIN_PAUSED_API_ERROR":  # newer than Debian 12's libvirt
                assert getattr(libvirt, constant) == number, constant
    assert len(STATES) == libvirt.VIR_DOMAIN_PMSUSPENDED + 1
    assert REASONS["shutoff"][libvirt.VIR_DOMAIN_SHUTOFF_FROM_SNAPSHOT] == "from_snapshot"
    assert REASONS["paused"][libvirt.VIR_DOMAIN_PAUSED_POSTCOPY_FAILED] == "postcopy_failed"


def test_a_newer_libvirts_states_are_unknown_and_no_reason_is_none() -> None:
    assert (state_name(99), state_name(None), reason_name("running", 99)) == (None, None, None)
    assert reason_name("running", 0) is None


# --------------------------------------------------------------------------------------------------- changes


def test_what_a_vm_uses_by_itself_is_no_change_and_what_is_configured_is() -> None:
    rows = json.loads(large().text("libvirt:domains"))
    used, configured = (next(row for row in rows if row["name"] == name) for name in ("vm01", "vm02"))
    used |= {"cpu_time_ns": 9, "memory_kib": 5, "reason": 5}
    configured |= {"autostart": False}
    after = large(libvirt__domains=SourceOutput("libvirt:domains", SourceStatus.OK, json.dumps(rows)))
    inventories = [build(document, [vms.SECTION]) for document in (large(), after)]
    changes = compare(*inventories, [vms.SECTION])
    assert [(change.path, change.label, change.before, change.after) for change in changes] == [
        ("vms.autostart", "vm02", True, False)
    ]


# -------------------------------------------------------------------------------------------- whatever comes

_XML = [output.stdout for name, output in recorded().sources.items() if name.startswith("libvirt:domain:")]
_XML += [output.stdout for _, output in large().items("libvirt:domain")][:8]


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.sampled_from(_XML),
    st.integers(0, 9000),
    st.integers(0, 60),
    st.text(st.characters(exclude_categories=()), max_size=40),
    st.one_of(
        st.text(), st.sampled_from(["[", "[[]]", '[{"uuid": 1}]', '[{"uuid": "u-1", "state": 1e400}]', "{}"])
    ),
)
def test_nothing_that_libvirt_says_breaks_the_section(
    xml: str, at: int, length: int, junk: str, rows: str
) -> None:
    place = at % (len(xml) + 1)
    document = document_of(None, xml[:place] + junk + xml[place + length :]).with_sources(
        {"libvirt:domains": SourceOutput("libvirt:domains", SourceStatus.OK, rows)}
    )
    json.dumps(to_plain(vms.parse(document).facts))


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_no_value_in_a_description_breaks_the_section(data: st.DataObject) -> None:
    """Well-formed, but every attribute and text may be anything."""
    xml = data.draw(st.sampled_from(_XML))
    odd = st.sampled_from(["", "-1", "0x", "99999999999999999999999", "ü", "1.5", "0xffffffffff", "yes"])
    pieces = xml.split("'")
    for _ in range(3):
        index = data.draw(st.integers(0, len(pieces) // 2 - 1)) * 2 + 1
        pieces[index] = data.draw(odd)
    parsed = vms.parse(document_of(None, "'".join(pieces)))
    json.dumps(to_plain(parsed.facts))
    assert len(parsed.facts.vms) == 1
