"""Hosts that nobody here has, written by hand after the kernel's documented formats.

``python -m tests.inventory.handwritten`` writes their documents anew; sources of other sections that stand
in them are kept. ``arm-server``: 80 Neoverse-N1 cores, SMMU, UEFI with Secure Boot, and the devices and VMs
of tests/fixtures/arm_host.py. ``two-socket``: two sockets of 32 cores and 64 threads, four NUMA cells, one
CPU offline, four isolated, 1 GiB huge pages, VT-d; its summary alone. ``large``: the summary of the host
that tests/fixtures/large_host.py fills with devices.
"""

from __future__ import annotations

from dataclasses import replace

from nodes.inventory.document import HostDocument, SourceOutput, SourceStatus
from tests.fixtures.arm_host import device_sources
from tests.inventory.arm_server import ARM_IDENTITY, arm_cpu, arm_cpuinfo, arm_memory, arm_numa, arm_system
from tests.inventory.documents import HOSTS, host_document, save_document
from tests.inventory.kernel_formats import OBSERVED_AT
from tests.inventory.qemu_tls import PLAIN, encrypting
from tests.inventory.two_socket import (
    XEON_IDENTITY,
    large_libvirt,
    large_numa,
    large_system,
    xeon_cpu,
    xeon_cpuinfo,
    xeon_memory,
    xeon_numa,
    xeon_system,
)

HANDWRITTEN = {
    "large": {
        "cpuinfo": xeon_cpuinfo,
        "cpu": xeon_cpu,
        "memory": xeon_memory,
        "numa": large_numa,
        "system": large_system,
        "machine-identity": lambda: XEON_IDENTITY.replace("4C4C4544-0051", "4C4C4544-0052"),
        "qemu-tls": encrypting,
    },
    "arm-server": {
        "cpuinfo": arm_cpuinfo,
        "cpu": arm_cpu,
        "memory": arm_memory,
        "numa": arm_numa,
        "system": arm_system,
        "machine-identity": lambda: ARM_IDENTITY,
        "qemu-tls": lambda: PLAIN,
    },
    "two-socket": {
        "cpuinfo": xeon_cpuinfo,
        "cpu": xeon_cpu,
        "memory": xeon_memory,
        "numa": xeon_numa,
        "system": xeon_system,
        "machine-identity": lambda: XEON_IDENTITY,
        "qemu-tls": lambda: PLAIN,
    },
}

BESIDES = {"arm-server": device_sources, "large": large_libvirt}
"""What one function gives of several sources."""


def write(name: str) -> HostDocument:
    """The document of that host with its hand-written sources, beside whatever else stands in it."""
    standing = HostDocument(OBSERVED_AT, {}, "ssh", "root")
    if (HOSTS / name / "document.json").exists():
        standing = replace(host_document(name), observed_at=OBSERVED_AT)
    texts = {source: make() for source, make in HANDWRITTEN[name].items()}
    if name in BESIDES:
        texts |= BESIDES[name]()
    outputs = {key: SourceOutput(key, SourceStatus.OK, text, "", 0, 0.01) for key, text in texts.items()}
    return standing.with_sources(outputs)


if __name__ == "__main__":
    for host in HANDWRITTEN:
        save_document(host, write(host))
