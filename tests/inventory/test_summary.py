"""The section ``summary`` on whole hosts, and on the kernel's formats one by one."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodes.inventory.build import build
from nodes.inventory.capabilities import parse_capabilities
from nodes.inventory.cpuinfo import CoreKind, parse_cpuinfo
from nodes.inventory.document import HostDocument, SourceOutput, SourceStatus
from nodes.inventory.features import FeatureState
from nodes.inventory.memory import HugePages
from nodes.inventory.plain import to_plain
from nodes.inventory.procfiles import Files
from nodes.inventory.script import PROBE_SOURCE
from nodes.inventory.summary import SECTION, SummaryFacts, parse
from tests.inventory.documents import document_of, host_document

GIB = 1 << 30


def facts_of(name: str) -> SummaryFacts:
    return parse(host_document(name)).facts


def feature(facts: SummaryFacts, code: str) -> tuple[str, FeatureState, bool]:
    """Name, state, and whether a remedy is told."""
    [found] = [item for item in facts.virtualization.features if item.code == code]
    return found.name, found.state, found.remedy is not None


class TestTwoSockets:
    facts = facts_of("two-socket")

    def test_processors_are_counted_as_lscpu_counts_them(self) -> None:
        cpu = self.facts.cpu
        assert (cpu.sockets, cpu.cores, cpu.threads, cpu.threads_per_core) == (2, 64, 127, 2)
        assert (cpu.vendor, cpu.model) == ("Intel", "Intel(R) Xeon(R) Gold 6430")
        assert (cpu.architecture, cpu.family, cpu.model_number, cpu.stepping) == ("x86_64", 6, 143, 8)
        assert (cpu.microcode, cpu.smt, cpu.boost) == ("0x2b000603", "on", True)

    def test_offline_and_isolated_cpus_are_listed(self) -> None:
        cpu = self.facts.cpu
        assert (cpu.offline, cpu.isolated, cpu.tickless) == ((127,), (4, 5, 6, 7), (4, 5, 6, 7))
        assert cpu.online == tuple(range(127))

    def test_frequencies(self) -> None:
        cpu = self.facts.cpu
        assert (cpu.min_mhz, cpu.base_mhz, cpu.max_mhz) == (800.0, 2100.0, 3400.0)
        assert (cpu.slowest_mhz, cpu.fastest_mhz, cpu.current_mhz) == (800.0, 3400.0, 881.9)

    def test_caches_by_level_with_totals(self) -> None:
        caches = [(c.level, c.kind, c.size_bytes >> 10, c.instances) for c in self.facts.cpu.caches]
        assert caches == [
            (1, "data", 48, 64),
            (1, "instruction", 32, 64),
            (2, "unified", 2048, 64),
            (3, "unified", 61440, 2),
        ]
        assert self.facts.cpu.caches[3].total_bytes == 120 << 20
        assert self.facts.cpu.caches[3].cpus_per_instance == 64

    def test_vulnerabilities_by_state(self) -> None:
        states = {item.name: item.state for item in self.facts.cpu.vulnerabilities}
        assert states == {
            "l1tf": "not_affected",
            "mmio_stale_data": "unknown",
            "spectre_v2": "mitigated",
            "retbleed": "vulnerable",
        }

    def test_memory_and_swap(self) -> None:
        memory = self.facts.memory
        assert (memory.total_bytes, memory.available_bytes) == (512 * GIB, 128 * GIB)
        assert (memory.used_bytes, memory.used_percent) == (384 * GIB, 75.0)
        assert (memory.swap.total_bytes, memory.swap.used_percent, memory.swap.devices) == (0, None, ())

    def test_numa_cells_with_the_full_matrix_of_distances(self) -> None:
        numa = self.facts.numa
        assert numa.distances == ((10, 12, 21, 21), (12, 10, 21, 21), (21, 21, 10, 12), (21, 21, 12, 10))
        assert [cell.cpu_list for cell in numa.cells] == [
            "0-15,64-79",
            "16-31,80-95",
            "32-47,96-111",
            "48-63,112-126",
        ]
        assert {(c.memory_total_bytes, c.memory_free_bytes) for c in numa.cells} == {(128 * GIB, 25 * GIB)}

    def test_huge_pages_of_every_size_overall_and_by_cell(self) -> None:
        pages = self.facts.memory.huge_pages
        assert (pages.supported, pages.enabled, pages.default_size_bytes) == (True, True, 2 << 20)
        assert pages.sizes == (
            HugePages(2 << 20, 4096, 3000, 1096, 100, 0, 0),
            HugePages(1 << 30, 256, 200, 56, 8, 2, 0),
        )
        assert self.facts.numa.cells[3].huge_pages == (
            HugePages(2 << 20, 1024, 750, 274, None, 0),
            HugePages(1 << 30, 64, 50, 14, None, 0),
        )
        assert pages.transparent == "always"

    def test_virtualization_features(self) -> None:
        iommu = self.facts.virtualization.iommu
        assert (iommu.kind, iommu.on, iommu.passthrough, iommu.groups) == ("VT-d", True, True, 112)
        assert len(iommu.units) == 8
        assert feature(self.facts, "cpu") == ("VT-x", FeatureState.ON, False)
        assert feature(self.facts, "second_level_paging") == ("EPT", FeatureState.ON, False)
        assert feature(self.facts, "nested") == ("Nested virtualization", FeatureState.ON, False)
        assert feature(self.facts, "tdx") == ("TDX", FeatureState.UNAVAILABLE, False)
        assert self.facts.virtualization.host_is_vm is False

    def test_machine_and_firmware(self) -> None:
        machine, firmware = self.facts.machine, self.facts.firmware
        assert (machine.vendor, machine.product, machine.serial) == (
            "Example Systems",
            "ES-2264",
            "ES2264-0042",
        )
        assert machine.chassis == "Rack-mount chassis"
        assert (firmware.kind, firmware.secure_boot, firmware.release) == ("uefi", False, "5.32")

    def test_the_command_line_shows_no_password(self) -> None:
        line = self.facts.system.kernel.command_line or ""
        assert "intel_iommu=on" in line
        assert "hunter" not in line

    def test_a_clock_that_is_off_is_a_problem(self) -> None:
        parsed = parse(host_document("two-socket"))
        assert parsed.facts.system.clock.skew_s == 95.0
        assert [problem.code for problem in parsed.problems] == ["clock_skew"]

    def test_file_systems_that_count_no_inodes(self) -> None:
        root = self.facts.system.root_file_system
        assert root is not None
        assert (root.kind, root.used_percent, root.inodes_total) == ("btrfs", 84.2, None)


class TestArm:
    facts = facts_of("arm-server")

    def test_the_model_comes_from_implementer_and_part(self) -> None:
        cpu = self.facts.cpu
        assert (cpu.architecture, cpu.vendor, cpu.model) == ("aarch64", "ARM", "Neoverse-N1")
        assert (cpu.sockets, cpu.cores, cpu.threads, cpu.threads_per_core) == (1, 80, 80, 1)
        assert cpu.kinds == (CoreKind("Neoverse-N1", 80),)
        assert (cpu.current_mhz, cpu.max_mhz) == (1025.0, 3000.0)

    def test_huge_pages_of_four_sizes(self) -> None:
        sizes = self.facts.memory.huge_pages.sizes
        assert [(p.size_bytes >> 10, p.total, p.used) for p in sizes] == [
            (64, 0, 0),
            (2048, 1024, 1000),
            (32768, 0, 0),
            (1048576, 16, 8),
        ]

    def test_virtualization(self) -> None:
        virtualization = self.facts.virtualization
        assert (virtualization.extension, virtualization.nested) == ("EL2", True)
        assert (virtualization.iommu.kind, virtualization.iommu.on) == ("SMMU", True)
        assert virtualization.iommu.passthrough is True
        assert feature(self.facts, "iommu") == ("IOMMU (SMMU)", FeatureState.ON, False)

    def test_secure_boot_clock_and_swap(self) -> None:
        assert self.facts.firmware.secure_boot is True
        clock = self.facts.system.clock
        assert (clock.time_zone, clock.utc_offset_s, clock.skew_s) == ("Europe/Berlin", 3600, 0.5)
        assert self.facts.system.booted_at == "2025-02-19T10:00:00Z"
        swap = self.facts.memory.swap
        assert [(d.path, d.kind, d.priority) for d in swap.devices] == [("/dev/nvme0n1p3", "partition", -2)]
        assert swap.used_percent == 25.0

    def test_pressure_and_load(self) -> None:
        load = self.facts.system.load
        assert (load.average_1, load.tasks_total) == (12.5, 1900)
        assert load.pressure_cpu is not None
        assert load.pressure_cpu.some_10_percent == 1.5
        assert (load.cpu_busy_s, load.cpu_idle_s) == (46310.0, 9000200.0)

    def test_libvirt_agrees_with_the_kernel(self) -> None:
        libvirt = self.facts.libvirt
        assert (libvirt.version, libvirt.hypervisor_version, libvirt.kvm) == ("9.0.0", "7.2.15", True)
        told = parse_capabilities(host_document("arm-server").text("libvirt:capabilities"))
        assert (told.architecture, told.sockets, told.cores, told.threads) == ("aarch64", 1, 80, 80)
        assert (told.host_uuid, told.iommu) == (self.facts.machine.firmware_uuid, True)

    def test_placeholders_of_vendors_are_unknown(self) -> None:
        assert (self.facts.machine.family, self.facts.machine.board_serial) == (None, None)


def test_the_development_machine_is_read_whole() -> None:
    facts = facts_of("development")
    assert (facts.cpu.vendor, facts.cpu.sockets, facts.cpu.threads) == ("AMD", 1, 2)
    assert facts.memory.total_bytes == 25276510208
    assert facts.numa.distances == ((10,),)
    assert facts.virtualization.host_is_vm is True
    assert feature(facts, "kvm")[1] is FeatureState.ON
    assert feature(facts, "iommu") == ("IOMMU", FeatureState.OFF, True)
    assert facts.system.operating_system.name == "Debian GNU/Linux 12 (bookworm)"


def test_two_kinds_of_cores_on_a_board_with_a_device_tree() -> None:
    every = "".join(
        f"processor\t: {n}\nCPU implementer\t: 0x41\nCPU part\t: {part}\n"
        for n, part in enumerate(["0xd03"] * 4 + ["0xd09"] * 2)
    )
    head = "processor\t: 0\nFeatures\t: fp asimd\nCPU implementer\t: 0x41\nCPU architecture: 8\n"
    system = (
        "/proc/device-tree/model:Example Board 2\0\n/proc/device-tree/compatible:example,board-2\0soc\0\n"
        "/proc/device-tree/serial-number:1000abcd\0\nthere./proc/device-tree:yes\n"
    )
    facts = parse(document_of(cpuinfo=f"{head}----\n{every}", system=system)).facts
    assert facts.cpu.kinds == (CoreKind("Cortex-A53", 4), CoreKind("Cortex-A73", 2))
    assert (facts.cpu.model, facts.cpu.threads) == ("Cortex-A53, Cortex-A73", 6)
    assert (facts.machine.vendor, facts.machine.product) == ("example", "Example Board 2")
    assert (facts.machine.serial, facts.firmware.kind) == ("1000abcd", "device-tree")


def test_an_unknown_arm_core_is_named_by_its_numbers() -> None:
    info = parse_cpuinfo("----\nprocessor : 0\nCPU implementer : 0x99\nCPU part : 0xabc\n")
    assert info.model == "part 0xabc"
    assert parse_cpuinfo("CPU implementer\t: 0x99\n----\n").vendor == "implementer 0x99"


def test_packages_that_the_kernel_cannot_tell_are_unknown() -> None:
    cpu = "online:0-1\n" + "".join(
        f"cpu{n}/topology/physical_package_id:-1\ncpu{n}/topology/thread_siblings_list:{n}\n" for n in (0, 1)
    )
    assert parse(document_of(cpu=cpu)).facts.cpu.sockets is None


AMD_FLAGS = "processor\t: 0\nvendor_id\t: AuthenticAMD\nflags\t\t: lm svm npt avic sev sev_es\n----\n"


@pytest.mark.parametrize(
    ("parameter", "shown"),
    [
        ("netroot=iscsi:user:hunter2@10.0.0.5::3260::iqn.x", "netroot=iscsi:…@10.0.0.5::3260::iqn.x"),
        ("inst.repo=https://user:hunter2@10.0.0.5/x", "inst.repo=https://…@10.0.0.5/x"),
        ("netroot=iscsi:@10.0.0.5::3260::iqn.x", "netroot=iscsi:@10.0.0.5::3260::iqn.x"),
        ("netroot=iscsi:10.0.0.5::3260::iqn.x", "netroot=iscsi:10.0.0.5::3260::iqn.x"),
    ],
)
def test_a_login_in_an_address_of_the_command_line_is_left_out(parameter: str, shown: str) -> None:
    facts = parse(document_of(system=f"/proc/cmdline:ro {parameter} quiet\n")).facts
    assert facts.system.kernel.command_line == f"ro {shown} quiet"


def test_amd_features_that_could_be_on_say_how() -> None:
    system = (
        "/sys/module/kvm_amd/parameters/nested:0\n/sys/module/kvm_amd/parameters/npt:1\n"
        "/sys/module/kvm_amd/parameters/avic:N\n/sys/module/kvm_amd/parameters/sev:Y\n"
        "there./sys/firmware/acpi/tables/IVRS:yes\nthere./sys/kernel/iommu_groups:yes\n"
        "stat./dev/kvm:600 root root '/dev/kvm'\n"
    )
    facts = parse(document_of(cpuinfo=AMD_FLAGS, system=system)).facts
    assert feature(facts, "cpu") == ("AMD-V", FeatureState.ON, False)
    assert feature(facts, "second_level_paging") == ("NPT", FeatureState.ON, False)
    assert feature(facts, "nested") == ("Nested virtualization", FeatureState.OFF, True)
    assert feature(facts, "interrupts") == ("AVIC", FeatureState.OFF, True)
    assert feature(facts, "sev") == ("SEV", FeatureState.ON, False)
    assert feature(facts, "sev_es") == ("SEV-ES", FeatureState.OFF, True)
    assert feature(facts, "sev_snp") == ("SEV-SNP", FeatureState.UNAVAILABLE, False)
    assert feature(facts, "iommu") == ("IOMMU (AMD-Vi)", FeatureState.OFF, True)
    iommu = facts.virtualization.iommu
    assert (iommu.present, iommu.on, iommu.groups) == (True, False, 0)


def test_a_kvm_that_qemu_may_not_open_is_off_and_says_why() -> None:
    facts = parse(document_of(cpuinfo=AMD_FLAGS, system="stat./dev/kvm:600 root root '/dev/kvm'\n")).facts
    assert (facts.virtualization.kvm.present, facts.virtualization.kvm.usable) == (True, False)
    [kvm] = [item for item in facts.virtualization.features if item.code == "kvm"]
    assert kvm.state is FeatureState.OFF
    assert "600" in (kvm.remedy or "")


@pytest.mark.parametrize(
    ("system", "name"),
    [
        ("/sys/class/dmi/id/sys_vendor:QEMU\n", "QEMU"),
        (
            "/sys/class/dmi/id/sys_vendor:Microsoft Corporation\n"
            "/sys/class/dmi/id/product_name:Virtual Machine\n",
            "Hyper-V",
        ),
        ("/sys/class/dmi/id/sys_vendor:VMware, Inc.\n", "VMware"),
        ("/sys/hypervisor/type:xen\n", "Xen"),
    ],
)
def test_the_hypervisor_of_a_host_that_is_a_vm(system: str, name: str) -> None:
    virtualization = parse(document_of(system=system)).facts.virtualization
    assert (virtualization.host_is_vm, virtualization.host_hypervisor) == (True, name)


XEON_FLAGS = "processor\t: 0\nvendor_id\t: GenuineIntel\nflags\t\t: lm vmx ept{more}\n----\n"


@pytest.mark.parametrize(
    ("vendor", "product"),
    [
        ("Amazon EC2", "i3.metal"),
        ("Nutanix", "NX-3060-G7"),
        ("Google", "Google Compute Engine"),
        ("OpenStack Foundation", "OpenStack Ironic"),
    ],
)
def test_whole_machines_of_those_who_run_vms_are_no_vms(vendor: str, product: str) -> None:
    system = f"/sys/class/dmi/id/sys_vendor:{vendor}\n/sys/class/dmi/id/product_name:{product}\n"
    bare = parse(document_of(cpuinfo=XEON_FLAGS.format(more=""), system=system)).facts.virtualization
    assert (bare.host_is_vm, bare.host_hypervisor) == (False, None)
    rented = parse(document_of(cpuinfo=XEON_FLAGS.format(more=" hypervisor"), system=system)).facts
    assert rented.virtualization.host_is_vm is True
    assert rented.virtualization.host_hypervisor is not None


def test_a_vm_that_hides_it_from_its_guest_is_told_by_its_tables() -> None:
    system = "/sys/class/dmi/id/sys_vendor:QEMU\n"
    facts = parse(document_of(cpuinfo=XEON_FLAGS.format(more=""), system=system)).facts
    assert facts.virtualization.host_is_vm is True


POWER = "processor\t: 0\ncpu\t\t: POWER9, altivec supported\nclock\t\t: 2300.000000MHz\nrevision\t: 2.2\n"
S390 = (
    "vendor_id       : IBM/S390\n# processors    : 2\nfeatures\t: esan3 zarch stfle{sie}\n"
    "processor 0: version = FF,  identification = 0133E8,  machine = 8561\n"
)
RISCV = "processor\t: 0\nhart\t\t: 1\nisa\t\t: rv64imafdch_zicsr\nmmu\t\t: sv48\nuarch\t\t: sifive,p550\n"
ARM = (
    "processor\t: 0\nFeatures\t: fp asimd\nCPU implementer\t: 0x41\nCPU architecture: 8\nCPU part\t: 0xd0c\n"
)
OTHERS = {
    "ppc64le": (POWER, "HV", "POWER9, altivec supported"),
    "s390x": (S390.format(sie=" sie"), "SIE", "machine type 8561"),
    "riscv64": (RISCV, "H", "sifive,p550"),
    "aarch64": (f"{ARM}----\n{ARM}", "EL2", "Neoverse-N1"),
}


@pytest.mark.parametrize("architecture", OTHERS)
def test_other_architectures_have_their_own_words_for_it(architecture: str) -> None:
    text, extension, model = OTHERS[architecture]
    facts = parse(document_of(cpuinfo=text, system="stat./dev/kvm:660 root kvm '/dev/kvm'\n")).facts
    assert (facts.cpu.architecture, facts.cpu.model) == (architecture, model)
    assert feature(facts, "cpu") == (extension, FeatureState.ON, False)
    assert feature(facts, "kvm")[1] is FeatureState.ON


@pytest.mark.parametrize("architecture", OTHERS)
def test_no_other_architecture_is_told_what_helps_on_x86(architecture: str) -> None:
    text = OTHERS[architecture][0].replace(" sie", "")
    for system in ("there./sys/kernel/iommu_groups:yes\n", "stat./dev/kvm:660 root kvm '/dev/kvm'\n"):
        facts = parse(document_of(cpuinfo=text, system=system)).facts
        told = " ".join(item.remedy or "" for item in facts.virtualization.features)
        assert not any(word in told for word in ("Intel", "SVM", "kvm_intel", "kvm_amd"))
        assert "kvm-arm" not in told or architecture == "aarch64"


def test_nested_virtualization_on_s390_is_switched_on_by_its_own_module() -> None:
    system = "stat./dev/kvm:660 root kvm '/dev/kvm'\n/sys/module/kvm/parameters/nested:0\n"
    facts = parse(document_of(cpuinfo=OTHERS["s390x"][0], system=system)).facts
    [nested] = [item for item in facts.virtualization.features if item.code == "nested"]
    assert nested.state is FeatureState.OFF
    assert "options kvm nested=1" in (nested.remedy or "")


def test_the_clock_of_s390() -> None:
    info = parse_cpuinfo(f"{S390}----\ncpu MHz dynamic : 5200\ncpu MHz dynamic : 5100\n")
    assert info.mhz == (5200.0, 5100.0)


def test_numa_ids_with_gaps_and_cells_without_cpus() -> None:
    numa = (
        "online:0,8,255\nnode0/cpulist:0-3\nnode0/distance:10 40 80\nnode8/cpulist:4-7\n"
        "node8/distance:40 10 80\nnode255/distance:80 80 10\n"
        "node255/meminfo:Node 255 MemTotal:       1048576 kB\n"
    )
    facts = parse(document_of(numa=numa)).facts.numa
    assert [cell.id for cell in facts.cells] == [0, 8, 255]
    assert facts.distances == ((10, 40, 80), (40, 10, 80), (80, 80, 10))
    assert (facts.cells[2].cpus, facts.cells[2].memory_total_bytes) == ((), GIB)
    assert facts.cells[2].memory_free_bytes is None


CAPABILITIES = """<capabilities><host><uuid>57bf66c5-a498-44ad-ac39-018bf8ca8342</uuid>
<cpu><arch>x86_64</arch><model>EPYC</model><vendor>AMD</vendor>
<topology sockets='1' dies='1' cores='2' threads='2'/></cpu>
<iommu support='yes'/><migration_features><live/><uri_transports><uri_transport>tcp</uri_transport>
</uri_transports></migration_features>
<topology><cells num='2'>
<cell id='0'><memory unit='KiB'>1048576</memory><pages unit='KiB' size='4'>1000</pages>
<pages unit='KiB' size='2048'>64</pages><distances><sibling id='0' value='10'/>
<sibling id='1' value='21'/></distances><cpus num='2'><cpu id='0' socket_id='0' core_id='0' siblings='0-1'/>
<cpu id='1' socket_id='0' core_id='0' siblings='0-1'/></cpus></cell>
<cell id='1'><memory unit='KiB'>2097152</memory><distances><sibling id='0' value='21'/>
<sibling id='1' value='10'/></distances><cpus num='2'><cpu id='2' socket_id='1' core_id='0' siblings='2-3'/>
<cpu id='3' socket_id='1' core_id='0' siblings='2-3'/></cpus></cell></cells></topology>
<secmodel><model>apparmor</model><doi>0</doi></secmodel></host>
<guest><os_type>hvm</os_type><arch name='x86_64'><domain type='qemu'/><domain type='kvm'/></arch></guest>
</capabilities>"""


def test_libvirt_alone_gives_what_it_knows() -> None:
    versions = {"libvirt": 9000000, "hypervisor": 7002022, "type": "QEMU", "secure": True, "encrypted": None}
    facts = parse(
        document_of(libvirt__capabilities=CAPABILITIES, libvirt__versions=json.dumps(versions))
    ).facts
    cpu = facts.cpu
    assert (cpu.architecture, cpu.model, cpu.vendor) == ("x86_64", "EPYC", "AMD")
    assert (cpu.sockets, cpu.cores, cpu.threads, cpu.threads_per_core) == (2, 2, 4, 2)
    assert facts.numa.distances == ((10, 21), (21, 10))
    assert facts.numa.cells[0].huge_pages == (HugePages(2 << 20, 64, None, None, None, None),)
    assert facts.virtualization.iommu.on is True
    assert feature(facts, "kvm")[1] is FeatureState.ON
    assert (facts.libvirt.version, facts.libvirt.hypervisor_version) == ("9.0.0", "7.2.22")
    assert (facts.libvirt.virtualization, facts.libvirt.secure) == ("KVM", True)
    assert facts.libvirt.security_models == ("apparmor",)


def test_libvirts_sysinfo_names_a_machine_that_the_user_may_not_read() -> None:
    sysinfo = (
        "<sysinfo type='smbios'><bios><entry name='vendor'>SeaBIOS</entry></bios><system>"
        "<entry name='manufacturer'>Example</entry><entry name='serial'>S-1</entry>"
        "<entry name='uuid'>8a1f6e2c-30f1-4f0b-8a25-7f9d2f6f0c01</entry></system></sysinfo>"
    )
    facts = parse(document_of(libvirt__sysinfo=sysinfo)).facts
    assert (facts.machine.vendor, facts.machine.serial, facts.firmware.vendor) == (
        "Example",
        "S-1",
        "SeaBIOS",
    )
    assert facts.identity is not None
    assert facts.identity.firmware_uuid == "8a1f6e2c-30f1-4f0b-8a25-7f9d2f6f0c01"


def test_an_empty_document_gives_unknowns_and_no_zeros() -> None:
    facts = parse(HostDocument("2025-03-01T10:00:00Z")).facts
    assert facts.identity is None

    def leaves(value: Any) -> list[Any]:
        if isinstance(value, dict):
            return [leaf for item in value.values() for leaf in leaves(item)]
        return [leaf for item in value for leaf in leaves(item)] if isinstance(value, list) else [value]

    plain = to_plain(replace(facts, virtualization=replace(facts.virtualization, features=())))
    assert set(leaves(plain)) == {None}
    states = {item.state for item in facts.virtualization.features}
    assert states == {FeatureState.UNKNOWN}


def test_the_probes_own_trouble_is_a_problem() -> None:
    document = document_of(**{PROBE_SOURCE: "guard none\ncomplete no\n"})
    assert {problem.code for problem in parse(document).problems} == {"no_timeout_tool", "output_cut_off"}


def test_a_document_from_a_file_says_nothing_about_the_clock() -> None:
    document = replace(host_document("two-socket"), transport="file")
    assert parse(document).facts.system.clock.skew_s is None


HOSTS = ["two-socket", "arm-server", "development"]
NAMES = [source.name for source in (*SECTION.sources, *SECTION.libvirt)]


@given(st.dictionaries(st.sampled_from(NAMES), st.text(max_size=300), min_size=1))
@settings(max_examples=150, deadline=None)
def test_garbage_never_raises(texts: dict[str, str]) -> None:
    outputs = {name: SourceOutput(name, SourceStatus.OK, text) for name, text in texts.items()}
    to_plain(parse(HostDocument("", outputs, "ssh")).facts)


@given(st.sampled_from(HOSTS), st.sampled_from(NAMES), st.data())
@settings(max_examples=150, deadline=None)
def test_damage_costs_facts_and_never_raises(host: str, name: str, data: st.DataObject) -> None:
    document = host_document(host)
    text = document.text(name)
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    put = data.draw(st.text(st.characters(), max_size=12))
    damaged = SourceOutput(name, SourceStatus.OK, text[:start] + put + text[end:])
    to_plain(parse(document.with_sources({name: damaged})).facts)


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("status", [s for s in SourceStatus if s is not SourceStatus.OK])
def test_every_source_can_fail_alone(host: str, name: str, status: SourceStatus) -> None:
    failed = SourceOutput(name, status, "", "told why", 1)
    result = build(host_document(host).with_sources({name: failed}), [SECTION]).results["summary"]
    assert result.facts is not None
    assert result.unread[name] == status.value
    assert [p.code for p in result.problems if p.source == name and p.code != "clock_skew"] == [status.value]


@given(st.text(max_size=200))
@settings(max_examples=100, deadline=None)
def test_single_parsers_take_any_text(text: str) -> None:
    parse_cpuinfo(text)
    parse_capabilities(text)
    parse_capabilities(f"<capabilities><host><topology>{text}</topology></host></capabilities>")
    Files(text)
