"""The facts of the section ``usb``: controllers, buses, and the devices with their place in the tree."""

from __future__ import annotations

from dataclasses import dataclass, field

from nodes.inventory.holders import Holders
from nodes.inventory.hostuse import HostUse
from nodes.inventory.passthrough import Passthrough, Verdict


@dataclass(frozen=True, slots=True)
class UsbInterface:
    """One function of a device.

    ``class_id`` has six digits: class, subclass, protocol. ``class_name`` is of the class (``Human Interface
    Device``), ``protocol_name`` of the rest where it has a name (``Keyboard``).
    """

    number: int | None
    class_id: str | None
    class_name: str | None
    protocol_name: str | None
    driver: str | None
    name: str | None = None


@dataclass(frozen=True, slots=True)
class UsbPort:
    """A port of a hub: the device in it (by its name, ``1-2.1``), None where it is empty.

    ``connect_type`` as the firmware describes the socket: ``hotplug``, ``hardwired`` or ``not used``.
    """

    number: int
    device: str | None = None
    connect_type: str | None = None


@dataclass(frozen=True, slots=True)
class UsbSelector:
    """How a VM's description can name the device (https://libvirt.org/formatdomain.html, "USB").

    ``vendor_id`` and ``product_id`` find it in whatever port it is, if ``unique`` (no other device has the
    same ids). ``bus`` and ``device_number`` find exactly this one, until it is plugged in anew. ``port``
    (``1-2.1``) is its place, which stays; QEMU's ``hostport`` takes it.
    """

    vendor_id: str | None
    product_id: str | None
    unique: bool | None
    bus: int | None
    device_number: int | None
    port: str | None


@dataclass(frozen=True, slots=True)
class UsbDevice:
    """One device, hub or root hub.

    ``name`` is the kernel's (``1-2.1``: bus 1, port 2, port 1 there; ``usb1`` a root hub), ``parent`` the
    name of the hub it hangs on, ``depth`` 0 for a root hub, ``port_path`` ``2.1``. ``speed_mbps`` is 1.5,
    12, 480, 5000 …; ids are hexadecimal without ``0x``. ``manufacturer``, ``product`` and ``serial`` are
    the device's own words, ``vendor_name`` and ``product_name`` those of the database.
    """

    name: str
    bus: int | None
    device_number: int | None
    parent: str | None
    depth: int
    port: int | None
    port_path: str | None
    controller: str | None
    vendor_id: str | None
    vendor_name: str | None
    product_id: str | None
    product_name: str | None
    manufacturer: str | None
    product: str | None
    serial: str | None
    revision: str | None
    usb_version: str | None
    speed_mbps: float | None
    class_id: str | None
    class_name: str | None
    is_hub: bool
    is_root_hub: bool
    removable: bool | None
    authorized: bool | None
    max_power_ma: int | None
    interfaces: tuple[UsbInterface, ...] = ()
    ports: tuple[UsbPort, ...] = ()
    selector: UsbSelector | None = None
    alike: tuple[str, ...] = ()
    """Other devices with the same ids."""
    held_by: Holders | None = None
    """None: libvirt did not say; empty: no VM has it."""
    current_use: tuple[HostUse, ...] = ()
    passthrough: Passthrough = field(default_factory=lambda: Passthrough(Verdict.POSSIBLE))


@dataclass(frozen=True, slots=True)
class UsbController:
    """A host controller. ``id`` is its PCI address, or the platform device where it is none of PCI."""

    id: str
    pci_address: str | None
    driver: str | None
    numa_cell: int | None
    buses: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class UsbBus:
    """A bus: its root hub, speed and ports, and the devices on it (root hub and hubs not counted)."""

    number: int
    controller: str | None
    root_hub: str
    speed_mbps: float | None
    usb_version: str | None
    port_count: int | None
    device_count: int


@dataclass(frozen=True, slots=True)
class UsbFacts:
    """Section ``usb``. ``devices`` is flat, each after its parent, children in the order of their ports."""

    controllers: tuple[UsbController, ...] = ()
    buses: tuple[UsbBus, ...] = ()
    devices: tuple[UsbDevice, ...] = ()
