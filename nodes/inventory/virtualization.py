"""What the host can do for VMs: KVM, IOMMU, nested virtualization, and the checklist of all features.

Sources: the kernel's Documentation/virt/kvm, Documentation/admin-guide/kernel-parameters.txt (intel_iommu,
iommu, kvm-intel.*, kvm-amd.*) and Documentation/ABI/testing/sysfs-kernel-iommu_groups.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from nodes.inventory.capabilities import Capabilities
from nodes.inventory.cpuinfo import CpuInfo
from nodes.inventory.features import Checklist, Feature, IommuFacts, KvmFacts, module_switch
from nodes.inventory.parsing.numbers import capped
from nodes.inventory.procfiles import Files

_GROUP_TYPE = re.compile(r"/sys/kernel/iommu_groups/\d/type")
_DEVICE = re.compile(r"([0-7]{3,5}) (\S+) (\S+)")


@dataclass(frozen=True, slots=True)
class VirtualizationFacts:
    """``extension``: ``VT-x``, ``AMD-V``, ARM's ``EL2``, POWER's ``HV``, ``SIE`` of s390 or RISC-V's ``H``.
    ``host_is_vm``: the "host" is itself a VM, of
    ``host_hypervisor`` where that is known."""

    features: tuple[Feature, ...]
    extension: str | None
    kvm: KvmFacts
    iommu: IommuFacts
    nested: bool | None
    host_is_vm: bool | None
    host_hypervisor: str | None


_ELSEWHERE = {"aarch64": "EL2", "ppc64le": "HV", "s390x": "SIE", "riscv64": "H"}

_HYPERVISORS = (
    ("qemu", "QEMU"),
    ("vmware", "VMware"),
    ("virtualbox", "VirtualBox"),
    ("innotek", "VirtualBox"),
    ("xen", "Xen"),
    ("amazon ec2", "Amazon EC2"),
    ("google compute engine", "Google Compute Engine"),
    ("openstack", "OpenStack"),
    ("kubevirt", "KubeVirt"),
    ("parallels", "Parallels"),
    ("bhyve", "bhyve"),
    ("nutanix", "Nutanix AHV"),
    ("ovirt", "oVirt"),
    ("standard pc", "QEMU"),
    ("kvm", "KVM"),
)
_ALSO_MACHINES = frozenset({"Amazon EC2", "Google Compute Engine", "OpenStack", "Nutanix AHV"})
"""Who writes the same names into the tables of whole machines, which they rent out or sell."""


def read_virtualization(files: Files, info: CpuInfo, capabilities: Capabilities) -> VirtualizationFacts:
    """Facts from the source ``system``, the CPU's flags, and libvirt's capabilities."""
    extension = _extension(files, info)
    kvm = _kvm(files, capabilities)
    iommu = _iommu(files, capabilities)
    nested = module_switch(files, "kvm_intel/parameters/nested", "kvm_amd/parameters/nested")
    if nested is None:
        nested = module_switch(files, "kvm/parameters/nested", "kvm_hv/parameters/nested")
    if (
        nested is None
        and info.architecture == "aarch64"
        and "kvm-arm.mode=nested" in (files.get("/proc/cmdline") or "").split()
    ):
        nested = True
    checklist = Checklist(files, info, extension, kvm, iommu, nested)
    hypervisor = _host_hypervisor(files, info)
    host_is_vm = True if hypervisor or "hypervisor" in info.flags else None
    if host_is_vm is None and info.flags and info.architecture == "x86_64":
        # x86 guests of every hypervisor see this flag, unless it was hidden on purpose.
        host_is_vm = False
    return VirtualizationFacts(
        tuple(checklist.features()), extension, kvm, iommu, nested, host_is_vm, hypervisor
    )


def _extension(files: Files, info: CpuInfo) -> str | None:
    if "vmx" in info.flags:
        return "VT-x"
    if "svm" in info.flags:
        return "AMD-V"
    if info.architecture == "s390x" and "sie" in info.flags:
        return "SIE"
    # The others name no flag: the kernel makes /dev/kvm only where it was started with the right to use it.
    return _ELSEWHERE.get(info.architecture or "") if "stat./dev/kvm" in files else None


def _kvm(files: Files, capabilities: Capabilities) -> KvmFacts:
    match = _DEVICE.match(files.get("stat./dev/kvm") or "")
    if match is None:
        present = True if capabilities.kvm else (False if files else None)
        return KvmFacts(present, capabilities.kvm or (False if files else None), None, None, None)
    mode, owner, group = match.groups()
    others, members = capped(mode[-1], 8), capped(mode[-2], 8)
    usable = others & 6 == 6 or (group == "kvm" and members & 6 == 6)
    return KvmFacts(True, usable, mode, owner, group)


def _iommu(files: Files, capabilities: Capabilities) -> IommuFacts:
    units = tuple(sorted(path.rpartition("/")[2] for path in (files.get("list.iommu") or "").split()))
    groups = files.integer("count.iommu_groups")
    if groups is None and "there./sys/kernel/iommu_groups" in files:
        groups = 0
    kind = _iommu_kind(files, units)
    on = bool(groups) if groups is not None else (False if files else capabilities.iommu)
    tables = any(f"there./sys/firmware/acpi/tables/{table}" in files for table in ("DMAR", "IVRS"))
    present = True if on or units or tables else None
    if (
        present is None
        and "there./sys/firmware/acpi" in files
        and "there./proc/sys/kernel/bootloader_type" in files
    ):
        present = False
    return IommuFacts(kind, present, on, _iommu_passthrough(files) if on else None, groups, units)


def _iommu_kind(files: Files, units: tuple[str, ...]) -> str | None:
    for prefix, kind in (("dmar", "VT-d"), ("ivhd", "AMD-Vi"), ("smmu", "SMMU"), ("arm-smmu", "SMMU")):
        if any(unit.startswith(prefix) for unit in units):
            return kind
    for table, kind in (("DMAR", "VT-d"), ("IVRS", "AMD-Vi")):
        if f"there./sys/firmware/acpi/tables/{table}" in files:
            return kind
    return "other" if units else None


def _iommu_passthrough(files: Files) -> bool | None:
    """Groups of the type ``identity`` are passed through; before Linux 5.11 only the command line tells."""
    types = [value for _, value in files.matching(_GROUP_TYPE)]
    if types:
        return types.count("identity") * 2 > len(types)
    words = (files.get("/proc/cmdline") or "").split()
    return bool({"iommu=pt", "iommu.passthrough=1", "iommu.passthrough=on"} & set(words))


def _host_hypervisor(files: Files, info: CpuInfo) -> str | None:
    kind = files.get("/sys/hypervisor/type")
    vendor, product, firmware = (
        (files.get(f"/sys/class/dmi/id/{name}") or "").lower()
        for name in ("sys_vendor", "product_name", "bios_vendor")
    )
    tables = f"{vendor} {product} {firmware}"
    if "microsoft corporation" in tables and "virtual machine" in tables:
        return "Hyper-V"
    for word, name in _HYPERVISORS:
        if word in tables:
            return None if name in _ALSO_MACHINES and _is_bare(info, product) else name
    return kind.capitalize() if kind else None


def _is_bare(info: CpuInfo, product: str) -> bool:
    """Whether a machine of one of these is no VM: x86's flag tells, elsewhere the product's name."""
    if info.architecture == "x86_64" and info.flags:
        return "hypervisor" not in info.flags
    return "metal" in product
