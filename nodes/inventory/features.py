"""The checklist of virtualization features: whether each is on, what it means and how to switch it on.

Sources: the kernel's Documentation/virt/kvm and Documentation/admin-guide/kernel-parameters.txt (intel_iommu,
iommu, kvm-intel.*, kvm-amd.*, kvm-arm.mode).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from nodes.inventory.cpuinfo import CpuInfo
from nodes.inventory.procfiles import Files

_MODULES = "/sys/module/"
_ON = frozenset({"1", "Y", "y"})
_OFF = frozenset({"0", "N", "n"})


class FeatureState(StrEnum):
    ON = "on"
    OFF = "off"
    """The machine could, but it is switched off or not set up."""
    UNAVAILABLE = "unavailable"
    """The machine cannot, as far as the running kernel sees it."""
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Feature:
    """One line of the checklist. ``remedy`` says how to switch it on; None where it is on or cannot be."""

    code: str
    name: str
    state: FeatureState
    meaning: str
    remedy: str | None


@dataclass(frozen=True, slots=True)
class IommuFacts:
    """``kind``: ``VT-d``, ``AMD-Vi``, ``SMMU`` or ``other``. ``present``: the firmware's tables offer one, or
    it is on. ``passthrough``: the host's own devices go around it (``iommu=pt``), which costs VMs nothing."""

    kind: str | None
    present: bool | None
    on: bool | None
    passthrough: bool | None
    groups: int | None
    units: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class KvmFacts:
    """``/dev/kvm``: ``usable`` says whether QEMU, which libvirt runs as a user in the group kvm, may open it.
    ``mode`` is octal text such as ``660``."""

    present: bool | None
    usable: bool | None
    mode: str | None
    owner: str | None
    group: str | None


def module_switch(files: Files, *names: str) -> bool | None:
    """A module's switch: of the first of ``names`` that is loaded."""
    for name in names:
        value = files.get(_MODULES + name)
        if value in _ON:
            return True
        if value in _OFF:
            return False
        if value and value.isdecimal():
            return True
    return None


_KVM_MODULES: dict[str | None, str] = {
    None: "kvm_intel or kvm_amd",
    "x86_64": "kvm_intel or kvm_amd",
    "i686": "kvm_intel or kvm_amd",
    "ppc64le": "kvm_hv",
    "s390x": "kvm",
    "riscv64": "kvm",
}
"""ARM's KVM is no module."""

_START_WITH_RIGHTS = {
    "aarch64": "The firmware has to start the kernel at EL2. Where this host is a VM, its own host decides.",
    "ppc64le": "The kernel has to run on the machine itself (PowerNV), or be let run VMs by its own host.",
}
_START_ELSEWHERE = "The kernel has to be started with the right to run VMs."
_NESTED_REMEDIES = {
    "s390x": "Put `options kvm nested=1` into /etc/modprobe.d/kvm.conf and load the module anew.",
    "ppc64le": "Put `options kvm_hv nested=1` into /etc/modprobe.d/kvm.conf and load the module anew.",
}


