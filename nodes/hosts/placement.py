"""Whether a host can take a VM: its processor, its machine types and what room it has.

Sources: virConnectCompareHypervisorCPU and virConnectGetDomainCapabilities in
https://libvirt.org/html/libvirt-libvirt-host.html and …libvirt-domain.html.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import libvirt
from lxml import etree

from nodes.errors import HostError
from nodes.hosts.domain_reading import Size, size_of
from nodes.hosts.hypervisor import Hypervisor
from nodes.hosts.libvirt_errors import LibvirtCallFailed
from nodes.inventory.xmltext import parse_xml

ASK_S = 30.0
"""The first question after a daemon's start has it try out each QEMU, which takes seconds."""
_CANNOT_TELL = frozenset({libvirt.VIR_ERR_NO_SUPPORT, libvirt.VIR_ERR_CONFIG_UNSUPPORTED})
_NOT_KNOWN_THERE = frozenset(
    {libvirt.VIR_ERR_INVALID_ARG, libvirt.VIR_ERR_CONFIG_UNSUPPORTED, libvirt.VIR_ERR_XML_ERROR}
)

Verdict = tuple[bool | None, str]
"""Yes, no or None (cannot be told), and the words for a no or a None."""


@dataclass(frozen=True, slots=True)
class Room:
    """What a host has for further VMs. ``cpus`` are its logical processors that are online, whatever runs on
    them; ``vcpus_in_use`` those of its active VMs.

    ``memory_free_bytes`` is the lesser of what the kernel could hand out now (free, buffers, page cache) and
    of what no active VM may come to claim up to its maximum.
    """

    memory_free_bytes: int | None
    cpus: int | None
    vcpus_in_use: int | None = None


@dataclass(frozen=True, slots=True)
class _Machine:
    virt_type: str
    arch: str | None
    machine: str | None
    emulator: str | None
    cpu: etree._Element | None


def compare_cpu(target: Hypervisor, xml: str) -> Verdict:
    """libvirt's own comparison of the processor that the live description ``xml`` asks for with what the
    target's hypervisor offers. None where libvirt cannot tell (another architecture, host-passthrough).
    """
    wanted = _read(xml)
    if wanted is None:
        return None, "The VM's description could not be read."
    cpu = wanted.cpu
    if cpu is None:
        return True, ""
    if cpu.get("mode") in ("host-passthrough", "maximum"):
        # libvirt has nothing to compare; the hosts' own processors are (libvirt/host_cpu.py).
        return None, ""
    if cpu.find("model") is None:
        return True, ""
    description = etree.tostring(cpu, encoding="unicode")

    def work(connection: libvirt.virConnect) -> int:
        return int(
            connection.compareHypervisorCPU(
                wanted.emulator,
                wanted.arch,
                wanted.machine,
                wanted.virt_type,
                description,
                libvirt.VIR_CONNECT_COMPARE_CPU_FAIL_INCOMPATIBLE,
            )
        )

    try:
        verdict = target.run_apart(work, what="Comparing processors", timeout_s=ASK_S)
    except LibvirtCallFailed as error:
        if error.libvirt_code == libvirt.VIR_ERR_CPU_INCOMPATIBLE:
            return False, error.message
        return None, error.message
    except HostError as error:
        return None, error.message
    if verdict == libvirt.VIR_CPU_COMPARE_INCOMPATIBLE:
        return False, f"The processor of {target.address} lacks what the VM uses."
    return (True, "") if verdict > 0 else (None, "libvirt could not compare the processors.")


def machine_supported(target: Hypervisor, xml: str) -> Verdict:
    """Whether the target's QEMU knows the architecture, machine type and virtualization type of ``xml``."""
    wanted = _read(xml)
    if wanted is None:
        return None, "The VM's description could not be read."

    def work(connection: libvirt.virConnect) -> object:
        return connection.getDomainCapabilities(
            wanted.emulator, wanted.arch, wanted.machine, wanted.virt_type, 0
        )

    try:
        target.run_apart(work, what="Asking for what the hypervisor supports", timeout_s=ASK_S)
    except LibvirtCallFailed as error:
        # A missing emulator comes as a system error of trying to run it.
        unknown = error.libvirt_code in _NOT_KNOWN_THERE or error.libvirt_code == libvirt.VIR_ERR_SYSTEM_ERROR
        return (False if unknown else None), error.message
    except HostError as error:
        return None, error.message
    return True, ""


def room(hypervisor: Hypervisor, *, timeout_s: float = 15.0) -> Room:
    """What room the host has. What cannot be read is None; raises HostError where nothing can."""

    def work(connection: libvirt.virConnect) -> Room:
        info = connection.getInfo()
        try:
            stats = connection.getMemoryStats(libvirt.VIR_NODE_MEMORY_STATS_ALL_CELLS)
        except libvirt.libvirtError:
            stats = {}
        claimed, vcpus = _in_use(connection)
        return Room(_memory(stats, claimed), int(info[2]), vcpus)

    return hypervisor.run(work, what="Asking for the host's room", timeout_s=timeout_s)


def _memory(stats: Mapping[str, int], claimed_bytes: int | None) -> int | None:
    if "total" not in stats or "free" not in stats:
        return None
    now = (stats["free"] + stats.get("buffers", 0) + stats.get("cached", 0)) * 1024
    if claimed_bytes is None:
        return None
    return max(0, min(now, stats["total"] * 1024 - claimed_bytes))


def _in_use(connection: libvirt.virConnect) -> tuple[int | None, int | None]:
    """Memory in bytes that the active domains may claim, and their virtual processors; None where unknown.

    By their descriptions: libvirt's statistics would ask each QEMU, and wait for one that hangs.
    """
    sizes = []
    for domain in connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE):
        try:
            sizes.append(size_of(domain.XMLDesc(0)))
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
                sizes.append(Size(None, None))
    memory = [size.memory_max_bytes for size in sizes if size.memory_max_bytes is not None]
    vcpus = [size.vcpus for size in sizes if size.vcpus is not None]
    return (
        sum(memory) if len(memory) == len(sizes) else None,
        sum(vcpus) if len(vcpus) == len(sizes) else None,
    )


def _read(xml: str) -> _Machine | None:
    root = parse_xml(xml)
    if root is None:
        return None
    kind = root.find("os/type")
    return _Machine(
        virt_type=root.get("type", "kvm"),
        arch=kind.get("arch") if kind is not None else None,
        machine=kind.get("machine") if kind is not None else None,
        emulator=root.findtext("devices/emulator"),
        cpu=root.find("cpu"),
    )
