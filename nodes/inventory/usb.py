"""Section ``usb``: controllers, buses and the tree of devices.

Sources: Documentation/ABI/testing/sysfs-bus-usb of the kernel; names by
Documentation/driver-api/usb/usb.rst: ``1-2.3`` is port 3 of the hub in port 2 of bus 1, ``1-2.3:1.0`` an
interface of it, ``usb1`` the root hub.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from posixpath import basename

from nodes.inventory.document import HostDocument
from nodes.inventory.forms import FILES, LISTING
from nodes.inventory.holders import DOMAIN, DOMAINS, Holders, Holdings, read_holdings, unique_holders
from nodes.inventory.hostuse import (
    POOLS,
    TOLD_ELSEWHERE,
    USB_NAME,
    USE_FILES,
    USE_LINKS,
    HostUses,
    pci_address_of,
    read_host_uses,
)
from nodes.inventory.hwids import HardwareNames, usb_names
from nodes.inventory.links import IP_ADDRESS
from nodes.inventory.parsing.numbers import capped, decimal, integer
from nodes.inventory.section import Parsed, Section
from nodes.inventory.source import Source
from nodes.inventory.sysfiles import LIST_LINKS, Directory, read_links, read_values, resolve_links
from nodes.inventory.usb_facts import (
    UsbBus,
    UsbController,
    UsbDevice,
    UsbFacts,
    UsbInterface,
    UsbPort,
)
from nodes.inventory.usb_verdict import judge

_DEVICES = "/sys/bus/usb/devices"
_ENTER = f"cd {_DEVICES} 2>/dev/null || exit 0\n"
"""A host without USB has no such directory: that is no failure."""

USB_FILES = Source(
    name="usb-files",
    command=_ENTER
    + "grep -as . */idVendor */idProduct */bcdDevice */version */manufacturer */product */serial"
    " */speed */busnum */devnum */maxchild */bMaxPower */removable */authorized"
    " */bDeviceClass */bDeviceSubClass */bDeviceProtocol"
    " */bInterfaceNumber */bInterfaceClass */bInterfaceSubClass */bInterfaceProtocol */interface"
    " */*-port*/connect_type usb*/../numa_node",
    # 1: nothing found, 2: some of the files are not there.
    ok_statuses=(0, 1, 2),
    form=FILES,
)
USB_LINKS = Source(
    name="usb-links",
    command=_ENTER + f"{LIST_LINKS} * */driver usb*/../driver 2>/dev/null",
    ok_statuses=(0, 1, 2),
    form=LISTING,
)

_ROOT_HUB = re.compile(r"usb(\d{1,5})\Z", re.ASCII)
_INTERFACE = re.compile(r"(\d{1,5}-\d[\d.]*):\d{1,3}\.\d{1,3}\Z", re.ASCII)
_PORT = re.compile(r"(?:usb\d+|\d+-[\d.]+)-port(\d{1,3})/connect_type\Z", re.ASCII)
_POWER = re.compile(r"(\d{1,5})mA\Z", re.ASCII)
_SPEED = re.compile(r"\d{1,6}(?:\.\d)?\Z", re.ASCII)
_ID = re.compile(r"[0-9a-f]{4}\Z")
_CODE = re.compile(r"[0-9a-f]{2}\Z")
_HUB_CLASS = "09"
_MOST_PORTS = 255


@dataclass(frozen=True, slots=True)
class _Host:
    files: Directory
    paths: Mapping[str, str]
    names: HardwareNames
    uses: HostUses
    holdings: Holdings
    interfaces: Mapping[str, tuple[str, ...]]
    """Names of interfaces by device."""
    children: Mapping[str, Mapping[int, str]]
    """Devices by the port they are in, by hub."""

    def driver(self, name: str) -> str | None:
        target = self.paths.get(f"{name}/driver")
        return basename(target) or None if target else None


def parse(document: HostDocument) -> Parsed[UsbFacts]:
    """All USB devices of a document."""
    files = Directory.read(read_values(document.text(USB_FILES.name)))
    paths = resolve_links(read_links(document.text(USB_LINKS.name)), _DEVICES)
    holdings = read_holdings(document)
    known = {name for name in (*files, *paths) if USB_NAME.match(name) and len(name) < 64}
    names = sorted(known, key=_position)
    host = _Host(
        files,
        paths,
        usb_names(),
        read_host_uses(document, holdings),
        holdings,
        _read_interface_names(files, paths),
        _read_children(names),
    )
    devices = judge([_read_device(host, name) for name in names], uses_known=host.uses.complete)
    return Parsed(UsbFacts(_controllers(host, devices), _buses(devices), devices))


def place_of(name: str) -> tuple[int, tuple[int, ...]]:
    """Bus and ports of a device by its name; no ports for a root hub."""
    root = _ROOT_HUB.match(name)
    if root is not None:
        return capped(root.group(1)), ()
    bus, _, ports = name.partition("-")
    return capped(bus), tuple(capped(port) for port in ports.split("."))


def parent_of(name: str) -> str | None:
    """The hub that a device hangs on."""
    if _ROOT_HUB.match(name):
        return None
    hub, dot, _ = name.rpartition(".")
    return hub if dot else f"usb{name.partition('-')[0]}"


def _position(name: str) -> tuple[int, tuple[int, ...]]:
    return place_of(name)


def _read_children(names: list[str]) -> dict[str, dict[int, str]]:
    found: dict[str, dict[int, str]] = {}
    for name in names:
        parent = parent_of(name)
        if parent is not None:
            found.setdefault(parent, {})[place_of(name)[1][-1]] = name
    return found


def _read_interface_names(files: Directory, paths: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    found: dict[str, dict[str, None]] = {}
    for name in (*files, *paths):
        match = _INTERFACE.match(name)
        if match is not None:
            found.setdefault(match.group(1), {})[name] = None
    return {device: tuple(sorted(names)) for device, names in found.items()}


def _read_device(host: _Host, name: str) -> UsbDevice:
    files = host.files
    bus, ports = place_of(name)
    vendor, product = (_matching(_ID, files.text(name, file)) for file in ("idVendor", "idProduct"))
    class_id = _codes(files, name, "bDeviceClass", "bDeviceSubClass", "bDeviceProtocol")
    device_number = files.number(name, "devnum")
    interfaces = tuple(_read_interface(host, entry) for entry in host.interfaces.get(name, ()))
    is_root = not ports
    is_hub = is_root or (class_id or "").startswith(_HUB_CLASS)
    return UsbDevice(
        name=name,
        bus=bus,
        device_number=device_number,
        parent=parent_of(name),
        depth=len(ports),
        port=ports[-1] if ports else None,
        port_path=".".join(map(str, ports)) or None,
        controller=_controller_of(host.paths.get(f"usb{bus}", host.paths.get(name, ""))),
        vendor_id=vendor,
        vendor_name=host.names.vendor(vendor) if vendor else None,
        product_id=product,
        product_name=host.names.device(vendor, product) if vendor and product else None,
        manufacturer=files.text(name, "manufacturer"),
        product=files.text(name, "product"),
        serial=files.text(name, "serial"),
        revision=_release(files.text(name, "bcdDevice")),
        usb_version=files.text(name, "version"),
        speed_mbps=speed_mbps(files.text(name, "speed")),
        class_id=class_id,
        class_name=_device_class_name(host.names, class_id, interfaces),
        is_hub=is_hub,
        is_root_hub=is_root,
        removable={"removable": True, "fixed": False}.get(files.text(name, "removable") or ""),
        authorized={"1": True, "0": False}.get(files.text(name, "authorized") or ""),
        max_power_ma=_power(files.text(name, "bMaxPower")),
        interfaces=interfaces,
        ports=_ports(host, name),
        held_by=_holders(host.holdings, bus, device_number, vendor, product),
        # What is behind a hub is used there, and shown there.
        current_use=() if is_hub else host.uses.of(name),
    )


def _holders(
    holdings: Holdings, bus: int, device_number: int | None, vendor: str | None, product: str | None
) -> Holders | None:
    by_address = holdings.usb_addresses.get((bus, device_number), ()) if device_number else ()
    by_ids = holdings.usb_ids.get((vendor, product), ()) if vendor and product else ()
    return holdings.known(unique_holders((by_address, by_ids)))


def _read_interface(host: _Host, entry: str) -> UsbInterface:
    files = host.files
    class_id = _codes(files, entry, "bInterfaceClass", "bInterfaceSubClass", "bInterfaceProtocol")
    number = _matching(_CODE, files.text(entry, "bInterfaceNumber"))
    return UsbInterface(
        number=integer(number, 16) if number else None,
        class_id=class_id,
        class_name=_class_name(host.names, class_id),
        protocol_name=_protocol_name(host.names, class_id),
        driver=host.driver(entry),
        name=files.text(entry, "interface"),
    )


def _ports(host: _Host, name: str) -> tuple[UsbPort, ...]:
    """The ports of a hub: as many as it says it has, and those in which something is."""
    count = host.files.number(name, "maxchild") or 0
    children = host.children.get(name, {})
    bus, ports = place_of(name)
    hub_interface = f"{bus}-0:1.0" if not ports else f"{name}:1.0"
    types: dict[int, str] = {}
    for file, lines in host.files.entries.get(hub_interface, {}).items():
        match = _PORT.match(file)
        if match is not None and lines[0]:
            types[capped(match.group(1))] = lines[0]
    numbers = {*range(1, min(max(count, 0), _MOST_PORTS) + 1), *children}
    return tuple(UsbPort(number, children.get(number), types.get(number)) for number in sorted(numbers))


def _controller_of(root_path: str) -> str | None:
    """The controller of a bus by the path of its root hub: its PCI address, or its platform device."""
    address = pci_address_of(root_path)
    if address is not None:
        return address
    parts = root_path.split("/")
    index = next((index for index, part in enumerate(parts) if USB_NAME.match(part)), 0)
    return parts[index - 1] or None if index > 0 else None


def _controllers(host: _Host, devices: tuple[UsbDevice, ...]) -> tuple[UsbController, ...]:
    roots: dict[str, list[UsbDevice]] = {}
    for device in devices:
        if device.is_root_hub and device.controller is not None:
            roots.setdefault(device.controller, []).append(device)
    return tuple(
        UsbController(
            id=controller,
            pci_address=pci_address_of(controller),
            driver=host.driver(f"{hubs[0].name}/.."),
            numa_cell=_known_cell(host.files.number(hubs[0].name, "../numa_node")),
            buses=tuple(hub.bus for hub in hubs if hub.bus is not None),
        )
        for controller, hubs in roots.items()
    )


def _known_cell(number: int | None) -> int | None:
    return number if number is not None and number >= 0 else None


def _buses(devices: tuple[UsbDevice, ...]) -> tuple[UsbBus, ...]:
    return tuple(
        UsbBus(
            number=root.bus,
            controller=root.controller,
            root_hub=root.name,
            speed_mbps=root.speed_mbps,
            usb_version=root.usb_version,
            port_count=len(root.ports) or None,
            device_count=sum(device.bus == root.bus and not device.is_hub for device in devices),
        )
        for root in devices
        if root.is_root_hub and root.bus is not None
    )


def speed_mbps(text: str | None) -> float | None:
    """``480`` or ``1.5`` in Mbit/s; None for ``unknown``. Whole numbers stay whole."""
    if not text or not _SPEED.match(text):
        return None
    whole = integer(text.removesuffix(".0"))
    return whole if whole is not None else decimal(text)


def _matching(pattern: re.Pattern[str], text: str | None) -> str | None:
    lower = (text or "").lower()
    return lower if pattern.match(lower) else None


def _codes(files: Directory, name: str, *codes: str) -> str | None:
    """Class, subclass and protocol as one number of six digits; None without the class."""
    parts = [_matching(_CODE, files.text(name, code)) for code in codes]
    return "".join(part or "00" for part in parts) if parts[0] is not None else None


def _class_name(names: HardwareNames, class_id: str | None) -> str | None:
    return names.class_name(class_id[:2]) if class_id else None


def _protocol_name(names: HardwareNames, class_id: str | None) -> str | None:
    """The name of a subclass or protocol; usb.ids has "None" for those that mean nothing."""
    if class_id is None:
        return None
    name = names.class_name(class_id[:2], class_id[2:4], class_id[4:])
    return name if name not in (names.class_name(class_id[:2]), "None") else None


def _device_class_name(
    names: HardwareNames, class_id: str | None, interfaces: Iterable[UsbInterface]
) -> str | None:
    """The class of a device; most leave it to their interfaces, and say so with class 00."""
    if class_id is None or not class_id.startswith("00"):
        return _class_name(names, class_id)
    classes = {interface.class_name: None for interface in interfaces if interface.class_name}
    return ", ".join(classes) or None


def _release(text: str | None) -> str | None:
    """``0612`` is release 6.12."""
    if not re.fullmatch(r"[0-9a-f]{4}", text or ""):
        return None
    return f"{capped((text or '')[:2], 16):x}.{(text or '')[2:]}"


def _power(text: str | None) -> int | None:
    match = _POWER.match(text or "")
    return integer(match.group(1)) if match else None


SECTION = Section(
    slug="usb",
    title="USB",
    sources=(USB_FILES, USB_LINKS, USE_FILES, USE_LINKS, IP_ADDRESS),
    parse=parse,
    libvirt=(DOMAINS, DOMAIN, *POOLS),
    identity={
        "controllers": "id",
        "buses": "number",
        "devices": "name",
        "devices.interfaces": "number",
        "devices.ports": "number",
        "devices.held_by": "vm_uuid",
    },
    volatile=frozenset(
        {
            # It grows with every plugging in.
            "devices.device_number",
            # event7 and the like: others at each start of the host.
            "devices.current_use.device",
            # What follows from other facts would tell the same change again.
            "running",
            "buses.device_count",
            "devices.alike",
            "devices.passthrough",
            "devices.ports.device",
            "devices.selector",
        }
    ),
    # The root hubs are the kernel's, and tell its version.
    moving={"devices.manufacturer": "is_root_hub", "devices.revision": "is_root_hub"},
    passing={"devices.current_use": {"kind": TOLD_ELSEWHERE}},
    presence=frozenset({USB_FILES.name, USB_LINKS.name, USE_FILES.name, USE_LINKS.name}),
)
