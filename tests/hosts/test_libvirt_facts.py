"""libvirt's part of the document: what each source holds, and what is said of what does not come."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import libvirt
import pytest
from lxml import etree

from nodes.errors import LibvirtUnavailable
from nodes.hosts import libvirt_facts
from nodes.hosts.connection import HostConnection, connect
from nodes.hosts.libvirt_facts import LastGood
from nodes.hosts.libvirt_objects import MAX_XML, Gathered
from nodes.hosts.target import HostTarget
from nodes.inventory import vms
from nodes.inventory.document import HostDocument, SourceStatus
from tests.libvirtd import AVAILABLE, LibvirtHost
from tests.network import ANYWHERE

NAMES = [
    f"libvirt:{name}"
    for name in (
        "versions",
        "capabilities",
        "domain-capabilities",
        "sysinfo",
        "domains",
        "domain",
        "pools",
        "pool",
        "networks",
        "network",
    )
]
needs_libvirtd = pytest.mark.skipif(not AVAILABLE, reason="needs root, libvirtd and unshare")

DOMAIN = """<domain type='qemu'><name>{name}</name><memory unit='MiB'>32</memory><vcpu>2</vcpu>
<os><type arch='x86_64' machine='pc'>hvm</type></os></domain>"""


@pytest.fixture
def driver() -> Iterator[HostConnection]:
    with connect(HostTarget("", "test", libvirt_uri="test:///default", rules=ANYWHERE)) as connection:
        yield connection


def document(connection: HostConnection, **options: object) -> HostDocument:
    outputs = libvirt_facts.collect(connection.hypervisor(), NAMES, **options)  # type: ignore[arg-type]
    return HostDocument("2026-01-01T00:00:00Z", outputs)


def test_everything_of_the_test_driver_is_there(driver: HostConnection) -> None:
    found = document(driver)
    versions = json.loads(found.text("libvirt:versions"))
    assert versions["type"] == "TEST"
    assert versions["libvirt"] == libvirt.getVersion()
    assert etree.fromstring(found.text("libvirt:capabilities")).tag == "capabilities"
    (domain,) = json.loads(found.text("libvirt:domains"))
    assert (domain["name"], domain["state"], domain["id"], domain["persistent"]) == ("test", 1, 1, True)
    (vm,) = vms.parse(found).facts.vms
    assert (vm.vcpus_current, vm.memory_max_bytes) == (2, 8388608 << 10)
    ((uuid, xml),) = found.items("libvirt:domain")
    assert uuid == domain["uuid"]
    assert etree.fromstring(xml.stdout).findtext("name") == "test"
    (pool,) = json.loads(found.text("libvirt:pools"))
    assert (pool["name"], pool["state"]) == ("default-pool", libvirt.VIR_STORAGE_POOL_RUNNING)
    assert pool["capacity_bytes"] == 107374182400
    (network,) = json.loads(found.text("libvirt:networks"))
    assert (network["name"], network["active"], network["bridge"]) == ("default", True, "virbr0")
    assert etree.fromstring(found.text("libvirt:sysinfo")).get("type") == "smbios"
    # What the driver does not know is missing, says so, and nothing else suffers by it.
    assert found.get("libvirt:domain-capabilities").status is SourceStatus.MISSING
    assert "not supported" in found.get("libvirt:domain-capabilities").stderr


def test_sizes_of_a_pool_that_is_not_started_are_unknown_not_zero(driver: HostConnection) -> None:
    driver.hypervisor().run(lambda c: c.storagePoolLookupByName("default-pool").destroy(), what="Stopping")
    (pool,) = json.loads(document(driver).text("libvirt:pools"))
    assert pool["state"] == libvirt.VIR_STORAGE_POOL_INACTIVE
    assert [pool[key] for key in ("capacity_bytes", "allocation_bytes", "available_bytes", "volumes")] == [
        None
    ] * 4


def test_a_real_daemon_tells_running_and_stopped_domains_apart(libvirt_host: LibvirtHost) -> None:
    with connect(libvirt_host.sshd.target()) as connection:
        hypervisor = connection.hypervisor()

        def define(c: libvirt.virConnect) -> None:
            c.defineXML(DOMAIN.format(name="off")).setAutostart(True)
            c.createXML(DOMAIN.format(name="passing"))
            c.networkDefineXML("<network><name>inner</name><bridge name='virbr77'/></network>")

        hypervisor.run(define, what="Defining", timeout_s=60)
        try:
            found = document(connection)
        finally:

            def remove(c: libvirt.virConnect) -> None:
                c.lookupByName("passing").destroy()
                c.lookupByName("off").undefine()
                c.networkLookupByName("inner").undefine()

            hypervisor.run(remove, what="Removing", timeout_s=60)
    domains = {domain["name"]: domain for domain in json.loads(found.text("libvirt:domains"))}
    off, passing = domains["off"], domains["passing"]
    assert (off["state"], off["id"], off["autostart"], off["persistent"]) == (5, None, True, True)
    sizes = {vm.name: (vm.vcpus_current, vm.memory_max_bytes) for vm in vms.parse(found).facts.vms}
    assert sizes["off"] == sizes["passing"] == (2, 32 << 20)
    assert (passing["state"], passing["autostart"], passing["persistent"]) == (1, False, False)
    assert passing["cpu_time_ns"] > 0
    current = {vm.name: vm.memory_current_bytes for vm in vms.parse(found).facts.vms}
    assert current["passing"] == 32 << 20
    assert off["managed_save"] is False
    assert set(dict(found.items("libvirt:domain"))) == {off["uuid"], passing["uuid"]}
    assert json.loads(found.text("libvirt:networks"))[0] | {"uuid": ""} == {
        "uuid": "",
        "name": "inner",
        "active": False,
        "autostart": False,
        "persistent": True,
        "bridge": "virbr77",
    }
    assert json.loads(found.text("libvirt:versions"))["uri"] == "qemu:///system"
    assert all(found.get(name).status is SourceStatus.OK for name in NAMES[:3])


def test_only_what_is_asked_for_is_read(driver: HostConnection) -> None:
    outputs = libvirt_facts.collect(driver.hypervisor(), ["libvirt:versions"])
    assert set(outputs) == {"libvirt:versions"}


def test_libvirt_that_cannot_be_opened_is_a_status_of_each_source() -> None:
    outputs = libvirt_facts.unavailable(NAMES, LibvirtUnavailable("It is down.", remedy="Start it."))
    assert all(output.status is SourceStatus.FAILED for output in outputs.values())
    assert outputs["libvirt:domains"].stderr == "It is down. Start it."
    assert "libvirt:domain" not in outputs


@needs_libvirtd
def test_slow_capabilities_are_bounded_kept_and_explained(tmp_path: Path) -> None:
    """A frozen daemon stands for one that starts QEMU anew for each question."""
    with LibvirtHost(tmp_path / "h") as host, connect(host.sshd.target()) as connection:
        memory = LastGood()
        names = ["libvirt:capabilities", "libvirt:versions"]
        connection.hypervisor().run(lambda c: c.getCapabilities(), what="Warming up", timeout_s=60)
        good = libvirt_facts.collect(connection.hypervisor(), names, last_good=memory)
        assert not good["libvirt:capabilities"].cached

        hypervisor = connection.hypervisor()
        host.freeze_libvirtd()
        memory.slow = True
        started = time.monotonic()
        bounded = libvirt_facts.collect(hypervisor, ["libvirt:capabilities"], last_good=memory, timeout_s=10)[
            "libvirt:capabilities"
        ]
        assert time.monotonic() - started < 3
        assert bounded.cached
        assert bounded.usable
        assert bounded.stdout == good["libvirt:capabilities"].stdout
        assert "/dev/kvm" in bounded.stderr

        first = LastGood(slow=True)
        unknown = libvirt_facts.collect(hypervisor, ["libvirt:capabilities"], last_good=first, timeout_s=10)[
            "libvirt:capabilities"
        ]
        assert (unknown.status, unknown.stdout) == (SourceStatus.TIMEOUT, "")
        assert "chmod 0660 /dev/kvm" in unknown.stderr
        assert len(first.pending) == 1, "the question goes on without us"
        host.thaw_libvirtd()
        deadline = time.monotonic() + 10
        while first.pending and time.monotonic() < deadline:
            time.sleep(0.05)
        assert first.texts["libvirt:capabilities"] == good["libvirt:capabilities"].stdout
        assert hypervisor.alive, "a slow answer is no reason to drop the connection"


@needs_libvirtd
def test_what_does_not_come_before_the_deadline_is_a_timeout_of_that_source(tmp_path: Path) -> None:
    with LibvirtHost(tmp_path / "h") as host, connect(host.sshd.target()) as connection:
        hypervisor = connection.hypervisor()
        host.freeze_libvirtd()
        started = time.monotonic()
        outputs = libvirt_facts.collect(hypervisor, NAMES, timeout_s=1.0)
        assert time.monotonic() - started < 2.5
        host.thaw_libvirtd()
    assert {outputs[name].status for name in NAMES if name in outputs} == {SourceStatus.TIMEOUT}
    assert set(outputs) == {name for name in NAMES if not name.endswith(("domain", "pool", "network"))}


def test_one_long_description_is_cut_and_the_others_stay_whole() -> None:
    gathered = Gathered()
    gathered.put("libvirt:domain:a", "x" * (MAX_XML + 1))
    gathered.put("libvirt:domain:b", "short")
    outputs = gathered.taken()
    assert outputs["libvirt:domain:a"].status is SourceStatus.TRUNCATED
    assert len(outputs["libvirt:domain:a"].stdout) == MAX_XML
    assert outputs["libvirt:domain:b"].status is SourceStatus.OK
