"""A server with 80 Neoverse-N1 cores, SMMU, and UEFI with Secure Boot."""

from __future__ import annotations

from tests.inventory.kernel_formats import EPOCH, GIB, lines, meminfo, node, node_pool, pressure

ARM_CPUS = range(80)
ARM_COMMAND_LINE = "BOOT_IMAGE=/vmlinuz root=UUID=a1 ro iommu.passthrough=1 kvm-arm.mode=nested quiet"
ARM_SMMUS = tuple(f"smmu3.0x00000{base}e0000000" for base in ("333", "393", "3b3"))
"""Named after the address of their registers."""
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


def arm_numa() -> str:
    head = "online:0\n" + node(0, "0-79", "10", 256 * GIB, 180 * GIB)
    return head + node_pool(0, 2048, 1024, 24) + node_pool(0, 1048576, 16, 8)


def arm_system() -> str:
    calm = "avg10=0.00 avg60=0.00 avg300=0.00"
    values: list[tuple[str, object]] = [
        ("/proc/sys/kernel/hostname", "arm-1"),
        ("/proc/sys/kernel/osrelease", "6.1.0-31-arm64"),
        ("/proc/sys/kernel/version", "#1 SMP Debian 6.1.128-1 (2025-02-07)"),
        ("/proc/sys/kernel/random/boot_id", "5b4e7b0e-5f5c-4b2a-9f6e-0d9f1f6b7a11"),
        ("/proc/cmdline", ARM_COMMAND_LINE),
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
    values += [("count.iommu_groups", 11)]
    units = " ".join(f"/sys/class/iommu/{unit}" for unit in ARM_SMMUS)
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
