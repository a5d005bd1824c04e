"""The host's processors: topology, frequencies, caches, mitigations.

Sources: the kernel's Documentation/admin-guide/cputopology.rst, Documentation/ABI/testing/
sysfs-devices-system-cpu and Documentation/admin-guide/pm/cpufreq.rst.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from nodes.inventory.capabilities import Capabilities
from nodes.inventory.cpuinfo import CPUINFO, CoreKind, CpuInfo
from nodes.inventory.cpulist import parse_cpu_list
from nodes.inventory.forms import FILES_OF_EVERY_HOST
from nodes.inventory.parsing.numbers import capped, integer
from nodes.inventory.procfiles import Files
from nodes.inventory.source import Source

__all__ = ["CPU", "CPUINFO", "Cache", "CpuFacts", "Vulnerability", "read_cpu"]

# Level and type of a cache index are the same for all CPUs, so the single-digit ones say enough. A read of
# scaling_cur_freq can sleep 10 ms a CPU on older x86 kernels, whose /proc/cpuinfo has the frequencies.
CPU = Source(
    "cpu",
    """cd /sys/devices/system/cpu || exit
[ -e /proc/sys/kernel/bootloader_type ] && now= || now='cpufreq/policy*/scaling_cur_freq'
grep -as . present online offline isolated nohz_full smt/active smt/control vulnerabilities/* \\
  cpu[0-9]*/topology/physical_package_id cpu[0-9]*/topology/thread_siblings_list \\
  cpu[0-9]/cache/index[0-9]/level cpu[0-9]/cache/index[0-9]/type \\
  cpu[0-9]*/cache/index[0-9]/size cpu[0-9]*/cache/index[0-9]/shared_cpu_list \\
  cpufreq/policy*/cpuinfo_min_freq cpufreq/policy*/cpuinfo_max_freq $now \\
  cpufreq/policy0/base_frequency cpufreq/policy0/scaling_governor cpufreq/policy0/scaling_driver \\
  cpufreq/boost intel_pstate/no_turbo /proc/sys/kernel/arch""",
    ok_statuses=(0, 1, 2),
    form=FILES_OF_EVERY_HOST,
)

_PACKAGE = re.compile(r"cpu(\d{1,6})/topology/physical_package_id")
_SIBLINGS = re.compile(r"cpu(\d{1,6})/topology/thread_siblings_list")
_CACHE = re.compile(r"cpu(\d{1,6})/cache/index(\d)/(level|type|size|shared_cpu_list)")
_POLICY = re.compile(r"cpufreq/policy\d{1,6}/(cpuinfo_min_freq|cpuinfo_max_freq|scaling_cur_freq)")
_VULNERABILITY = re.compile(r"vulnerabilities/([a-z0-9_]{1,64})")
_SIZE = re.compile(r"(\d{1,12})([KMG]?)\Z", re.ASCII)
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


@dataclass(frozen=True, slots=True)
class Cache:
    """Caches of one level, kind and size: ``instances`` of ``size_bytes`` each.

    ``kind`` is ``data``, ``instruction`` or ``unified``; ``cpus_per_instance`` is how many threads share
    one (at most, where some are offline).
    """

    level: int
    kind: str
    size_bytes: int
    instances: int
    total_bytes: int
    cpus_per_instance: int


@dataclass(frozen=True, slots=True)
class Vulnerability:
    """A known weakness of the processor, and what the kernel does about it, in the kernel's own words.

    ``state``: ``not_affected``, ``mitigated``, ``vulnerable`` or ``unknown``.
    """

    name: str
    state: str
    detail: str


@dataclass(frozen=True, slots=True)
class CpuFacts:
    """Processors of the host. Counts are of CPUs online; ``threads`` are the kernel's CPUs.

    CPU lists hold the kernel's CPU numbers, ascending. ``current_mhz`` is the mean over all CPUs. ``smt`` is
    the kernel's word (``on``, ``off``, ``forceoff``, ``notsupported``, ``notimplemented``).
    """

    architecture: str | None
    vendor: str | None
    model: str | None
    family: int | None
    model_number: int | None
    stepping: int | None
    microcode: str | None
    sockets: int | None
    cores: int | None
    threads: int | None
    threads_per_core: int | None
    smt: str | None
    kinds: tuple[CoreKind, ...]
    online: tuple[int, ...]
    offline: tuple[int, ...]
    isolated: tuple[int, ...]
    tickless: tuple[int, ...]
    """CPUs without a scheduler tick (``nohz_full``)."""
    current_mhz: float | None
    slowest_mhz: float | None
    fastest_mhz: float | None
    min_mhz: float | None
    max_mhz: float | None
    base_mhz: float | None
    boost: bool | None
    governor: str | None
    frequency_driver: str | None
    physical_address_bits: int | None
    virtual_address_bits: int | None
    caches: tuple[Cache, ...]
    vulnerabilities: tuple[Vulnerability, ...]


def read_cpu(files: Files, info: CpuInfo, capabilities: Capabilities) -> CpuFacts:
    """Facts from :data:`CPU` and :data:`CPUINFO`; libvirt's where the host itself was not read."""
    online = parse_cpu_list(files.get("online"))
    threads = len(online) or info.cpus or capabilities.threads
    packages, siblings = _topology(files)
    cores = len(set(siblings)) or capabilities.cores
    low, high, now = _policies(files)
    current = info.mhz or now
    base = files.integer("cpufreq/policy0/base_frequency")
    return CpuFacts(
        architecture=files.get("/proc/sys/kernel/arch") or capabilities.architecture or info.architecture,
        vendor=info.vendor or capabilities.vendor,
        model=info.model or capabilities.model,
        family=info.family,
        model_number=info.model_number,
        stepping=info.stepping,
        microcode=info.microcode or capabilities.microcode,
        sockets=packages or capabilities.sockets,
        cores=cores,
        threads=threads,
        threads_per_core=max((len(group) for group in siblings), default=capabilities.threads_per_core),
        smt=files.get("smt/control"),
        kinds=info.kinds,
        online=online or capabilities.cpus,
        offline=parse_cpu_list(files.get("offline")),
        isolated=parse_cpu_list(files.get("isolated")),
        tickless=parse_cpu_list(files.get("nohz_full")),
        current_mhz=round(sum(current) / len(current), 1) if current else None,
        slowest_mhz=round(min(current), 1) if current else None,
        fastest_mhz=round(max(current), 1) if current else None,
        min_mhz=min(low, default=None),
        max_mhz=max(high, default=None),
        base_mhz=base / 1000 if base else None,
        boost=_boost(files),
        governor=files.get("cpufreq/policy0/scaling_governor"),
        frequency_driver=files.get("cpufreq/policy0/scaling_driver"),
        physical_address_bits=info.physical_address_bits,
        virtual_address_bits=info.virtual_address_bits,
        caches=_caches(files),
        vulnerabilities=_vulnerabilities(files),
    )


