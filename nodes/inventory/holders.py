"""Which VM holds which device of the host, read from libvirt's domain descriptions.

Format: https://libvirt.org/formatdomain.html, sections "Host device assignment", "Network interfaces" and
"Hard drives, floppy disks, CDROMs". The live description of a running domain names the very device that
was taken, also where its configuration names a pool or ids alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeVar

from lxml import etree

from nodes.inventory.document import HostDocument, SourceStatus
from nodes.inventory.forms import json_of, xml_of
from nodes.inventory.jsontext import read_json
from nodes.inventory.source import LibvirtSource
from nodes.inventory.sysfiles import whole_number
from nodes.inventory.xmltext import parse_xml

DOMAINS = LibvirtSource("libvirt:domains", json_of(list, always=True))
DOMAIN = LibvirtSource("libvirt:domain", xml_of("domain"))

_ACTIVE_STATES = frozenset({1, 2, 3, 4, 7})
"""virDomainState: running, blocked, paused, being shut down, suspended by the guest: all hold devices."""

_Element = etree._Element
_Key = TypeVar("_Key", str, tuple[int, int], tuple[str, str])


class HeldBy(StrEnum):
    """The part of a domain's description that names the device."""

    HOSTDEV = "hostdev"
    INTERFACE = "interface"
    DISK = "disk"


@dataclass(frozen=True, slots=True)
class Holder:
    """A VM that has a device in its description.

    ``running`` True: it holds the device now. False: it will take the device when it starts.
    ``managed``: whether libvirt binds the device to vfio-pci and back by itself (None: no matter).
    """

    vm_uuid: str
    vm_name: str
    running: bool
    through: HeldBy
    managed: bool | None = None


Holders = tuple[Holder, ...]


@dataclass(frozen=True, slots=True)
class Holdings:
    """All holders of a host's devices, by what names the device.

    ``pci`` by address (``0000:03:00.0``), ``usb_addresses`` by bus and device number, ``usb_ids`` by vendor
    and product of four hexadecimal digits (only where no address is given), ``mdevs`` by UUID,
    ``interfaces`` by name (macvtap and passthrough of a whole interface), ``block_devices`` by path,
    ``scsi_addresses`` by host, bus, target and unit as the kernel writes them (``0:0:1:0``), ``volumes`` by
    storage pool and name in it.
    ``complete``: every domain was read, so that a device without a holder has none.
    """

    pci: Mapping[str, Holders] = field(default_factory=dict)
    usb_addresses: Mapping[tuple[int, int], Holders] = field(default_factory=dict)
    usb_ids: Mapping[tuple[str, str], Holders] = field(default_factory=dict)
    mdevs: Mapping[str, Holders] = field(default_factory=dict)
    interfaces: Mapping[str, Holders] = field(default_factory=dict)
    block_devices: Mapping[str, Holders] = field(default_factory=dict)
    scsi_addresses: Mapping[str, Holders] = field(default_factory=dict)
    volumes: Mapping[tuple[str, str], Holders] = field(default_factory=dict)
    complete: bool = False

    def known(self, holders: Holders) -> Holders | None:
        """``holders``, or None where there are none only because not all domains were read."""
        return holders if holders or self.complete else None


class _Collected:
    def __init__(self) -> None:
        self.pci: dict[str, Holders] = {}
        self.usb_addresses: dict[tuple[int, int], Holders] = {}
        self.usb_ids: dict[tuple[str, str], Holders] = {}
        self.mdevs: dict[str, Holders] = {}
        self.interfaces: dict[str, Holders] = {}
        self.block_devices: dict[str, Holders] = {}
        self.scsi_addresses: dict[str, Holders] = {}
        self.volumes: dict[tuple[str, str], Holders] = {}


def read_holdings(document: HostDocument) -> Holdings:
    """Every device that a domain of ``document`` names. Descriptions that are no XML are passed over."""
    running = _running(document.text(DOMAINS.name))
    found = _Collected()
    complete = document.get(DOMAINS.name).status is SourceStatus.OK
    for uuid, output in document.items(DOMAIN.name):
        root = parse_xml(output.stdout) if output.usable else None
        if root is not None and root.tag == "domain":
            _read_domain(root, uuid, running.get(uuid), found)
        else:
            complete = False
    return Holdings(
        found.pci,
        found.usb_addresses,
        found.usb_ids,
        found.mdevs,
        found.interfaces,
        found.block_devices,
        found.scsi_addresses,
        found.volumes,
        complete,
    )


def pci_address(element: etree._Element | None) -> str | None:
    """The address in an ``<address domain= bus= slot= function=/>`` as ``0000:00:1f.2``."""
    if element is None:
        return None
    parts = [whole_number(element.get(name, default)) for name, default in _PCI_PARTS]
    domain, bus, slot, function = parts
    if domain is None or bus is None or slot is None or function is None:
        return None
    if not (0 <= domain <= 0xFFFFFFFF and 0 <= bus <= 0xFF and 0 <= slot <= 0x1F and 0 <= function <= 7):
        return None
    return f"{domain:04x}:{bus:02x}:{slot:02x}.{function:x}"


