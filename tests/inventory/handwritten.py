"""Hosts that nobody here has, written by hand after the kernel's documented formats.

``python -m tests.inventory.handwritten`` writes their documents anew; sources of other sections that stand
in them are kept. ``arm-server``: 80 Neoverse-N1 cores, SMMU, UEFI with Secure Boot. ``two-socket``: two
sockets of 32 cores and 64 threads, four NUMA cells, one CPU offline, four isolated, 1 GiB huge pages, VT-d.
``large``: the summary of the host that tests/fixtures/large_host.py fills with devices.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from nodes.inventory.document import HostDocument, SourceOutput, SourceStatus
from tests.inventory.documents import HOSTS, host_document, save_document

OBSERVED_AT = "2025-03-01T10:00:00+00:00"
EPOCH = 1740823200
GIB = 1 << 20
"""In KiB, as the kernel counts."""


def lines(values: Iterable[tuple[str, object]]) -> str:
    return "".join(f"{path}:{value}\n" for path, value in values)


# ---------------------------------------------------------------------------------------------- arm-server

ARM_CPUS = range(80)
_ARM_FEATURES = (
    "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop ssbs"
)


def arm_cpuinfo() -> str:
    full = [
        f"processor\t: {cpu}\nBogoMIPS\t: 50.00\nFeatures\t: {_ARM_FEATURES}\nCPU implementer\t: 0x41\n"
        "CPU architecture: 8\nCPU variant\t: 0x3\nCPU part\t: 0xd0c\nCPU revision\t: 1\n"
        for cpu in ARM_CPUS[:4]
    ]
    short = [f"processor\t: {cpu}\nCPU implementer\t: 0x41\nCPU part\t: 0xd0c\n" for cpu in ARM_CPUS]
    return "".join([*full, "----\n", *short])


def arm_cpu() -> str:
    values: list[tuple[str, object]] = [("present", "0-79"), ("online", "0-79")]
    values += [("smt/active", 0), ("smt/control", "notimplemented")]
    values += [
        ("vulnerabilities/meltdown", "Not affected"),
        ("vulnerabilities/spec_store_bypass", "Mitigation: Speculative Store Bypass disabled via prctl"),
        ("vulnerabilities/spectre_v1", "Mitigation: __user pointer sanitization"),
        ("vulnerabilities/spectre_v2", "Mitigation: CSV2, BHB"),
    ]
    for cpu in ARM_CPUS:
        values += [(f"cpu{cpu}/topology/physical_package_id", 0)]
        values += [(f"cpu{cpu}/topology/thread_siblings_list", cpu)]
    described = ((0, 1, "Data", "64K"), (1, 1, "Instruction", "64K"), (2, 2, "Unified", "1024K"))
    for cpu in ARM_CPUS[:10]:
        for index, level, kind, _ in described:
            values += [(f"cpu{cpu}/cache/index{index}/level", level)]
            values += [(f"cpu{cpu}/cache/index{index}/type", kind)]
    for cpu in ARM_CPUS:
        for index, _, _, size in described:
            values += [(f"cpu{cpu}/cache/index{index}/size", size)]
            values += [(f"cpu{cpu}/cache/index{index}/shared_cpu_list", cpu)]
    for cpu in ARM_CPUS:
        values += [(f"cpufreq/policy{cpu}/cpuinfo_min_freq", 1000000)]
        values += [(f"cpufreq/policy{cpu}/cpuinfo_max_freq", 3000000)]
        values += [(f"cpufreq/policy{cpu}/scaling_cur_freq", 1000000 if cpu else 3000000)]
    values += [("cpufreq/policy0/scaling_governor", "ondemand")]
    values += [("cpufreq/policy0/scaling_driver", "cppc_cpufreq"), ("cpufreq/boost", 0)]
    values += [("/proc/sys/kernel/arch", "aarch64")]
    return lines(values)


def meminfo(**kib: int) -> str:
    return "".join(f"/proc/meminfo:{key + ':':15} {value:>9} kB\n" for key, value in kib.items())


def arm_memory() -> str:
    head = meminfo(
        MemTotal=256 * GIB,
        MemFree=180 * GIB,
        MemAvailable=192 * GIB,
        Buffers=1 * GIB,
        Cached=12 * GIB,
        SwapTotal=8 * GIB,
        SwapFree=6 * GIB,
        Shmem=65536,
        Slab=4 * GIB,
        KernelStack=20000,
        PageTables=120000,
        Hugepagesize=2048,
    )
    swaps = (
        "/proc/swaps:Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"
        f"/proc/swaps:/dev/nvme0n1p3                          partition\t{8 * GIB}\t\t{2 * GIB}\t\t-2\n"
    )
    pools = []
    for size, total, free in ((64, 0, 0), (2048, 1024, 24), (32768, 0, 0), (1048576, 16, 8)):
        pool = f"hugepages/hugepages-{size}kB"
        pools += [(f"{pool}/nr_hugepages", total), (f"{pool}/free_hugepages", free)]
        pools += [(f"{pool}/resv_hugepages", 4 if free else 0), (f"{pool}/surplus_hugepages", 0)]
        pools += [(f"{pool}/nr_overcommit_hugepages", 0)]
    transparent = [
        ("transparent_hugepage/enabled", "always [madvise] never"),
        ("transparent_hugepage/defrag", "always defer defer+madvise [madvise] never"),
        ("transparent_hugepage/shmem_enabled", "always within_size advise [never] deny force"),
        ("ksm/run", 1),
    ]
    return head + swaps + lines([*transparent, *pools])


def node(number: int, cpus: str, distance: str, total: int, free: int) -> str:
    memory = "".join(
        f"node{number}/meminfo:Node {number} {key + ':':15} {value:>9} kB\n"
        for key, value in (("MemTotal", total), ("MemFree", free), ("MemUsed", total - free))
    )
    return lines([(f"node{number}/cpulist", cpus), (f"node{number}/distance", distance)]) + memory


def node_pool(number: int, size: int, total: int, free: int) -> str:
    pool = f"node{number}/hugepages/hugepages-{size}kB"
    counters = (("nr_hugepages", total), ("free_hugepages", free), ("surplus_hugepages", 0))
    return lines((f"{pool}/{name}", value) for name, value in counters)


def arm_numa() -> str:
    head = "online:0\n" + node(0, "0-79", "10", 256 * GIB, 180 * GIB)
    return head + node_pool(0, 2048, 1024, 24) + node_pool(0, 1048576, 16, 8)


def pressure(resource: str, some: str, full: str) -> list[tuple[str, object]]:
    return [
        (f"/proc/pressure/{resource}", f"some {some} total=1234567"),
        (f"/proc/pressure/{resource}", f"full {full} total=234567"),
    ]


def arm_system() -> str:
    calm = "avg10=0.00 avg60=0.00 avg300=0.00"
    values: list[tuple[str, object]] = [
        ("/proc/sys/kernel/hostname", "arm-1"),
        ("/proc/sys/kernel/osrelease", "6.1.0-31-arm64"),
        ("/proc/sys/kernel/version", "#1 SMP Debian 6.1.128-1 (2025-02-07)"),
        ("/proc/sys/kernel/random/boot_id", "5b4e7b0e-5f5c-4b2a-9f6e-0d9f1f6b7a11"),
        (
            "/proc/cmdline",
            "root=UUID=a1 ro iommu.passthrough=1 kvm-arm.mode=nested quiet",
        ),
        ("/proc/uptime", "864000.50 60000000.00"),
        ("/proc/loadavg", "12.50 10.25 8.00 14/1900 88123"),
        *pressure("cpu", "avg10=1.50 avg60=1.00 avg300=0.50", calm),
        *pressure("memory", calm, calm),
        *pressure("io", "avg10=0.10 avg60=0.20 avg300=0.30", calm),
        ("/etc/machine-id", "6f0f3a52c1f54bb2a1c7d5f0a9b1e234"),
        ("/etc/os-release", 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"'),
        ("/etc/os-release", 'VERSION_ID="12"'),
        ("/etc/os-release", "VERSION_CODENAME=bookworm"),
        ("/etc/os-release", "ID=debian"),
        ("/sys/kernel/security/lockdown", "none [integrity] confidentiality"),
        ("/sys/class/dmi/id/bios_vendor", "American Megatrends Inc."),
        ("/sys/class/dmi/id/board_vendor", "Example Boards"),
        ("/sys/class/dmi/id/sys_vendor", "Example Systems"),
        ("/sys/class/dmi/id/board_name", "EB-80"),
        ("/sys/class/dmi/id/product_name", "ES-2080"),
        ("/sys/class/dmi/id/bios_version", "2.10"),
        ("/sys/class/dmi/id/product_version", "0100"),
        ("/sys/class/dmi/id/product_family", "Default string"),
        ("/sys/class/dmi/id/bios_date", "11/20/2024"),
        ("/sys/class/dmi/id/chassis_type", 23),
        ("/sys/firmware/efi/fw_platform_size", 64),
        (
            "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c",
            "\x06\x00\x00\x00\x01",
        ),
    ]
    values += [(f"/sys/kernel/iommu_groups/{group}/type", "identity") for group in range(10)]
    values += [(f"there.{path}", "yes") for path in ("/sys/firmware/efi", "/sys/firmware/acpi")]
    values += [("there./sys/firmware/acpi/tables/IORT", "yes"), ("there./sys/module/kvm", "yes")]
    values += [("there./sys/bus/pci/drivers/vfio-pci", "yes"), ("there./sys/kernel/iommu_groups", "yes")]
    values += [("count.iommu_groups", 44)]
    units = " ".join(f"/sys/class/iommu/smmu3.0x000000{base}" for base in ("3bffe0000", "3effe0000"))
    values += [("list.iommu", units), ("may.kvm", "yes")]
    values += [("stat.cpu", "cpu  4000000 1000 600000 900000000 20000 0 30000 0 3000000 0")]
    values += [("clock", f"{EPOCH}.500000000 +0100 CET"), ("stat./dev/kvm", "660 root kvm '/dev/kvm'")]
    values += [
        ("stat./etc/localtime", "777 root root '/etc/localtime' -> '/usr/share/zoneinfo/Europe/Berlin'")
    ]
    values += [("space./", "4096 120000000 60000000 54000000 30000000 29000000 ext2/ext3")]
    return lines(values)


ARM_IDENTITY = lines(
    [
        ("/sys/class/dmi/id/product_uuid", "8a1f6e2c-30f1-4f0b-8a25-7f9d2f6f0c01"),
        ("/sys/class/dmi/id/product_serial", "ES2080-0007"),
        ("/sys/class/dmi/id/board_serial", "To be filled by O.E.M."),
    ]
)

# ---------------------------------------------------------------------------------------------- two-socket

XEON_ONLINE = range(127)
"""CPU 127 is offline."""

_XEON_FLAGS = (
    "fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat clflush mmx fxsr sse sse2 ht tm "
    "syscall nx pdpe1gb rdtscp lm constant_tsc pni pclmulqdq vmx ssse3 fma cx16 sse4_1 sse4_2 x2apic "
    "aes xsave avx f16c rdrand lahf_lm abm tpr_shadow vnmi flexpriority ept vpid ept_ad avx2 avx512f"
)


def xeon_core(cpu: int) -> int:
    """Threads 0 to 63 are the cores' first, 64 to 127 their second; the first 32 cores are of socket 0."""
    return cpu % 64


