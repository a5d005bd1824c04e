"""Devices in a domain's description: host devices, disks, network interfaces, graphics.

Format: https://libvirt.org/formatdomain.html#devices.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from lxml import etree

from nodes.inventory.holders import pci_address, scsi_address
from nodes.inventory.parsing.numbers import integer

_HEX_ID = re.compile(r"0[xX]([0-9a-fA-F]{1,8})\Z")
_MAC = re.compile(r"[0-9a-fA-F]{2}(?::[0-9a-fA-F]{2}){5}\Z")


@dataclass(frozen=True, slots=True)
class HostDevice:
    """A device of the host that the domain takes (or will take when it starts).

    ``type``: ``pci``, ``usb``, ``mdev``, ``scsi``, ``scsi_host`` … ``address`` names it on the host: a PCI
    address, ``bus:device`` of USB in decimal, an mdev's UUID, a SCSI ``host:bus:target:unit``; None for a
    USB device that is named by its ids alone. ``through`` is the element that names it: ``hostdev``,
    ``interface`` (a virtual function as network card) or ``disk`` (a whole NVMe). ``managed``: whether
    libvirt binds it to vfio-pci itself. ``missing``: an optional USB device that was not there at the
    start. ``by_ids``: a USB device whose ids are told, and whose address is another at each start.
    """

    type: str
    address: str | None
    vendor_id: str | None = None
    product_id: str | None = None
    model: str | None = None
    through: str = "hostdev"
    managed: bool | None = None
    missing: bool = False
    by_ids: bool = False


@dataclass(frozen=True, slots=True)
class Disk:
    """A disk of a domain.

    ``device``: ``disk``, ``cdrom``, ``floppy`` or ``lun``. ``source_kind``: ``file``, ``block``,
    ``volume``, ``network``, ``nvme``, ``dir``, ``vhostuser``, ``vhostvdpa`` or None for an empty drive.
    ``source`` is a path, ``pool/volume``, ``protocol:name`` or a PCI address by kind; ``backing`` the paths
    (or names) below an overlay, nearest first; ``capacity_bytes`` is known of the host's block devices alone.
    """

    target: str | None
    bus: str | None
    device: str
    source_kind: str | None
    source: str | None
    pool: str | None
    volume: str | None
    hosts: tuple[str, ...]
    format: str | None
    cache: str | None
    serial: str | None
    boot_order: int | None
    readonly: bool
    shareable: bool
    encrypted: bool
    backing: tuple[str, ...]
    capacity_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class NetworkInterface:
    """A network card of a domain.

    ``type``: ``network``, ``bridge``, ``direct`` (macvtap), ``hostdev``, ``ethernet``, ``user``, ``vdpa`` …
    ``bridge`` is the bridge it is on, where the description names one; ``source_device`` the host's
    interface below a direct one; ``target_device`` the tap or macvtap on the host, of a running domain
    alone; ``link_up`` False where the cable is pulled.
    """

    type: str
    mac: str | None
    model: str | None
    network: str | None
    portgroup: str | None
    bridge: str | None
    source_device: str | None
    source_mode: str | None
    target_device: str | None
    pci_address: str | None
    virtual_port: str | None
    vlan_tags: tuple[int, ...]
    mtu: int | None
    link_up: bool | None
    boot_order: int | None


@dataclass(frozen=True, slots=True)
class Graphics:
    """A console. ``port`` is None where none is given yet (chosen at the start) or it has none."""

    type: str
    listen: str | None
    port: int | None
    tls_port: int | None
    socket: str | None
    automatic_port: bool | None


def read_host_devices(root: etree._Element) -> tuple[HostDevice, ...]:
    """Host devices of all three kinds: ``<hostdev>``, network cards that are one, and NVMe disks."""
    found = [_host_device(element) for element in root.iterfind("devices/hostdev")]
    for kind in ("interface", "disk"):
        for element in root.iterfind(f"devices/{kind}"):
            source = element.find("source")
            if element.get("type") in ("hostdev", "nvme") and source is not None:
                owner = source if kind == "disk" else element
                address = pci_address(source.find("address"))
                found.append(HostDevice("pci", address, through=kind, managed=owner.get("managed") == "yes"))
    return tuple(found)


def _host_device(element: etree._Element) -> HostDevice:
    source = element.find("source")
    address = source.find("address") if source is not None else None
    kind = element.get("type") or "unknown"
    vendor, product = _hex_id(source, "vendor"), _hex_id(source, "product")
    return HostDevice(
        type=kind,
        address=_host_address(kind, source, address),
        vendor_id=vendor,
        product_id=product,
        model=element.get("model"),
        managed=element.get("managed") == "yes" if kind == "pci" else None,
        missing=source is not None and source.get("missing") == "yes",
        by_ids=kind == "usb" and vendor is not None and product is not None,
    )


def _host_address(kind: str, source: etree._Element | None, address: etree._Element | None) -> str | None:
    if kind == "pci":
        return pci_address(address)
    if source is None:
        return None
    if address is None:
        adapter = source.find("adapter")
        return source.get("wwpn") or (adapter.get("name") if adapter is not None else None)
    if kind == "usb":
        bus, device = integer(address.get("bus")), integer(address.get("device"))
        return f"{bus}:{device}" if bus and device else None
    if kind == "mdev":
        return (address.get("uuid") or "").lower() or None
    if kind == "scsi":
        return scsi_address(source)
    return None


def _hex_id(source: etree._Element | None, name: str) -> str | None:
    element = source.find(name) if source is not None else None
    match = _HEX_ID.match(element.get("id") or "") if element is not None else None
    return match.group(1).lower().zfill(4) if match else None


def read_disks(root: etree._Element) -> tuple[Disk, ...]:
    return tuple(_read_disk(element) for element in root.iterfind("devices/disk"))


def _read_disk(element: etree._Element) -> Disk:
    source, target, driver = element.find("source"), element.find("target"), element.find("driver")
    kind = element.get("type") if source is not None else None
    return Disk(
        target=_get(target, "dev"),
        bus=_get(target, "bus"),
        device=element.get("device") or "disk",
        source_kind=kind,
        source=_source_name(kind, source),
        pool=_get(source, "pool"),
        volume=_get(source, "volume"),
        hosts=tuple(read_hosts(source)),
        format=_get(driver, "type"),
        cache=_get(driver, "cache"),
        serial=(element.findtext("serial") or "").strip() or None,
        boot_order=_order(element),
        readonly=element.find("readonly") is not None,
        shareable=element.find("shareable") is not None,
        encrypted=element.find("encryption") is not None or element.find("source/encryption") is not None,
        backing=tuple(_backing(element)),
    )


def _source_name(kind: str | None, source: etree._Element | None) -> str | None:
    match kind:
        case "file" | "dir":
            return _get(source, kind)
        case "block" | "vhostvdpa":
            return _get(source, "dev")
        case "network":
            name = _get(source, "name")
            return f"{_get(source, 'protocol') or '?'}:{name}" if name else _get(source, "protocol")
        case "volume":
            pool, volume = _get(source, "pool"), _get(source, "volume")
            return f"{pool}/{volume}" if pool and volume else None
        case "nvme":
            return pci_address(source.find("address")) if source is not None else None
        case "vhostuser":
            return _get(source, "path")
        case _:
            return None


def read_hosts(source: etree._Element | None) -> Iterator[str]:
    """Hosts named in a ``<source>``, with their ports where given: ``mon1:6789``, ``[fd00::1]:3260``."""
    for host in source.iterfind("host") if source is not None else ():
        name, port = host.get("name") or host.get("socket"), host.get("port")
        if name:
            shown = f"[{name}]" if port and ":" in name else name
            yield f"{shown}:{port}" if port else shown


def _backing(element: etree._Element) -> Iterator[str]:
    """Sources of the chain below a disk. An empty ``<backingStore/>`` ends it."""
    below = element.find("backingStore")
    while below is not None:
        name = _source_name(below.get("type"), below.find("source"))
        if name:
            yield name
        below = below.find("backingStore")


def read_interfaces(root: etree._Element) -> tuple[NetworkInterface, ...]:
    return tuple(_read_interface(element) for element in root.iterfind("devices/interface"))


def _read_interface(element: etree._Element) -> NetworkInterface:
    source = element.find("source")
    kind = element.get("type") or "unknown"
    mac = _get(element.find("mac"), "address") or ""
    tags = (integer(tag.get("id")) for tag in element.iterfind("vlan/tag"))
    link = _get(element.find("link"), "state")
    return NetworkInterface(
        type=kind,
        mac=mac.lower() if _MAC.match(mac) else None,
        model=_get(element.find("model"), "type"),
        network=_get(source, "network"),
        portgroup=_get(source, "portgroup"),
        bridge=_get(source, "bridge"),
        source_device=_get(source, "dev"),
        source_mode=_get(source, "mode") if kind == "direct" else None,
        target_device=_get(element.find("target"), "dev"),
        pci_address=pci_address(source.find("address")) if source is not None and kind == "hostdev" else None,
        virtual_port=_get(element.find("virtualport"), "type"),
        vlan_tags=tuple(tag for tag in tags if tag is not None),
        mtu=integer(_get(element.find("mtu"), "size")),
        link_up=link == "up" if link in ("up", "down") else None,
        boot_order=_order(element),
    )


def read_graphics(root: etree._Element) -> tuple[Graphics, ...]:
    return tuple(_read_one_graphics(element) for element in root.iterfind("devices/graphics"))


def _read_one_graphics(element: etree._Element) -> Graphics:
    listen = element.find("listen")
    automatic = element.get("autoport")
    return Graphics(
        type=element.get("type") or "unknown",
        listen=element.get("listen") or _get(listen, "address"),
        port=_port(element.get("port")),
        tls_port=_port(element.get("tlsPort")),
        socket=element.get("socket") or _get(listen, "socket"),
        automatic_port=automatic == "yes" if automatic else None,
    )


def _port(text: str | None) -> int | None:
    number = integer(text)
    return number if number is not None and 0 < number < 65536 else None


def _order(element: etree._Element) -> int | None:
    return integer(_get(element.find("boot"), "order"))


def _get(element: etree._Element | None, name: str) -> str | None:
    return (element.get(name) or None) if element is not None else None