class Checklist:
    """Makes the checklist from what was read: ``features()`` gives its lines in the order to show them."""

    def __init__(
        self,
        files: Files,
        info: CpuInfo,
        extension: str | None,
        kvm: KvmFacts,
        iommu: IommuFacts,
        nested: bool | None,
    ) -> None:
        self._files = files
        self._flags = info.flags
        self._architecture = info.architecture
        self._x86 = info.architecture in ("x86_64", "i686")
        self._vendor = info.vendor
        self._extension = extension
        self._kvm = kvm
        self._iommu = iommu
        self._nested = nested

    def features(self) -> Iterator[Feature]:
        yield self._cpu()
        yield self._device()
        yield from self._paging()
        yield self._iommu_feature()
        yield self._vfio()
        yield self._nested_feature()
        yield from self._interrupts()
        yield from self._confidential()

    def _cpu(self) -> Feature:
        name = {"Intel": "VT-x", "AMD": "AMD-V", "Hygon": "AMD-V"}.get(
            self._vendor or "", "CPU virtualization"
        )
        if not self._x86 and self._extension:
            name = self._extension
        meaning = "The processor runs the code of VMs directly."
        remedy = f"Switch on {name} (Intel Virtualization Technology, SVM Mode) in the firmware set-up."
        if not self._x86:
            remedy = _START_WITH_RIGHTS.get(self._architecture or "", _START_ELSEWHERE)
        if self._extension:
            state = FeatureState.ON
        elif not self._flags:
            state = FeatureState.UNKNOWN
        elif "hypervisor" in self._flags:
            state, remedy = (
                FeatureState.OFF,
                "This host is a VM: switch on nested virtualization on its own host.",
            )
        else:
            state = FeatureState.OFF
        return _feature("cpu", name, state, meaning, remedy)

    def _device(self) -> Feature:
        meaning = "VMs run at full speed through /dev/kvm; without it they are emulated, many times slower."
        modules = _KVM_MODULES.get(self._architecture)
        remedy = (
            f"Load the module {modules} (modprobe), and see that the processor's feature is on."
            if modules
            else "Boot a kernel with KVM, and see that the processor's feature is on."
        )
        state = _state(self._kvm.present)
        if self._kvm.present and self._kvm.usable is False:
            state = FeatureState.OFF
            remedy = (
                f"/dev/kvm has the mode {self._kvm.mode} of {self._kvm.owner}:{self._kvm.group}; "
                "QEMU may not open it. Give it to the group kvm with mode 660 (a udev rule keeps it so)."
            )
        return _feature("kvm", "KVM", state, meaning, remedy)

    def _paging(self) -> Iterator[Feature]:
        if not self._x86:
            return
        intel = self._vendor != "AMD" and self._vendor != "Hygon"
        name, module = ("EPT", "kvm_intel/parameters/ept") if intel else ("NPT", "kvm_amd/parameters/npt")
        flag = name.lower() in self._flags
        state = _state(module_switch(self._files, module))
        if state is FeatureState.UNKNOWN and self._flags:
            state = FeatureState.ON if flag else FeatureState.UNAVAILABLE
        elif state is FeatureState.OFF and not flag:
            state = FeatureState.UNAVAILABLE
        parameter = "kvm-intel.ept=1" if intel else "kvm-amd.npt=1"
        meaning = (
            "The processor translates the memory addresses of VMs itself; without it memory is slow in them."
        )
        yield _feature("second_level_paging", name, state, meaning, f"Boot with {parameter}.")

    def _iommu_feature(self) -> Feature:
        name = f"IOMMU ({self._iommu.kind})" if self._iommu.kind else "IOMMU"
        meaning = "Devices can be given to VMs (passthrough) without reach into the memory of others."
        state = _state(self._iommu.on)
        if self._x86 and "hypervisor" in self._flags:
            remedy = "This host is a VM: give it an IOMMU on its own host."
        elif self._iommu.present is False:
            remedy = "Switch on VT-d or AMD-Vi (IOMMU) in the firmware set-up."
        elif self._iommu.kind == "VT-d":
            remedy = "Boot with intel_iommu=on iommu=pt."
        else:
            remedy = "Switch the IOMMU on in the firmware set-up, and do not boot the kernel with iommu=off."
        return _feature("iommu", name, state, meaning, remedy)

    def _vfio(self) -> Feature:
        there = "there./sys/bus/pci/drivers/vfio-pci" in self._files
        state = FeatureState.ON if there else _state(False if self._files else None)
        meaning = (
            "The driver vfio-pci holds PCI devices for VMs; libvirt loads it when the first VM needs it."
        )
        return _feature(
            "vfio", "VFIO", state, meaning, "Nothing is needed; modprobe vfio-pci loads it at once."
        )

    def _nested_feature(self) -> Feature:
        state = _state(self._nested)
        module = "kvm_amd" if self._extension == "AMD-V" else "kvm_intel"
        remedy = f"Put `options {module} nested=1` into /etc/modprobe.d/kvm.conf and load the module anew."
        if self._architecture in _NESTED_REMEDIES:
            remedy = _NESTED_REMEDIES[self._architecture]
        if self._architecture == "aarch64" and state is FeatureState.UNKNOWN and self._kvm.present:
            state, remedy = FeatureState.OFF, "Boot with kvm-arm.mode=nested, where kernel and processor can."
        elif state is FeatureState.UNKNOWN and self._kvm.present is False and self._files:
            state = FeatureState.UNAVAILABLE
        return _feature(
            "nested", "Nested virtualization", state, "VMs on this host can run VMs themselves.", remedy
        )

    def _interrupts(self) -> Iterator[Feature]:
        if not self._x86 or self._extension is None:
            return
        amd = self._extension == "AMD-V"
        name, parameter = (
            ("AVIC", "kvm_amd/parameters/avic") if amd else ("APICv", "kvm_intel/parameters/enable_apicv")
        )
        state = _state(module_switch(self._files, parameter))
        if amd and state is FeatureState.OFF and "avic" not in self._flags:
            state = FeatureState.UNAVAILABLE
        meaning = "Interrupts reach VMs without the host's help."
        option = "kvm-amd.avic=1" if amd else "kvm-intel.enable_apicv=1"
        yield _feature("interrupts", name, state, meaning, f"Boot with {option}.")

    def _confidential(self) -> Iterator[Feature]:
        """Encrypted VMs: of the vendor's own kind, and only where the host was asked."""
        meaning = "The memory of VMs is encrypted against the host."
        firmware = "Switch it on in the firmware set-up (memory encryption), and update the firmware."
        if self._extension == "AMD-V":
            for code, name in (("sev", "SEV"), ("sev_es", "SEV-ES"), ("sev_snp", "SEV-SNP")):
                state = _state(module_switch(self._files, f"kvm_amd/parameters/{code}"))
                if state is not FeatureState.ON:
                    able = code in self._flags
                    state = FeatureState.OFF if able else FeatureState.UNAVAILABLE
                yield _feature(code, name, state, meaning, f"{firmware} Boot with kvm-amd.{code}=1.")
        elif self._extension == "VT-x":
            on = module_switch(self._files, "kvm_intel/parameters/tdx")
            able = "tdx_host_platform" in self._flags
            state = FeatureState.ON if on else (FeatureState.OFF if able else FeatureState.UNAVAILABLE)
            yield _feature("tdx", "TDX", state, meaning, f"{firmware} Boot with kvm_intel.tdx=1.")


def _state(on: bool | None) -> FeatureState:
    if on is None:
        return FeatureState.UNKNOWN
    return FeatureState.ON if on else FeatureState.OFF


def _feature(code: str, name: str, state: FeatureState, meaning: str, remedy: str) -> Feature:
    return Feature(code, name, state, meaning, remedy if state is FeatureState.OFF else None)