def xeon_siblings(cpu: int) -> str:
    core = xeon_core(cpu)
    return f"{core},{core + 64}" if core + 64 in XEON_ONLINE else str(core)


def xeon_cpuinfo() -> str:
    full = (
        "processor\t: 0\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 143\n"
        "model name\t: Intel(R) Xeon(R) Gold 6430\nstepping\t: 8\nmicrocode\t: 0x2b000603\n"
        f"cache size\t: 61440 KB\nphysical id\t: 0\nflags\t\t: {_XEON_FLAGS}\n"
        "vmx flags\t: vnmi preemption_timer posted_intr invvpid ept_x_only ept_ad ept_1gb\n"
        "bugs\t\t: spectre_v1 spectre_v2\naddress sizes\t: 46 bits physical, 57 bits virtual\n"
    )
    mhz = {cpu: 3400.0 if cpu < 4 else 800.0 for cpu in XEON_ONLINE}
    short = "".join(f"processor\t: {cpu}\ncpu MHz\t\t: {value:.3f}\n" for cpu, value in mhz.items())
    return f"{full}----\n{short}"


def xeon_cpu() -> str:
    values: list[tuple[str, object]] = [
        ("present", "0-127"),
        ("online", "0-126"),
        ("offline", "127"),
        ("isolated", "4-7"),
        ("nohz_full", "4-7"),
        ("smt/active", 1),
        ("smt/control", "on"),
        ("vulnerabilities/l1tf", "Not affected"),
        ("vulnerabilities/mmio_stale_data", "Unknown: No mitigations"),
        ("vulnerabilities/spectre_v2", "Mitigation: Enhanced / Automatic IBRS; IBPB: conditional"),
        ("vulnerabilities/retbleed", "Vulnerable"),
    ]
    for cpu in XEON_ONLINE:
        values += [(f"cpu{cpu}/topology/physical_package_id", xeon_core(cpu) // 32)]
        values += [(f"cpu{cpu}/topology/thread_siblings_list", xeon_siblings(cpu))]
    described = (
        (0, 1, "Data", "48K"),
        (1, 1, "Instruction", "32K"),
        (2, 2, "Unified", "2048K"),
        (3, 3, "Unified", "61440K"),
    )
    for cpu in range(10):
        for index, level, kind, _ in described:
            values += [(f"cpu{cpu}/cache/index{index}/level", level)]
            values += [(f"cpu{cpu}/cache/index{index}/type", kind)]
    for cpu in XEON_ONLINE:
        socket = xeon_core(cpu) // 32
        for index, level, _, size in described:
            whole = "0-31,64-95" if socket == 0 else "32-63,96-126"
            values += [(f"cpu{cpu}/cache/index{index}/size", size)]
            shared = whole if level == 3 else xeon_siblings(cpu)
            values += [(f"cpu{cpu}/cache/index{index}/shared_cpu_list", shared)]
    for cpu in XEON_ONLINE:
        values += [(f"cpufreq/policy{cpu}/cpuinfo_min_freq", 800000)]
        values += [(f"cpufreq/policy{cpu}/cpuinfo_max_freq", 3400000)]
    values += [
        ("cpufreq/policy0/base_frequency", 2100000),
        ("cpufreq/policy0/scaling_governor", "performance"),
    ]
    values += [("cpufreq/policy0/scaling_driver", "intel_pstate"), ("intel_pstate/no_turbo", 0)]
    values += [("/proc/sys/kernel/arch", "x86_64")]
    return lines(values)


def xeon_memory() -> str:
    head = meminfo(
        MemTotal=512 * GIB,
        MemFree=100 * GIB,
        MemAvailable=128 * GIB,
        Buffers=2 * GIB,
        Cached=30 * GIB,
        SwapTotal=0,
        SwapFree=0,
        Shmem=1 * GIB,
        Slab=8 * GIB,
        KernelStack=40000,
        PageTables=600000,
        Hugepagesize=2048,
    )
    pools = []
    for size, total, free, reserved, surplus in ((2048, 4096, 1096, 100, 0), (1048576, 256, 56, 8, 2)):
        pool = f"hugepages/hugepages-{size}kB"
        pools += [(f"{pool}/nr_hugepages", total), (f"{pool}/free_hugepages", free)]
        pools += [(f"{pool}/resv_hugepages", reserved), (f"{pool}/surplus_hugepages", surplus)]
        pools += [(f"{pool}/nr_overcommit_hugepages", 0)]
    swaps = "/proc/swaps:Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"
    return head + swaps + lines([("transparent_hugepage/enabled", "[always] madvise never"), *pools])


XEON_DISTANCES = ("10 12 21 21", "12 10 21 21", "21 21 10 12", "21 21 12 10")
XEON_CELLS = ("0-15,64-79", "16-31,80-95", "32-47,96-111", "48-63,112-126")


def xeon_numa() -> str:
    cells = ["online:0-3\n"]
    for number, (cpus, row) in enumerate(zip(XEON_CELLS, XEON_DISTANCES, strict=True)):
        cells += [node(number, cpus, row, 128 * GIB, 25 * GIB)]
        cells += [node_pool(number, 2048, 1024, 274), node_pool(number, 1048576, 64, 14)]
    return "".join(cells)


def xeon_system() -> str:
    calm = "avg10=0.00 avg60=0.00 avg300=0.00"
    values: list[tuple[str, object]] = [
        ("/proc/sys/kernel/hostname", "big-1"),
        ("/proc/sys/kernel/osrelease", "6.8.0-52-generic"),
        ("/proc/sys/kernel/version", "#53-Ubuntu SMP PREEMPT_DYNAMIC Sat Jan 11 00:06:25 UTC 2025"),
        ("/proc/sys/kernel/arch", "x86_64"),
        ("/proc/sys/kernel/random/boot_id", "c0a1f2e7-9e38-4a11-8f55-3f1f7b1f9d02"),
        (
            "/proc/cmdline",
            "BOOT_IMAGE=/vmlinuz root=/dev/mapper/vg-root ro intel_iommu=on iommu=pt isolcpus=4-7 "
            "hugepagesz=1G hugepages=256 ip=dhcp netroot=iscsi:scanuser:hunter2@10.0.0.5::3260::iqn.x "
            "rd.iscsi.password=hunter3",
        ),
        ("/proc/uptime", "3888000.00 400000000.00"),
        ("/proc/loadavg", "64.00 60.00 58.50 70/4100 123456"),
        *pressure("cpu", "avg10=4.00 avg60=3.00 avg300=2.00", calm),
        *pressure("memory", "avg10=0.50 avg60=0.25 avg300=0.10", "avg10=0.20 avg60=0.10 avg300=0.05"),
        *pressure("io", calm, calm),
        ("/etc/machine-id", "b08dfa6083e7567a1921a715000001fb"),
        ("/etc/os-release", 'PRETTY_NAME="Ubuntu 24.04.1 LTS"'),
        ("/etc/os-release", 'VERSION_ID="24.04"'),
        ("/etc/os-release", "VERSION_CODENAME=noble"),
        ("/etc/os-release", "ID=ubuntu"),
        ("/etc/timezone", "Etc/UTC"),
        ("/sys/kernel/security/lockdown", "[none] integrity confidentiality"),
        ("/sys/class/dmi/id/bios_vendor", "Example Firmware"),
        ("/sys/class/dmi/id/board_vendor", "Example Boards"),
        ("/sys/class/dmi/id/chassis_vendor", "Example Systems"),
        ("/sys/class/dmi/id/sys_vendor", "Example Systems"),
        ("/sys/class/dmi/id/board_name", "X2-64"),
        ("/sys/class/dmi/id/product_name", "ES-2264"),
        ("/sys/class/dmi/id/bios_version", "1.9.2"),
        ("/sys/class/dmi/id/bios_date", "10/02/2024"),
        ("/sys/class/dmi/id/bios_release", "5.32"),
        ("/sys/class/dmi/id/chassis_type", 23 | 0x80),
        ("/sys/firmware/efi/fw_platform_size", 64),
        (
            "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c",
            "\x06\x00\x00\x00\x00",
        ),
        ("/sys/module/kvm_intel/parameters/nested", "Y"),
        ("/sys/module/kvm_intel/parameters/ept", "Y"),
        ("/sys/module/kvm_intel/parameters/enable_apicv", "Y"),
        ("/sys/module/kvm_intel/parameters/tdx", "N"),
    ]
    values += [(f"/sys/kernel/iommu_groups/{group}/type", "identity") for group in range(10)]
    there = ("/proc/sys/kernel/bootloader_type", "/sys/firmware/efi", "/sys/firmware/acpi")
    there += ("/sys/firmware/acpi/tables/DMAR", "/sys/module/kvm", "/sys/module/kvm_intel")
    there += (
        "/sys/bus/pci/drivers/vfio-pci",
        "/sys/kernel/iommu_groups",
        "/run/systemd/timesync/synchronized",
    )
    values += [(f"there.{path}", "yes") for path in there]
    values += [("count.iommu_groups", 112)]
    values += [("list.iommu", " ".join(f"/sys/class/iommu/dmar{unit}" for unit in range(8)))]
    values += [("may.kvm", "yes"), ("stat.cpu", "cpu  90000000 0 10000000 400000000 0 0 0 0 80000000 0")]
    values += [("clock", f"{EPOCH + 95}.000000000 +0000 UTC"), ("stat./dev/kvm", "660 root kvm '/dev/kvm'")]
    values += [("stat./etc/localtime", "777 root root '/etc/localtime' -> '/usr/share/zoneinfo/Etc/UTC'")]
    values += [("space./", "4096 100000000 20000000 15000000 0 0 btrfs")]
    return lines(values)


XEON_IDENTITY = lines(
    [
        ("/sys/class/dmi/id/product_uuid", "4C4C4544-0051-3010-8052-B4C04F4D3233"),
        ("/sys/class/dmi/id/product_serial", "ES2264-0042"),
        ("/sys/class/dmi/id/board_serial", ".CN0042.0815."),
    ]
)


def large_numa() -> str:
    """The same machine without sub-NUMA clustering: a cell a socket, as its devices are placed."""
    cells = ["online:0-1\n"]
    for number, (cpus, row) in enumerate((("0-31,64-95", "10 21"), ("32-63,96-126", "21 10"))):
        cells += [node(number, cpus, row, 256 * GIB, 50 * GIB)]
        cells += [node_pool(number, 2048, 2048, 548), node_pool(number, 1048576, 128, 28)]
    return "".join(cells)


def large_system() -> str:
    text = xeon_system().replace("hostname:big-1", "hostname:large-1").replace("ES-2264", "ES-4264")
    text = text.replace("machine-id:b08d", "machine-id:c19e").replace(str(EPOCH + 95), str(EPOCH))
    return text.replace("count.iommu_groups:112", "count.iommu_groups:171")


HANDWRITTEN = {
    "large": {
        "cpuinfo": xeon_cpuinfo,
        "cpu": xeon_cpu,
        "memory": xeon_memory,
        "numa": large_numa,
        "system": large_system,
        "machine-identity": lambda: XEON_IDENTITY.replace("4C4C4544-0051", "4C4C4544-0052"),
    },
    "arm-server": {
        "cpuinfo": arm_cpuinfo,
        "cpu": arm_cpu,
        "memory": arm_memory,
        "numa": arm_numa,
        "system": arm_system,
        "machine-identity": lambda: ARM_IDENTITY,
    },
    "two-socket": {
        "cpuinfo": xeon_cpuinfo,
        "cpu": xeon_cpu,
        "memory": xeon_memory,
        "numa": xeon_numa,
        "system": xeon_system,
        "machine-identity": lambda: XEON_IDENTITY,
    },
}


def write(name: str) -> HostDocument:
    """The document of that host with its hand-written sources, beside whatever else stands in it."""
    standing = HostDocument(OBSERVED_AT, {}, "ssh", "root")
    if (HOSTS / name / "document.json").exists():
        standing = replace(host_document(name), observed_at=OBSERVED_AT)
    texts = {source: make() for source, make in HANDWRITTEN[name].items()}
    outputs = {key: SourceOutput(key, SourceStatus.OK, text, "", 0, 0.01) for key, text in texts.items()}
    return standing.with_sources(outputs)


if __name__ == "__main__":
    for host in HANDWRITTEN:
        save_document(host, write(host))
