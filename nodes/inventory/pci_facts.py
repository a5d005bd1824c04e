"""The facts of the section ``pci``: devices, IOMMU groups, and what some kinds have of their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from nodes.inventory.holders import Holders
from nodes.inventory.hostuse import HostUse
from nodes.inventory.iommu import IommuKind
from nodes.inventory.passthrough import Passthrough, Verdict
from nodes.inventory.vpd import Vpd


class PciKind(StrEnum):
    GPU = "gpu"
    NETWORK = "network"
    NVME = "nvme"
    STORAGE = "storage"
    USB_CONTROLLER = "usb-controller"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class PcieLink:
    """Speeds in GT/s per lane (2.5, 5, 8, 16, 32, 64), widths in lanes. ``reduced``: slower or narrower than
    the device could; many GPUs lower their speed while idle."""

    speed_gtps: float | None = None
    width: int | None = None
    max_speed_gtps: float | None = None
    max_width: int | None = None
    reduced: bool | None = None


@dataclass(frozen=True, slots=True)
class PhysicalFunction:
    """A device that can make virtual functions: how many, how many there are, and their addresses."""

    total_vfs: int
    configured_vfs: int | None
    virtual_functions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class VirtualFunction:
    """A virtual function: the address of its physical one, and its number there (from 0)."""

    physical_function: str
    index: int | None = None


@dataclass(frozen=True, slots=True)
class MdevInstance:
    """A mediated device. ``type`` is its type's id."""

    uuid: str
    type: str | None
    held_by: Holders | None = None


@dataclass(frozen=True, slots=True)
class MdevType:
    """A type of mediated devices that a device offers; ``available`` more can be made now."""

    id: str
    name: str | None = None
    description: str | None = None
    device_api: str | None = None
    available: int | None = None
    instances: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NetworkPort:
    """A network interface of the device. ``speed_mbps`` None: no link, or a driver that does not know."""

    name: str
    mac: str | None = None
    operational_state: str | None = None
    speed_mbps: int | None = None


@dataclass(frozen=True, slots=True)
class AttachedDisk:
    """A whole disk behind the device; ``size_bytes`` None where no medium is in it."""

    name: str
    size_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class NvmeController:
    """One NVMe controller (``nvme0``), as its driver describes it. Its namespaces are the device's disks."""

    name: str
    model: str | None = None
    serial: str | None = None
    firmware: str | None = None
    state: str | None = None


@dataclass(frozen=True, slots=True)
class DisplayConnector:
    """``status``: ``connected``, ``disconnected`` or ``unknown``. ``enabled``: whether it shows something."""

    name: str
    status: str | None = None
    enabled: bool | None = None


@dataclass(frozen=True, slots=True)
class Gpu:
    """``drm_nodes`` below ``/dev/dri`` (``card0``, ``renderD128``). The rest is what its driver tells:
    amdgpu the memory and VBIOS, NVIDIA's the model, UUID, VBIOS and driver version."""

    drm_nodes: tuple[str, ...] = ()
    connectors: tuple[DisplayConnector, ...] = ()
    memory_bytes: int | None = None
    vbios_version: str | None = None
    vendor_model: str | None = None
    vendor_uuid: str | None = None
    vendor_driver_version: str | None = None


@dataclass(frozen=True, slots=True)
class PciDevice:
    """One PCI function.

    ``address`` is ``0000:00:1f.2`` (domains may have more than four digits), ``parent`` the bridge it is
    behind. Ids are hexadecimal without ``0x``; ``class_id`` has six digits (class, subclass,
    programming interface: ``010802`` is mass storage, NVM, ``NVM Express``).
    ``driver`` is the one bound now, ``modules`` all that the kernel has for it (None where not known).
    ``iommu_group`` 0 is a group; None is none. ``reset_methods`` None: the kernel does not say. ``held_by``
    None: libvirt did not say, so that some VM may have it; empty: none has.
    """

    address: str
    kind: PciKind
    class_id: str | None
    class_name: str | None
    programming_interface: str | None
    vendor_id: str | None
    vendor_name: str | None
    device_id: str | None
    device_name: str | None
    subsystem_vendor_id: str | None
    subsystem_vendor_name: str | None
    subsystem_device_id: str | None
    subsystem_name: str | None
    revision: str | None
    label: str | None
    parent: str | None
    is_bridge: bool
    driver: str | None
    driver_override: str | None
    module: str | None
    modules: tuple[str, ...] | None
    numa_cell: int | None
    iommu_group: int | None
    boot_vga: bool | None
    link: PcieLink | None = None
    reset_methods: tuple[str, ...] | None = None
    physical_function: PhysicalFunction | None = None
    virtual_function: VirtualFunction | None = None
    mdev_types: tuple[MdevType, ...] = ()
    mdev_instances: tuple[MdevInstance, ...] = ()
    vpd: Vpd | None = None
    gpu: Gpu | None = None
    interfaces: tuple[NetworkPort, ...] = ()
    nvme: tuple[NvmeController, ...] = ()
    disks: tuple[AttachedDisk, ...] = ()
    usb_buses: tuple[int, ...] = ()
    held_by: Holders | None = None
    current_use: tuple[HostUse, ...] = ()
    passthrough: Passthrough = field(default_factory=lambda: Passthrough(Verdict.POSSIBLE))


@dataclass(frozen=True, slots=True)
class IommuGroup:
    """Devices that the IOMMU cannot tell apart: they go to one VM together.

    ``isolated``: one device alone, bridges not counted. ``passthrough`` is the best verdict of its devices.
    """

    number: int
    type: str | None
    devices: tuple[str, ...]
    bridges: tuple[str, ...]
    isolated: bool
    numa_cells: tuple[int, ...]
    held_by: Holders | None
    passthrough: Verdict


@dataclass(frozen=True, slots=True)
class PciFacts:
    """Section ``pci``.

    ``iommu_enabled`` None: it could not be read. ``iommu_remedy``: how to switch it on where it is off.
    ``counts`` says how many devices there are of each kind.
    """

    devices: tuple[PciDevice, ...] = ()
    iommu_groups: tuple[IommuGroup, ...] = ()
    iommu_enabled: bool | None = None
    iommu_kind: IommuKind | None = None
    iommu_units: tuple[str, ...] = ()
    iommu_parameters: tuple[str, ...] = ()
    iommu_remedy: str | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
