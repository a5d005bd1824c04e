"""Section ``pci``: every PCI function, the IOMMU groups, and what can be given to a VM.

Sources: Documentation/ABI/testing/sysfs-bus-pci of the kernel for the files, its
Documentation/driver-api/vfio.rst for what groups mean, Documentation/driver-api/vfio-mediated-device.rst
for mediated devices, and lspci for the modules that fit a device.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from posixpath import basename

from nodes.inventory.document import HostDocument, SourceStatus
from nodes.inventory.forms import FILES, LISTING, lines_like
from nodes.inventory.holders import DOMAIN, DOMAINS, Holders, Holdings, read_holdings, unique_holders
from nodes.inventory.hostuse import (
    PCI_ADDRESS,
    POOLS,
    TOLD_ELSEWHERE,
    USE_FILES,
    USE_LINKS,
    HostUses,
    pci_address_of,
    read_host_uses,
)
from nodes.inventory.hwids import HardwareNames, pci_names
from nodes.inventory.iommu import Iommu, read_iommu
from nodes.inventory.links import IP_ADDRESS
from nodes.inventory.parsing.numbers import capped, integer
from nodes.inventory.passthrough import Verdict
from nodes.inventory.pci_details import (
    Mdevs,
    read_gpu,
    read_link,
    read_mdev_instances,
    read_mdev_types,
    read_mdevs,
    read_nvme,
    read_ports,
)
from nodes.inventory.pci_facts import (
    AttachedDisk,
    IommuGroup,
    PciDevice,
    PciFacts,
    PciKind,
    PhysicalFunction,
    VirtualFunction,
)
from nodes.inventory.pci_ids import read_ids
from nodes.inventory.pci_verdict import View, judge
from nodes.inventory.section import Parsed, Section
from nodes.inventory.source import Source
from nodes.inventory.sysfiles import LIST_LINKS, Directory, read_links, read_values, resolve_links
from nodes.inventory.vpd import VPD, Vpd, decode_vpd, parse_vpd

_DEVICES = "/sys/bus/pci/devices"
_ENTER = f"cd {_DEVICES} 2>/dev/null || exit 0\n"
"""A host without PCI has no such directory: that is no failure."""

PCI_FILES = Source(
    name="pci-files",
    command=_ENTER + "grep -as . */modalias */revision */numa_node"
    " */current_link_speed */current_link_width */max_link_speed */max_link_width"
    " */boot_vga */label */driver_override */reset_method */sriov_totalvfs */sriov_numvfs"
    " */mdev_supported_types/*/name */mdev_supported_types/*/description"
    " */mdev_supported_types/*/device_api */mdev_supported_types/*/available_instances"
    " */mem_info_vram_total */vbios_version"
    " /proc/driver/nvidia/version /proc/driver/nvidia/gpus/*/information"
    " /sys/class/nvme/*/model /sys/class/nvme/*/serial /sys/class/nvme/*/firmware_rev /sys/class/nvme/*/state"
    " /sys/kernel/iommu_groups/*/type /sys/kernel/iommu_groups/*/name"
    " /sys/devices/system/cpu/modalias /proc/cmdline",
    # 1: nothing found, 2: some of the files are not there.
    ok_statuses=(0, 1, 2),
    form=FILES,
)
PCI_LINKS = Source(
    name="pci-links",
    command=_ENTER + f"{LIST_LINKS} * */driver */driver/module */iommu_group */physfn */virtfn*"
    " /sys/class/iommu/* /sys/bus/usb/devices/usb* /sys/bus/mdev/devices/* /sys/bus/mdev/devices/*/mdev_type"
    " 2>/dev/null",
    ok_statuses=(0, 1, 2),
    form=LISTING,
)
PCI_MODULES = Source(
    name="pci-modules",
    command="lspci -Dnk",
    needs="lspci",
    form=lines_like(r"^[0-9a-f]{4,8}:[0-9a-f]{2}:"),
)


@dataclass(frozen=True, slots=True)
class _Host:
    """What all devices of one host are read from."""

    values: Mapping[str, list[str]]
    files: Directory
    paths: Mapping[str, str]
    names: HardwareNames
    uses: HostUses
    holdings: Holdings
    modules: Mapping[str, tuple[str, ...]] | None
    vpd: Mapping[str, Vpd] = field(default_factory=dict)
    virtual_functions: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    """Of each physical function by the number of the virtual one."""
    usb_buses: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    mdevs: Mapping[str, Mdevs] = field(default_factory=dict)
    nvme: Directory = field(default_factory=Directory)

    def link(self, address: str, name: str) -> str | None:
        """The last part of where a link of a device points to."""
        target = self.paths.get(f"{address}/{name}")
        return basename(target) or None if target else None


def parse(document: HostDocument) -> Parsed[PciFacts]:
    """All PCI devices of a document."""
    links = read_links(document.text(PCI_LINKS.name))
    host = _read_host(document, resolve_links(links, _DEVICES))
    addresses = {name for name in (*host.files, *host.paths) if PCI_ADDRESS.match(name)}
    unjudged = [_read_device(host, address) for address in sorted(addresses, key=_position)]
    groups_seen: bool | None = any(device.iommu_group is not None for device in unjudged)
    if not groups_seen and not _all_listed(document, host, unjudged):
        groups_seen = None
    values = host.values
    iommu = read_iommu(values, links, groups_seen)
    unlisted = frozenset(device.address for device in unjudged if device.address not in host.paths)
    view = View(iommu, _usb_holders(host), unlisted, host.uses.complete)
    devices = judge(unjudged, view)
    counts = Counter(device.kind.value for device in devices)
    facts = PciFacts(
        devices=devices,
        iommu_groups=_groups(devices, iommu),
        iommu_enabled=iommu.enabled,
        iommu_kind=iommu.kind,
        iommu_units=iommu.units,
        iommu_parameters=iommu.parameters,
        iommu_remedy=iommu.remedy,
        counts={kind.value: counts[kind.value] for kind in PciKind},
    )
    return Parsed(facts)


def _read_host(document: HostDocument, paths: Mapping[str, str]) -> _Host:
    values = read_values(document.text(PCI_FILES.name))
    holdings = read_holdings(document)
    return _Host(
        values=values,
        files=Directory.read(values),
        paths=paths,
        names=pci_names(),
        uses=read_host_uses(document, holdings),
        holdings=holdings,
        modules=_read_modules(document.text(PCI_MODULES.name)),
        vpd=_read_vpd(document),
        virtual_functions=_read_virtual_functions(paths),
        usb_buses=_read_usb_buses(paths),
        mdevs=read_mdevs(paths),
        nvme=Directory.read(values, "/sys/class/nvme/"),
    )


def _all_listed(document: HostDocument, host: _Host, devices: Iterable[PciDevice]) -> bool:
    """Whether all devices' links were read: only then does no group mean that there is none."""
    complete = document.get(PCI_LINKS.name).status is SourceStatus.OK
    listed = [device.address in host.paths for device in devices]
    return complete and bool(listed) and all(listed)


