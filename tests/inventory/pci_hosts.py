"""Small hosts for tests of the PCI and USB sections, put together from a few lines."""

from __future__ import annotations

import json

from nodes.inventory.document import HostDocument, SourceOutput, SourceStatus

NOTHING_USED = {"libvirt:domains": "[]", "use-files": "", "use-links": ""}
VM = "5f8b7c1e-0000-4000-8000-000000000001"


def document(texts: dict[str, str], **statuses: SourceStatus) -> HostDocument:
    """These texts; a source may have another status than OK (its dashes written as underscores)."""
    outputs = {
        name: SourceOutput(name, statuses.get(name.replace("-", "_"), SourceStatus.OK), text, "", 0)
        for name, text in (NOTHING_USED | texts).items()
    }
    return HostDocument("2025-03-01T10:00:00Z", outputs, "ssh", "root")


def device(address: str, code: str, ids: str = "8086:10d3", **files: object) -> str:
    """Lines of ``pci-files`` for one device."""
    vendor, model = ids.upper().split(":")
    classes = f"bc{code[:2]}sc{code[2:4]}i{code[4:]}".replace("bc", "BC").upper()
    classes = classes.replace("BC", "bc", 1).replace("SC", "sc", 1).replace("I", "i", 1)
    lines = [f"{address}/modalias:pci:v0000{vendor}d0000{model}sv00001AF4sd00001100{classes}"]
    lines += [f"{address}/{name}:{value}" for name, value in files.items()]
    return "\n".join(lines) + "\n"


def links(address: str, path: str = "", **targets: str) -> str:
    """Lines of ``pci-links`` for one device; ``path`` is where it is below /sys/devices/pci0000:00."""
    place = f"../../../devices/pci0000:00/{path or address}"
    lines = [f"lrwxrwxrwx 1 0  {address} -> {place}"]
    lines += [f"lrwxrwxrwx 1 0  {address}/{name} -> ../x/{target}" for name, target in targets.items()]
    return "\n".join(lines) + "\n"


def domain(devices: str, *, running: bool = True, name: str = "guest", uuid: str = VM) -> dict[str, str]:
    """libvirt's sources with one domain."""
    state = {"uuid": uuid, "name": name, "id": 1 if running else None, "state": 1 if running else 5}
    xml = f"<domain type='kvm'><name>{name}</name><devices>{devices}</devices></domain>"
    return {"libvirt:domains": json.dumps([state]), f"libvirt:domain:{uuid}": xml}


def pci_hostdev(bus: str, slot: str, function: str = "0x0", domain_number: str = "0x0000") -> str:
    address = f"<address domain='{domain_number}' bus='{bus}' slot='{slot}' function='{function}'/>"
    return f"<hostdev mode='subsystem' type='pci' managed='yes'><source>{address}</source></hostdev>"
