"""Bridges of Open vSwitch, which the kernel shows as one datapath with all their ports.

Source: the database of Open vSwitch as ``ovs-vsctl`` prints it (ovs-vswitchd.conf.db(5); the form of its
JSON is RFC 7047, section 5.1). Where that tool is not there, or not allowed, the datapath's ports are shown
as those of one bridge named after it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nodes.inventory.bridges import Bridge, BridgePort
from nodes.inventory.document import HostDocument
from nodes.inventory.forms import json_of
from nodes.inventory.interface import kind_of, master_of, shared_facts
from nodes.inventory.jsontext import read_values
from nodes.inventory.links import Link, Links
from nodes.inventory.source import Source
from nodes.inventory.vm_ports import VmPort, VmPorts

OVS = Source(
    name="ovs",
    needs="ovs-vsctl",
    command="""ovs-vsctl --timeout=2 -f json \\
  -- --columns=_uuid,name,ports,datapath_type,fail_mode,stp_enable,rstp_enable list Bridge \\
  -- --columns=_uuid,name,interfaces,tag,trunks,vlan_mode,bond_mode list Port \\
  -- --columns=_uuid,name,type list Interface""",
    form=json_of(dict),
)
KIND = "openvswitch"

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Tables:
    bridges: Sequence[Row]
    ports: Mapping[str, Row]
    interfaces: Mapping[str, Row]


def read_ovs_bridges(document: HostDocument, links: Links, vm_ports: VmPorts) -> tuple[Bridge, ...]:
    """The bridges of Open vSwitch; none where it does not run."""
    tables = _tables(document.text(OVS.name))
    if tables is not None:
        return tuple(_bridge(row, tables, links, vm_ports) for row in tables.bridges)
    datapaths = (link for link in links.by_name.values() if link.name == "ovs-system")
    return tuple(_datapath(link, links, vm_ports) for link in datapaths)


def _bridge(row: Row, tables: _Tables, links: Links, vm_ports: VmPorts) -> Bridge:
    name = _text(row.get("name")) or "?"
    found = (tables.ports.get(str(uuid)) for uuid in _set(row.get("ports")))
    ports = (_port(port, tables, links, vm_ports) for port in found if port is not None)
    # The port of the bridge's own name is its way to the host: its interface, no port of it.
    others = tuple(sorted((port for port in ports if port.name != name), key=lambda port: port.name))
    rapid, stp = row.get("rstp_enable"), row.get("stp_enable")
    protocol = "rstp" if rapid is True else "stp" if stp is True else "off" if stp is False else None
    link = links.by_name.get(name, Link(name))
    datapath = _text(row.get("datapath_type")) or "system"
    return _ovs_bridge(link, links, vm_ports, others, protocol, datapath, _text(row.get("fail_mode")))


def _datapath(link: Link, links: Links, vm_ports: VmPorts) -> Bridge:
    owners = vm_ports.by_device()
    members = [other for other in links.by_name.values() if master_of(other) == link.name]
    ports = tuple(_bare_port(member.name, member, links, owners.get(member.name)) for member in members)
    return _ovs_bridge(link, links, vm_ports, ports, None, "system", None)


def _ovs_bridge(
    link: Link,
    links: Links,
    vm_ports: VmPorts,
    ports: tuple[BridgePort, ...],
    stp: str | None,
    datapath: str,
    fail_mode: str | None,
) -> Bridge:
    names = {port.name for port in ports}
    vms = vm_ports.users(lambda port: port.bridge == link.name or port.name in names)
    return Bridge(
        **{**shared_facts(link, links), "kind": KIND},
        type=KIND,
        stp=stp,
        datapath=datapath,
        fail_mode=fail_mode,
        ports=ports,
        vms=vms,
    )


def _port(row: Row, tables: _Tables, links: Links, vm_ports: VmPorts) -> BridgePort:
    name = _text(row.get("name")) or "?"
    found = [tables.interfaces.get(str(uuid), {}) for uuid in _set(row.get("interfaces"))]
    names = [text for interface in found if (text := _text(interface.get("name"))) is not None]
    kind = next((text for interface in found if (text := _text(interface.get("type")))), None)
    link = links.by_name.get(name)
    owner = vm_ports.by_device().get(name)
    port = _bare_port(name, link, links, owner)
    tag, trunks = row.get("tag"), [str(vlan) for vlan in _set(row.get("trunks"))]
    return BridgePort(
        name=name,
        kind="bond" if len(names) > 1 else kind or port.kind,
        pvid=tag if isinstance(tag, int) and not isinstance(tag, bool) else None,
        tagged=",".join(trunks) or None,
        untagged=str(tag) if isinstance(tag, int) and not isinstance(tag, bool) else None,
        vm=port.vm,
        interfaces=tuple(sorted(names)) or (name,),
        bond_mode=_text(row.get("bond_mode")) if len(names) > 1 else None,
    )


def _bare_port(name: str, link: Link | None, links: Links, owner: VmPort | None) -> BridgePort:
    return BridgePort(
        name=name,
        kind=kind_of(link, links) if link is not None else None,
        vm=owner.vm if owner is not None else None,
        interfaces=(name,),
    )


def _tables(text: str) -> _Tables | None:
    """The three tables; None unless all came."""
    tables = [_rows(value) for value in read_values(text)]
    if len(tables) < 3:
        return None
    bridges, ports, interfaces = tables[:3]
    return _Tables(bridges, _by_uuid(ports), _by_uuid(interfaces))


def _rows(table: object) -> list[Row]:
    headings = table.get("headings") if isinstance(table, dict) else None
    data = table.get("data") if isinstance(table, dict) else None
    if not isinstance(headings, list) or not isinstance(data, list):
        return []
    names = [name if isinstance(name, str) else "" for name in headings]
    return [dict(zip(names, row, strict=False)) for row in data if isinstance(row, list)]


def _by_uuid(rows: Sequence[Row]) -> dict[str, Row]:
    return {uuid: row for row in rows for uuid in _set(row.get("_uuid")) if isinstance(uuid, str)}


def _set(value: object) -> list[str | int]:
    """The atoms of a value: ``["set", […]]``, or a single one. A UUID is ``["uuid", TEXT]``."""
    if isinstance(value, list) and len(value) == 2 and value[0] == "set" and isinstance(value[1], list):
        return [atom for item in value[1] for atom in _set(item)]
    if isinstance(value, list):
        uuid = value[1] if len(value) == 2 and value[0] == "uuid" else None
        return [uuid] if isinstance(uuid, str) else []
    return [value] if isinstance(value, (str, int)) and not isinstance(value, bool) else []


def _text(value: object) -> str | None:
    return (value or None) if isinstance(value, str) else None
