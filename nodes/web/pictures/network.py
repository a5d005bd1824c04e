"""The picture of a host's network: cards, bonds, VLANs, bridges and VMs in columns, joined by lines.

Takes the plain facts of the section ``net`` (nodes/inventory/net.py). Units are pixels of the drawing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from django.utils.translation import gettext as _

from nodes.web import figures

Facts = Mapping[str, Any]

WIDTH, VM_WIDTH = 172.0, 150.0
TALL, LOW = 46.0, 26.0
GAP_Y, TOP = 10.0, 26.0
GAP_X = {2: 120.0, 3: 110.0, 4: 100.0, 5: 66.0}
MOST_VMS = 48
MOST_SHIFT = 80.0
"""A short column stands this much lower at most: further down nobody would see it beside fifty VMs."""
CHARACTERS = 21
WAY, WAY_HEIGHT = "way", 10.0
COLUMNS = ("nic", "bond", "vlan", "bridge", "vm")


@dataclass(frozen=True, slots=True)
class Box:
    """One interface or VM. ``tone``: ``up``, ``down``, ``unknown`` or ``off`` (a VM that does not run)."""

    key: str
    column: str
    name: str
    note: str
    tone: str
    hint: str
    x: float = 0.0
    y: float = 0.0
    width: float = WIDTH
    height: float = TALL

    @property
    def middle(self) -> float:
        return self.y + self.height / 2

    @property
    def right(self) -> float:
        return self.x + self.width

    @property
    def shown_name(self) -> str:
        return self.name if len(self.name) <= CHARACTERS else self.name[: CHARACTERS - 1] + "…"


@dataclass(frozen=True, slots=True)
class Line:
    """A line from one box to another; ``active`` marks the card that carries an active-backup bond."""

    path: str
    up: bool
    active: bool
    dot_x: float
    dot_y: float
    words: str


@dataclass(frozen=True, slots=True)
class Picture:
    width: float
    height: float
    heads: tuple[tuple[float, str], ...]
    """Where a column begins, and its key out of :data:`COLUMNS`."""
    boxes: tuple[Box, ...]
    lines: tuple[Line, ...]
    vms_left_out: int


@dataclass(frozen=True, slots=True)
class _Edge:
    source: str
    target: str
    up: bool
    active: bool = False


def draw(facts: Facts) -> Picture | None:
    """The picture; None for a host on which nothing is there to be drawn."""
    boxes = {box.key: box for box in _boxes(facts)}
    edges = [edge for edge in _edges(facts) if edge.source in boxes and edge.target in boxes]
    boxes, left_out = _few_vms(boxes)
    edges = [edge for edge in edges if edge.target in boxes]
    # A virtual function that nothing stands on says nothing; there can be hundreds.
    joined = {key for edge in edges for key in (edge.source, edge.target)}
    shown = {key: box for key, box in boxes.items() if key in joined or not box.key.startswith("vf:")}
    if not shown:
        return None
    used = [name for name in COLUMNS if any(box.column == name for box in shown.values())]
    ways = {edge: _way(shown[edge.source], shown[edge.target], used) for edge in edges}
    shown |= {stop.key: stop for way in ways.values() for stop in way}
    placed = _place(_columns(shown, _hops(ways)))
    return Picture(
        width=max(box.right for box in placed.values()) + 2,
        height=max(box.y + box.height for box in placed.values()) + 2,
        heads=tuple(dict.fromkeys((box.x, box.column) for box in placed.values())),
        boxes=tuple(box for box in placed.values() if box.tone != WAY),
        lines=tuple(
            _line([placed[key] for key in (edge.source, *(stop.key for stop in way), edge.target)], edge)
            for edge, way in ways.items()
        ),
        vms_left_out=left_out,
    )


def _way(source: Box, target: Box, used: list[str]) -> tuple[Box, ...]:
    """Room for a line in the columns that it passes: behind the boxes there, it would seem to join them."""
    between = used[used.index(source.column) + 1 : used.index(target.column)]
    keys = ((f"{source.key}>{target.key}:{name}", name) for name in between)
    return tuple(Box(key, name, "", "", WAY, "", height=WAY_HEIGHT) for key, name in keys)


def _hops(ways: Mapping[_Edge, tuple[Box, ...]]) -> list[_Edge]:
    """Edges from column to column, by way of the room made for them."""
    hops = []
    for edge, way in ways.items():
        keys = [edge.source, *(stop.key for stop in way), edge.target]
        hops += [replace(edge, source=a, target=b) for a, b in pairwise(keys)]
    return hops


def _boxes(facts: Facts) -> Iterator[Box]:
    for nic in facts["nics"]:
        prefix, tone = "vf" if nic["physical_function"] else "if", _tone(nic)
        note = figures.mbps_text(nic["speed_mbps"]) or (_("off") if tone == "off" else nic["state"] or "")
        yield Box(f"{prefix}:{nic['name']}", "nic", nic["name"], note, tone, _hint(nic))
    for bond in facts["bonds"]:
        yield Box(f"if:{bond['name']}", "bond", bond["name"], bond["mode"] or "", _tone(bond), _hint(bond))
    for vlan in facts["vlans"]:
        note = f"VLAN {vlan['vlan_id']}" if vlan["vlan_id"] is not None else "VLAN"
        yield Box(f"if:{vlan['name']}", "vlan", vlan["name"], note, _tone(vlan), _hint(vlan))
    for bridge in facts["bridges"]:
        kind = "Open vSwitch" if bridge["type"] == "openvswitch" else "Linux"
        if bridge["stp"] and bridge["stp"] != "off":
            kind += " · STP"
        yield Box(f"if:{bridge['name']}", "bridge", bridge["name"], kind, _tone(bridge), _hint(bridge))
    for vm in {port["vm"]["vm_uuid"]: port["vm"] for port in facts["vm_ports"]}.values():
        tone = "up" if vm["running"] else "off"
        yield Box(f"vm:{vm['vm_uuid']}", "vm", vm["vm_name"], "", tone, "", width=VM_WIDTH, height=LOW)


def _tone(interface: Facts) -> str:
    """Off is what was switched off, and a bridge without a port: nothing is wrong with either."""
    state = interface["state"]
    if state in ("up", "dormant"):
        return "up"
    if interface["admin_up"] is False or (state is not None and interface.get("ports") == []):
        return "off"
    return "unknown" if state is None else "down"


def _hint(interface: Facts) -> str:
    """What hovering tells: the address, the state, the counters."""
    words = [interface["name"]]
    words += [f"{a['address']}/{a['prefix_length']}" for a in interface["addresses"] or ()][:3]
    words += [interface["mac"] or "", f"MTU {interface['mtu']}" if interface["mtu"] else ""]
    counters = interface["counters"] or {}
    for label, name in (("RX", "rx_bytes"), ("TX", "tx_bytes")):
        if counters.get(name) is not None:
            words.append(f"{label} {figures.bytes_text(counters[name])}")
    errors = (counters.get("rx_errors") or 0) + (counters.get("tx_errors") or 0)
    if errors:
        words.append(f"{errors} errors")
    return " · ".join(word for word in words if word)


def _edges(facts: Facts) -> Iterator[_Edge]:
    states = {i["name"]: _tone(i) == "up" for kind in ("nics", "bonds", "vlans") for i in facts[kind]}
    keys = {nic["name"]: f"vf:{nic['name']}" for nic in facts["nics"] if nic["physical_function"]}

    def key(name: str) -> str:
        return keys.get(name, f"if:{name}")

    for bond in facts["bonds"]:
        for slave in bond["slaves"]:
            up = slave["mii_status"] == "up" and states.get(slave["name"], True)
            yield _Edge(key(slave["name"]), key(bond["name"]), up, bool(slave["active"]))
    for vlan in facts["vlans"]:
        if vlan["parent"]:
            yield _Edge(key(vlan["parent"]), key(vlan["name"]), states.get(vlan["parent"], False))
    port_of: dict[str, str] = {}
    for bridge in facts["bridges"]:
        for port in bridge["ports"]:
            for name in port["interfaces"] or (port["name"],):
                port_of[name] = bridge["name"]
                if port["vm"] is None:
                    yield _Edge(key(name), key(bridge["name"]), states.get(name, False))
    yield from _vm_edges(facts, key, port_of)


def _vm_edges(facts: Facts, key: Any, port_of: Mapping[str, str]) -> Iterator[_Edge]:
    addresses = {nic["pci_address"]: nic["name"] for nic in facts["nics"] if nic["pci_address"]}
    functions = {
        vf["pci_address"]: nic["name"] for nic in facts["nics"] for vf in (nic["sriov"] or {}).get("vfs", ())
    }
    seen: set[tuple[str, str]] = set()
    for port in facts["vm_ports"]:
        below = port_of.get(port["name"]) or port["bridge"] or port["lower_device"]
        below = below or addresses.get(port["pci_address"]) or functions.get(port["pci_address"])
        target = f"vm:{port['vm']['vm_uuid']}"
        if below and (below, target) not in seen:
            seen.add((below, target))
            yield _Edge(key(below), target, bool(port["vm"]["running"]) and port["state"] != "down")


def _few_vms(boxes: Mapping[str, Box]) -> tuple[dict[str, Box], int]:
    """At most :data:`MOST_VMS` VMs, running ones first; the rest are counted."""
    vms = sorted((box for box in boxes.values() if box.column == "vm"), key=lambda box: box.tone != "up")
    dropped = {box.key for box in vms[MOST_VMS:]}
    return {key: box for key, box in boxes.items() if key not in dropped}, len(dropped)


def _columns(boxes: Mapping[str, Box], edges: Iterable[_Edge]) -> list[list[Box]]:
    """Boxes by column, each column ordered by where its lines lead, so that few lines cross."""
    columns = [[box for box in boxes.values() if box.column == name] for name in COLUMNS]
    columns = [column for column in columns if column]
    place = {box.key: float(i) for column in columns for i, box in enumerate(column)}
    ahead: dict[str, list[str]] = {}
    behind: dict[str, list[str]] = {}
    for edge in edges:
        ahead.setdefault(edge.source, []).append(edge.target)
        behind.setdefault(edge.target, []).append(edge.source)
    # From the bridges to the cards, then forth again: two sweeps of the barycentre method.
    for neighbours, order in ((ahead, reversed(columns)), (behind, columns), (ahead, reversed(columns))):
        for column in order:
            column.sort(key=lambda box: _weight(box.key, neighbours, place))
            place |= {box.key: float(i) for i, box in enumerate(column)}
    return columns


def _weight(key: str, neighbours: Mapping[str, list[str]], place: Mapping[str, float]) -> float:
    """The mean place of what a box is joined to; what is joined to nothing stays last."""
    found = [place[other] for other in neighbours.get(key, ()) if other in place]
    return sum(found) / len(found) if found else 1e6 + place[key]


def _place(columns: list[list[Box]]) -> dict[str, Box]:
    placed: dict[str, Box] = {}
    x = 1.0
    gap = GAP_X.get(len(columns), GAP_X[5])
    heights = [sum(box.height + GAP_Y for box in column) - GAP_Y for column in columns]
    tallest = max(heights)
    for column, height in zip(columns, heights, strict=True):
        # A column that is much shorter stands in the middle, where its lines are shortest.
        y = TOP + max(0.0, min((tallest - height) / 2, MOST_SHIFT))
        for box in column:
            placed[box.key] = replace(box, x=x, y=y)
            y += box.height + GAP_Y
        x += column[0].width + gap
    return placed


def _line(boxes: list[Box], edge: _Edge) -> Line:
    """A curve from box to box, straight through the room in the columns between."""
    source, target = boxes[0], boxes[-1]
    path = f"M{source.right:.1f} {source.middle:.1f}"
    for here, there in pairwise(boxes):
        bend = (there.x - here.right) / 2
        path += (
            f"C{here.right + bend:.1f} {here.middle:.1f} {there.x - bend:.1f} {there.middle:.1f}"
            f" {there.x:.1f} {there.middle:.1f}"
        )
        if there is not target:
            path += f"H{there.right:.1f}"
    return Line(path, edge.up, edge.active, source.right, source.middle, f"{source.name} → {target.name}")
