"""Section ``vms``: the virtual machines that libvirt knows on a host, running or not.

Sources: the list of domains with their states (virDomainGetState, virDomainGetInfo) and each one's XML
(https://libvirt.org/formatdomain.html). A domain of which one of the two is lacking is shown with the other's
facts; what is not known then is None.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from nodes.inventory.block_sizes import BlockSizes
from nodes.inventory.document import HostDocument, Problem
from nodes.inventory.domain_devices import Disk, Graphics, HostDevice, NetworkInterface
from nodes.inventory.domain_states import reason_name, row_is_active, state_name
from nodes.inventory.domain_tuning import CpuModel, GuestCell, Pinning
from nodes.inventory.domain_xml import Boot, DomainXml, read_domain
from nodes.inventory.forms import json_of, xml_of
from nodes.inventory.jsontext import Tree, read_objects, read_values, truth, whole, words
from nodes.inventory.section import Parsed, Section
from nodes.inventory.source import LibvirtSource
from nodes.inventory.xmltext import parse_xml

DOMAINS = LibvirtSource("libvirt:domains", json_of(list, always=True))
DOMAIN = LibvirtSource("libvirt:domain", xml_of("domain"))


@dataclass(frozen=True, slots=True)
class Vm:
    """One VM.

    ``state`` is ``running``, ``blocked``, ``paused``, ``shutdown`` (on its way down), ``shutoff``,
    ``crashed``, ``pmsuspended`` or None, ``reason`` the word for why, where libvirt gives one; ``active``:
    whether it has a process on the host. Members below ``persistent`` are None, or empty, where
    ``described`` is False: its XML could not be read. Memory in bytes: ``memory_current_bytes`` is what the
    guest has now (the balloon), ``memory_max_bytes`` what it may have. ``cpu_time_s`` grows while it runs.
    """

    uuid: str
    name: str
    id: int | None
    state: str | None
    reason: str | None
    active: bool | None
    vcpus_current: int | None
    vcpus_max: int | None
    memory_current_bytes: int | None
    memory_max_bytes: int | None
    cpu_time_s: float | None
    autostart: bool | None
    persistent: bool | None
    managed_save: bool | None
    described: bool
    type: str | None = None
    title: str | None = None
    description: str | None = None
    huge_pages: bool | None = None
    cpu: CpuModel | None = None
    pinning: Pinning | None = None
    guest_cells: tuple[GuestCell, ...] = ()
    boot: Boot | None = None
    tpm: str | None = None
    host_devices: tuple[HostDevice, ...] = ()
    disks: tuple[Disk, ...] = ()
    interfaces: tuple[NetworkInterface, ...] = ()
    graphics: tuple[Graphics, ...] = ()


@dataclass(frozen=True, slots=True)
class VmsFacts:
    """All VMs by name. ``total`` and ``active`` are None where libvirt gave no list: none is then no fact."""

    total: int | None
    active: int | None
    vms: tuple[Vm, ...]


def parse(document: HostDocument) -> Parsed[VmsFacts]:
    """The VMs of ``document``. Never raises."""
    described: dict[str, DomainXml] = {}
    problems: list[Problem] = []
    for uuid, output in document.items(DOMAIN.name):
        root = parse_xml(output.stdout) if output.usable else None
        if root is not None and root.tag == "domain":
            described[uuid] = read_domain(root)
        elif output.usable:
            message = f"The description of the VM {uuid} is no XML that can be read."
            problems.append(Problem("vms", f"{DOMAIN.name}:{uuid}", "unreadable", message))
    listed, listing = _listed(document)
    if document.text(DOMAINS.name) and not listing:
        message = "libvirt's list of domains cannot be read."
        problems.append(Problem("vms", DOMAINS.name, "unreadable", message))
    names = dict.fromkeys((*listed, *described))
    sizes = BlockSizes(document)
    vms = tuple(_vm(uuid, listed.get(uuid, {}), described.get(uuid), sizes) for uuid in names)
    ordered = tuple(sorted(vms, key=lambda vm: (vm.name, vm.uuid)))
    total = len(vms) if listing else None
    active = sum(vm.active is True for vm in vms) if listing else None
    return Parsed(VmsFacts(total, active, ordered), tuple(problems))


def _listed(document: HostDocument) -> tuple[Mapping[str, Tree], bool]:
    """Rows of the list by UUID, and whether there is a list at all (an empty one is)."""
    text = document.text(DOMAINS.name)
    rows = {uuid: row for row in read_objects(text) if (uuid := words(row, "uuid")) is not None}
    values = read_values(text)
    return rows, bool(values) and isinstance(values[0], list)


def _vm(uuid: str, row: Tree, xml: DomainXml | None, sizes: BlockSizes) -> Vm:
    state = state_name(whole(row, "state"))
    live_id = whole(row, "id")
    if live_id is None and xml is not None and not row:
        live_id = xml.live_id
    facts = Vm(
        uuid=uuid,
        name=words(row, "name") or (xml.name if xml else None) or uuid,
        id=live_id,
        state=state,
        reason=reason_name(state, whole(row, "reason")),
        active=row_is_active(row) if row else live_id is not None,
        vcpus_current=whole(row, "vcpus"),
        vcpus_max=None,
        memory_current_bytes=_kib(row, "memory_kib"),
        memory_max_bytes=_kib(row, "max_memory_kib"),
        cpu_time_s=_seconds(row),
        autostart=truth(row, "autostart"),
        persistent=truth(row, "persistent"),
        managed_save=truth(row, "managed_save"),
        described=xml is not None,
    )
    return facts if xml is None else _described(facts, xml, sizes)


def _described(vm: Vm, xml: DomainXml, sizes: BlockSizes) -> Vm:
    """``vm`` with what its XML tells. Where both tell, the list wins: it has what is true now."""
    return replace(
        vm,
        vcpus_current=_known(vm.vcpus_current, xml.vcpus_current),
        vcpus_max=xml.vcpus_max,
        memory_current_bytes=_known(vm.memory_current_bytes, xml.memory_current_bytes),
        memory_max_bytes=_known(vm.memory_max_bytes, xml.memory_max_bytes),
        type=xml.type,
        title=xml.title,
        description=xml.description,
        huge_pages=xml.huge_pages,
        cpu=xml.cpu,
        pinning=xml.pinning,
        guest_cells=xml.guest_cells,
        boot=xml.boot,
        tpm=xml.tpm,
        host_devices=xml.host_devices,
        disks=tuple(_with_capacity(disk, sizes) for disk in xml.disks),
        interfaces=xml.interfaces,
        graphics=xml.graphics,
    )


def _with_capacity(disk: Disk, sizes: BlockSizes) -> Disk:
    size = sizes.get(disk.source) if disk.source_kind == "block" else None
    return replace(disk, capacity_bytes=size) if size is not None else disk


def _known(first: int | None, second: int | None) -> int | None:
    return second if first is None else first


def _kib(row: Tree, name: str) -> int | None:
    number = whole(row, name)
    return number * 1024 if number is not None and number >= 0 else None


def _seconds(row: Tree) -> float | None:
    number = whole(row, "cpu_time_ns")
    return round(number / 1e9, 3) if number is not None and 0 <= number < 1 << 64 else None


SECTION = Section(
    slug="vms",
    title="VMs",
    sources=(),
    parse=parse,
    libvirt=(DOMAINS, DOMAIN),
    identity={
        "vms": "uuid",
        "vms.pinning.vcpus": "vcpu",
        "vms.pinning.iothreads": "vcpu",
        "vms.pinning.cells": "cell",
        "vms.guest_cells": "id",
        "vms.disks": "target",
        "vms.interfaces": "mac",
    },
    volatile=frozenset(
        {
            # What is counted, or follows from the state, or is given anew at each start.
            "total",
            "active",
            "vms.id",
            "vms.reason",
            "cpu_time_s",
            "memory_current_bytes",
            "vms.interfaces.target_device",
            "vms.interfaces.bridge",
            "vms.graphics.port",
            "vms.graphics.tls_port",
            "vms.graphics.socket",
            "vms.graphics.listen",
        }
    ),
    moving={"vms.host_devices.address": "by_ids"},
    presence=frozenset({DOMAINS.name}),
)
