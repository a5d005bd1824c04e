"""A domain's description for a host on which its disks have other paths.

libvirt starts the incoming half of a migration by the source's description, unless it is given another one
with the target's own paths (VIR_MIGRATE_PARAM_DEST_XML, and VIR_MIGRATE_PARAM_PERSIST_XML for the definition
that stays; https://libvirt.org/html/libvirt-libvirt-domain.html#VIR_MIGRATE_PARAM_DEST_XML). Nothing that the
guest sees may differ in it.
"""

from __future__ import annotations

from collections.abc import Mapping

import libvirt
from lxml import etree

from nodes.errors import MigrationFailed
from nodes.inventory.xmltext import parse_xml


def parameters_for(domain: libvirt.virDomain, paths: Mapping[str, str]) -> dict[str, str]:
    """The parameters of a migration of ``domain`` to a host on which the block devices ``paths`` (by their
    paths here) have others. Raises MigrationFailed where one of them is no disk of it any more, and
    libvirtError."""
    if not paths:
        return {}
    live = libvirt.VIR_DOMAIN_XML_SECURE | libvirt.VIR_DOMAIN_XML_MIGRATABLE
    found = {libvirt.VIR_MIGRATE_PARAM_DEST_XML: with_paths(domain.XMLDesc(live), paths, all_of_them=True)}
    if domain.isPersistent():
        defined = domain.XMLDesc(live | libvirt.VIR_DOMAIN_XML_INACTIVE)
        found[libvirt.VIR_MIGRATE_PARAM_PERSIST_XML] = with_paths(defined, paths)
    return found


def with_paths(xml: str, paths: Mapping[str, str], *, all_of_them: bool = False) -> str:
    """``xml`` with the paths of its block devices replaced; whatever else it says stays as it is."""
    root = parse_xml(xml)
    if root is None:
        raise MigrationFailed("The VM's description, as libvirt gives it, is no XML.")
    missing = set(paths)
    for element in root.iterfind("devices/disk[@type='block']/source[@dev]"):
        path = element.get("dev") or ""
        if path in paths:
            element.set("dev", paths[path])
            missing.discard(path)
    if missing and all_of_them:
        raise MigrationFailed(
            f"The VM has no disk {', '.join(sorted(missing))} any more.", remedy="Ask for a new plan."
        )
    return etree.tostring(root, encoding="unicode")
