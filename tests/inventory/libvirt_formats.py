"""What libvirt says of a host as a whole, for hosts that are written by hand.

Sources: https://libvirt.org/formatcaps.html, the system information of https://libvirt.org/formatdomain.html,
and virConnectGetVersion.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Cell:
    """A NUMA cell of the capabilities. ``cpus``: number, socket and core of each, and its thread siblings.
    ``pages``: how many by page size in KiB."""

    id: int
    memory_kib: int
    distances: tuple[int, ...]
    pages: Mapping[int, int]
    cpus: tuple[tuple[int, int, int, str], ...]

    def xml(self) -> str:
        pages = "".join(
            f"<pages unit='KiB' size='{size}'>{count}</pages>" for size, count in self.pages.items()
        )
        siblings = "".join(f"<sibling id='{i}' value='{value}'/>" for i, value in enumerate(self.distances))
        cpus = "".join(
            f"<cpu id='{cpu}' socket_id='{socket}' die_id='0' core_id='{core}' siblings='{threads}'/>\n"
            for cpu, socket, core, threads in self.cpus
        )
        return (
            f"<cell id='{self.id}'>\n<memory unit='KiB'>{self.memory_kib}</memory>{pages}\n"
            f"<distances>{siblings}</distances>\n<cpus num='{len(self.cpus)}'>\n{cpus}</cpus>\n</cell>\n"
        )


def versions(hostname: str, libvirt: int, hypervisor: int) -> str:
    """``libvirt:versions`` of QEMU on that host, asked through its own shell."""
    told = {"libvirt": libvirt, "hypervisor": hypervisor, "type": "QEMU", "hostname": hostname}
    return json.dumps(told | {"uri": "qemu:///system", "api": libvirt, "secure": True, "encrypted": False})


def capabilities(uuid: str, cpu: str, cells: Iterable[Cell], guest: str) -> str:
    """``libvirt:capabilities`` of a host with an IOMMU; ``cpu`` and ``guest`` are the XML within those."""
    transports = "".join(f"<uri_transport>{name}</uri_transport>" for name in ("tcp", "rdma"))
    told = list(cells)
    return (
        f"<capabilities>\n<host>\n<uuid>{uuid}</uuid>\n<cpu>{cpu}</cpu>\n<power_management/>\n"
        f"<iommu support='yes'/>\n<migration_features><live/><uri_transports>{transports}</uri_transports>"
        f"</migration_features>\n<topology><cells num='{len(told)}'>\n{''.join(cell.xml() for cell in told)}"
        "</cells></topology>\n<secmodel><model>apparmor</model><doi>0</doi></secmodel>\n"
        "<secmodel><model>dac</model><doi>0</doi><baselabel type='kvm'>+64055:+64055</baselabel></secmodel>\n"
        f"</host>\n<guest><os_type>hvm</os_type>{guest}</guest>\n</capabilities>\n"
    )


def sysinfo(parts: Iterable[tuple[str, Mapping[str, str]]]) -> str:
    """``libvirt:sysinfo``: parts of the firmware's tables, as ``bios``, and their entries."""
    told = "".join(
        f"  <{part}>\n"
        + "".join(f"    <entry name='{name}'>{value}</entry>\n" for name, value in entries.items())
        + f"  </{part}>\n"
        for part, entries in parts
    )
    return f"<sysinfo type='smbios'>\n{told}</sysinfo>\n"