def _position(address: str) -> tuple[int, ...]:
    return tuple(capped(part, 16) for part in re.split(r"[:.]", address))


def _read_device(host: _Host, address: str) -> PciDevice:
    files = host.files
    ids = read_ids(files.text(address, "modalias"), host.names)
    group, override = host.link(address, "iommu_group"), files.text(address, "driver_override")
    numa_cell, boot_vga = files.number(address, "numa_node"), files.number(address, "boot_vga")
    methods = files.text(address, "reset_method")
    device = PciDevice(
        address=address,
        kind=ids.kind,
        class_id=ids.class_id,
        class_name=ids.class_name,
        programming_interface=ids.programming_interface,
        vendor_id=ids.vendor_id,
        vendor_name=ids.vendor_name,
        device_id=ids.device_id,
        device_name=ids.device_name,
        subsystem_vendor_id=ids.subsystem_vendor_id,
        subsystem_vendor_name=ids.subsystem_vendor_name,
        subsystem_device_id=ids.subsystem_device_id,
        subsystem_name=ids.subsystem_name,
        revision=_revision(files.text(address, "revision")),
        label=files.text(address, "label"),
        parent=pci_address_of(host.paths.get(address, "").rpartition("/")[0]),
        is_bridge=ids.is_bridge,
        driver=host.link(address, "driver"),
        driver_override=override if override != "(null)" else None,
        module=host.link(address, "driver/module"),
        modules=None if host.modules is None else host.modules.get(address, ()),
        numa_cell=numa_cell if numa_cell is not None and numa_cell >= 0 else None,
        iommu_group=integer(group, most=999_999_999),
        boot_vga=None if boot_vga is None else boot_vga == 1,
        link=read_link(files, address),
        reset_methods=tuple(methods.split()) if methods else None,
        physical_function=_physical_function(host, address),
        virtual_function=_virtual_function(host, address),
    )
    return _with_details(host, device)


