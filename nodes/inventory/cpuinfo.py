"""/proc/cpuinfo, of x86, ARM, POWER, s390 and RISC-V.

Its keys differ from one architecture to the next; see show_cpuinfo() in the kernel's arch directories.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

from nodes.inventory.arm_cores import implementer_name, part_name
from nodes.inventory.forms import lines_like
from nodes.inventory.parsing.numbers import decimal, integer
from nodes.inventory.source import Source

# All lines of the first CPU or so, and of every CPU only what may differ: flags alone are 1.5 KB a CPU.
CPUINFO = Source(
    "cpuinfo",
    "grep -am 32 . /proc/cpuinfo; echo ----\n"
    "grep -aE '^(processor|cpu MHz( dynamic)?|clock|CPU (implementer|part))[[:space:]]*:' /proc/cpuinfo",
    ok_statuses=(0, 1),
    form=lines_like(r"^(?:processor|vendor_id|Processor)\b", always=True),
)

_VENDORS = {
    "GenuineIntel": "Intel",
    "AuthenticAMD": "AMD",
    "HygonGenuine": "Hygon",
    "CentaurHauls": "Zhaoxin",
    "Shanghai": "Zhaoxin",
    "IBM/S390": "IBM",
}
_MHZ = re.compile(r"(\d{1,6}(?:\.\d{1,9})?)(?:MHz)?\Z", re.ASCII)
_CLOCKS = frozenset({"cpu MHz", "cpu MHz dynamic", "clock"})
_MACHINE = re.compile(r"\bmachine = (\w{1,16})", re.ASCII)
_ADDRESS_SIZES = re.compile(r"(\d{1,3}) bits physical, (\d{1,3}) bits virtual", re.ASCII)


@dataclass(frozen=True, slots=True)
class CoreKind:
    """Cores of one kind, where a machine has several (ARM's big.LITTLE): name and number of CPUs."""

    name: str
    cpus: int


@dataclass(frozen=True, slots=True)
class CpuInfo:
    """What /proc/cpuinfo says. ``flags`` holds x86's flags and vmx flags, or ARM's features."""

    architecture: str | None = None
    vendor: str | None = None
    model: str | None = None
    family: int | None = None
    model_number: int | None = None
    stepping: int | None = None
    microcode: str | None = None
    physical_address_bits: int | None = None
    virtual_address_bits: int | None = None
    flags: frozenset[str] = frozenset()
    kinds: tuple[CoreKind, ...] = ()
    mhz: tuple[float, ...] = ()
    cpus: int | None = None


def parse_cpuinfo(text: str) -> CpuInfo:
    """Read the output of :data:`CPUINFO`. What it does not say is None or empty."""
    head, _, every = text.partition("----\n")
    first = _first_values(head)
    kinds = _core_kinds(every)
    sizes = _ADDRESS_SIZES.search(first.get("address sizes", ""))
    vendor_id = first.get("vendor_id")
    flags = " ".join(first.get(key, "") for key in ("flags", "vmx flags", "Features", "features"))
    return CpuInfo(
        architecture=_architecture(first),
        vendor=_VENDORS.get(vendor_id, vendor_id)
        if vendor_id
        else _arm_vendor(first) or _power_vendor(first),
        model=first.get("model name") or first.get("cpu") or _model_elsewhere(first, kinds),
        family=integer(first.get("cpu family")),
        model_number=integer(first.get("model")),
        stepping=integer(first.get("stepping")),
        microcode=first.get("microcode"),
        physical_address_bits=integer(sizes.group(1)) if sizes else None,
        virtual_address_bits=integer(sizes.group(2)) if sizes else None,
        flags=frozenset(flags.split()),
        kinds=kinds,
        mhz=_frequencies(every),
        cpus=sum(1 for key, _ in _pairs(every) if key == "processor") or None,
    )


def _pairs(text: str) -> list[tuple[str, str]]:
    pairs = (line.partition(":") for line in text.split("\n"))
    return [(key.strip(), value.strip()) for key, colon, value in pairs if colon]


def _first_values(text: str) -> dict[str, str]:
    values: dict[str, str] = {}
    for key, value in _pairs(text):
        if value:
            values.setdefault(key, value)
    return values


def _architecture(first: dict[str, str]) -> str | None:
    """Only where the keys leave no doubt; newer kernels and libvirt say it themselves."""
    if "flags" in first and "vendor_id" in first:
        return "x86_64" if "lm" in first["flags"].split() else "i686"
    if first.get("CPU architecture") in ("8", "AArch64"):
        return "aarch64"
    if first.get("cpu", "").startswith("POWER"):
        return "ppc64le"
    if first.get("vendor_id") == "IBM/S390":
        return "s390x"
    return "riscv64" if first.get("isa", "").startswith("rv64") else None


def _hexadecimal(text: str | None) -> int | None:
    return integer(text, 16)


def _arm_vendor(first: dict[str, str]) -> str | None:
    implementer = _hexadecimal(first.get("CPU implementer"))
    return None if implementer is None else implementer_name(implementer)


def _power_vendor(first: dict[str, str]) -> str | None:
    return "IBM" if first.get("cpu", "").startswith("POWER") else None


def _model_elsewhere(first: dict[str, str], kinds: tuple[CoreKind, ...]) -> str | None:
    """ARM's cores, s390's machine type, RISC-V's microarchitecture: these name no model of their own."""
    if kinds:
        return ", ".join(kind.name for kind in kinds)
    machine = _MACHINE.search(first.get("processor 0", ""))
    return f"machine type {machine.group(1)}" if machine else first.get("uarch")


def _core_kinds(text: str) -> tuple[CoreKind, ...]:
    """Kinds of ARM cores with their number of CPUs, in the order of the CPUs."""
    kinds: Counter[str] = Counter()
    implementer: int | None = None
    for key, value in _pairs(text):
        if key == "CPU implementer":
            implementer = _hexadecimal(value)
        elif key == "CPU part" and implementer is not None:
            part = _hexadecimal(value)
            if part is not None:
                kinds[part_name(implementer, part)] += 1
    return tuple(CoreKind(name, count) for name, count in kinds.items())


def _frequencies(text: str) -> tuple[float, ...]:
    matches = (_MHZ.match(value) for key, value in _pairs(text) if key in _CLOCKS)
    return tuple(mhz for mhz in (decimal(match.group(1)) for match in matches if match) if mhz)