def scsi_address(source: etree._Element) -> str | None:
    """The address in ``<adapter name="scsi_host0"/>`` and ``<address bus= target= unit=/>`` as ``0:0:0:1``;
    None where the device is named otherwise (iSCSI)."""
    adapter, address = source.find("adapter"), source.find("address")
    if adapter is None or address is None:
        return None
    host = whole_number((adapter.get("name") or "").removeprefix("scsi_host"))
    parts = [host, *(whole_number(address.get(name)) for name in ("bus", "target", "unit"))]
    return None if None in parts else ":".join(map(str, parts))


_PCI_PARTS = (("domain", "0"), ("bus", ""), ("slot", ""), ("function", ""))


def _running(text: str) -> dict[str, bool]:
    """Whether each domain of ``libvirt:domains`` is active, by UUID."""
    try:
        domains = read_json(text) if text else []
    except ValueError:
        return {}
    found: dict[str, bool] = {}
    for domain in domains if isinstance(domains, list) else []:
        if isinstance(domain, dict) and isinstance(domain.get("uuid"), str):
            state = domain.get("state")
            active = isinstance(state, int) and state in _ACTIVE_STATES
            found[domain["uuid"]] = domain.get("id") is not None or active
    return found


def _read_domain(root: _Element, uuid: str, running: bool | None, found: _Collected) -> None:
    name = (root.findtext("name") or uuid).strip()
    # A live description carries the domain's id: enough where the list of domains could not be read.
    active = root.get("id") is not None if running is None else running
    for element in root.iterfind("devices/hostdev"):
        _read_hostdev(element, Holder(uuid, name, active, HeldBy.HOSTDEV, _managed(element)), found)
    for element in root.iterfind("devices/interface"):
        _read_interface(element, Holder(uuid, name, active, HeldBy.INTERFACE, _managed(element)), found)
    for element in root.iterfind("devices/disk"):
        _read_disk(element, Holder(uuid, name, active, HeldBy.DISK), found)


def _read_hostdev(element: _Element, holder: Holder, found: _Collected) -> None:
    source = element.find("source")
    if source is None or source.get("missing") == "yes":
        return  # startupPolicy="optional": the VM runs without the device
    address = source.find("address")
    match element.get("type"):
        case "pci":
            _note(found.pci, pci_address(address), holder)
        case "mdev":
            uuid = address.get("uuid") if address is not None else None
            _note(found.mdevs, uuid.lower() if uuid else None, holder)
        case "usb":
            _note_usb(source, holder, found)
        case "scsi":
            _note(found.scsi_addresses, scsi_address(source), holder)
        case _:
            block = source.findtext("block")  # <hostdev mode='capabilities' type='storage'>
            _note(found.block_devices, block.strip() if block else None, holder)


def _note_usb(source: _Element, holder: Holder, found: _Collected) -> None:
    address = source.find("address")
    if address is not None:
        bus, device = whole_number(address.get("bus")), whole_number(address.get("device"))
        if bus and device and bus > 0 and device > 0:
            _note(found.usb_addresses, (bus, device), holder)
            return
    vendor, product = source.find("vendor"), source.find("product")
    if vendor is not None and product is not None:
        ids = whole_number(vendor.get("id")), whole_number(product.get("id"))
        if ids[0] is not None and ids[1] is not None:
            _note(found.usb_ids, (f"{ids[0]:04x}", f"{ids[1]:04x}"), holder)


def _read_interface(element: _Element, holder: Holder, found: _Collected) -> None:
    source = element.find("source")
    if source is None:
        return
    match element.get("type"):
        case "hostdev":
            _note(found.pci, pci_address(source.find("address")), holder)
        case "direct":
            plain = Holder(holder.vm_uuid, holder.vm_name, holder.running, holder.through)
            _note(found.interfaces, source.get("dev"), plain)


def _read_disk(element: _Element, holder: Holder, found: _Collected) -> None:
    source = element.find("source")
    if source is None:
        return
    match element.get("type"):
        case "block":
            _note(found.block_devices, source.get("dev"), holder)
        case "volume":
            pool, volume = source.get("pool"), source.get("volume")
            _note(found.volumes, (pool, volume) if pool and volume else None, holder)
        case "nvme":
            managed = Holder(
                holder.vm_uuid, holder.vm_name, holder.running, holder.through, source.get("managed") == "yes"
            )
            _note(found.pci, pci_address(source.find("address")), managed)


def _managed(element: _Element) -> bool:
    return element.get("managed") == "yes"


def _note(where: dict[_Key, Holders], key: _Key | None, holder: Holder) -> None:
    if not key:
        return
    known: Holders = where.get(key, ())
    if holder not in known:
        where[key] = (*known, holder)


def unique_holders(found: Iterable[Holders]) -> Holders:
    """Several holders' tuples as one, each VM once, the running ones first."""
    once = {(holder.vm_uuid, holder.through): holder for holders in found for holder in holders}
    return tuple(sorted(once.values(), key=lambda holder: (not holder.running, holder.vm_name)))