def _with_details(host: _Host, device: PciDevice) -> PciDevice:
    """The device with what is made of it, what is behind it, and who uses that."""
    address, uses = device.address, host.uses
    below, mdevs = uses.attached(address), host.mdevs.get(address, {})
    sizes = uses.blocks.size_bytes
    return replace(
        device,
        mdev_types=read_mdev_types(host.files, address, mdevs),
        mdev_instances=read_mdev_instances(mdevs, host.holdings),
        vpd=host.vpd.get(address),
        gpu=read_gpu(host.values, host.files, uses, address) if device.kind is PciKind.GPU else None,
        interfaces=read_ports(uses, below.interfaces),
        nvme=read_nvme(host.nvme, below.nvme_controllers),
        disks=tuple(AttachedDisk(name.replace("!", "/"), sizes(name)) for name in below.disks),
        usb_buses=host.usb_buses.get(address, ()),
        held_by=host.holdings.known(unique_holders([host.holdings.pci.get(address, ())])),
        # What is behind a bridge is used there, and shown there.
        current_use=() if device.is_bridge else uses.of(address),
    )


def _revision(text: str | None) -> str | None:
    match = re.fullmatch(r"0x([0-9a-f]{2})", text or "")
    return match.group(1) if match else None


def _physical_function(host: _Host, address: str) -> PhysicalFunction | None:
    total = host.files.number(address, "sriov_totalvfs")
    made = host.virtual_functions.get(address, {})
    if (total is None or total < 0) and not made:
        return None
    configured = host.files.number(address, "sriov_numvfs")
    functions = tuple(made[index] for index in sorted(made))
    return PhysicalFunction(total if total is not None else len(made), configured, functions)


def _virtual_function(host: _Host, address: str) -> VirtualFunction | None:
    parent = host.link(address, "physfn")
    if parent is None or not PCI_ADDRESS.match(parent):
        return None
    siblings = host.virtual_functions.get(parent, {})
    index = next((number for number, function in siblings.items() if function == address), None)
    return VirtualFunction(parent, index)


def _read_virtual_functions(paths: Mapping[str, str]) -> dict[str, dict[int, str]]:
    found: dict[str, dict[int, str]] = {}
    for path, target in paths.items():
        address, slash, number = path.partition("/virtfn")
        function = basename(target)
        if slash and re.fullmatch(r"[0-9]{1,5}", number) and PCI_ADDRESS.match(function):
            found.setdefault(address, {})[capped(number)] = function
    return found


def _read_usb_buses(paths: Mapping[str, str]) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {}
    for path, target in paths.items():
        match = re.fullmatch(r"/sys/bus/usb/devices/usb([0-9]{1,5})", path)
        address = pci_address_of(target) if match else None
        if match and address:
            found[address] = (*found.get(address, ()), capped(match.group(1)))
    return {address: tuple(sorted(buses)) for address, buses in found.items()}


def _usb_holders(host: _Host) -> dict[str, Holders]:
    """VMs that run with a USB device which is behind a USB controller, by the controller's address."""
    found: dict[str, Holders] = {}
    for address, buses in host.usb_buses.items():
        of_buses = (held for (bus, _), held in host.holdings.usb_addresses.items() if bus in buses)
        held = unique_holders(of_buses)
        if held:
            found[address] = held
    return found


