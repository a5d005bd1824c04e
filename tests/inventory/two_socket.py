"""A server of two sockets, 32 cores and 64 threads each: four NUMA cells, one CPU offline, four isolated,
1 GiB huge pages, VT-d.

The host ``two-socket`` is this summary alone, on purpose: more cells than sockets, a clock that is off and
passwords on the command line, and beside them a host of which no device and nothing of libvirt was read.
``large`` is the same machine without sub-NUMA clustering, with its devices and with libvirt.
"""

from __future__ import annotations

from nodes.inventory.cpulist import parse_cpu_list
from tests.inventory.kernel_formats import EPOCH, GIB, lines, meminfo, node, node_pool, pressure
from tests.inventory.libvirt_formats import Cell, capabilities, sysinfo, versions

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


LARGE_UUID = "4c4c4544-0052-3010-8052-b4c04f4d3233"
_LARGE_CELLS = (("0-31,64-95", "10 21"), ("32-63,96-126", "21 10"))


def large_numa() -> str:
    """The same machine without sub-NUMA clustering: a cell a socket, as its devices are placed."""
    cells = ["online:0-1\n"]
    for number, (cpus, row) in enumerate(_LARGE_CELLS):
        cells += [node(number, cpus, row, 256 * GIB, 50 * GIB)]
        cells += [node_pool(number, 2048, 2048, 548), node_pool(number, 1048576, 128, 28)]
    return "".join(cells)


def large_system() -> str:
    text = xeon_system().replace("hostname:big-1", "hostname:large-1").replace("ES-2264", "ES-4264")
    text = text.replace("machine-id:b08d", "machine-id:c19e").replace(str(EPOCH + 95), str(EPOCH))
    return text.replace("count.iommu_groups:112", "count.iommu_groups:171")


def large_libvirt() -> dict[str, str]:
    """libvirt's texts about the host ``large`` as a whole, by source."""
    cpu = "<arch>x86_64</arch><model>SapphireRapids</model><vendor>Intel</vendor>"
    cpu += "<microcode version='721421827'/><topology sockets='1' dies='1' cores='32' threads='2'/>"
    guest = "<arch name='x86_64'><wordsize>64</wordsize><emulator>/usr/bin/qemu-system-x86_64</emulator>"
    guest += "<machine canonical='pc-q35-7.2' maxCpus='288'>q35</machine><domain type='qemu'/>"
    guest += "<domain type='kvm'/></arch>"
    cells = []
    for number, (cpus, row) in enumerate(_LARGE_CELLS):
        places = tuple((one, number, xeon_core(one), xeon_siblings(one)) for one in parse_cpu_list(cpus))
        distances = tuple(int(value) for value in row.split())
        cells += [Cell(number, 256 * GIB, distances, {4: 49_545_216, 2048: 2048, 1048576: 128}, places)]
    system = {"manufacturer": "Example Systems", "product": "ES-4264", "serial": "ES2264-0042"}
    module = {"size": "32 GB", "form_factor": "DIMM", "type": "DDR5", "speed": "4800 MT/s"}
    parts = [
        ("bios", {"vendor": "Example Firmware", "version": "1.9.2", "release": "5.32"}),
        ("system", system | {"uuid": LARGE_UUID}),
        ("baseBoard", {"manufacturer": "Example Boards", "product": "X2-64"}),
        *(("memory_device", module | {"locator": f"DIMM {slot}"}) for slot in range(16)),
    ]
    return {
        "libvirt:versions": versions("large-1", 9_000_000, 7_002_015),
        "libvirt:capabilities": capabilities(LARGE_UUID, cpu, cells, guest),
        "libvirt:sysinfo": sysinfo(parts),
    }
