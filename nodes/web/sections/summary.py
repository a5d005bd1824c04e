"""The overview: bars, the NUMA picture, the checklist of virtualization features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext as _

from nodes.web.pictures import numa
from nodes.web.tones import Tone


@dataclass(frozen=True, slots=True)
class FeatureLine:
    """One line of the checklist."""

    name: str
    tone: Tone
    icon: str
    words: str
    meaning: str
    remedy: str | None


@dataclass(frozen=True, slots=True)
class DistanceRow:
    """A row of the distance matrix: ``values`` are pairs of a distance and its level from 0 (local) to 3."""

    cell: int
    values: tuple[tuple[int | None, int], ...]


def prepare(facts: Mapping[str, Any], pci: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The context of the overview; ``pci`` are the facts of that section, for the devices of each cell."""
    cpu, memory = facts["cpu"], facts["memory"]
    return {
        "picture": numa.draw(facts["numa"], cpu, devices_by_cell(pci) if pci is not None else None),
        "distances": distance_rows(facts["numa"]),
        "features": [feature_line(feature) for feature in facts["virtualization"]["features"]],
        "features_on": sum(f["state"] == "on" for f in facts["virtualization"]["features"]),
        "memory_parts": memory_parts(memory),
        "smt": smt_words(cpu["smt"]),
        "weaknesses": [v for v in cpu["vulnerabilities"] if v["state"] == "vulnerable"],
        "pressures": pressures(facts["system"]["load"]),
    }


def devices_by_cell(pci: Mapping[str, Any]) -> dict[int, list[str]]:
    """Short names of the devices that people place VMs by: graphics, network, disks."""
    found: dict[int, list[str]] = {}
    for device in pci["devices"]:
        cell = device["numa_cell"]
        if cell is None or device["virtual_function"]:
            continue
        names = [port["name"] for port in device["interfaces"]] + [disk["name"] for disk in device["disks"]]
        if device["kind"] == "gpu":
            names.append(gpu_name(device))
        found.setdefault(cell, []).extend(names)
    return found


def gpu_name(device: Mapping[str, Any]) -> str:
    """The name that people know it by: what stands in brackets, "GA102GL [A40]" is an A40."""
    name = device["device_name"] or ""
    before, bracket, inside = name.partition("[")
    return inside.rstrip("]") if bracket else before or _("GPU")


def smt_words(state: str | None) -> str:
    """Whether cores run several threads, in words; "" where the kernel does not say or it is no matter."""
    return {
        "on": _("SMT on"),
        "off": _("SMT off"),
        "forceoff": _("SMT off for good until the next boot"),
        "notsupported": _("no SMT"),
    }.get(state or "", "")


def feature_line(feature: Mapping[str, Any]) -> FeatureLine:
    """On is green; off is amber only where something can be done about it."""
    state = feature["state"]
    tone, icon, words = {
        "on": (Tone.GOOD, "circle-check", _("On")),
        "off": (Tone.WARN, "circle-minus", _("Off")),
        "unavailable": (Tone.NEUTRAL, "ban", _("Not available")),
    }.get(state, (Tone.UNKNOWN, "help-circle", _("Unknown")))
    if state == "off" and not feature["remedy"]:
        tone = Tone.NEUTRAL
    return FeatureLine(feature["name"], tone, icon, words, feature["meaning"], feature["remedy"])


def distance_rows(facts: Mapping[str, Any]) -> tuple[DistanceRow, ...]:
    """The matrix with a level for each value, by where it lies between the nearest and the farthest."""
    rows = facts["distances"]
    remote = [value for row in rows for value in row if value is not None and value > numa.LOCAL_DISTANCE]
    low, high = min(remote, default=0), max(remote, default=0)

    def level(value: int | None) -> int:
        if value is None or value <= numa.LOCAL_DISTANCE:
            return 0
        return 1 if high == low else 1 + round(2 * (value - low) / (high - low))

    return tuple(
        DistanceRow(cell["id"], tuple((value, level(value)) for value in row))
        for cell, row in zip(facts["cells"], rows, strict=False)
    )


def memory_parts(memory: Mapping[str, Any]) -> list[tuple[str, str, int]]:
    """Kind, label and bytes of the parts of the memory bar; huge page pools are no longer free for others."""
    total, available = memory["total_bytes"], memory["available_bytes"]
    if not total or available is None:
        return []
    huge_total = memory["huge_pages"]["total_bytes"] or 0
    huge_free = min(memory["huge_pages"]["free_bytes"] or 0, huge_total)
    plain = max(0, total - available - huge_total)
    parts = [
        ("used", _("In use"), plain),
        ("huge", _("Huge pages in use"), huge_total - huge_free),
        ("huge-free", _("Huge pages free"), huge_free),
        ("free", _("Available"), max(0, total - plain - huge_total)),
    ]
    return [part for part in parts if part[2] or part[0] in ("used", "free")]


def pressures(load: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Pressure stall information by resource, where the kernel keeps it."""
    names = (("pressure_cpu", _("CPU")), ("pressure_memory", _("Memory")), ("pressure_io", _("Disks")))
    return [(label, load[name]) for name, label in names if load.get(name)]