def _read_modules(text: str) -> dict[str, tuple[str, ...]] | None:
    """``Kernel modules:`` of ``lspci -Dnk`` by address; None where lspci could not look them up."""
    found: dict[str, tuple[str, ...]] = {}
    address = ""
    for line in text.split("\n"):
        first, _, rest = line.strip().partition(" ")
        if not line.startswith(("\t", " ")):
            address = first if PCI_ADDRESS.match(first) else ""
        elif address and rest.startswith("modules:"):
            found[address] = tuple(rest.removeprefix("modules:").replace(",", " ").split())
    return found or None


def _read_vpd(document: HostDocument) -> dict[str, Vpd]:
    read = ((item, parse_vpd(decode_vpd(output.stdout))) for item, output in document.items(VPD.name))
    return {item: vpd for item, vpd in read if vpd is not None}


def _groups(devices: Iterable[PciDevice], iommu: Iommu) -> tuple[IommuGroup, ...]:
    members: dict[int, list[PciDevice]] = {}
    for device in devices:
        if device.iommu_group is not None:
            members.setdefault(device.iommu_group, []).append(device)
    order = list(Verdict)
    groups: list[IommuGroup] = []
    for number, inside in sorted(members.items()):
        endpoints = [device for device in inside if not device.is_bridge]
        verdicts = [device.passthrough.verdict for device in endpoints]
        groups.append(
            IommuGroup(
                number=number,
                type=(iommu.group_types or {}).get(number),
                devices=tuple(device.address for device in inside),
                bridges=tuple(device.address for device in inside if device.is_bridge),
                isolated=len(endpoints) == 1,
                numa_cells=tuple(sorted({d.numa_cell for d in inside if d.numa_cell is not None})),
                held_by=_held_together(inside),
                passthrough=min(verdicts, key=order.index, default=Verdict.BLOCKED),
            )
        )
    return tuple(groups)


def _held_together(devices: Iterable[PciDevice]) -> Holders | None:
    """The holders of several devices; None where nobody is known to hold one and some are unknown."""
    each = [device.held_by for device in devices]
    found = unique_holders(holders or () for holders in each)
    return found if found or None not in each else None


SECTION = Section(
    slug="pci",
    title="PCI",
    sources=(PCI_FILES, PCI_LINKS, PCI_MODULES, VPD, USE_FILES, USE_LINKS, IP_ADDRESS),
    parse=parse,
    libvirt=(DOMAINS, DOMAIN, *POOLS),
    optional=(PCI_MODULES.name,),
    identity={
        "devices": "address",
        "devices.nvme": "serial",
        "devices.disks": "name",
        "devices.interfaces": "name",
        "devices.mdev_types": "id",
        "devices.mdev_instances": "uuid",
        "devices.mdev_instances.held_by": "vm_uuid",
        "devices.held_by": "vm_uuid",
        "devices.gpu.connectors": "name",
    },
    volatile=frozenset(
        {
            # A GPU slows its link while idle.
            "devices.link.speed_gtps",
            "devices.link.reduced",
            "devices.mdev_types.available",
            # The kernel gives such names in the order in which it finds things, other ones at each start of
            # the host. Disks are told by the section of theirs.
            "devices.disks",
            "devices.nvme.name",
            "devices.gpu.drm_nodes",
            "devices.current_use.device",
            # What follows from other facts would tell the same change again.
            "running",
            "devices.passthrough",
            "devices.physical_function.virtual_functions",
            "devices.mdev_types.instances",
            "devices.interfaces.operational_state",
            "devices.interfaces.speed_mbps",
            "iommu_groups",
            "iommu_remedy",
            "counts",
        }
    ),
    passing={"devices.current_use": {"kind": TOLD_ELSEWHERE}},
    presence=frozenset({PCI_FILES.name, PCI_LINKS.name, USE_FILES.name, USE_LINKS.name}),
)