def _topology(files: Files) -> tuple[int | None, list[tuple[int, ...]]]:
    """Number of sockets (None where the kernel does not know), and the cores, each as its threads."""
    ids = {value for _, value in files.matching(_PACKAGE)}
    lists = {value for _, value in files.matching(_SIBLINGS)}
    siblings = [group for group in map(parse_cpu_list, lists) if group]
    # Boards without the tables that say it number their packages -1.
    return (len(ids) or None if "-1" not in ids else None), siblings


def _policies(files: Files) -> tuple[list[float], list[float], tuple[float, ...]]:
    """Lowest, highest and current frequencies of all frequency domains, in MHz."""
    found: dict[str, list[float]] = {"cpuinfo_min_freq": [], "cpuinfo_max_freq": [], "scaling_cur_freq": []}
    for match, value in files.matching(_POLICY):
        khz = integer(value, most=10**11)
        if khz and khz > 0:
            found[match.group(1)].append(khz / 1000)
    return found["cpuinfo_min_freq"], found["cpuinfo_max_freq"], tuple(found["scaling_cur_freq"])


def _boost(files: Files) -> bool | None:
    boost, no_turbo = files.get("cpufreq/boost"), files.get("intel_pstate/no_turbo")
    if no_turbo in ("0", "1"):
        return no_turbo == "0"
    return boost == "1" if boost in ("0", "1") else None


def _caches(files: Files) -> tuple[Cache, ...]:
    """Every cache once: those that share their CPU list are the same one seen from several CPUs."""
    described: dict[str, dict[str, str]] = {}
    found: dict[tuple[str, str], dict[str, str]] = {}
    for match, value in files.matching(_CACHE):
        cpu, index, attribute = match.groups()
        if attribute in ("level", "type"):
            described.setdefault(index, {}).setdefault(attribute, value)
        else:
            found.setdefault((cpu, index), {})[attribute] = value
    instances: dict[tuple[int, str, int], set[str]] = {}
    for (cpu, index), cache in found.items():
        level, kind = described.get(index, {}).get("level", ""), described.get(index, {}).get("type", "")
        size = _size(cache.get("size"))
        if level.isascii() and level.isdecimal() and len(level) < 3 and kind and size:
            instances.setdefault((capped(level), kind.lower(), size), set()).add(
                cache.get("shared_cpu_list", cpu)
            )
    return tuple(
        Cache(
            level, kind, size, len(lists), size * len(lists), max(len(parse_cpu_list(cpus)) for cpus in lists)
        )
        for (level, kind, size), lists in sorted(instances.items())
    )


def _size(text: str | None) -> int | None:
    match = _SIZE.match((text or "").strip())
    return capped(match.group(1)) * _UNITS[match.group(2)] if match else None


def _vulnerabilities(files: Files) -> tuple[Vulnerability, ...]:
    return tuple(
        Vulnerability(match.group(1), _vulnerability_state(value), value)
        for match, value in files.matching(_VULNERABILITY)
    )


def _vulnerability_state(text: str) -> str:
    """See the kernel's Documentation/ABI: "Not affected", "Vulnerable…", "Mitigation: …", "Unknown: …"."""
    words = text.removeprefix("KVM: ")
    if words.startswith("Not affected"):
        return "not_affected"
    if words.startswith("Mitigation"):
        return "mitigated"
    return "vulnerable" if words.startswith(("Vulnerable", "Processor vulnerable")) else "unknown"
