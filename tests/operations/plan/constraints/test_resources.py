"""Huge pages, pinned CPUs, NUMA cells, TPM, secrets and security models: each fits, or is named."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest

from nodes.inventory.capabilities import Capabilities
from nodes.operations.plan.constraints import (
    cpu_pinning,
    huge_pages,
    not_verified,
    numa_binding,
    secrets,
    security_model,
    tpm,
)
from nodes.operations.plan.host_resources import HostResources
from tests.operations.plan.constraints.states import codes, found, source, target, vm

MIB = 1 << 20
ROOMY = HostResources(
    free_pages={(0, 2048): 256, (1, 2048): 256},
    default_page_kib=2048,
    cells_free_bytes={0: 4096 * MIB, 1: 100 * MIB},
    cpus_online=frozenset(range(8)),
    addresses=frozenset({ip_address("192.0.2.2")}),
    tools=frozenset({"swtpm", "swtpm_setup"}),
)
HUGE = "<memoryBacking><hugepages><page size='2' unit='MiB'/></hugepages></memoryBacking>"
ON_CELL_1 = "<numatune><memory mode='strict' nodeset='1'/></numatune>"
PINNED = "<cputune><vcpupin vcpu='0' cpuset='2,9'/></cputune>"
TPM = "<tpm model='tpm-crb'><backend type='emulator' version='2.0'>{}</backend></tpm>"


def there(resources: HostResources | None = ROOMY, **fields: object):
    return target(resources=resources, **fields)


def test_enough_huge_pages_over_all_cells_fit():
    assert found(huge_pages.check, vm(more=HUGE), source(), there()) == found(
        huge_pages.check, vm(), source(), there()
    )


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (HUGE + ON_CELL_1, ("has 256 free huge pages of 2 MiB on NUMA cell 1",)),
        (HUGE.replace("size='2'", "size='1024'"), ("0 free huge pages of 1024 MiB", "needs 1")),
        ("<memoryBacking><hugepages/></memoryBacking>" + ON_CELL_1, ("NUMA cell 1", "needs 512")),
    ],
)
def test_too_few_huge_pages_are_named_with_their_size_and_cell(more, words):
    big = vm(more=more.replace("nodeset='1'", "nodeset='1'"))
    tight = replace(ROOMY, free_pages={(0, 2048): 900, (1, 2048): 255})
    findings = found(huge_pages.check, big, source(), there(tight))
    assert codes(findings) == ["huge_pages_missing"]
    expected = [word.replace("256 free", "255 free").replace("needs 512", "needs 256") for word in words]
    assert all(word in findings.reasons[0].message for word in expected), findings.reasons[0].message


def test_a_cpu_that_is_offline_or_not_there_keeps_a_pinned_vm_away():
    findings = found(cpu_pinning.check, vm(more=PINNED), source(), there())
    assert codes(findings) == ["cpu_pinning"]
    assert "no CPU 9 online" in findings.reasons[0].message
    more_cpus = there(replace(ROOMY, cpus_online=frozenset(range(10))))
    assert codes(found(cpu_pinning.check, vm(more=PINNED), source(), more_cpus)) == []
    by_libvirt = there(None, capabilities=Capabilities(cpus=(0, 1, 2, 9)))
    assert codes(found(cpu_pinning.check, vm(more=PINNED), source(), by_libvirt)) == []


def test_memory_bound_to_a_cell_needs_that_cell_and_its_memory():
    short = found(numa_binding.check, vm(more=ON_CELL_1), source(), there())
    assert codes(short) == ["numa_binding"]
    assert "has 100 MiB free on NUMA cell 1" in short.reasons[0].message
    absent = found(numa_binding.check, vm(more=ON_CELL_1.replace("1'", "0-3'")), source(), there())
    assert "no NUMA cell 2-3" in absent.reasons[0].message
    assert codes(found(numa_binding.check, vm(more=ON_CELL_1.replace("1'", "0'")), source(), there())) == []
    assert codes(found(numa_binding.check, vm(more=HUGE + ON_CELL_1), source(), there())) == []


def test_an_emulated_tpm_needs_swtpm():
    assert codes(found(tpm.check, vm(TPM.format("")), source(), there())) == []
    without = there(replace(ROOMY, tools=frozenset({"swtpm"})))
    findings = found(tpm.check, vm(TPM.format("")), source(), without)
    assert codes(findings) == ["tpm_not_on_target"] and "swtpm_setup" in findings.reasons[0].message


SECRET = "6fd3f62d-9fe7-4a4e-a869-7acd6376d8ea"


@pytest.mark.parametrize(
    "devices",
    [
        TPM.format(f"<encryption secret='{SECRET.upper()}'/>"),
        f"<disk type='network'><auth username='a'><secret type='ceph' uuid='{SECRET}'/></auth></disk>",
        f"<disk type='block'><source dev='/dev/sda'><encryption format='luks'>"
        f"<secret type='passphrase' uuid='{SECRET}'/></encryption></source></disk>",
    ],
)
def test_a_secret_of_a_disk_or_tpm_has_to_be_on_the_target(devices):
    assert codes(found(secrets.check, vm(devices), source(), there(secrets=frozenset({SECRET})))) == []
    findings = found(secrets.check, vm(devices), source(), there(secrets=frozenset()))
    assert codes(findings) == ["secret_not_on_target"] and SECRET in findings.reasons[0].message
    unknown = found(secrets.check, vm(devices), source(), there())
    assert codes(unknown) == [] and len(unknown.notes) == 1


def test_a_vm_under_apparmor_needs_a_target_with_apparmor():
    labelled = vm(more="<seclabel type='dynamic' model='apparmor' relabel='yes'/><seclabel type='none'/>")
    with_it = there(capabilities=Capabilities(security_models=("apparmor", "dac")))
    without = there(capabilities=Capabilities(security_models=("selinux", "dac")))
    assert codes(found(security_model.check, labelled, source(), with_it)) == []
    assert codes(found(security_model.check, labelled, source(), without)) == ["security_model_differs"]


@pytest.mark.parametrize(
    ("check", "more"),
    [(huge_pages.check, HUGE), (cpu_pinning.check, PINNED), (numa_binding.check, ON_CELL_1)],
)
def test_what_cannot_be_read_of_a_target_is_said_and_keeps_no_vm_away(check, more):
    findings = found(check, vm(more=more), source(), there(None))
    assert codes(findings) == []
    assert all(note.startswith("Not verified: ") for note in findings.notes) and findings.notes


@pytest.mark.parametrize(
    ("devices", "more", "word"),
    [
        ("", "<launchSecurity type='sev'/>", "sev"),
        ("<memory model='nvdimm'/>", "", "NVDIMM"),
        ("<shmem name='s'/>", "", "ivshmem"),
        ("", "<cpu mode='host-passthrough'><feature policy='require' name='invtsc'/></cpu>", "invtsc"),
    ],
)
def test_what_is_not_checked_is_named(devices, more, word):
    findings = found(not_verified.check, vm(devices, more=more), source(), there())
    assert codes(findings) == [] and [word in note for note in findings.notes] == [True]


def test_hooks_of_either_host_are_named_and_a_plain_vm_has_no_notes():
    hooked = replace(ROOMY, hooks=("/etc/libvirt/hooks/qemu",))
    notes = found(not_verified.check, vm(), source(resources=hooked), there()).notes
    assert len(notes) == 1 and "/etc/libvirt/hooks/qemu on kvm-1" in notes[0]
    assert found(not_verified.check, vm(), source(resources=ROOMY), there()).notes == ()
