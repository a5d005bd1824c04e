"""What a host's processor can do, for VMs that are given the processor as it is (host-passthrough).

The kernel's flags (proc_cpuinfo(5)) where there is a shell; else the features of libvirt's host processor,
its model written out (virConnectBaselineCPU with VIR_CONNECT_BASELINE_CPU_EXPAND_FEATURES).
"""

from __future__ import annotations

from dataclasses import dataclass

import libvirt
from lxml import etree

from nodes.hosts.hypervisor import Hypervisor
from nodes.hosts.shell import Shell
from nodes.inventory.xmltext import parse_xml

CPUINFO = "grep -m 40 -E '^(vendor_id|flags|CPU implementer|CPU part|Features)[[:space:]]*:' /proc/cpuinfo"

SET_BY_LINUX = """
always amd_dcm amd_lbr_v2 acc_power arch_perfmon art cpuid cpuid_fault extd_apicid k8 nopl
nonstop_tsc nonstop_tsc_s3 constant_tsc rep_good tsc_known_freq tsc_reliable up xtopology pti kernel_ibrs
ibrs_enhanced rsb_ctxsw rsb_vmexit retpoline retpoline_lfence rethunk unret use_ibpb use_ibrs_fw
ls_cfg_ssbd l1tf_pteinv msr_ia32_feat_ctl msr_spec_ctrl msr_tsx_ctrl fence_swapgs_user
fence_swapgs_kernel split_lock_detect entry_ibpb ibpb_on_vmexit ibpb_exit_to_user rrsba_ctrl bhi_ctrl
clear_bhb_loop user_shstk perfmon_v2 amd_lbr_pmc_freeze srso_alias srso_no tpr_shadow flexpriority ept
ept_ad vpid vnmi vmmcall vmw_vmmcall hypervisor
"""
"""Flags that Linux itself sets: they differ between kernels on the same hardware ("Linux-defined" and
"Linux-mapped" words in arch/x86/include/asm/cpufeatures.h), and those of a host that is itself a VM."""

OF_THE_HOST_ALONE = """
acpi aperfmperf bts cat_l2 cat_l3 cdp_l2 cdp_l3 cpb cqm cqm_llc cqm_mbm_local cqm_mbm_total cqm_occup_llc
ds_cpl dtes64 dtherm dts epb est hfi hw_pstate hwp hwp_act_window hwp_epp hwp_notify hwp_pkg_req ida
intel_ppin intel_pt mba pbe pebs per_thread_mba pln proc_feedback pts rapl rdt_a ring3mwait sdbg smca smx
tm tm2 xtpr
"""
"""Flags of power, temperature, tracing and resource control, which KVM gives to no guest (kvm_set_cpu_caps in
arch/x86/kvm/cpuid.c) and set-up screens of firmware switch on and off."""

UNSEEN_BY_GUESTS = frozenset((SET_BY_LINUX + OF_THE_HOST_ALONE).split())


@dataclass(frozen=True, slots=True)
class HostCpu:
    """``maker`` is the vendor (of ARM the implementer and part), None where unknown; ``flags`` are what
    guests may see of it, in the kernel's words, or in libvirt's (``of_kernel`` False)."""

    maker: str | None
    flags: frozenset[str]
    of_kernel: bool = True


def read_host_cpu(shell: Shell | None, hypervisor: Hypervisor, *, timeout_s: float) -> HostCpu | None:
    """The host's processor; None where neither kernel nor libvirt tell of it. Raises HostError."""
    if shell is not None:
        answer = shell.run(CPUINFO, timeout_s=timeout_s)
        found = parse_cpu_lines(answer.stdout.decode("utf-8", "replace"))
        if found is not None:
            return found
    return parse_expanded(
        hypervisor.run(_expanded, what="Asking for the host's processor", timeout_s=timeout_s)
    )


def parse_cpu_lines(text: str) -> HostCpu | None:
    """The first processor of /proc/cpuinfo; None where it has no flags."""
    values: dict[str, str] = {}
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if colon:
            values.setdefault(name.strip(), value.strip())
    flags = frozenset((values.get("flags") or values.get("Features") or "").split())
    if not flags:
        return None
    arm = " ".join(values[name] for name in ("CPU implementer", "CPU part") if name in values)
    return HostCpu(values.get("vendor_id") or arm or None, flags - UNSEEN_BY_GUESTS)


def _expanded(connection: libvirt.virConnect) -> str:
    """libvirt's host processor with all features of its model."""
    capabilities = parse_xml(connection.getCapabilities())
    cpu = capabilities.find("host/cpu") if capabilities is not None else None
    if cpu is None or cpu.find("model") is None:
        return ""
    described = etree.tostring(cpu, encoding="unicode")
    expand = libvirt.VIR_CONNECT_BASELINE_CPU_EXPAND_FEATURES
    return str(connection.baselineCPU([described], expand))


def parse_expanded(text: str) -> HostCpu | None:
    """A ``<cpu>`` with its features written out."""
    cpu = parse_xml(text) if text else None
    if cpu is None:
        return None
    names = (element.get("name") for element in cpu.iterfind("feature") if element.get("policy") != "disable")
    flags = frozenset(name for name in names if name)
    return HostCpu(cpu.findtext("vendor"), flags, of_kernel=False) if flags else None
