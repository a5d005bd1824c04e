"""All sections of the inventory: one line each. Routes, schema, tabs and the probe follow from this tuple."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nodes.inventory import disks, net, pci, pools, summary, usb, vms
from nodes.inventory.section import Section
from nodes.inventory.source import LibvirtSource, Source

SECTIONS: tuple[Section[Any], ...] = (
    summary.SECTION,
    pci.SECTION,
    usb.SECTION,
    net.SECTION,
    disks.SECTION,
    vms.SECTION,
    pools.SECTION,
)


def section(slug: str) -> Section[Any]:
    """The section of that slug. Raises KeyError where there is none."""
    for candidate in SECTIONS:
        if candidate.slug == slug:
            return candidate
    raise KeyError(slug)


def all_sources(sections: Sequence[Section[Any]] = SECTIONS) -> tuple[Source, ...]:
    """The shell sources of ``sections``, each once, in their order.

    Two sections may read the same source. Raises ValueError where they mean different commands by one name.
    """
    found: dict[str, Source] = {}
    for candidate in sections:
        for source in candidate.sources:
            if found.setdefault(source.name, source) != source:
                raise ValueError(f"two sources are named {source.name!r} and differ")
    return tuple(found.values())


def all_libvirt_sources(sections: Sequence[Section[Any]] = SECTIONS) -> tuple[LibvirtSource, ...]:
    """What ``sections`` want to know from libvirt, each once, in their order."""
    found = {source.name: source for candidate in sections for source in candidate.libvirt}
    return tuple(found.values())
