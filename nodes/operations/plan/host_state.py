"""A host as a plan's constraints see it: values only, read of it just now or taken from its inventory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nodes.hosts.domains import Room
from nodes.hosts.libvirt.host_cpu import HostCpu
from nodes.inventory.block.identity import HostBlockIdentities
from nodes.inventory.capabilities import Capabilities
from nodes.operations.networks import HostNetworks
from nodes.operations.plan.host_files import HostFile
from nodes.operations.plan.host_resources import HostResources
from nodes.operations.plan.refusals import Refusal
from nodes.operations.storage import DeclaredShare, HostStorage

Verdict = tuple[bool | None, str]
"""Yes, no or None (cannot be told), and the words for a no or a None."""


@dataclass(frozen=True, slots=True)
class Verdicts:
    """What a target's libvirt says of a VM: whether it has the machine type and QEMU, and the processor."""

    machine: Verdict
    cpu: Verdict


@dataclass(frozen=True, slots=True)
class HostState:
    """What is known of one host, as the source or as the target of a migration.

    Whatever could not be read is None, and a constraint must not take that for "nothing there".

    ``address`` is where its QEMU takes migrations, "" where that is unknown; ``address_forced``: an
    administrator has set it whatever the inventory shows. ``names`` are the UUIDs of its
    VMs, switched off ones too, by name (of a target). ``room`` is what it has for further VMs (of a target).
    ``verdicts`` are its libvirt's answers about the VMs that could come to it, by VM UUID; ``reaches`` says
    whether it gets through to another host's migration address, by that host's UUID (of a source).
    ``inventory`` are the facts of its newest inventory by section slug, as plain JSON (see
    :data:`nodes.operations.plan.host_readers.SECTIONS`): as old as that inventory is. ``declared`` is the
    storage that an administrator declared it to share with others.

    The fields after it are each filled by the reader of the same name in
    :data:`nodes.operations.plan.host_readers.READERS`.
    """

    uuid: str
    name: str
    address: str = ""
    address_forced: bool = False
    storage: HostStorage = field(default_factory=lambda: HostStorage(None, None))
    networks: HostNetworks = field(default_factory=HostNetworks)
    names: Mapping[str, str] = field(default_factory=dict)
    room: Room | None = None
    verdicts: Mapping[str, Verdicts] = field(default_factory=dict)
    reaches: Mapping[str, Verdict] = field(default_factory=dict)
    inventory: Mapping[str, Any] = field(default_factory=dict)
    declared: tuple[DeclaredShare, ...] = ()
    files: Mapping[str, HostFile] = field(default_factory=dict)
    """Of the paths that the VMs name, those that the host was asked about and told."""
    refusals: Mapping[str, Refusal] = field(default_factory=dict)
    """VMs that it has refused before, by UUID (of a target)."""
    named_for: frozenset[str] = frozenset()
    """UUIDs and names of the VMs for which a person has named it as the target."""
    cpu: HostCpu | None = None
    """Its processor, as guests that are given it unchanged find it."""
    capabilities: Capabilities | None = None
    """libvirt's capabilities of the host: NUMA cells with their CPUs and pages, security models …"""
    blocks: HostBlockIdentities | None = None
    """Its block devices by what they are; None without a shell."""
    resources: HostResources | None = None
    """Free huge pages and NUMA memory, online CPUs, taken ports, addresses; None without a shell too."""
    secrets: frozenset[str] | None = None
    """libvirt's secrets, by UUID and by usage."""
