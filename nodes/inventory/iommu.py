"""The IOMMU: whether it is on, of which kind, and how to switch it on where it is not.

Sources: ``/sys/class/iommu`` (Documentation/ABI/testing/sysfs-class-iommu), ``/sys/kernel/iommu_groups``
(Documentation/ABI/testing/sysfs-kernel-iommu_groups), the processor's modalias, and the kernel's command
line (Documentation/admin-guide/kernel-parameters.txt).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from nodes.inventory.parsing.numbers import integer

_GROUPS = "/sys/kernel/iommu_groups/"
_UNITS = "/sys/class/iommu/"
_CPU = "/sys/devices/system/cpu/modalias"
_X86_VENDORS = {"0000": "intel", "0002": "amd", "0009": "hygon", "000A": "zhaoxin", "0005": "centaur"}
"""Numbers of arch/x86/include/asm/processor.h; ``/sys/devices/system/cpu/modalias`` carries them."""
_CPU_MODALIAS = re.compile(r"cpu:type:([a-z0-9_]+)(?:,ven([0-9A-F]{4}))?")
_X86_HYPERVISOR = ",009F,"
_PARAMETER = re.compile(r"[a-z0-9_.-]{1,128}\Z")
_NO_IOMMU = "vfio-noiommu"


class IommuKind(StrEnum):
    VT_D = "intel-vt-d"
    AMD_VI = "amd-vi"
    SMMU = "arm-smmu"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Iommu:
    """``enabled`` None: it could not be read. ``units`` are the kernel's names (``dmar0``).

    ``parameters`` are the words of the kernel's command line that speak of it. ``remedy`` says how to
    switch it on where it is off.
    """

    enabled: bool | None = None
    kind: IommuKind | None = None
    units: tuple[str, ...] = ()
    parameters: tuple[str, ...] = ()
    remedy: str | None = None
    group_types: Mapping[int, str] | None = None
    """Of each group: ``DMA``, ``DMA-FQ``, ``identity`` …"""


def read_iommu(values: Mapping[str, list[str]], listed: Iterable[str], groups_seen: bool | None) -> Iommu:
    """From the files, the paths listed, and whether any device has a group (None: could not be read)."""
    units = tuple(
        path[len(_UNITS) :] for path in listed if path.startswith(_UNITS) and not path.endswith("/*")
    )
    command_line = " ".join(values.get("/proc/cmdline", ()))
    parameters = tuple(word for word in command_line.split() if _is_about_iommu(word))
    names = [lines for path, lines in values.items() if path.startswith(_GROUPS) and path.endswith("/name")]
    pretended = bool(names) and not units and all(lines == [_NO_IOMMU] for lines in names)
    enabled = groups_seen if not units else True
    if pretended:
        enabled = False  # vfio's unsafe mode makes groups without any IOMMU; QEMU refuses them
    remedy = None if enabled is not False else _how_to_switch_on(values.get(_CPU, ()), parameters)
    kind = _kind(units) if enabled else None
    return Iommu(enabled, kind, tuple(sorted(units)), parameters, remedy, _group_types(values))


def _kind(units: Iterable[str]) -> IommuKind | None:
    for unit in units:
        if unit.startswith("dmar"):
            return IommuKind.VT_D
        if unit.startswith("ivhd"):
            return IommuKind.AMD_VI
        if unit.startswith(("smmu", "arm-smmu")):
            return IommuKind.SMMU
        return IommuKind.OTHER
    return None


def _is_about_iommu(word: str) -> bool:
    """``intel_iommu=on``, ``iommu.passthrough=0``, ``amd_iommu``."""
    name = word.partition("=")[0]
    return "iommu" in name and _PARAMETER.match(name) is not None


def _group_types(values: Mapping[str, list[str]]) -> dict[int, str]:
    found: dict[int, str] = {}
    for path, lines in values.items():
        if path.startswith(_GROUPS) and path.endswith("/type"):
            number = path[len(_GROUPS) : -len("/type")]
            group = integer(number, most=999_999_999)
            if group is not None and group >= 0 and lines[0]:
                found[group] = lines[0]
    return found


def _how_to_switch_on(cpu: Iterable[str], parameters: tuple[str, ...]) -> str:
    modalias = next(iter(cpu), "")
    match = _CPU_MODALIAS.match(modalias)
    architecture = match.group(1) if match else ""
    vendor = _X86_VENDORS.get(match.group(2) or "", "") if match else ""
    refused = tuple(word for word in parameters if word.endswith(("=off", "=0")))
    steps: list[str] = []
    if _X86_HYPERVISOR in modalias + ",":
        steps.append("This host is a virtual machine: its own hypervisor has to give it a virtual IOMMU.")
    if refused:
        steps.append(f"Remove {' '.join(refused)} from the kernel's command line.")
    if vendor in ("intel", "zhaoxin", "centaur"):
        steps.append("Switch on VT-d in the firmware's settings.")
        if not any(word.startswith("intel_iommu=on") for word in parameters):
            steps.append("Add intel_iommu=on to the kernel's command line.")
    elif vendor in ("amd", "hygon"):
        steps.append(
            "Switch on the IOMMU (AMD-Vi) in the firmware's settings; the kernel then uses it by itself"
            " unless amd_iommu=off forbids it."
        )
    elif architecture in ("aarch64", "arm"):
        steps.append(
            "The kernel finds an SMMU in the firmware's tables (ACPI IORT or device tree): switch it on in"
            " the firmware's settings, or update a firmware that describes none."
        )
    else:
        steps.append(
            "Switch the IOMMU on in the firmware's settings and, on Intel, add intel_iommu=on to the kernel's"
            " command line; on AMD leave out amd_iommu=off."
        )
    steps.append("Then reboot.")
    return " ".join(steps)
