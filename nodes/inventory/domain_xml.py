"""A domain's description as libvirt writes it, as typed facts.

Format: https://libvirt.org/formatdomain.html. The live description of a running domain (the one that is
collected for it) also names what exists while it runs alone: its tap devices, ports, the device taken from
a pool. What libvirt leaves out is None here: its defaults depend on version and architecture.
"""

from __future__ import annotations

from dataclasses import dataclass

from lxml import etree

from nodes.inventory.domain_devices import (
    Disk,
    Graphics,
    HostDevice,
    NetworkInterface,
    read_disks,
    read_graphics,
    read_host_devices,
    read_interfaces,
)
from nodes.inventory.domain_tuning import (
    CpuModel,
    GuestCell,
    Pinning,
    read_cpu,
    read_guest_cells,
    read_pinning,
)
from nodes.inventory.libvirt_units import memory_bytes
from nodes.inventory.parsing.numbers import integer
from nodes.inventory.xmltext import child_text


@dataclass(frozen=True, slots=True)
class Boot:
    """How a domain starts: machine type, firmware and boot devices.

    ``firmware`` is ``bios``, ``uefi`` or None where neither is said (a direct kernel boot, say, or an
    architecture whose firmware is built in). ``secure_boot`` is None where the description does not tell.
    """

    arch: str | None
    machine: str | None
    firmware: str | None
    secure_boot: bool | None
    loader: str | None
    nvram: str | None
    kernel: str | None
    devices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DomainXml:
    """One domain. ``type`` is the hypervisor's way of running it: ``kvm``, ``qemu`` (emulated), ``lxc`` …"""

    type: str | None
    uuid: str | None
    name: str | None
    live_id: int | None
    title: str | None
    description: str | None
    vcpus_current: int | None
    vcpus_max: int | None
    memory_current_bytes: int | None
    memory_max_bytes: int | None
    huge_pages: bool
    cpu: CpuModel
    pinning: Pinning
    guest_cells: tuple[GuestCell, ...]
    boot: Boot
    host_devices: tuple[HostDevice, ...]
    disks: tuple[Disk, ...]
    interfaces: tuple[NetworkInterface, ...]
    graphics: tuple[Graphics, ...]
    tpm: str | None


def read_domain(root: etree._Element) -> DomainXml:
    """Facts of the ``<domain>`` element ``root``. Never raises: what is odd in it is None."""
    vcpus = integer(child_text(root, "vcpu"))
    vcpu = root.find("vcpu")
    current = integer(vcpu.get("current")) if vcpu is not None else None
    tpm = root.find("devices/tpm/backend")
    return DomainXml(
        type=root.get("type"),
        uuid=child_text(root, "uuid"),
        name=child_text(root, "name"),
        live_id=integer(root.get("id")),
        title=child_text(root, "title"),
        description=child_text(root, "description"),
        vcpus_current=vcpus if current is None else current,
        vcpus_max=vcpus,
        memory_current_bytes=memory_bytes(root.find("currentMemory")),
        memory_max_bytes=memory_bytes(root.find("memory")),
        huge_pages=root.find("memoryBacking/hugepages") is not None,
        cpu=read_cpu(root),
        pinning=read_pinning(root),
        guest_cells=read_guest_cells(root),
        boot=_read_boot(root),
        host_devices=read_host_devices(root),
        disks=read_disks(root),
        interfaces=read_interfaces(root),
        graphics=read_graphics(root),
        tpm=tpm.get("type") if tpm is not None else None,
    )


def _read_boot(root: etree._Element) -> Boot:
    os_type, loader = root.find("os/type"), root.find("os/loader")
    arch = os_type.get("arch") if os_type is not None else None
    kernel = child_text(root, "os/kernel")
    boots = (element.get("dev") for element in root.iterfind("os/boot"))
    return Boot(
        arch=arch,
        machine=os_type.get("machine") if os_type is not None else None,
        firmware=_firmware(root, loader, arch),
        secure_boot=_secure_boot(root, loader),
        loader=child_text(root, "os/loader"),
        nvram=child_text(root, "os/nvram"),
        kernel=kernel,
        devices=tuple(device for device in boots if device),
    )


def _firmware(root: etree._Element, loader: etree._Element | None, arch: str | None) -> str | None:
    section = root.find("os")
    told = section.get("firmware") if section is not None else None
    if told:
        return "uefi" if told == "efi" else told
    if loader is not None:
        # A loader in flash is a UEFI image; one in ROM says nothing but that it is not the default.
        return {"pflash": "uefi", "rom": "bios"}.get(loader.get("type") or "rom")
    return "bios" if section is not None and arch in ("x86_64", "i686") else None


def _secure_boot(root: etree._Element, loader: etree._Element | None) -> bool | None:
    for feature in root.iterfind("os/firmware/feature"):
        if feature.get("name") == "secure-boot":
            return feature.get("enabled") == "yes"
    if loader is not None and loader.get("secure") in ("yes", "no"):
        return loader.get("secure") == "yes"
    return None
