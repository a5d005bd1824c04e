"""Targets that have refused a VM: remembered, and not offered to it again until something has changed."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Max
from django.utils import timezone
from lxml import etree

from nodes.models import InventoryChange, Node
from nodes.models.unfit_target import UnfitTarget

PASSING_SECTIONS = ("vms",)
"""Sections of the inventory in which something changes whenever a VM comes or goes."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a node said of a VM whose description had ``vm_digest``."""

    code: str
    message: str
    at: datetime
    vm_digest: str


def description_digest(domain: etree._Element) -> str:
    """SHA-256 of a VM's description, without what changes by itself while it runs."""
    root = copy.deepcopy(domain)
    root.attrib.pop("id", None)
    for name in ("currentMemory", "metadata"):
        for element in root.findall(name):
            root.remove(element)
    return hashlib.sha256(etree.tostring(root, method="c14n")).hexdigest()


def remember(vm_uuid: str, vm_name: str, node: Node, code: str, message: str, digest: str) -> None:
    """Note that ``node`` has refused the VM; an earlier refusal of the two is replaced."""
    told = Node.objects.filter(pk=node.pk).values_list("boot_id", "libvirt_version").first()
    if told is None:
        return
    values = {
        "vm_name": vm_name[:255],
        "code": code,
        "message": message[:600],
        "vm_digest": digest,
        "boot_id": told[0],
        "libvirt_version": told[1],
        "noted_at": timezone.now(),
    }
    UnfitTarget.objects.update_or_create(vm_uuid=vm_uuid, node=node, defaults=values)


def forget(vm_uuid: str, node: Node) -> None:
    """The node has taken the VM."""
    UnfitTarget.objects.filter(vm_uuid=vm_uuid, node=node).delete()


def remembered() -> Mapping[int, Mapping[str, Refusal]]:
    """The refusals that still count, by the node's key and the VM's UUID.

    A node that has been rebooted since, runs another libvirt, or in whose inventory something has changed,
    has none. Whether the VM itself is another now tells its digest.
    """
    rows = UnfitTarget.objects.lasting().select_related("node")
    found: dict[int, dict[str, Refusal]] = {}
    lasting = list(rows)
    changed = _changed_at({row.node_id for row in lasting})
    for row in lasting:
        same = (row.boot_id, row.libvirt_version) == (row.node.boot_id, row.node.libvirt_version)
        since = changed.get(row.node_id)
        if same and (since is None or since <= row.noted_at):
            refusal = Refusal(row.code, row.message, row.noted_at, row.vm_digest)
            found.setdefault(row.node_id, {})[str(row.vm_uuid)] = refusal
    return found


def _changed_at(nodes: Collection[int]) -> dict[int, datetime]:
    if not nodes:
        return {}
    rows = InventoryChange.objects.filter(node__in=nodes).exclude(section__in=PASSING_SECTIONS)
    return dict(rows.values_list("node").annotate(at=Max("observed_at")).order_by())
