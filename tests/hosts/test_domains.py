"""What a host's VMs are said to do, and whether they do as they are told: real libvirt, real QEMU."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nodes.errors import HostTimeout, LibvirtUnavailable, MigrationFailed
from nodes.hosts import domains
from nodes.hosts.connection import connect
from nodes.hosts.hypervisor import Hypervisor
from nodes.hosts.libvirt.host_cpu import UNSEEN_BY_GUESTS, read_host_cpu
from nodes.hosts.libvirt_errors import LibvirtCallFailed
from nodes.hosts.local import LocalShell
from tests.hosts.migration_driver import Order, driven
from tests.lighthosts import AVAILABLE, LightHost, TinyVm, comes_true, guest_kernel, light_pair

pytestmark = pytest.mark.skipif(not AVAILABLE, reason="needs root, libvirtd and unshare")

Pair = tuple[LightHost, ...]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("domains")


@pytest.fixture(scope="module")
def pair(folder: Path) -> Iterator[Pair]:
    with light_pair(folder) as hosts:
        yield hosts


@pytest.fixture
def host(pair: Pair) -> Iterator[LightHost]:
    yield pair[0]
    for light in pair:
        light.remove_all_vms()


@pytest.fixture
def hypervisor(host: LightHost) -> Iterator[Hypervisor]:
    with connect(host.sshd.target()) as connection:
        yield connection.hypervisor()


def test_each_vm_is_told_with_what_it_does(host: LightHost, hypervisor: Hypervisor) -> None:
    running, off, paused, transient = (
        TinyVm(name) for name in ("a-runs", "b-off", "c-paused", "d-transient")
    )
    host.start_vm(running)
    host.define_vm(off)
    host.start_vm(paused)
    host.virsh("suspend", paused.name)
    host.start_vm(transient, transient=True)
    found = domains.list_domains(hypervisor)
    assert [(vm.name, vm.state, vm.reason, vm.active, vm.persistent) for vm in found] == [
        ("a-runs", "running", "booted", True, True),
        ("b-off", "shutoff", None, False, True),
        ("c-paused", "paused", "user", True, True),
        ("d-transient", "running", "booted", True, False),
    ]
    first = found[0]
    assert (first.uuid, first.memory_max_bytes, first.vcpus) == (running.uuid, 32 << 20, 1)
    assert (first.managed_save, first.job, first.block_jobs, first.snapshots) == (False, None, (), 0)
    assert first.xml is not None
    assert "<domain type='qemu' id=" in first.xml
    assert first.problems == ()
    assert domains.find_domain(hypervisor, running.uuid.upper()) == first
    nobody = "00000000-0000-4000-8000-000000000000"
    assert domains.find_domain(hypervisor, nobody) is None
    assert (domains.is_active(hypervisor, nobody), domains.live_description(hypervisor, nobody)) == (
        None,
        None,
    )
    assert domains.is_active(hypervisor, running.uuid) is True
    assert running.uuid in (domains.live_description(hypervisor, running.uuid) or "")


def test_a_vm_whose_qemu_hangs_costs_its_own_facts_alone(
    host: LightHost, hypervisor: Hypervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Enough for a QEMU that answers on a busy machine; both questions to the one that hangs end in time.
    monkeypatch.setattr(domains, "DETAIL_S", 8.0)
    hung, well = TinyVm("hung"), TinyVm("well")
    host.start_vm(hung)
    host.start_vm(well)
    (process,) = host.vm_processes(hung)
    os.kill(process, signal.SIGSTOP)
    # Somebody asks QEMU itself, gets no answer, and keeps others from asking libvirt for its job.
    waiting = subprocess.Popen(
        [*host.inside, "virsh", "-q", "domstats", hung.name], stdout=subprocess.DEVNULL
    )
    try:
        assert comes_true(lambda: "occupied" in host.virsh("domcontrol", hung.name))
        started = time.monotonic()
        found = {vm.name: vm for vm in domains.list_domains(hypervisor, timeout_s=90)}
        # Whatever waits for that QEMU is let go by libvirt after 30 s at the earliest.
        assert time.monotonic() - started < 25
        assert found["well"].problems == ()
        assert found["hung"].state == "running"
        assert found["hung"].memory_max_bytes == 32 << 20
        assert [problem.partition(":")[0] for problem in found["hung"].problems] == [
            "Its job",
            "Its block jobs",
        ]
        assert domains.room(hypervisor, timeout_s=25).vcpus_in_use == 2
        assert waiting.poll() is None
    finally:
        os.kill(process, signal.SIGCONT)
        assert waiting.wait(30) == 0


def test_jobs_on_disks_and_snapshots_and_saves_are_seen(
    host: LightHost, hypervisor: Hypervisor, folder: Path
) -> None:
    vm = TinyVm("disky", devices=_disk(folder / "disk.qcow2"))
    host.start_vm(vm)
    host.virsh(
        "blockcopy", vm.name, "vda", str(folder / "copy.qcow2"), "--transient-job", "--format", "qcow2"
    )
    assert _of(hypervisor, vm).block_jobs == ("vda",)
    host.virsh("blockjob", vm.name, "vda", "--abort")
    assert comes_true(lambda: _of(hypervisor, vm).block_jobs == ())
    host.virsh("managedsave", vm.name)
    saved = _of(hypervisor, vm)
    assert (saved.state, saved.reason, saved.managed_save) == ("shutoff", "saved", True)
    host.virsh("managedsave-remove", vm.name)
    host.virsh("snapshot-create-as", vm.name, "before")
    assert _of(hypervisor, vm).snapshots == 1


def test_both_halves_of_a_migration_show_their_jobs(
    pair: Pair, host: LightHost, hypervisor: Hypervisor, folder: Path
) -> None:
    vm = TinyVm("moving", guest_kernel("restless", folder))
    host.start_vm(vm)
    order = Order(host.sshd.target(), pair[1].sshd.target(), vm.uuid, bandwidth_mib_s=1)
    with driven(order), connect(pair[1].sshd.target()) as other:
        assert comes_true(lambda: _job(hypervisor, vm) == "migration_out")
        # The source has its job a moment before the target has heard of the VM.
        assert comes_true(lambda: _job(other.hypervisor(), vm) == "migration_in")
        assert _of(other.hypervisor(), vm).state == "paused"


def test_an_obedient_guest_shuts_down_when_asked_and_another_when_forced(
    host: LightHost, hypervisor: Hypervisor, folder: Path
) -> None:
    obedient, stubborn = TinyVm("obedient", guest_kernel("obedient", folder)), TinyVm("stubborn")
    for vm in (obedient, stubborn):
        host.start_vm(vm)
    # The button reaches only a guest that has come to listen to it.
    assert comes_true(lambda: _asked_and_off(hypervisor, obedient))
    domains.shut_down(hypervisor, stubborn.uuid)
    domains.shut_down(hypervisor, obedient.uuid)
    assert _of(hypervisor, stubborn).state == "running"
    for _ in range(2):
        domains.force_off(hypervisor, stubborn.uuid)
        assert _of(hypervisor, stubborn).state == "shutoff"
    for _ in range(2):
        domains.start(hypervisor, stubborn.uuid)
        assert _of(hypervisor, stubborn).state == "running"
    host.virsh("suspend", stubborn.name)
    for _ in range(2):
        domains.resume(hypervisor, stubborn.uuid)
        assert _of(hypervisor, stubborn).state == "running"


def test_an_unknown_vm_is_off_already_and_cannot_be_started(hypervisor: Hypervisor) -> None:
    nobody = "00000000-0000-4000-8000-000000000000"
    domains.shut_down(hypervisor, nobody)
    domains.force_off(hypervisor, nobody)
    domains.remove_remnant(hypervisor, nobody)
    with pytest.raises(LibvirtCallFailed):
        domains.start(hypervisor, nobody)


def test_only_what_a_migration_left_is_removed_as_a_remnant(host: LightHost, hypervisor: Hypervisor) -> None:
    running, paused, off = TinyVm("runs"), TinyVm("paused"), TinyVm("off")
    host.start_vm(running)
    host.start_vm(paused)
    host.virsh("suspend", paused.name)
    host.define_vm(off)
    for vm in (running, paused):
        with pytest.raises(MigrationFailed):
            domains.remove_remnant(hypervisor, vm.uuid)
    assert (host.vm_state(running), host.vm_state(paused)) == ("running", "paused")
    domains.remove_remnant(hypervisor, off.uuid)
    assert host.vm_state(off) is None


def test_a_host_is_asked_whether_it_can_take_a_vm(host: LightHost, hypervisor: Hypervisor) -> None:
    vm = TinyVm("taken")
    host.start_vm(vm)
    xml = _of(hypervisor, vm).xml
    assert xml is not None
    assert domains.compare_cpu(hypervisor, xml) == (True, "")
    assert domains.machine_supported(hypervisor, xml) == (True, "")
    fits, why = domains.machine_supported(hypervisor, xml.replace("machine='pc-", "machine='pc-of-1981-"))
    assert fits is False
    assert "pc-of-1981" in why
    fits, why = domains.machine_supported(hypervisor, xml.replace("qemu-system-x86_64<", "qemu-not-there<"))
    assert fits is False
    assert "qemu-not-there" in why
    room = domains.room(hypervisor)
    assert room.memory_free_bytes is not None
    assert room.memory_free_bytes > 1 << 28
    assert (room.cpus, room.vcpus_in_use) == (os.cpu_count(), 1)


@pytest.mark.parametrize(
    ("cpu", "fits"),
    [
        ("<cpu mode='custom' match='exact'><model>qemu64</model></cpu>", True),
        (
            "<cpu mode='custom' match='exact'><model>qemu64</model>"
            "<feature policy='require' name='avx512f'/></cpu>",
            False,
        ),
        ("<cpu mode='custom'><model>no-such-model</model></cpu>", None),
        ("", True),
    ],
)
def test_processors_are_compared_by_libvirt(hypervisor: Hypervisor, cpu: str, fits: bool | None) -> None:
    verdict, why = domains.compare_cpu(hypervisor, TinyVm("any", cpu=cpu).xml())
    assert verdict is fits, why
    assert bool(why) is (fits is not True)


def test_a_processor_without_a_model_is_nothing_that_libvirt_compares(hypervisor: Hypervisor) -> None:
    for mode in ("host-passthrough", "maximum"):
        xml = TinyVm("any", cpu=f"<cpu mode='{mode}'/>").xml()
        assert domains.compare_cpu(hypervisor, xml) == (None, "")


def test_the_hosts_processor_is_read_from_its_kernel_and_from_libvirt(
    host: LightHost, hypervisor: Hypervisor
) -> None:
    kernel = read_host_cpu(LocalShell(), hypervisor, timeout_s=10)
    told = read_host_cpu(None, hypervisor, timeout_s=10)
    assert kernel is not None and kernel.maker and kernel.of_kernel
    assert {"sse2", "fpu"} <= kernel.flags and not kernel.flags & UNSEEN_BY_GUESTS
    assert told is not None and not told.of_kernel and {"sse2", "fpu"} <= told.flags


def test_a_frozen_libvirt_is_an_error_of_the_list_in_bounded_time(
    host: LightHost, hypervisor: Hypervisor
) -> None:
    host.freeze_libvirtd()
    try:
        started = time.monotonic()
        with pytest.raises(HostTimeout):
            domains.list_domains(hypervisor, timeout_s=1.0)
        assert time.monotonic() - started < 3
        with pytest.raises(LibvirtUnavailable):
            domains.list_domains(hypervisor, timeout_s=1.0)
    finally:
        host.thaw_libvirtd()


def _disk(path: Path) -> str:
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path, "4M"], check=True)
    return (
        f"<disk type='file'><driver name='qemu' type='qcow2'/><source file='{path}'/>"
        "<target dev='vda' bus='virtio'/></disk>"
    )


def _asked_and_off(hypervisor: Hypervisor, vm: TinyVm) -> bool:
    domains.shut_down(hypervisor, vm.uuid)
    time.sleep(0.1)
    return _of(hypervisor, vm).state == "shutoff"


def _of(hypervisor: Hypervisor, vm: TinyVm) -> domains.DomainFacts:
    facts = domains.find_domain(hypervisor, vm.uuid)
    assert facts is not None
    return facts


def _job(hypervisor: Hypervisor, vm: TinyVm) -> str | None:
    facts = domains.find_domain(hypervisor, vm.uuid)
    return facts.job if facts is not None else None
