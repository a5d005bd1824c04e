"""The section ``summary``: the host as a whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nodes.inventory.capabilities import Capabilities, parse_capabilities
from nodes.inventory.cpu import CPU, CpuFacts, read_cpu
from nodes.inventory.cpuinfo import CPUINFO, parse_cpuinfo
from nodes.inventory.document import HostDocument, Problem
from nodes.inventory.forms import json_of, xml_of
from nodes.inventory.identity import HostIdentity
from nodes.inventory.identity import host_identity as identify
from nodes.inventory.jsontext import read_json
from nodes.inventory.libvirt.migration_tls import QEMU_TLS, MigrationTls, read_migration_tls
from nodes.inventory.machine import (
    MACHINE_IDENTITY,
    FirmwareFacts,
    MachineFacts,
    read_firmware,
    read_machine,
)
from nodes.inventory.memory import MEMORY, MemoryFacts, read_memory
from nodes.inventory.numa import NUMA, NumaFacts, read_numa
from nodes.inventory.procfiles import Files
from nodes.inventory.script import PROBE_SOURCE
from nodes.inventory.section import Parsed, Section
from nodes.inventory.source import LibvirtSource
from nodes.inventory.system import SYSTEM, SystemFacts, read_system
from nodes.inventory.virtualization import VirtualizationFacts, read_virtualization

MAX_SKEW_S = 30.0
"""A clock further off than this is a problem: journals and certificates depend on it."""


VOLATILE = frozenset(
    {
        "system.load",
        "system.clock.time",
        "system.clock.skew_s",
        "system.clock.synchronized",
        "system.uptime_s",
        "system.booted_at",  # computed from two clocks; the boot ID tells what it would
        "system.root_file_system.used_bytes",
        "system.root_file_system.available_bytes",
        "system.root_file_system.used_percent",
        "system.root_file_system.inodes_used",
        "cpu.current_mhz",
        "cpu.slowest_mhz",
        "cpu.fastest_mhz",
        "memory.available_bytes",
        "memory.used_bytes",
        "memory.used_percent",
        "memory.free_bytes",
        "memory.buffers_bytes",
        "memory.cached_bytes",
        "memory.shared_bytes",
        "memory.kernel_bytes",
        "memory.swap.used_bytes",
        "memory.swap.free_bytes",
        "memory.swap.used_percent",
        "memory.swap.devices.used_bytes",
        "memory.huge_pages.free_bytes",
        "memory.huge_pages.sizes.used",
        "memory.huge_pages.sizes.free",
        "memory.huge_pages.sizes.reserved",
        "memory.huge_pages.sizes.surplus",
        "numa.cells.memory_used_bytes",
        "numa.cells.memory_free_bytes",
        "numa.cells.memory_used_percent",
        "numa.cells.huge_pages.used",
        "numa.cells.huge_pages.free",
        "numa.cells.huge_pages.surplus",
        "numa.cells.distances",  # told once, by the matrix
        "identity",  # told by its parts
    }
)


@dataclass(frozen=True, slots=True)
class LibvirtFacts:
    """libvirt as it answered: versions as ``9.0.0``, ``hypervisor`` the connection's type (``QEMU``,
    ``TEST``). ``kvm``: it can run VMs with KVM, not only emulated. ``virtualization`` is the same as a word:
    ``KVM`` or the connection's type. ``migration_tls``: what QEMU has for encrypted migrations, None where
    that could not be read."""

    version: str | None
    hypervisor: str | None
    hypervisor_version: str | None
    virtualization: str | None
    kvm: bool | None
    uri: str | None
    hostname: str | None
    secure: bool | None
    encrypted: bool | None
    security_models: tuple[str, ...]
    migration_transports: tuple[str, ...]
    migration_tls: MigrationTls | None


@dataclass(frozen=True, slots=True)
class SummaryFacts:
    """Everything about the host that is no single device."""

    cpu: CpuFacts
    memory: MemoryFacts
    numa: NumaFacts
    virtualization: VirtualizationFacts
    machine: MachineFacts
    firmware: FirmwareFacts
    system: SystemFacts
    libvirt: LibvirtFacts
    machine_id: str | None
    identity: HostIdentity | None


def host_identity(facts: SummaryFacts) -> HostIdentity | None:
    """Who the host is (see identity.py); None where neither machine ID nor firmware UUID is known."""
    return facts.identity


def parse(document: HostDocument) -> Parsed[SummaryFacts]:
    """The summary of one document. What the shell could not read is taken from libvirt where it knows."""
    info = parse_cpuinfo(document.text(CPUINFO.name))
    files = Files(document.text(SYSTEM.name))
    capabilities = parse_capabilities(document.text("libvirt:capabilities"))
    sysinfo = document.text("libvirt:sysinfo")
    machine = read_machine(files, Files(document.text(MACHINE_IDENTITY.name)), sysinfo)
    machine_id = files.get("/etc/machine-id")
    live = document.observed_at if document.transport in ("local", "ssh") else None
    facts = SummaryFacts(
        cpu=read_cpu(Files(document.text(CPU.name)), info, capabilities),
        memory=read_memory(Files(document.text(MEMORY.name))),
        numa=read_numa(Files(document.text(NUMA.name)), capabilities),
        virtualization=read_virtualization(files, info, capabilities),
        machine=machine,
        firmware=read_firmware(files, sysinfo),
        system=read_system(files, live),
        libvirt=_libvirt(document, capabilities),
        machine_id=machine_id,
        identity=identify(machine_id, machine),
    )
    return Parsed(facts, tuple(_problems(document, facts)))


def _libvirt(document: HostDocument, capabilities: Capabilities) -> LibvirtFacts:
    told = _versions(document.text("libvirt:versions"))
    hypervisor = _text(told.get("type"))
    return LibvirtFacts(
        version=_version(told.get("libvirt")),
        hypervisor=hypervisor,
        hypervisor_version=_version(told.get("hypervisor")),
        virtualization="KVM" if capabilities.kvm else hypervisor,
        kvm=capabilities.kvm,
        uri=_text(told.get("uri")),
        hostname=_text(told.get("hostname")),
        secure=_flag(told.get("secure")),
        encrypted=_flag(told.get("encrypted")),
        security_models=capabilities.security_models,
        migration_transports=capabilities.migration_transports,
        migration_tls=read_migration_tls(document),
    )


def _versions(text: str) -> dict[str, Any]:
    try:
        told = read_json(text)
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


def _version(number: object) -> str | None:
    """``9.0.0`` of 9000000, as libvirt writes versions."""
    if not isinstance(number, int) or isinstance(number, bool) or number <= 0:
        return None
    return f"{number // 1_000_000}.{number // 1000 % 1000}.{number % 1000}"


def _text(value: object) -> str | None:
    return value or None if isinstance(value, str) else None


def _flag(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def _problems(document: HostDocument, facts: SummaryFacts) -> list[Problem]:
    problems = []
    if "guard none\n" in document.text(PROBE_SOURCE):
        message = "The host has no `timeout` (coreutils): a tool that hangs there is left running."
        problems.append(Problem("summary", PROBE_SOURCE, "no_timeout_tool", message))
    if "complete no\n" in document.text(PROBE_SOURCE):
        message = "The probe's output was cut off on its way: some sections lack facts."
        problems.append(Problem("summary", PROBE_SOURCE, "output_cut_off", message))
    skew = facts.system.clock.skew_s
    if skew is not None and abs(skew) > MAX_SKEW_S:
        way = "ahead of" if skew > 0 else "behind"
        message = f"The host's clock is {abs(skew):.0f} s {way} ours. Let it follow a time server (NTP)."
        problems.append(Problem("summary", SYSTEM.name, "clock_skew", message))
    return problems


SECTION = Section(
    slug="summary",
    title="Overview",
    sources=(CPUINFO, CPU, MEMORY, NUMA, SYSTEM, MACHINE_IDENTITY, QEMU_TLS),
    parse=parse,
    libvirt=(
        LibvirtSource("libvirt:versions", json_of(dict, always=True)),
        LibvirtSource("libvirt:capabilities", xml_of("capabilities")),
        LibvirtSource("libvirt:sysinfo", xml_of("sysinfo")),
    ),
    identity={
        "cpu.caches": "level,kind,size_bytes",
        "cpu.vulnerabilities": "name",
        "numa.cells": "id",
        "numa.cells.huge_pages": "size_bytes",
        "memory.huge_pages.sizes": "size_bytes",
        "memory.swap.devices": "path",
        "virtualization.features": "code",
        **{f"libvirt.migration_tls.{name}": "sha256" for name in ("authorities", "server", "client")},
    },
    volatile=VOLATILE,
    # What the kernel keeps for itself differs by some pages at each start of the host.
    nearly=dict.fromkeys(("memory.total_bytes", "numa.cells.memory_total_bytes"), 0.001),
    # The disks tell it of the partition itself, whose name is another at each start of the host.
    passing={"memory.swap.devices": {"kind": frozenset({"partition"})}},
)
